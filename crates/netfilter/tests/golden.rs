//! The bytes that nft 1.0.6 sends for the same objects, recorded from `nft -f`: one message a line,
//! without its netlink header. Little-endian, as recorded.
#![cfg(target_endian = "little")]

use std::time::Duration;

use portolan_netfilter::nft::{
    BaseChain, Batch, Chain, ChainType, CmpOp, CtKey, DataType, Direction, Element, ElementData, Expr, Field,
    Hook, KeyType, MetaKey, OwnedElement, PayloadBase, Register, Rule, RuleInfo, Set, TableFamily, TableRef,
    Verdict,
};
use portolan_netfilter::wire::{Message, Messages, Writer};

#[path = "kernel/keys.rs"]
mod keys;

const IP: &str = include_str!("golden/ip.hex");
const IP6: &str = include_str!("golden/ip6.hex");

struct Recorded {
    what: &'static str,
    payload: Vec<u8>,
}

fn recorded(text: &'static str) -> Vec<Recorded> {
    let line = |line: &'static str| {
        let (what, hex) = line.split_once(' ').expect("a name and bytes");
        let digit =
            |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok()).expect("hex");
        let payload = hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        Recorded { what, payload }
    };
    text.lines().map(line).collect()
}

/// The same transaction through this crate.
fn ours(family: TableFamily) -> Batch {
    let table = TableRef { family, name: "svc" };
    let mut batch = Batch::new();
    batch.add_table(table, "Services");

    let base = BaseChain { kind: ChainType::Nat, hook: Hook::Prerouting, priority: -100 };
    for (name, kind, comment) in [
        ("pick-3", None, Some("picks")),
        ("masq", None, None),
        ("learn", None, None),
        ("firewall", None, None),
        ("reject-it", None, None),
        ("nat-prerouting", Some(base), None),
    ] {
        batch.add_chain(table, &Chain { name: name.to_owned(), kind, comment: comment.map(str::to_owned) });
    }
    for set in sets() {
        batch.add_set(table, &set);
    }
    for (chain, exprs, comment) in rules(family) {
        // nft 1.0.6 cannot write this one for IPv6.
        if chain != "learn" || family == TableFamily::Ip {
            batch.add_rule(table, chain, &Rule { exprs, comment: comment.map(str::to_owned) });
        }
    }

    let address = keys::address(family, 1);
    let (frontend, refused) = (keys::frontend(family, 1, 80), keys::frontend(family, 2, 443));
    let endpoint = [keys::address(family, 9), keys::padded(8080)].concat();
    let value = Some(ElementData::Value(&endpoint));
    batch.add_elements(table, "cluster-ips", [Element::new(&address)]);
    let jump = Verdict::Jump("pick-3".to_owned());
    let services = [
        Element {
            data: Some(ElementData::Verdict(&jump)),
            comment: Some("shop/web:http"),
            ..Element::new(&frontend)
        },
        Element { data: Some(ElementData::Verdict(&Verdict::Drop)), ..Element::new(&refused) },
    ];
    batch.add_elements(table, "services", services);
    let numbered = [2u32.to_ne_bytes().to_vec(), frontend.clone()].concat();
    batch.add_elements(table, "endpoints", [Element { data: value, ..Element::new(&numbered) }]);
    let client = [keys::address(family, 7), frontend.clone()].concat();
    let timeout = Some(Duration::from_hours(1));
    batch.add_elements(table, "affinity", [Element { data: value, timeout, ..Element::new(&client) }]);
    let (first, last) = keys::range(family, &frontend);
    batch.add_elements(table, "allowed", [Element { key_end: Some(&last), ..Element::new(&first) }]);
    batch.delete_elements(table, "cluster-ips", [Element::new(&address)]);
    batch.flush_set(table, "hairpin");
    batch.flush_chain(table, "reject-it");
    batch.delete_table(table);
    batch
}

fn sets() -> [Set; 6] {
    let frontend = &[Field::DestinationAddress, Field::L4Proto, Field::DestinationPort];
    let numbered = &[Field::Random, Field::DestinationAddress, Field::L4Proto, Field::DestinationPort];
    let client = &[Field::SourceAddress, Field::DestinationAddress, Field::L4Proto, Field::DestinationPort];
    let allowed =
        &[Field::DestinationAddress, Field::IpProtocol, Field::DestinationPort, Field::SourceAddress];
    let endpoint = Some(DataType::Value(&[Field::DestinationAddress, Field::DestinationPort]));
    let set = |id, name: &str, key, data, comment: Option<&str>| Set {
        name: name.to_owned(),
        id,
        key: KeyType(key),
        data,
        dynamic: false,
        timeouts: false,
        interval: false,
        gc_interval: None,
        size: None,
        comment: comment.map(str::to_owned),
    };
    [
        set(1, "cluster-ips", &[Field::DestinationAddress], None, Some("every ClusterIP")),
        set(2, "services", frontend, Some(DataType::Verdict), Some("frontends")),
        set(3, "endpoints", numbered, endpoint, None),
        set(4, "hairpin", &[Field::SourceAddress, Field::DestinationAddress], None, None),
        Set {
            dynamic: true,
            timeouts: true,
            size: Some(1 << 20),
            ..set(5, "affinity", client, endpoint, None)
        },
        Set { interval: true, ..set(6, "allowed", allowed, None, None) },
    ]
}

type Line = (&'static str, Vec<Expr>, Option<&'static str>);

/// The rules as the text of the recording has them.
#[expect(clippy::too_many_lines, reason = "one list of rules")]
fn rules(family: TableFamily) -> Vec<Line> {
    let v6 = family == TableFamily::Ip6;
    let words = family.address_len() / 4;
    let word = Register::word;
    let network = |offset, len, at| Expr::Payload { base: PayloadBase::Network, offset, len, dest: word(at) };
    let source = |at| network(if v6 { 8 } else { 12 }, family.address_len(), at);
    let destination = |at| network(if v6 { 24 } else { 16 }, family.address_len(), at);
    let protocol = |at| Expr::Meta { key: MetaKey::L4Proto, dest: word(at) };
    let port = |at| Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dest: word(at) };
    let lookup = |set: &str, dest, inverted| Expr::Lookup {
        set: set.to_owned(),
        source: Register::R1,
        dest,
        inverted,
    };
    let cmp = |op, value: &[u8]| Expr::Cmp { op, source: Register::R1, value: value.to_vec() };
    let local = cmp(CmpOp::Equal, &2u32.to_ne_bytes());
    let original = |key, at| Expr::Ct { key, direction: Some(Direction::Original), dest: word(at) };
    let reply = |key, at| Expr::Ct { key, direction: Some(Direction::Reply), dest: word(at) };
    let (ct_source, ct_destination) =
        if v6 { (CtKey::SourceIp6, CtKey::DestinationIp6) } else { (CtKey::SourceIp, CtKey::DestinationIp) };
    let allowed_protocol = if v6 { protocol(words) } else { network(9, 1, words) };
    let mut mask = vec![0; family.address_len() as usize];
    mask[..3].copy_from_slice(&[255, 255, 0xf0]);
    let mut prefix = keys::address(family, 0);
    prefix[1] = 64;
    let dnat = vec![
        Expr::RandomBelow { modulus: 3, dest: word(0) },
        destination(1),
        protocol(words + 1),
        port(words + 2),
        lookup("endpoints", Some(Register::R1), false),
        Expr::Dnat { ipv6: v6, address: Register::R1, port: Some(word(words)) },
    ];
    let learn = vec![
        protocol(0),
        cmp(CmpOp::Equal, &[6]),
        original(ct_source, 0),
        original(ct_destination, words),
        protocol(2 * words),
        original(CtKey::ProtoDestination, 2 * words + 1),
        reply(ct_source, 2 * words + 2),
        reply(CtKey::ProtoSource, 3 * words + 2),
        Expr::UpdateSet {
            set: "affinity".to_owned(),
            key: Register::R1,
            data: Some(word(2 * words + 2)),
            timeout: Some(Duration::from_hours(3)),
        },
    ];
    let verdict = Expr::Immediate;
    vec![
        ("pick-3", dnat, None),
        (
            "masq",
            vec![Expr::FibSourceType { dest: Register::R1 }, local.clone(), Expr::MasqueradeFullyRandom],
            None,
        ),
        (
            "masq",
            vec![Expr::FibDestinationType { dest: Register::R1 }, local, verdict(Verdict::Return)],
            Some("to this host"),
        ),
        (
            "masq",
            vec![
                original(ct_destination, 0),
                lookup("cluster-ips", None, false),
                Expr::MasqueradeFullyRandom,
            ],
            None,
        ),
        ("learn", learn, None),
        (
            "firewall",
            vec![
                destination(0),
                allowed_protocol,
                port(words + 1),
                source(words + 2),
                lookup("allowed", None, true),
                verdict(Verdict::Drop),
            ],
            None,
        ),
        ("reject-it", vec![Expr::RejectPortUnreachable { ipv6: v6 }], None),
        (
            "nat-prerouting",
            vec![
                source(0),
                Expr::Bitwise { source: Register::R1, dest: Register::R1, xor: vec![0; mask.len()], mask },
                cmp(CmpOp::NotEqual, &prefix),
                verdict(Verdict::Accept),
            ],
            None,
        ),
        (
            "nat-prerouting",
            vec![
                Expr::Meta { key: MetaKey::InputInterfaceName, dest: Register::R1 },
                cmp(CmpOp::NotEqual, b"cni0\0\0\0\0\0\0\0\0\0\0\0\0"),
                verdict(Verdict::Accept),
            ],
            None,
        ),
        (
            "nat-prerouting",
            vec![
                Expr::Meta { key: MetaKey::InputInterfaceName, dest: Register::R1 },
                cmp(CmpOp::NotEqual, b"veth"),
                verdict(Verdict::Goto("pick-3".to_owned())),
            ],
            None,
        ),
        (
            "nat-prerouting",
            vec![
                Expr::Ct { key: CtKey::Status, direction: None, dest: Register::R1 },
                Expr::Bitwise {
                    source: Register::R1,
                    dest: Register::R1,
                    mask: 32u32.to_ne_bytes().to_vec(),
                    xor: vec![0; 4],
                },
                cmp(CmpOp::NotEqual, &[0; 4]),
                verdict(Verdict::Jump("reject-it".to_owned())),
            ],
            None,
        ),
        (
            "nat-prerouting",
            vec![
                destination(0),
                protocol(words),
                port(words + 1),
                lookup("services", Some(Register::VERDICT), false),
            ],
            None,
        ),
    ]
}

/// A rule as it is sent, read as the kernel would list it: with a handle.
fn read_rule(payload: &[u8]) -> RuleInfo {
    let mut handle = Writer::new();
    handle.be64(3, 7);
    let payload = [payload, handle.as_bytes()].concat();
    let message = Message { kind: 0, flags: 0, sequence: 0, payload: &payload };
    RuleInfo::parse(&message).expect("it is a rule")
}

fn read_elements(payload: &[u8]) -> Vec<OwnedElement> {
    OwnedElement::parse_all(&Message { kind: 0, flags: 0, sequence: 0, payload }).collect()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn compare(family: TableFamily, text: &'static str) {
    let bytes = ours(family).to_bytes();
    let messages: Vec<Message<'_>> =
        Messages::new(&bytes).map(|message| message.expect("well-formed")).collect();
    let [_, messages @ .., _] = &messages[..] else { panic!("no marks") };
    let recorded = recorded(text);
    assert_eq!(messages.len(), recorded.len());
    let mut exact = 0;
    for (index, (message, recorded)) in messages.iter().zip(&recorded).enumerate() {
        let theirs = &recorded.payload;
        let context = format!("{family} message {index}, {}", recorded.what);
        // nft names sets by their number in the batch too, and orders attributes of elements
        // otherwise.
        let refers = contains(theirs, b"lookup\0") || contains(theirs, b"dynset\0");
        match recorded.what {
            "add-rule" if refers => {
                let mut theirs = read_rule(theirs);
                // Turns one byte round, which newer kernels refuse to do.
                theirs.exprs.retain(|expr| *expr != Expr::Other("byteorder".to_owned()));
                assert_eq!(read_rule(message.payload), theirs, "{context}");
            }
            "add-elements" | "delete-elements" => {
                assert_eq!(read_elements(message.payload), read_elements(theirs), "{context}");
            }
            _ => {
                assert_eq!(message.payload, theirs, "{context}");
                exact += 1;
            }
        }
    }
    // The table twice, a flush, 6 chains, 6 sets, 7 rules that look nothing up.
    assert_eq!(exact, 22);
}

#[test]
fn ip_objects_have_the_bytes_of_nft() {
    compare(TableFamily::Ip, IP);
}

#[test]
fn ip6_objects_have_the_bytes_of_nft() {
    compare(TableFamily::Ip6, IP6);
}
