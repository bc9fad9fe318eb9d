//! Takes over from kube-proxy in the running kernel, each case in network namespaces of its own.
//!
//! What kube-proxy leaves is loaded with the tools that it uses; these are needed here and nowhere
//! else. As root that is all; anybody else enters a user namespace first, which a process can do
//! only before it has threads: hence no harness. As root the cases run a second time in a user
//! namespace, where limits differ. The case of mode IPVS is left out (and shown as ignored) where
//! the kernel has none.

mod iptables;
mod ipvs;
mod namespace;
mod rules;
mod takeover;

use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};

const IN_USER_NAMESPACE: &str = "PORTOLAN_TEST_IN_USER_NAMESPACE";

type Case = fn() -> Result<(), Failed>;

const CASES: [(&str, Case); 14] = [
    ("iptables-nft: what is left is what others wrote", iptables::mixed_nft),
    ("iptables-legacy: what is left is what others wrote", iptables::mixed_legacy),
    ("iptables-nft: a node of 2017", iptables::node_of_2017_nft),
    ("iptables-legacy: a node of 2017", iptables::node_of_2017_legacy),
    ("§5.43: host ports go on, and the reason is said", iptables::host_ports_go_on),
    ("a chain that a map leads to stays", iptables::chain_in_a_map_stays),
    ("40,000 rules", iptables::large),
    ("where nothing is, nothing comes into being", iptables::nothing_there),
    ("iptables-nft: our own rules are recognised by their mark", iptables::marks_nft),
    ("iptables-legacy: our own rules are recognised by their mark", iptables::marks_legacy),
    ("§6.21: the tables of mode nftables", iptables::nftables_mode),
    ("the marker for Calico", iptables::calico_marker),
    ("iptables-nft: no connection is lost", takeover::from_iptables_nft),
    ("iptables-legacy: no connection is lost", takeover::from_iptables_legacy),
];

/// Name, whether the kernel must have IPVS, and the case. Where it has, all of them ask it, which
/// only root of the whole machine may.
const IPVS_CASES: [(&str, bool, Case); 4] = [
    ("§7.16: ipsets go after the rules that look into them", false, ipvs::sets_go_after_their_rules),
    ("§7.16: a set in use stays, and is named", false, ipvs::set_in_use_stays),
    ("§7: mode IPVS", true, ipvs::whole_mode),
    ("IPVS: no connection is lost that is begun meanwhile", true, takeover::from_ipvs),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    let asked = std::env::var_os(IN_USER_NAMESPACE).is_some();
    let confined = !root || asked;
    if confined && let Err(error) = namespace::enter_user_namespace() {
        eprintln!("cannot enter a user namespace, which these tests need without root: {error}");
        return ExitCode::FAILURE;
    }
    let mut trials: Vec<Trial> = CASES.into_iter().map(|(name, case)| Trial::test(name, case)).collect();
    trials.extend(IPVS_CASES.into_iter().map(|(name, needs_ipvs, case)| {
        let impossible = if ipvs::is_possible() { confined } else { needs_ipvs };
        Trial::test(name, case).with_ignored_flag(impossible)
    }));
    if root && !asked {
        trials.push(Trial::test("all of it in a user namespace", again_in_user_namespace));
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    let _ = std::fs::remove_file(namespace::lock());
    conclusion.exit_code()
}

fn again_in_user_namespace() -> Result<(), Failed> {
    let output = Command::new(std::env::current_exe()?).env(IN_USER_NAMESPACE, "1").output()?;
    if output.status.success() {
        return Ok(());
    }
    Err([output.stdout, output.stderr]
        .map(|text| String::from_utf8_lossy(&text).into_owned())
        .concat()
        .into())
}
