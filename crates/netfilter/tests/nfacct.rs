//! Named counters against the running kernel, each case in a network namespace of its own, and both
//! variants of iptables, whose rules count into them.
//!
//! Anybody but root enters a user namespace first, which a process can do only before it has
//! threads: hence no harness.

use std::net::UdpSocket;
use std::process::{Command, ExitCode};

use libtest_mimic::{Arguments, Failed, Trial};
use portolan_netfilter::nfacct::{self, Counter};
use portolan_netfilter::socket::Socket;

#[path = "../../netlink/tests/kernel/namespace.rs"]
mod namespace;
use namespace::{Case, enter_user_namespace, in_network_namespace};

/// A name as kube-proxy uses them (spec §5.16)
const NAME: &str = "ct_state_invalid_dropped_pkts";

const CASES: [(&str, Case); 4] = [
    ("a counter is created once, and starts at zero", created_once),
    ("an impossible name is an error that names the limit", impossible_names),
    ("rules of iptables-nft count", || counts("iptables-nft")),
    ("rules of iptables-legacy count", || counts("iptables-legacy")),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    if !root && let Err(error) = enter_user_namespace() {
        eprintln!("cannot enter a user namespace, which these tests need without root: {error}");
        return ExitCode::FAILURE;
    }
    let trials =
        CASES.into_iter().map(|(name, case)| Trial::test(name, move || in_network_namespace(case))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Creates the counter; `None`, and says so, where the kernel has no such counters.
fn counter() -> Result<Option<Socket>, Failed> {
    let mut socket = Socket::open()?;
    if nfacct::ensure(&mut socket, NAME)? {
        return Ok(Some(socket));
    }
    assert_eq!(nfacct::read(&mut socket, NAME)?, None, "a kernel without counters has none");
    println!("skipped: this kernel has no nfnetlink_acct");
    Ok(None)
}

fn created_once() -> Result<(), Failed> {
    assert_eq!(nfacct::read(&mut Socket::open()?, NAME)?, None, "before it is created");
    let Some(mut socket) = counter()? else { return Ok(()) };
    assert!(nfacct::ensure(&mut socket, NAME)?, "it is there");
    assert_eq!(nfacct::read(&mut socket, NAME)?, Some(Counter::default()));
    assert_eq!(nfacct::read(&mut socket, "localhost_nps_accepted_pkts")?, None, "another");
    Ok(())
}

fn impossible_names() -> Result<(), Failed> {
    let mut socket = Socket::open()?;
    let longest = "n".repeat(nfacct::NAME_MAX);
    let has_counters = nfacct::ensure(&mut socket, &longest)?;
    assert_eq!(nfacct::read(&mut socket, &longest)?.is_some(), has_counters);
    for name in ["", "nul\0", &"n".repeat(nfacct::NAME_MAX + 1)] {
        for error in [nfacct::ensure(&mut socket, name).err(), nfacct::read(&mut socket, name).err()] {
            let error = error.ok_or_else(|| format!("{name:?} is refused"))?;
            assert!(error.to_string().contains("1 to 31 bytes"), "{error}");
        }
    }
    Ok(())
}

/// Three packets to this host pass a rule that names the counter; creating it again does not reset
/// it.
fn counts(iptables: &str) -> Result<(), Failed> {
    let Some(mut socket) = counter()? else { return Ok(()) };
    run("ip link set lo up")?;
    run(&format!("{iptables} -A INPUT -p udp -m nfacct --nfacct-name {NAME} -j DROP"))?;
    let client = UdpSocket::bind("127.0.0.1:0")?;
    for _ in 0..3 {
        client.send_to(b"0123456789", "127.0.0.1:9")?;
    }
    assert!(nfacct::ensure(&mut socket, NAME)?);
    // An IPv4 header, a UDP header and ten bytes each. Loopback delivers within the system call
    // that sends.
    let expected = Counter { packets: 3, bytes: 3 * (20 + 8 + 10) };
    assert_eq!(nfacct::read(&mut socket, NAME)?, Some(expected), "{iptables}");
    Ok(())
}

fn run(words: &str) -> Result<(), Failed> {
    let mut words_of = words.split_whitespace();
    let program = words_of.next().unwrap_or_default();
    let output = Command::new(program)
        .args(words_of)
        .env(
            "XTABLES_LOCKFILE",
            std::env::temp_dir().join(format!("portolan-test-nfacct-{}", std::process::id())),
        )
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .map_err(|error| format!("{program}, which these tests need: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{words}: {}", String::from_utf8_lossy(&output.stderr)).into())
}
