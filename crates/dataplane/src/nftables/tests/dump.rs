//! A rule set as text, much like nft writes it, from what is encoded rather than from what was
//! meant.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portolan_netfilter::nft::{self, CmpOp, Direction, Expr, PayloadBase, Register, Rule};
use portolan_service::{Family, ServicePlan};

use crate::nftables::affinity::{self, AffinityStep, chain_of_set};
use crate::nftables::chain::Chain;
use crate::nftables::element::{Data, Element, Key, Target, render};
use crate::nftables::inventory::{Inventory, Tally};
use crate::nftables::layout::Layout;
use crate::nftables::schema::{Features, Schema};
use crate::nftables::set::declare_affinity_set;
use crate::nftables::table::table_name;
use crate::settings::Settings;

/// Everything that the kernel is to hold in `family` where rules translate.
pub(crate) fn ruleset(settings: &Settings, plans: &[ServicePlan], family: Family) -> String {
    ruleset_of(&Layout::Translate, settings, plans, family)
}

/// Everything that the kernel is to hold in `family`.
pub(crate) fn ruleset_of(
    layout: &Layout,
    settings: &Settings,
    plans: &[ServicePlan],
    family: Family,
) -> String {
    let mut elements = Vec::new();
    for plan in plans {
        let mut of_plan = Vec::new();
        render(layout, plan, family, &mut of_plan);
        elements.extend(of_plan.into_iter().map(|element| (plan, element)));
    }
    let mut shared = HashSet::new();
    elements.retain(|(_, element)| {
        !matches!(element.key, Key::ClusterIp(_) | Key::Hairpin(_)) || shared.insert(element.key)
    });
    let mut tally = Tally::default();
    for (_, element) in &elements {
        tally.count(element, 1);
    }
    let (mut affinity_sets, mut port_rules) = (Vec::new(), BTreeMap::new());
    let of_ports = Schema { family, settings, layout, features: Features::default() };
    for plan in plans.iter().filter(|_| layout.chooses_endpoints()) {
        affinity::difference(None, Some(plan), family, |step| match step {
            AffinityStep::AddSet(name, size) => {
                tally.count_use(chain_of_set(&name), 1);
                affinity_sets.push((name, size));
            }
            AffinityStep::Rewrite(chain, content) => {
                port_rules.insert(chain, of_ports.affinity_rules(&content));
            }
            other @ AffinityStep::DeleteSet(_) => panic!("{other:?} of a plan that nothing comes before"),
        });
    }
    let nothing = Inventory::default();
    let schema = Schema { family, settings, layout, features: tally.needs(&nothing) };
    let come_and_go: Vec<Chain> = tally.missing_chains(&nothing).cloned().collect();

    let mut text = format!("{} {{\n", table_name(family));
    for set in layout.sets().iter().copied() {
        let lines: Vec<String> = elements
            .iter()
            .filter(|(_, element)| element.key.set() == set)
            .map(|(plan, element)| line(plan, element))
            .collect();
        writeln!(text, "  {} {} # {}", set.kind(), set.name(), set.comment()).expect("writing to a string");
        for line in lines {
            writeln!(text, "    {line}").expect("writing to a string");
        }
    }
    let ip = if family == Family::V6 { "ip6" } else { "ip" };
    for (name, size) in affinity_sets {
        let set = declare_affinity_set(&name, size, 1);
        assert!(set.dynamic && set.timeouts, "packets fill it, and clients expire");
        let size = set.size.map_or_else(String::new, |size| format!(" size {size}"));
        let gc = set.gc_interval.expect("an interval").as_secs();
        writeln!(text, "  set {} {{ {ip} saddr; dynamic, timeout; gc-interval {gc}s{size} }}", set.name)
            .expect("writing to a string");
    }
    for chain in come_and_go.into_iter().chain(schema.chains()) {
        let declaration = chain.declaration();
        write!(text, "  chain {}", declaration.name).expect("writing to a string");
        if let Some(base) = chain.base() {
            write!(text, " ({:?} {:?} {})", base.kind, base.hook, base.priority)
                .expect("writing to a string");
        }
        text.push('\n');
        for one in port_rules.get(&chain).cloned().unwrap_or_else(|| schema.rules(&chain)) {
            writeln!(text, "    {}", rule(&one)).expect("writing to a string");
        }
    }
    text.push_str("}\n");
    text
}

fn line(plan: &ServicePlan, element: &Element<'_>) -> String {
    let key = match element.key {
        Key::ClusterIp(address) => address.to_string(),
        Key::Hairpin(address) => format!("{address} . {address}"),
        Key::Frontend(_, frontend) => frontend.to_string(),
        Key::Endpoint(_, frontend, index) => format!("{index} . {frontend}"),
        Key::Allowed(frontend, network) => format!("{frontend} . {network}"),
    };
    let data = match &element.data {
        Data::None => String::new(),
        Data::Endpoint(address, port) => format!(" : {address} . {port}"),
        Data::Target(Target::Drop) => " : drop".into(),
        Data::Target(Target::Jump(chain)) => format!(" : jump {}", chain.name()),
        Data::Target(Target::Goto(chain)) => format!(" : goto {}", chain.name()),
        Data::Mark(mark) => format!(" : {mark:#010x}"),
    };
    let comment = match element.port_name {
        None => String::new(),
        Some("") => format!(" # {}", plan.name),
        Some(port) => format!(" # {}:{port}", plan.name),
    };
    format!("{key}{data}{comment}")
}

/// Follows what each register holds, so that a rule that reads the wrong one shows.
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn rule(rule: &Rule) -> String {
    let mut registers: Vec<(u32, u32, String)> = Vec::new();
    let mut words = Vec::new();
    for expr in &rule.exprs {
        match expr {
            Expr::Payload { base, offset, len, dest } => {
                let field = match (base, offset, len) {
                    (PayloadBase::Network, 9, 1) => "ip protocol",
                    (PayloadBase::Network, 12, 4) => "ip saddr",
                    (PayloadBase::Network, 16, 4) => "ip daddr",
                    (PayloadBase::Network, 8, 16) => "ip6 saddr",
                    (PayloadBase::Network, 24, 16) => "ip6 daddr",
                    (PayloadBase::Transport, 2, 2) => "th dport",
                    other => panic!("no header field {other:?}"),
                };
                load(&mut registers, *dest, *len, field.into());
            }
            Expr::Meta { key, dest } => match key {
                nft::MetaKey::InputInterfaceName => load(&mut registers, *dest, 16, "iifname".into()),
                nft::MetaKey::OutputInterfaceName => load(&mut registers, *dest, 16, "oifname".into()),
                nft::MetaKey::Mark => load(&mut registers, *dest, 4, "meta mark".into()),
                nft::MetaKey::L4Proto => load(&mut registers, *dest, 1, "meta l4proto".into()),
                nft::MetaKey::NfProto => panic!("no rule needs it"),
            },
            Expr::Ct { key, direction, dest } => {
                let direction = match direction {
                    None => "",
                    Some(Direction::Original) => "original ",
                    Some(Direction::Reply) => "reply ",
                };
                let (field, len) = match key {
                    nft::CtKey::State => ("state", 4),
                    nft::CtKey::Status => ("status", 4),
                    nft::CtKey::SourceIp => ("ip saddr", 4),
                    nft::CtKey::DestinationIp => ("ip daddr", 4),
                    nft::CtKey::SourceIp6 => ("ip6 saddr", 16),
                    nft::CtKey::DestinationIp6 => ("ip6 daddr", 16),
                    nft::CtKey::ProtoSource => ("proto-src", 2),
                    nft::CtKey::ProtoDestination => ("proto-dst", 2),
                };
                load(&mut registers, *dest, len, format!("ct {direction}{field}"));
            }
            Expr::FibSourceType { dest } => load(&mut registers, *dest, 4, "fib saddr type".into()),
            Expr::RandomBelow { modulus, dest } => {
                load(&mut registers, *dest, 4, format!("numgen random mod {modulus}"));
            }
            Expr::Bitwise { source, dest, mask, xor } => {
                let len = u32::try_from(mask.len()).expect("a few bytes");
                let what = field(&registers, *source);
                let flipped = if xor.iter().any(|byte| *byte != 0) {
                    format!(" ^ {}", value_of(&what, xor))
                } else {
                    String::new()
                };
                let masked = format!("{what} & {}{flipped}", value_of(&what, mask));
                load(&mut registers, *dest, len, masked);
            }
            Expr::Cmp { op, source, value } => {
                let op = if *op == CmpOp::Equal { "==" } else { "!=" };
                let what = holds(&registers, *source);
                let value = value_of(&what, value);
                words.push(format!("{what} {op} {value}"));
            }
            Expr::Lookup { set, source, dest, inverted } => {
                let key = holds(&registers, *source);
                match dest {
                    None => words.push(format!("{key} {}@{set}", if *inverted { "!= " } else { "" })),
                    Some(Register::VERDICT) => words.push(format!("{key} vmap @{set}")),
                    Some(dest) => {
                        registers.clear();
                        load(&mut registers, *dest, 20, format!("{key} map @{set}"));
                    }
                }
            }
            Expr::Immediate(verdict) => words.push(match verdict {
                nft::Verdict::Jump(chain) => format!("jump {chain}"),
                nft::Verdict::Goto(chain) => format!("goto {chain}"),
                other => format!("{other:?}").to_lowercase(),
            }),
            Expr::Constant { value, dest } => {
                let len = u32::try_from(value.len()).expect("a few bytes");
                let words = match <[u8; 2]>::try_from(&value[..]) {
                    Ok(port) => u16::from_be_bytes(port).to_string(),
                    Err(_) => bytes(value),
                };
                load(&mut registers, *dest, len, words);
            }
            Expr::Dnat { ipv6, address, port } => {
                let family = if *ipv6 { "ip6" } else { "ip" };
                let port = position(port.expect("every translation has a port")) - position(*address);
                assert_eq!(port, if *ipv6 { 4 } else { 1 }, "the port follows the address");
                words.push(format!("dnat {family} to {}", holds(&registers, *address)));
            }
            Expr::MasqueradeFullyRandom => words.push("masquerade fully-random".into()),
            Expr::RejectPortUnreachable { .. } => words.push("reject".into()),
            Expr::UpdateSet { set, key, data, timeout } => {
                assert!(data.is_none(), "it is a set");
                let seconds = timeout.expect("a timeout").as_secs();
                words.push(format!("update @{set} {{ {} timeout {seconds}s }}", holds(&registers, *key)));
            }
            Expr::SetMark { source } => words.push(format!("meta mark set {}", field(&registers, *source))),
            Expr::FibDestinationType { dest } => load(&mut registers, *dest, 4, "fib daddr type".into()),
            Expr::RejectTcpReset => words.push("reject with tcp reset".into()),
            Expr::DeleteFromSet { .. } | Expr::NoTrack | Expr::Other(_) => {
                panic!("no rule needs {expr:?}")
            }
        }
    }
    if let Some(comment) = &rule.comment {
        words.push(format!("# {comment}"));
    }
    words.join(" ")
}

/// What `what` is compared with or masked by.
fn value_of(what: &str, value: &[u8]) -> String {
    match <[u8; 4]>::try_from(value) {
        Ok(number) if what.starts_with("meta mark") => format!("{:#010x}", u32::from_ne_bytes(number)),
        _ if what.ends_with("ifname") => interface(value),
        _ => bytes(value),
    }
}

/// The 4-byte word where a register begins.
fn position(register: Register) -> u32 {
    if register.0 < 8 { (register.0 - 1) * 4 } else { register.0 - 8 }
}

fn load(registers: &mut Vec<(u32, u32, String)>, dest: Register, len: u32, what: String) {
    let at = position(dest);
    let end = at + len.div_ceil(4);
    assert!(end <= 20, "{what} goes beyond the registers");
    registers.retain(|(start, stop, _)| *stop <= at || *start >= end);
    registers.push((at, end, what));
    registers.sort_by_key(|(start, ..)| *start);
}

/// The concatenation that begins in `register`: everything that follows without a gap.
fn holds(registers: &[(u32, u32, String)], register: Register) -> String {
    let mut at = position(register);
    let mut run = Vec::new();
    for entry in registers {
        if entry.0 == at {
            at = entry.1;
            run.push(entry.clone());
        }
    }
    assert!(!run.is_empty(), "register {register:?} is read before it is loaded");
    join(&run)
}

/// What begins in `register`, and nothing of what follows.
fn field(registers: &[(u32, u32, String)], register: Register) -> String {
    let found = registers.iter().find(|(start, ..)| *start == position(register));
    found.expect("a register is read after it is loaded").2.clone()
}

fn join(registers: &[(u32, u32, String)]) -> String {
    registers.iter().map(|(_, _, what)| what.as_str()).collect::<Vec<_>>().join(" . ")
}

fn bytes(value: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(value) {
        let number = u32::from_ne_bytes(v4);
        return if number < 256 { number.to_string() } else { IpAddr::from(Ipv4Addr::from(v4)).to_string() };
    }
    if value.len() == 1 {
        return value[0].to_string();
    }
    let v6 = <[u8; 16]>::try_from(value).expect("a number or an address");
    IpAddr::from(Ipv6Addr::from(v6)).to_string()
}

fn interface(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    if name.len() == 16 { format!("\"{}\"", text.trim_end_matches('\0')) } else { format!("\"{text}*\"") }
}
