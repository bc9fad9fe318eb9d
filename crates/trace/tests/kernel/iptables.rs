//! Random rules as iptables-restore reads them.

use std::fmt::Write;

use fastrand::Rng;

use crate::topology::{CLIENTS, NODE, SERVERS, VIRTUAL};
use crate::wire::FENCE;
use crate::{PORTS, some};

/// The chains of each table that the kernel enters, in the order of the tables' priorities.
const TABLES: [(&str, &[&str]); 4] = [
    ("raw", &["PREROUTING", "OUTPUT"]),
    ("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
    ("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
    ("filter", &["INPUT", "FORWARD", "OUTPUT"]),
];
/// Chains of each table that only rules enter: each may call those after it.
const OWN: usize = 4;

/// What a chain may do to packets: which hooks enter it, if any but its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Place {
    fn of(chain: &str) -> Place {
        match chain {
            "PREROUTING" => Place::Prerouting,
            "INPUT" => Place::Input,
            "FORWARD" => Place::Forward,
            "OUTPUT" => Place::Output,
            _ => Place::Postrouting,
        }
    }
}

/// A rule set of all four tables. ICMP and fences pass, so that what happens to other packets can
/// be seen.
pub(crate) fn rules(rng: &mut Rng, first_port: u16) -> String {
    let mut text = String::new();
    for (table, chains) in TABLES {
        let _ = writeln!(text, "*{table}");
        for chain in chains {
            let drops = table == "filter" && rng.u8(..5) == 0;
            let _ = writeln!(text, ":{chain} {} [0:0]", if drops { "DROP" } else { "ACCEPT" });
        }
        // Chains that only one hook enters, so that they can have the targets of that hook.
        for chain in chains {
            for own in 0..OWN {
                let _ = writeln!(text, ":{chain}-{own} - [0:0]");
            }
        }
        for chain in chains {
            let _ = writeln!(text, "-A {chain} -p icmp -j ACCEPT");
            let _ = writeln!(text, "-A {chain} -p udp -m udp --dport {FENCE} -j ACCEPT");
            let place = Place::of(chain);
            for _ in 0..rng.usize(2..8) {
                rule(&mut text, rng, table, chain, chain, 0, place, first_port);
            }
            for own in 0..OWN {
                for _ in 0..rng.usize(1..5) {
                    rule(&mut text, rng, table, &format!("{chain}-{own}"), chain, own + 1, place, first_port);
                }
            }
        }
        text.push_str("COMMIT\n");
    }
    text
}

#[expect(clippy::too_many_arguments, reason = "where a rule stands decides what it may say")]
#[expect(clippy::too_many_lines, reason = "a case for each kind of rule")]
fn rule(
    text: &mut String,
    rng: &mut Rng,
    table: &str,
    chain: &str,
    base: &str,
    calls_from: usize,
    place: Place,
    first_port: u16,
) {
    let not = |rng: &mut Rng| if rng.u8(..4) == 0 { "! " } else { "" };
    let _ = write!(text, "-A {chain}");
    if rng.u8(..3) == 0 {
        let source = match rng.u8(..4) {
            0 => format!("{}/32", some(rng, &CLIENTS)),
            1 => "10.1.0.0/30".to_owned(),
            2 => format!("{}/32", some(rng, &NODE)),
            _ => "10.1.0.2/31".to_owned(),
        };
        let _ = write!(text, " {}-s {source}", not(rng));
    }
    if rng.u8(..3) == 0 {
        let destination = match rng.u8(..4) {
            0 => format!("{}/32", some(rng, &SERVERS)),
            1 => "10.96.0.0/31".to_owned(),
            2 => format!("{}/32", some(rng, &NODE)),
            _ => format!("{}/32", some(rng, &VIRTUAL)),
        };
        let _ = write!(text, " {}-d {destination}", not(rng));
    }
    if matches!(place, Place::Prerouting | Place::Input | Place::Forward) && rng.u8(..6) == 0 {
        let _ = write!(text, " {}-i {}", not(rng), some(rng, &["vc", "lo", "v+", "vs"]));
    }
    if matches!(place, Place::Output | Place::Forward | Place::Postrouting) && rng.u8(..6) == 0 {
        let _ = write!(text, " {}-o {}", not(rng), some(rng, &["vs", "lo", "v+", "vc"]));
    }
    let protocol = rng.bool().then(|| some(rng, &["tcp", "udp"]));
    if let Some(protocol) = protocol {
        let _ = write!(text, " -p {protocol}");
        let port = some(rng, &PORTS);
        match rng.u8(..5) {
            0 => {
                let _ = write!(text, " -m {protocol} {}--dport {port}", not(rng));
            }
            1 => {
                let _ = write!(text, " -m {protocol} {}--dport 60:{}", not(rng), port.max(60));
            }
            2 => {
                let sport = first_port + rng.u16(..40);
                let _ = write!(text, " -m {protocol} {}--sport {sport}:{}", not(rng), sport + 20);
            }
            3 => {
                let side = some(rng, &["--dports", "--ports"]);
                let _ = write!(text, " -m multiport {}{side} {port},8000:8200", not(rng));
            }
            _ => {}
        }
    }
    match rng.u8(..9) {
        0 => {
            let _ = write!(text, " -m mark {}--mark {:#x}/0x3", not(rng), rng.u8(..4));
        }
        1 => {
            let side = if place == Place::Output || rng.bool() { "--dst-type" } else { "--src-type" };
            let _ = write!(text, " -m addrtype {}{side} {}", not(rng), some(rng, &["LOCAL", "UNICAST"]));
        }
        2 => {
            let states = ["NEW", "RELATED,ESTABLISHED", "INVALID", "UNTRACKED", "DNAT", "SNAT", "NEW,DNAT"];
            let _ = write!(text, " -m conntrack {}--ctstate {}", not(rng), some(rng, &states));
        }
        3 => {
            let chance = some(rng, &["0.50000000000", "0.33333333349"]);
            let _ = write!(text, " -m statistic --mode random --probability {chance}");
        }
        4 => {
            let _ = write!(text, " -m conntrack {}--ctorigdst {}", not(rng), some(rng, &VIRTUAL));
        }
        5 => {
            let _ = write!(text, " -m connmark {}--mark {:#x}/0x3", not(rng), rng.u8(..4));
        }
        _ => {}
    }
    let port = some(rng, &PORTS);
    // The node would get no error for what it sent to itself from a translated source.
    let knows = place != Place::Input
        || text.lines().last().is_some_and(|rule| rule.contains(" -i v") && !rule.contains("! -i"));
    let target = match (rng.u8(..12), table, place) {
        (0..=3, ..) if calls_from < OWN => {
            let call = some(rng, &["-j", "-j", "-g"]);
            format!("{call} {base}-{}", rng.usize(calls_from..OWN))
        }
        (0 | 4, ..) => "-j RETURN".to_owned(),
        (1 | 5, ..) => "-j ACCEPT".to_owned(),
        (6, "raw", _) => "-j CT --notrack".to_owned(),
        (2 | 6..=8, "filter", _) if !knows => format!("-j {}", some(rng, &["DROP", "ACCEPT"])),
        (2 | 6..=8, "filter", _) => format!("-j {}", some(rng, &["DROP", "REJECT", "ACCEPT"])),
        (7, "raw" | "mangle", _) if rng.bool() => "-j DROP".to_owned(),
        (2 | 6..=11, "nat", Place::Prerouting | Place::Output) => {
            let with_port = protocol.is_some() && rng.bool();
            let to = if rng.u8(..4) == 0 { some(rng, &NODE) } else { some(rng, &SERVERS) };
            match rng.u8(..5) {
                0 if with_port => format!("-j REDIRECT --to-ports {port}"),
                0 => "-j REDIRECT".to_owned(),
                1 => format!("-j DNAT --to-destination {}-{}", SERVERS[0], SERVERS[2]),
                _ if with_port => format!("-j DNAT --to-destination {to}:{port}"),
                _ => format!("-j DNAT --to-destination {to}"),
            }
        }
        (2 | 6..=11, "nat", Place::Postrouting) => match rng.u8(..2) {
            0 => "-j MASQUERADE".to_owned(),
            _ => format!("-j SNAT --to-source {}", some(rng, &["10.2.0.50", "10.1.0.1"])),
        },
        (6, "nat", Place::Input) => "-j SNAT --to-source 10.1.0.50".to_owned(),
        (8, "mangle", _) => format!("-j CONNMARK --set-xmark {:#x}/0x3", rng.u8(..4)),
        (9, "mangle", _) => "-j CONNMARK --save-mark --nfmask 0x3 --ctmask 0x3".to_owned(),
        (10, "mangle", _) => "-j CONNMARK --restore-mark --nfmask 0x1 --ctmask 0x1".to_owned(),
        _ => {
            if table == "nat" {
                "-j RETURN".to_owned()
            } else if table == "filter" {
                "-j ACCEPT".to_owned()
            } else {
                let kind = some(rng, &["--set-xmark", "--or-mark", "--and-mark", "--xor-mark"]);
                format!("-j MARK {kind} {:#x}", rng.u8(..4))
            }
        }
    };
    let _ = writeln!(text, " {target}");
}
