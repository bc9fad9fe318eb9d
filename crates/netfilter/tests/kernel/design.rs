//! A rule set with every kind of object, expression, set type and comment that this crate writes: a
//! small Service proxy for one family.

use std::time::Duration;

use portolan_netfilter::nft::{
    BaseChain, Batch, Chain, ChainType, CmpOp, CtKey, DataType, Direction, Element, ElementData, Expr, Field,
    Hook, KeyType, MetaKey, PayloadBase, Register, Rule, Set, TableFamily, TableRef, Verdict,
};

#[path = "keys.rs"]
pub(crate) mod keys;

const FRONTEND: &[Field] = &[Field::DestinationAddress, Field::L4Proto, Field::DestinationPort];
const ENDPOINT: &[Field] = &[Field::DestinationAddress, Field::DestinationPort];
const NUMBERED: &[Field] =
    &[Field::Random, Field::DestinationAddress, Field::L4Proto, Field::DestinationPort];
const CLIENT: &[Field] =
    &[Field::SourceAddress, Field::DestinationAddress, Field::L4Proto, Field::DestinationPort];
const ALLOWED: &[Field] =
    &[Field::DestinationAddress, Field::IpProtocol, Field::DestinationPort, Field::SourceAddress];
const PAIR: &[Field] = &[Field::SourceAddress, Field::DestinationAddress];

/// The rule set for one family.
pub(crate) struct Design {
    pub(crate) family: TableFamily,
}

impl Design {
    pub(crate) fn table(&self) -> TableRef<'static> {
        TableRef { family: self.family, name: "svc" }
    }

    fn v6(&self) -> bool {
        self.family == TableFamily::Ip6
    }

    fn words(&self) -> u32 {
        self.family.address_len() / 4
    }

    pub(crate) fn address(&self, last: u8) -> Vec<u8> {
        keys::address(self.family, last)
    }

    pub(crate) fn frontend(&self, last: u8, port: u16) -> Vec<u8> {
        keys::frontend(self.family, last, port)
    }

    pub(crate) fn range(&self, frontend: &[u8]) -> (Vec<u8>, Vec<u8>) {
        keys::range(self.family, frontend)
    }

    pub(crate) fn sets() -> Vec<Set> {
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
        vec![
            set(1, "cluster-ips", &[Field::DestinationAddress], None, Some("every ClusterIP")),
            set(2, "services", FRONTEND, Some(DataType::Verdict), Some("frontends")),
            set(3, "endpoints", NUMBERED, Some(DataType::Value(ENDPOINT)), Some("endpoints, numbered")),
            set(4, "hairpin", PAIR, None, None),
            Set {
                dynamic: true,
                timeouts: true,
                size: Some(1 << 20),
                ..set(5, "affinity", CLIENT, Some(DataType::Value(ENDPOINT)), Some("clients"))
            },
            set(6, "firewalled", FRONTEND, None, None),
            Set { interval: true, ..set(7, "allowed", ALLOWED, None, Some("source ranges")) },
            Set { size: Some(1000), ..set(8, "sized", &[Field::Random], Some(DataType::Verdict), None) },
            set(
                9,
                "translated",
                &[Field::DestinationAddress],
                Some(DataType::Value(&[Field::SourceAddress])),
                None,
            ),
        ]
    }

    pub(crate) fn chains() -> Vec<Chain> {
        let plain = |name: &str| Chain { name: name.to_owned(), kind: None, comment: None };
        let base = |name: &str, kind, hook, priority| Chain {
            kind: Some(BaseChain { kind, hook, priority }),
            ..plain(name)
        };
        vec![
            plain("pick-3"),
            plain("affinity-3"),
            plain("masq"),
            Chain { comment: Some("learns which endpoint a client has".to_owned()), ..plain("learn-10800") },
            plain("firewall"),
            plain("reject-it"),
            base("nat-prerouting", ChainType::Nat, Hook::Prerouting, -100),
            base("nat-output", ChainType::Nat, Hook::Output, -100),
            base("nat-postrouting", ChainType::Nat, Hook::Postrouting, 100),
            Chain {
                comment: Some("before translation".to_owned()),
                ..base("firewall-prerouting", ChainType::Filter, Hook::Prerouting, -110)
            },
            base("filter-input", ChainType::Filter, Hook::Input, -90),
            base("filter-forward", ChainType::Filter, Hook::Forward, -90),
        ]
    }

    pub(crate) fn rules(&self) -> Vec<(&'static str, Rule)> {
        let mut rules = Vec::new();
        let mut add = |chain, parts: Vec<Vec<Expr>>, comment: Option<&str>| {
            rules.push((chain, Rule { exprs: parts.concat(), comment: comment.map(str::to_owned) }));
        };
        let words = self.words();
        let verdict = |verdict| vec![Expr::Immediate(verdict)];
        let jump = |chain: &str| verdict(Verdict::Jump(chain.to_owned()));
        let random = Expr::RandomBelow { modulus: 3, dest: Register::word(0) };
        let dnat = |map: &str| {
            vec![
                lookup(map, Some(Register::R1)),
                Expr::Dnat { ipv6: self.v6(), address: Register::R1, port: Some(Register::word(words)) },
            ]
        };
        add("pick-3", vec![vec![random], self.load_frontend(1), dnat("endpoints")], None);
        add("affinity-3", vec![vec![self.source(0)], self.load_frontend(words), dnat("affinity")], None);
        add(
            "masq",
            vec![vec![Expr::FibSourceType { dest: Register::R1 }, equal(2u32.to_ne_bytes())], masquerade()],
            None,
        );
        add(
            "masq",
            vec![
                vec![Expr::FibDestinationType { dest: Register::R1 }, equal(2u32.to_ne_bytes())],
                verdict(Verdict::Return),
            ],
            Some("to this host"),
        );
        add(
            "masq",
            vec![vec![self.source(0), self.destination(words), lookup("hairpin", None)], masquerade()],
            None,
        );
        add(
            "masq",
            vec![vec![self.original_destination(), lookup("cluster-ips", None)], masquerade()],
            Some("never on the same node"),
        );
        add("learn-10800", vec![self.learn()], None);
        let mut not_allowed = self.load_frontend(0);
        not_allowed.push(lookup("firewalled", None));
        not_allowed.extend(self.load_frontend(0));
        not_allowed.push(self.source(words + 2));
        not_allowed.push(Expr::Lookup {
            set: "allowed".to_owned(),
            source: Register::R1,
            dest: None,
            inverted: true,
        });
        add("firewall", vec![not_allowed, verdict(Verdict::Drop)], None);
        add("reject-it", vec![vec![Expr::RejectPortUnreachable { ipv6: self.v6() }]], None);
        add("nat-prerouting", vec![self.not_in_network(), verdict(Verdict::Accept)], None);
        add(
            "nat-prerouting",
            vec![interface(b"cni0\0\0\0\0\0\0\0\0\0\0\0\0"), verdict(Verdict::Accept)],
            None,
        );
        add("nat-prerouting", vec![interface(b"veth"), verdict(Verdict::Goto("pick-3".to_owned()))], None);
        for comment in [None, Some("again for who met a commit in between")] {
            let dispatch = vec![lookup("services", Some(Register::VERDICT))];
            add("nat-prerouting", vec![self.load_frontend(0), dispatch.clone()], comment);
            add("nat-output", vec![self.load_frontend(0), dispatch], comment);
        }
        add("nat-postrouting", vec![bit(CtKey::Status, 1 << 5), jump("learn-10800")], None);
        add("nat-postrouting", vec![bit(CtKey::Status, 1 << 5), jump("masq")], None);
        add("firewall-prerouting", vec![bit(CtKey::State, 1 << 3), jump("firewall")], None);
        let known = vec![self.destination(0), lookup("cluster-ips", None)];
        add("filter-input", vec![known, verdict(Verdict::Goto("reject-it".to_owned()))], None);
        rules
    }

    /// Writes everything, elements too.
    pub(crate) fn load(&self, batch: &mut Batch) {
        let table = self.table();
        batch.add_table(table, "Services: every object, set type and comment");
        for set in Design::sets() {
            batch.add_set(table, &set);
        }
        for chain in Design::chains() {
            batch.add_chain(table, &chain);
        }
        for (chain, rule) in self.rules() {
            batch.add_rule(table, chain, &rule);
        }
        let frontend = self.frontend(1, 80);
        let verdict = Verdict::Jump("pick-3".to_owned());
        batch.add_elements(table, "cluster-ips", [Element::new(&self.address(1))]);
        batch.add_elements(
            table,
            "services",
            [
                Element {
                    data: Some(ElementData::Verdict(&verdict)),
                    comment: Some("shop/web:http"),
                    ..Element::new(&frontend)
                },
                Element {
                    data: Some(ElementData::Verdict(&Verdict::Drop)),
                    ..Element::new(&self.frontend(2, 443))
                },
            ],
        );
        let endpoint = [self.address(9), keys::padded(8080)].concat();
        for number in 0..3u32 {
            let key = [number.to_ne_bytes().to_vec(), frontend.clone()].concat();
            let element = Element { data: Some(ElementData::Value(&endpoint)), ..Element::new(&key) };
            batch.add_elements(table, "endpoints", [element]);
        }
        let twice = [self.address(9), self.address(9)].concat();
        batch.add_elements(table, "hairpin", [Element::new(&twice)]);
        let client = [self.address(7), frontend.clone()].concat();
        batch.add_elements(
            table,
            "affinity",
            [Element {
                data: Some(ElementData::Value(&endpoint)),
                timeout: Some(Duration::from_hours(1)),
                ..Element::new(&client)
            }],
        );
        batch.add_elements(table, "firewalled", [Element::new(&frontend)]);
        let (first, last) = self.range(&frontend);
        batch.add_elements(table, "allowed", [Element { key_end: Some(&last), ..Element::new(&first) }]);
    }

    fn load_frontend(&self, at: u32) -> Vec<Expr> {
        vec![
            self.destination(at),
            Expr::Meta { key: MetaKey::L4Proto, dest: Register::word(at + self.words()) },
            Expr::Payload {
                base: PayloadBase::Transport,
                offset: 2,
                len: 2,
                dest: Register::word(at + self.words() + 1),
            },
        ]
    }

    fn source(&self, at: u32) -> Expr {
        let offset = if self.v6() { 8 } else { 12 };
        self.network_header(offset, at)
    }

    fn destination(&self, at: u32) -> Expr {
        let offset = if self.v6() { 24 } else { 16 };
        self.network_header(offset, at)
    }

    fn network_header(&self, offset: u32, at: u32) -> Expr {
        let len = self.family.address_len();
        Expr::Payload { base: PayloadBase::Network, offset, len, dest: Register::word(at) }
    }

    fn original_destination(&self) -> Expr {
        let key = if self.v6() { CtKey::DestinationIp6 } else { CtKey::DestinationIp };
        Expr::Ct { key, direction: Some(Direction::Original), dest: Register::R1 }
    }

    fn not_in_network(&self) -> Vec<Expr> {
        let mut mask = self.address(0);
        mask.fill(0);
        mask[..2].fill(255);
        mask[2] = 0xf0;
        let xor = vec![0; mask.len()];
        let mut network = self.address(0);
        network[1] = 64;
        vec![
            self.source(0),
            Expr::Bitwise { source: Register::R1, dest: Register::R1, mask, xor },
            Expr::Cmp { op: CmpOp::NotEqual, source: Register::R1, value: network },
        ]
    }

    fn learn(&self) -> Vec<Expr> {
        let words = self.words();
        let (source, destination) = if self.v6() {
            (CtKey::SourceIp6, CtKey::DestinationIp6)
        } else {
            (CtKey::SourceIp, CtKey::DestinationIp)
        };
        let ct = |key, direction, at| Expr::Ct { key, direction: Some(direction), dest: Register::word(at) };
        let data = 2 * words + 2;
        vec![
            Expr::Meta { key: MetaKey::L4Proto, dest: Register::R1 },
            equal([6]),
            ct(source, Direction::Original, 0),
            ct(destination, Direction::Original, words),
            Expr::Meta { key: MetaKey::L4Proto, dest: Register::word(2 * words) },
            ct(CtKey::ProtoDestination, Direction::Original, 2 * words + 1),
            ct(source, Direction::Reply, data),
            ct(CtKey::ProtoSource, Direction::Reply, data + words),
            Expr::UpdateSet {
                set: "affinity".to_owned(),
                key: Register::R1,
                data: Some(Register::word(data)),
                timeout: Some(Duration::from_hours(3)),
            },
        ]
    }
}

fn lookup(set: &str, dest: Option<Register>) -> Expr {
    Expr::Lookup { set: set.to_owned(), source: Register::R1, dest, inverted: false }
}

fn masquerade() -> Vec<Expr> {
    vec![Expr::MasqueradeFullyRandom]
}

fn equal(value: impl Into<Vec<u8>>) -> Expr {
    Expr::Cmp { op: CmpOp::Equal, source: Register::R1, value: value.into() }
}

fn interface(name: &[u8]) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::InputInterfaceName, dest: Register::R1 },
        Expr::Cmp { op: CmpOp::NotEqual, source: Register::R1, value: name.to_vec() },
    ]
}

fn bit(key: CtKey, bit: u32) -> Vec<Expr> {
    vec![
        Expr::Ct { key, direction: None, dest: Register::R1 },
        Expr::Bitwise {
            source: Register::R1,
            dest: Register::R1,
            mask: bit.to_ne_bytes().into(),
            xor: vec![0; 4],
        },
        Expr::Cmp { op: CmpOp::NotEqual, source: Register::R1, value: vec![0; 4] },
    ]
}
