//! Random rules as `nft -f` reads them.

use std::fmt::Write;

use fastrand::Rng;

use crate::topology::{CLIENTS, NODE, SERVERS, VIRTUAL};
use crate::wire::FENCE;
use crate::{PORTS, some};

/// Chains of each base chain that only rules enter: each may call those after it.
const OWN: usize = 3;

const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

/// A base chain, and those that only it enters.
struct Base {
    name: String,
    hook: &'static str,
    nat: bool,
}

/// Tables of families ip and inet, each with sets, maps and base chains of its own at several
/// priorities. ICMP and fences pass, so that what happens to other packets can be seen.
pub(crate) fn rules(rng: &mut Rng, first_port: u16) -> String {
    let mut text = "flush ruleset\n".to_owned();
    for table in 0..rng.usize(1..4) {
        let family = some(rng, &["ip", "inet"]);
        let _ = writeln!(text, "table {family} t{table} {{");
        sets(&mut text, rng);
        let mut bases = Vec::new();
        for hook in HOOKS {
            // Before connection tracking, after it, and around the nat chains. Never at their own
            // priorities: how long those chains have been there is not listed. No rejection after a
            // source was translated.
            let priorities: &[i32] = match hook {
                "prerouting" | "output" => &[-300, -150, -101, -99, 0, 10],
                "postrouting" => &[-150, 0, 99, 110],
                _ => &[-150, 0, 10],
            };
            for filter in 0..rng.usize(..3) {
                let (name, priority) = (format!("{hook}-{filter}"), some(rng, priorities));
                bases.push((Base { name, hook, nat: false }, priority));
            }
            if hook != "forward" && rng.u8(..4) > 0 {
                let priority = match hook {
                    "prerouting" | "output" => some(rng, &[-110, -100, -90]),
                    _ => some(rng, &[90, 100, 105]),
                };
                bases.push((Base { name: format!("{hook}-nat"), hook, nat: true }, priority));
            }
        }
        for (base, priority) in &bases {
            // Those that are called are written first.
            for own in (0..OWN).rev() {
                let _ = writeln!(text, "  chain {}-{own} {{", base.name);
                for _ in 0..rng.usize(1..5) {
                    rule(&mut text, rng, base, own + 1, first_port);
                }
                text.push_str("  }\n");
            }
            let (name, hook) = (&base.name, base.hook);
            let kind = if base.nat { "nat" } else { "filter" };
            let policy = if !base.nat && rng.u8(..16) == 0 { "drop" } else { "accept" };
            let _ = writeln!(
                text,
                "  chain {name} {{\n    type {kind} hook {hook} priority {priority}; policy {policy};\n    \
                 meta l4proto icmp accept\n    udp dport {FENCE} accept"
            );
            for _ in 0..rng.usize(2..7) {
                rule(&mut text, rng, base, 0, first_port);
            }
            text.push_str("  }\n");
        }
        text.push_str("}\n");
    }
    text
}

/// What rules look things up in, with the types that need care: networks, ranges, and several
/// fields together.
fn sets(text: &mut String, rng: &mut Rng) {
    let ports = |rng: &mut Rng| some(rng, &["53", "80", "8080", "8443", "60-90", "8000-8200"]);
    let _ = writeln!(
        text,
        "  set clients {{ type ipv4_addr; flags interval; elements = {{ {}, 10.2.0.1, 10.1.0.4-10.1.0.9 }} }}",
        some(rng, &["10.1.0.2", "10.1.0.2/31"])
    );
    let _ = writeln!(
        text,
        "  set services {{ type ipv4_addr . inet_proto . inet_service; elements = {{ {} . tcp . {}, {} . udp . {} }} }}",
        some(rng, &VIRTUAL),
        some(rng, &PORTS),
        some(rng, &VIRTUAL),
        some(rng, &PORTS)
    );
    let _ = writeln!(
        text,
        "  set ranges {{ type ipv4_addr . inet_service; flags interval; elements = {{ 10.96.0.0/31 . {}, {} . 1-9000, 10.2.0.2-10.2.0.3 . {} }} }}",
        ports(rng),
        some(rng, &NODE),
        ports(rng)
    );
    let _ = writeln!(
        text,
        "  map endpoints {{ type ipv4_addr . inet_service : ipv4_addr . inet_service; elements = {{ {} . 53 : {} . {}, {} . 80 : {} . {}, {} . 8080 : {} . {} }} }}",
        some(rng, &VIRTUAL),
        some(rng, &SERVERS),
        some(rng, &PORTS),
        some(rng, &VIRTUAL),
        some(rng, &SERVERS),
        some(rng, &PORTS),
        some(rng, &NODE),
        some(rng, &SERVERS),
        some(rng, &PORTS)
    );
    let _ = writeln!(
        text,
        "  map by-port {{ type inet_service : ipv4_addr; flags interval; elements = {{ 50-80 : {}, 8443 : {} }} }}",
        some(rng, &SERVERS),
        some(rng, &NODE)
    );
}

fn rule(text: &mut String, rng: &mut Rng, base: &Base, calls_from: usize, first_port: u16) {
    // nft refuses rules that ask for two.
    let transport = some(rng, &["tcp", "udp"]);
    let mut protocol = false;
    text.push_str("   ");
    for _ in 0..rng.usize(..3) {
        let written = test(rng, base, transport, first_port);
        protocol |= ["tcp ", "udp ", "meta l4proto"].iter().any(|of| written.starts_with(of))
            && !written.contains("!=");
        let _ = write!(text, " {written}");
    }
    if rng.u8(..8) == 0 {
        text.push_str(" counter");
    }
    let statement = statement(rng, base, calls_from, protocol);
    let _ = writeln!(text, " {statement}");
}

fn test(rng: &mut Rng, base: &Base, transport: &str, first_port: u16) -> String {
    let not = |rng: &mut Rng| if rng.u8(..4) == 0 { "!= " } else { "" };
    let port = some(rng, &PORTS);
    match rng.u8(..24) {
        0 => format!("ip saddr {}{}", not(rng), some(rng, &CLIENTS)),
        1 => format!("ip saddr {}@clients", not(rng)),
        2 => format!(
            "ip daddr {}{}",
            not(rng),
            some(rng, &["10.96.0.0/31", "10.2.0.0/24", "10.96.0.1-10.96.0.2"])
        ),
        3 => format!("ip daddr {}{{ {}, {} }}", not(rng), some(rng, &VIRTUAL[..2]), some(rng, &NODE)),
        4 => format!("ip daddr . meta l4proto . th dport {}@services", not(rng)),
        5 => format!("ip daddr . th dport {}@ranges", not(rng)),
        6 | 7 => format!("{transport} dport {}{port}", not(rng)),
        8 => format!("{transport} dport {}{{ {port}, 8000-8200 }}", not(rng)),
        9 => format!("th dport {} {port}", some(rng, &["<", ">", "<=", ">=", "!="])),
        10 => format!("{transport} sport {}{}-{}", not(rng), first_port + 10, first_port + 40),
        11 => format!("meta l4proto {}", some(rng, &[transport, "!= tcp"])),
        12 => format!("meta mark {}{:#x}", not(rng), rng.u8(..4)),
        13 => format!("meta mark & 0x3 {} {:#x}", some(rng, &["==", "!="]), rng.u8(..4)),
        14 => {
            let states = ["new", "established,related", "invalid", "untracked", "new,untracked"];
            format!("ct state {}{}", not(rng), some(rng, &states))
        }
        15 => format!("ct status {}", some(rng, &["dnat", "snat", "dnat,snat"])),
        16 => {
            let side = if base.hook == "output" || rng.bool() { "daddr" } else { "saddr" };
            format!(
                "fib {side} type {}{}",
                not(rng),
                some(rng, &["local", "unicast", "{ local, broadcast }"])
            )
        }
        17 => format!(
            "iifname {}{}",
            not(rng),
            some(rng, &["\"vc\"", "\"lo\"", "\"v*\"", "{ \"vc\", \"vs\" }"])
        ),
        18 => format!(
            "oifname {}{}",
            not(rng),
            some(rng, &["\"vs\"", "\"lo\"", "\"v*\"", "{ \"vc\", \"lo\" }"])
        ),
        19 => format!("ct original ip daddr {}{}", not(rng), some(rng, &VIRTUAL)),
        20 => format!("ct mark {}{:#x}", not(rng), rng.u8(..4)),
        21 => format!("meta l4proto {transport} ct original proto-dst {}{port}", not(rng)),
        22 => format!("numgen random mod 4 {} {}", some(rng, &["==", "<", "!="]), rng.u8(1..4)),
        _ => format!("ip protocol {transport}"),
    }
}

fn statement(rng: &mut Rng, base: &Base, calls_from: usize, protocol: bool) -> String {
    let name = &base.name;
    let port = some(rng, &PORTS);
    let call = |rng: &mut Rng| {
        let how = some(rng, &["jump", "jump", "goto"]);
        format!("{how} {name}-{}", rng.usize(calls_from..OWN))
    };
    let calls = calls_from < OWN;
    match rng.u8(..16) {
        0..=2 if calls => call(rng),
        3 if calls => {
            let (first, second) = (call(rng), call(rng));
            format!("th dport vmap {{ 53 : {first}, 60-8080 : {second}, 8443 : accept }}")
        }
        4 if calls => {
            let (first, second) = (call(rng), call(rng));
            format!(
                "ip daddr . meta l4proto vmap {{ {} . tcp : {first}, {} . udp : {second} }}",
                VIRTUAL[0], VIRTUAL[1]
            )
        }
        5 if calls => {
            let first = call(rng);
            format!("numgen random mod 3 vmap {{ 0 : {first}, 1 : return }}")
        }
        0 | 6 => "return".to_owned(),
        1 => "accept".to_owned(),
        2 | 7 if !base.nat && rng.u8(..4) == 0 => "drop".to_owned(),
        3 | 8 if !base.nat && base.hook != "postrouting" && rng.u8(..3) == 0 => {
            // The node would get no error for what it sent to itself from a translated source.
            let known = matches!(base.hook, "prerouting" | "input");
            format!("{}reject", if known { "iifname \"vc\" " } else { "" })
        }
        4..=12 if base.nat && matches!(base.hook, "prerouting" | "output") => {
            let to = if rng.u8(..4) == 0 { some(rng, &NODE) } else { some(rng, &SERVERS) };
            match rng.u8(..9) {
                0 => "redirect".to_owned(),
                1 if protocol => format!("redirect to :{port}"),
                2 | 3 => {
                    let implied = if protocol { "" } else { "meta l4proto { tcp, udp } " };
                    format!("{implied}dnat ip to ip daddr . th dport map @endpoints")
                }
                4 => "dnat ip to th dport map @by-port".to_owned(),
                5 => format!("dnat ip to numgen random mod 2 map {{ 0 : {}, 1 : {to} }}", SERVERS[0]),
                6 => format!("dnat ip to {}-{}", SERVERS[0], SERVERS[2]),
                7 if protocol => format!("dnat ip to {to}:{port}"),
                _ => format!("dnat ip to {to}"),
            }
        }
        4..=12 if base.nat && base.hook == "postrouting" => match rng.u8(..2) {
            0 => "masquerade".to_owned(),
            _ => format!("snat ip to {}", some(rng, &["10.2.0.50", "10.1.0.1"])),
        },
        4 if base.nat => "snat ip to 10.1.0.50".to_owned(),
        9 if !base.nat && matches!(base.hook, "prerouting" | "output") => "notrack".to_owned(),
        10 => format!("ct mark set {:#x}", rng.u8(..4)),
        11 => "ct mark set meta mark".to_owned(),
        12 => "meta mark set ct mark".to_owned(),
        13 => format!("meta mark set meta mark {} {:#x}", some(rng, &["|", "&", "^"]), rng.u8(..4)),
        14 => format!("meta mark set {:#x} {}", rng.u8(..4), some(rng, &["", "accept", "return"])),
        _ => "continue".to_owned(),
    }
}
