//! What iptables holds in a namespace: looked at, damaged, and of others. Unlike the program, tests
//! read it with the tools.

use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use portolan_dataplane::{Variant, iptables};
use portolan_lab::netns::Namespace;
use portolan_service::Family;

/// Runs a program of the variant in which the proxy's rules are, and returns what it prints.
fn run(node: &Namespace, family: Family, what: &str, args: &[&str]) -> anyhow::Result<String> {
    run_variant(node, held_by(node, family)?, family, what, args, "")
}

/// The variant that the proxy's chains are in, by one of a table that nobody here damages.
fn held_by(node: &Namespace, family: Family) -> anyhow::Result<Variant> {
    for variant in [Variant::Nft, Variant::Legacy] {
        let saved = run_variant(node, variant, family, "-save", &["-t", "mangle"], "")?;
        if [":KUBE-PROXY-CANARY", ":KUBE-PROXY-FIREWALL"].iter().any(|chain| saved.contains(chain)) {
            return Ok(variant);
        }
    }
    bail!("no chains are the proxy's")
}

fn run_variant(
    node: &Namespace,
    variant: Variant,
    family: Family,
    what: &str,
    args: &[&str],
    input: &str,
) -> anyhow::Result<String> {
    let family = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let variant = match variant {
        Variant::Nft => "nft",
        Variant::Legacy => "legacy",
    };
    let program = format!("{family}-{variant}{what}");
    // Small enough for a pipe to hold before anybody reads.
    let (reader, mut writer) = std::io::pipe()?;
    std::io::Write::write_all(&mut writer, input.as_bytes())?;
    drop(writer);
    let mut command = Command::new(&program);
    command.args(args).stdin(reader).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = node.spawn(&mut command)?.wait_with_output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {args:?}: {} {said}", done.status);
    Ok(String::from_utf8(done.stdout)?)
}

/// The chains and rules of tables nat and filter, each table's sorted, without counters.
pub(crate) fn contents(node: &Namespace, family: Family) -> anyhow::Result<String> {
    let mut all = String::new();
    for table in ["nat", "filter"] {
        let saved = run(node, family, "-save", &["-t", table])?;
        let mut lines: Vec<&str> = saved
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split(" [").next().unwrap_or(line))
            .collect();
        lines.sort_unstable();
        all.extend([table, "\n", &lines.join("\n"), "\n"]);
    }
    Ok(all)
}

/// What someone does to our chains.
pub(crate) type ChainDamage = &'static [&'static str];

/// The ways to damage them, as arguments of iptables.
#[rustfmt::skip]
pub(crate) const DAMAGES: &[(&str, ChainDamage)] = &[
    ("flush table nat", &["-t", "nat", "-F"]),
    ("flush table filter", &["-t", "filter", "-F"]),
    ("flush a shared chain", &["-t", "nat", "-F", "KUBE-SERVICES"]),
    ("delete the jumps of PREROUTING", &["-t", "nat", "-F", "PREROUTING"]),
    ("delete a rule", &["-t", "nat", "-D", "KUBE-POSTROUTING", "1"]),
    ("insert a rule", &["-t", "nat", "-I", "KUBE-SERVICES", "-j", "RETURN"]),
];

/// The same for those that lead to sockets.
#[rustfmt::skip]
pub(crate) const PORTAL_DAMAGES: &[(&str, ChainDamage)] = &[
    ("flush table nat", &["-t", "nat", "-F"]),
    ("flush a chain of sockets", &["-t", "nat", "-F", "KUBE-PORTALS-CONTAINER"]),
    ("delete a jump", &["-t", "nat", "-D", "PREROUTING", "1"]),
    ("insert a rule", &["-t", "nat", "-I", "KUBE-PORTALS-HOST", "-j", "RETURN"]),
];

/// Does it.
pub(crate) fn damage(node: &Namespace, family: Family, damage: ChainDamage) -> anyhow::Result<()> {
    run(node, family, "", damage).map(drop)
}

/// Rules as other programs have them, beside ours and in chains of their own.
const FOREIGN: &str = "\
*filter
:DOCKER-USER - [0:0]
:cali-FORWARD - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -m comment --comment \"cali:x1\" -j cali-FORWARD
-A cali-FORWARD -m comment --comment \"not KUBE-SERVICES\" -p icmp -j RETURN
-A DOCKER-USER -p tcp --dport 9 -j DROP
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
COMMIT
";

/// Installs them for IPv4, in the proxy's variant.
pub(crate) fn install_foreign(node: &Namespace) -> anyhow::Result<()> {
    for variant in [Variant::Nft, Variant::Legacy] {
        if node.run(iptables::marked)??.contains(&(variant, Family::V4)) {
            run_variant(node, variant, Family::V4, "-restore", &["--noflush"], FOREIGN)?;
        }
    }
    Ok(())
}

/// What is not ours, in order and with counters of rules that no packet of the tests meets.
pub(crate) fn foreign(node: &Namespace, variant: Variant) -> anyhow::Result<String> {
    let mut lines = String::new();
    for table in ["nat", "filter"] {
        let saved = run_variant(node, variant, Family::V4, "-save", &["-t", table], "")?;
        for line in saved.lines() {
            let is_ours = line.starts_with(":KUBE-")
                || line.starts_with("-A KUBE-")
                || line.contains("-j KUBE-")
                || line.starts_with('#');
            if !is_ours {
                lines.extend([line.split(" [").next().unwrap_or(line), "\n"]);
            }
        }
    }
    Ok(lines)
}

/// The variant that the proxy's rules for IPv4 are in.
pub(crate) fn variant(node: &Namespace) -> anyhow::Result<Variant> {
    let marked = node.run(iptables::marked)??;
    let variant = marked.into_iter().find_map(|(variant, family)| (family == Family::V4).then_some(variant));
    variant.context("no rules bear the proxy's mark")
}

/// The lines of `iptables-save` that are a service proxy's; kubelet has its own share in
/// KUBE-FIREWALL (spec §5.40).
pub(crate) fn leftovers(node: &Namespace, variant: Variant) -> anyhow::Result<Vec<String>> {
    let mut lines = Vec::new();
    for family in Family::ALL {
        for table in ["nat", "filter", "mangle"] {
            let saved = run_variant(node, variant, family, "-save", &["-t", table], "")?;
            let ours = |line: &&str| line.contains("KUBE-") && !line.contains("KUBE-FIREWALL");
            lines.extend(saved.lines().filter(ours).map(str::to_owned));
        }
    }
    Ok(lines)
}

/// Makes iptables-legacy what the host already uses, as kubelet marks it (spec §5.1).
///
/// Without privileges, iptables-nft can send the kernel only as much at once as a socket's buffer
/// holds by default, which is less than the rules of all Services of the table.
pub(crate) fn choose_legacy(node: &Namespace) -> anyhow::Result<()> {
    for family in Family::ALL {
        let args = &["-t", "mangle", "-N", "KUBE-IPTABLES-HINT"];
        run_variant(node, Variant::Legacy, family, "", args, "")?;
    }
    Ok(())
}

/// Drops what is forwarded unless a rule accepts it, as Docker and ufw do.
pub(crate) fn refuse_forwarded(node: &Namespace, variant: Variant, family: Family) -> anyhow::Result<()> {
    run_variant(node, variant, family, "", &["-P", "FORWARD", "DROP"], "").map(drop)
}

/// Puts a rule of somebody else's at the end of `FORWARD`.
pub(crate) fn append_to_forward(node: &Namespace, variant: Variant, family: Family) -> anyhow::Result<()> {
    run_variant(node, variant, family, "", &["-A", "FORWARD", "-p", "sctp", "-j", "RETURN"], "").map(drop)
}

/// The rules of `FORWARD`, in order.
pub(crate) fn forward(node: &Namespace, variant: Variant, family: Family) -> anyhow::Result<Vec<String>> {
    let saved = run_variant(node, variant, family, "-save", &["-t", "filter"], "")?;
    Ok(saved.lines().filter(|line| line.starts_with("-A FORWARD ")).map(str::to_owned).collect())
}

/// Drops all that comes to the node itself for IPv4, after everything else.
pub(crate) fn refuse_input(node: &Namespace) -> anyhow::Result<()> {
    run(node, Family::V4, "", &["-A", "INPUT", "-j", "DROP"]).map(drop)
}
