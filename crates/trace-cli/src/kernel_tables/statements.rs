//! The expressions of a rule, as statements of a listing: what is loaded into registers is followed
//! to where it is compared, looked up or used.

use std::collections::HashMap;
use std::time::Duration;

use portolan_netfilter::nft::{CmpOp, CtKey, Direction, Expr, MetaKey, PayloadBase, Register, TableFamily};
use serde_json::{Value, json};

use super::layout::{Kind, Layout, Layouts};
use super::objects::verdict_object;

/// What was loaded into registers.
#[derive(Debug, Clone)]
struct Loaded {
    expression: Value,
    kind: Kind,
    /// Bytes loaded: fewer than the field has where only the beginning is compared.
    len: usize,
    /// Only these bits count.
    mask: Option<Vec<u8>>,
}

/// The statements of a rule. What its look-ups show of sets goes into `layouts`.
pub(super) fn statements(family: TableFamily, exprs: &[Expr], layouts: &mut Layouts) -> Vec<Value> {
    let mut rule = Registers {
        family,
        loaded: HashMap::new(),
        mapped: HashMap::new(),
        constants: HashMap::new(),
        statements: Vec::new(),
    };
    for expr in exprs {
        rule.expression(expr, layouts);
    }
    rule.statements
}

/// A rule that is being read.
struct Registers {
    family: TableFamily,
    /// By their first byte.
    loaded: HashMap<usize, Loaded>,
    /// Where the data of a map was put: the map's name and the expression that finds it.
    mapped: HashMap<usize, (String, Value)>,
    /// What the rule itself put there.
    constants: HashMap<usize, Vec<u8>>,
    statements: Vec<Value>,
}

/// The first byte of a register, in the order in which the kernel numbers them (`enum
/// nft_registers`).
fn place(register: Register) -> usize {
    let number = register.0 as usize;
    if number < 8 { number.saturating_sub(1) * 16 } else { (number - 8) * 4 }
}

impl Registers {
    fn load(&mut self, dest: Register, expression: Value, kind: Kind, len: usize) {
        self.forget(dest);
        self.loaded.insert(place(dest), Loaded { expression, kind, len, mask: None });
    }

    fn forget(&mut self, dest: Register) {
        self.loaded.remove(&place(dest));
        self.mapped.remove(&place(dest));
        self.constants.remove(&place(dest));
    }

    fn expression(&mut self, expr: &Expr, layouts: &mut Layouts) {
        match expr {
            Expr::Payload { base, offset, len, dest } => self.payload(*base, *offset, *len as usize, *dest),
            Expr::Meta { key, dest } => {
                let (key, kind) = match key {
                    MetaKey::L4Proto => ("l4proto", Kind::Protocol),
                    MetaKey::InputInterfaceName => ("iifname", Kind::Interface),
                    MetaKey::OutputInterfaceName => ("oifname", Kind::Interface),
                    MetaKey::Mark => ("mark", Kind::Number),
                    MetaKey::NfProto => ("nfproto", Kind::NetworkProtocol),
                };
                self.load(*dest, json!({"meta": {"key": key}}), kind, kind.len());
            }
            Expr::SetMark { source } => self.set_mark(*source, layouts),
            Expr::Ct { key, direction, dest } => self.ct(*key, *direction, *dest),
            Expr::FibSourceType { dest } => self.fib("saddr", *dest),
            Expr::FibDestinationType { dest } => self.fib("daddr", *dest),
            Expr::RandomBelow { modulus, dest } => self.load(
                *dest,
                json!({"numgen": {"mode": "random", "mod": modulus, "offset": 0}}),
                Kind::Number,
                Kind::Number.len(),
            ),
            Expr::Bitwise { source, dest, mask, xor } => {
                let loaded = self.loaded.get(&place(*source)).filter(|it| it.mask.is_none()).cloned();
                self.forget(*dest);
                let result = loaded.and_then(|loaded| {
                    if xor.iter().all(|byte| *byte == 0) {
                        return Some(Loaded { mask: Some(mask.clone()), ..loaded });
                    }
                    let (kept, flipped) = (loaded.kind.value(mask)?, loaded.kind.value(xor)?);
                    let expression = json!({"^": [{"&": [loaded.expression, kept]}, flipped]});
                    Some(Loaded { expression, ..loaded })
                });
                if let Some(result) = result {
                    self.loaded.insert(place(*dest), result);
                }
            }
            Expr::Cmp { op, source, value } => {
                let compared =
                    self.loaded.get(&place(*source)).and_then(|loaded| comparison(loaded, *op, value));
                self.statements.push(compared.unwrap_or_else(|| unknown_match("comparison")));
            }
            Expr::Lookup { set, source, dest, inverted } => {
                self.lookup(set, *source, *dest, *inverted, layouts);
            }
            Expr::Immediate(verdict) => self.statements.push(verdict_object(verdict)),
            Expr::Constant { value, dest } => {
                self.forget(*dest);
                self.constants.insert(place(*dest), value.clone());
            }
            Expr::Dnat { ipv6, address, port } => self.dnat(*ipv6, *address, *port, layouts),
            Expr::MasqueradeFullyRandom => {
                self.statements.push(json!({"masquerade": {"flags": "fully-random"}}));
            }
            Expr::RejectPortUnreachable { ipv6 } => {
                let kind = if *ipv6 { "icmpv6" } else { "icmp" };
                self.statements.push(json!({"reject": {"type": kind, "expr": "port-unreachable"}}));
            }
            Expr::RejectTcpReset => self.statements.push(json!({"reject": {"type": "tcp reset"}})),
            Expr::UpdateSet { set, key, data, timeout } => {
                self.update_set(set, *key, *data, *timeout, layouts);
            }
            Expr::DeleteFromSet { set, key } => {
                let length = layouts.lengths.get(set).copied();
                let end = length.map_or(usize::MAX, |length| place(*key) + length);
                let key = self.in_words(*key, end);
                self.statements.push(format!("delete @{set} {{ {key} }}").into());
            }
            Expr::NoTrack => self.statements.push(json!({"notrack": null})),
            Expr::Other(name) => self.other(name),
        }
    }

    /// Offsets of RFC 791 §3.1, RFC 8200 §3, RFC 9293 §3.1 and RFC 768.
    fn payload(&mut self, base: PayloadBase, offset: u32, len: usize, dest: Register) {
        let v6 = self.family == TableFamily::Ip6;
        let (ip, address) = if v6 { ("ip6", Kind::V6) } else { ("ip", Kind::V4) };
        let (protocol, field, kind) = match (base, v6, offset) {
            (PayloadBase::Network, false, 12) | (PayloadBase::Network, true, 8) => (ip, "saddr", address),
            (PayloadBase::Network, false, 16) | (PayloadBase::Network, true, 24) => (ip, "daddr", address),
            (PayloadBase::Network, false, 9) => (ip, "protocol", Kind::Protocol),
            (PayloadBase::Network, true, 6) => (ip, "nexthdr", Kind::Protocol),
            (PayloadBase::Transport, _, 0) => ("th", "sport", Kind::Port),
            (PayloadBase::Transport, _, 2) => ("th", "dport", Kind::Port),
            (PayloadBase::Transport, _, 13) => ("tcp", "flags", Kind::TcpFlags),
            _ => return self.forget(dest),
        };
        let beginning_of_address = kind == address && len < kind.len();
        if len == kind.len() || beginning_of_address {
            let expression = json!({"payload": {"protocol": protocol, "field": field}});
            self.load(dest, expression, kind, len);
        } else {
            self.forget(dest);
        }
    }

    fn ct(&mut self, key: CtKey, direction: Option<Direction>, dest: Register) {
        let (key, kind) = match key {
            CtKey::State => ("state", Kind::State),
            CtKey::Status => ("status", Kind::Status),
            CtKey::SourceIp => ("ip saddr", Kind::V4),
            CtKey::DestinationIp => ("ip daddr", Kind::V4),
            CtKey::SourceIp6 => ("ip6 saddr", Kind::V6),
            CtKey::DestinationIp6 => ("ip6 daddr", Kind::V6),
            CtKey::ProtoSource => ("proto-src", Kind::Port),
            CtKey::ProtoDestination => ("proto-dst", Kind::Port),
        };
        let expression = match direction {
            None => json!({"ct": {"key": key}}),
            Some(Direction::Original) => json!({"ct": {"key": key, "dir": "original"}}),
            Some(Direction::Reply) => json!({"ct": {"key": key, "dir": "reply"}}),
        };
        self.load(dest, expression, kind, kind.len());
    }

    fn fib(&mut self, of: &str, dest: Register) {
        let expression = json!({"fib": {"result": "type", "flags": [of]}});
        self.load(dest, expression, Kind::AddressType, Kind::AddressType.len());
    }

    fn set_mark(&mut self, source: Register, layouts: &mut Layouts) {
        let at = place(source);
        let value = if let Some((map, found)) = self.mapped.get(&at) {
            if let Some(layout) = layouts.sets.get_mut(map) {
                layout.data = vec![Kind::Number];
            }
            Some(found.clone())
        } else if let Some(loaded) = self.loaded.get(&at) {
            match &loaded.mask {
                None => Some(loaded.expression.clone()),
                Some(mask) => {
                    loaded.kind.value(mask).map(|kept| json!({"&": [loaded.expression.clone(), kept]}))
                }
            }
        } else {
            self.constants.get(&at).and_then(|value| Kind::Number.value(value))
        };
        let value = value.unwrap_or_else(|| json!({"unknown": null}));
        self.statements.push(json!({"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}}));
    }

    fn dnat(&mut self, ipv6: bool, address: Register, port: Option<Register>, layouts: &mut Layouts) {
        let statement = match self.mapped.get(&place(address)) {
            Some((map, found)) => {
                let mut data = vec![if ipv6 { Kind::V6 } else { Kind::V4 }];
                data.extend(port.map(|_| Kind::Port));
                if let Some(layout) = layouts.sets.get_mut(map) {
                    layout.data = data;
                }
                json!({"dnat": {"family": if ipv6 { "ip6" } else { "ip" }, "addr": found}})
            }
            None => self
                .constant_destination(ipv6, address, port)
                .unwrap_or_else(|| json!({"dnat": {"addr": {"unknown": null}}})),
        };
        self.statements.push(statement);
    }

    /// A destination that the rule itself names; `None` if it is not known.
    fn constant_destination(&self, ipv6: bool, address: Register, port: Option<Register>) -> Option<Value> {
        let kind = if ipv6 { Kind::V6 } else { Kind::V4 };
        let mut body = json!({"addr": kind.value(self.constants.get(&place(address))?)?});
        if let Some(port) = port {
            body["port"] = Kind::Port.value(self.constants.get(&place(port))?)?;
        }
        Some(json!({"dnat": body}))
    }

    fn update_set(
        &mut self,
        set: &str,
        key: Register,
        data: Option<Register>,
        timeout: Option<Duration>,
        layouts: &Layouts,
    ) {
        let length = layouts.lengths.get(set).copied();
        let whole = length.and_then(|length| self.key(place(key), length)).filter(|_| data.is_none());
        let statement = if let Some([single]) = whole.as_deref() {
            let mut elem = json!({"val": single.expression});
            if let Some(timeout) = timeout {
                elem["timeout"] = timeout.as_secs().into();
            }
            json!({"set": {"op": "update", "elem": {"elem": elem}, "set": format!("@{set}")}})
        } else {
            let end = length.map_or(usize::MAX, |length| place(key) + length);
            let key = self.in_words(key, end);
            let timeout =
                timeout.map_or_else(String::new, |timeout| format!(" timeout {}s", timeout.as_secs()));
            let data =
                data.map_or_else(String::new, |data| format!(" : {}", self.in_words(data, usize::MAX)));
            format!("update @{set} {{ {key}{timeout}{data} }}").into()
        };
        self.statements.push(statement);
    }

    /// An expression of another program, of which only the name is known.
    fn other(&mut self, name: &str) {
        let statement = match name {
            "match" => json!({"xt": {"type": "match", "name": "of iptables"}}),
            "target" => json!({"xt": {"type": "target", "name": "of iptables"}}),
            "counter" | "log" | "limit" | "quota" | "last" | "notrack" => json!({name: null}),
            // These put something into a register: what looks there shows as unknown.
            "immediate" | "meta" | "ct" | "payload" | "fib" | "rt" | "socket" | "osf" | "hash" | "numgen"
            | "byteorder" | "bitwise" | "exthdr" | "xfrm" => {
                self.loaded.clear();
                self.mapped.clear();
                self.constants.clear();
                // Some of them write a mark instead.
                json!({"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"unknown": name}}})
            }
            "cmp" | "range" | "lookup" => unknown_match(name),
            other => json!({other: null}),
        };
        self.statements.push(statement);
    }

    fn lookup(
        &mut self,
        set: &str,
        source: Register,
        dest: Option<Register>,
        inverted: bool,
        layouts: &mut Layouts,
    ) {
        let length = layouts.lengths.get(set).copied();
        let Some(key) = length.and_then(|length| self.key(place(source), length)) else {
            self.statements.push(unknown_match("lookup"));
            if let Some(dest) = dest {
                self.forget(dest);
            }
            return;
        };
        let kinds = || key.iter().map(|loaded| loaded.kind).collect();
        layouts.sets.entry(set.to_owned()).or_insert_with(|| Layout { key: kinds(), data: Vec::new() });
        let expression = match &key[..] {
            [single] => single.expression.clone(),
            several => json!({"concat": several.iter().map(|it| it.expression.clone()).collect::<Vec<_>>()}),
        };
        let name = format!("@{set}");
        match dest {
            None => {
                let op = if inverted { "!=" } else { "==" };
                self.statements.push(json!({"match": {"op": op, "left": expression, "right": name}}));
            }
            Some(Register::VERDICT) => {
                self.statements.push(json!({"vmap": {"key": expression, "data": name}}));
            }
            Some(dest) => {
                self.forget(dest);
                let found = json!({"map": {"key": expression, "data": name}});
                self.mapped.insert(place(dest), (set.to_owned(), found));
            }
        }
    }

    /// What lies in the `length` bytes of registers from `at` on.
    fn key(&self, mut at: usize, length: usize) -> Option<Vec<&Loaded>> {
        let end = at + length;
        let mut key = Vec::new();
        while at < end {
            let loaded = self.loaded.get(&at)?;
            if loaded.mask.is_some() || loaded.len != loaded.kind.len() {
                return None;
            }
            at += loaded.kind.room();
            key.push(loaded);
        }
        Some(key)
    }

    /// All that lies in the registers from `register` to `end`, in nft's words.
    fn in_words(&self, register: Register, end: usize) -> String {
        let mut words = Vec::new();
        let mut at = place(register);
        while let Some(loaded) = self.loaded.get(&at).filter(|_| at < end) {
            words.push(in_words(&loaded.expression));
            at += loaded.kind.room();
        }
        words.join(" . ")
    }
}

fn in_words(expression: &Value) -> String {
    let text = |pointer: &str| expression.pointer(pointer).and_then(Value::as_str);
    match (text("/payload/protocol"), text("/meta/key"), text("/ct/key")) {
        (Some(protocol), _, _) => format!("{protocol} {}", text("/payload/field").unwrap_or_default()),
        (_, Some(key), _) => format!("meta {key}"),
        (_, _, Some(key)) => format!("ct {} {key}", text("/ct/dir").unwrap_or_default()),
        _ => "numgen".to_owned(),
    }
}

fn unknown_match(name: &str) -> Value {
    json!({"match": {"op": "==", "left": {"unknown": name}, "right": "?"}})
}

/// `None` for what no statement says exactly.
fn comparison(loaded: &Loaded, op: CmpOp, value: &[u8]) -> Option<Value> {
    let left = &loaded.expression;
    let operator = match op {
        CmpOp::Equal => "==",
        CmpOp::NotEqual => "!=",
    };
    let right = match (&loaded.mask, loaded.kind) {
        (None, Kind::Interface) if value.len() < 16 && !value.contains(&0) => {
            format!("{}*", std::str::from_utf8(value).ok()?).into()
        }
        (None, Kind::V4 | Kind::V6) if loaded.len < loaded.kind.len() && value.len() == loaded.len => {
            network(value, value.len() * 8, loaded.kind)?
        }
        (None, kind) if value.len() >= kind.len() => kind.value(value)?,
        (Some(mask), Kind::V4 | Kind::V6) if mask.len() == value.len() => {
            network(value, prefix_length(mask)?, loaded.kind)?
        }
        (Some(mask), Kind::TcpFlags | Kind::Number) => {
            let (mask, value) = (loaded.kind.value(mask)?, loaded.kind.value(value)?);
            let left = json!({"&": [left, mask]});
            return Some(json!({"match": {"op": operator, "left": left, "right": value}}));
        }
        // Bits of flags: any of them is set.
        (Some(mask), Kind::State | Kind::Status)
            if op == CmpOp::NotEqual && value.iter().all(|byte| *byte == 0) =>
        {
            let bits = loaded.kind.value(mask)?;
            return Some(json!({"match": {"op": "in", "left": left, "right": bits}}));
        }
        _ => return None,
    };
    Some(json!({"match": {"op": operator, "left": left, "right": right}}))
}

fn network(beginning: &[u8], length: usize, kind: Kind) -> Option<Value> {
    let mut bytes = [0; 16];
    bytes.get_mut(..beginning.len())?.copy_from_slice(beginning);
    let address = kind.value(&bytes)?;
    Some(json!({"prefix": {"addr": address, "len": length}}))
}

fn prefix_length(mask: &[u8]) -> Option<usize> {
    let ones: usize = mask.iter().map(|byte| byte.leading_ones() as usize).sum();
    let all: usize = mask.iter().map(|byte| byte.count_ones() as usize).sum();
    let whole = ones / 8;
    let contiguous = mask[..whole].iter().all(|byte| *byte == u8::MAX) && ones == all;
    contiguous.then_some(ones)
}

#[cfg(test)]
mod tests {
    use portolan_netfilter::nft::{OwnedData, OwnedElement};

    use super::super::objects::element_object;
    use super::*;

    fn saddr(len: u32) -> Expr {
        Expr::Payload { base: PayloadBase::Network, offset: 12, len, dest: Register::R1 }
    }

    fn compare(op: CmpOp, value: &[u8]) -> Expr {
        Expr::Cmp { op, source: Register::R1, value: value.into() }
    }

    fn masked(mask: &[u8]) -> Expr {
        Expr::Bitwise {
            source: Register::R1,
            dest: Register::R1,
            mask: mask.into(),
            xor: vec![0; mask.len()],
        }
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "one table of cases")]
    fn expressions_become_statements() {
        let source = json!({"payload": {"protocol": "ip", "field": "saddr"}});
        let state = json!({"ct": {"key": "state"}});
        let iifname = json!({"meta": {"key": "iifname"}});
        let matches = |op: &str, left: &Value, right: Value| json!([{"match": {"op": op, "left": left, "right": right}}]);
        let network = |length: u8| json!({"prefix": {"addr": "10.244.0.0", "len": length}});
        let ct_state = Expr::Ct { key: CtKey::State, direction: None, dest: Register::R1 };
        let interface = Expr::Meta { key: MetaKey::InputInterfaceName, dest: Register::R1 };
        let mark = Expr::Meta { key: MetaKey::Mark, dest: Register::R1 };
        let mark_itself = json!({"meta": {"key": "mark"}});
        for (situation, exprs, expected) in [
            (
                "an address",
                vec![saddr(4), compare(CmpOp::Equal, &[10, 244, 0, 1])],
                matches("==", &source, "10.244.0.1".into()),
            ),
            (
                "a network by its mask",
                vec![saddr(4), masked(&[255, 254, 0, 0]), compare(CmpOp::NotEqual, &[10, 244, 0, 0])],
                matches("!=", &source, network(15)),
            ),
            (
                "a network by its first bytes, as nft writes it",
                vec![saddr(2), compare(CmpOp::Equal, &[10, 244])],
                matches("==", &source, network(16)),
            ),
            (
                "a mask with holes",
                vec![saddr(4), masked(&[255, 0, 255, 0]), compare(CmpOp::Equal, &[10, 0, 1, 0])],
                json!([unknown_match("comparison")]),
            ),
            (
                "a flag",
                vec![ct_state, masked(&8u32.to_ne_bytes()), compare(CmpOp::NotEqual, &[0; 4])],
                matches("in", &state, "new".into()),
            ),
            (
                "a connection's first packet",
                vec![
                    Expr::Payload { base: PayloadBase::Transport, offset: 13, len: 1, dest: Register::R1 },
                    masked(&[0x17]),
                    compare(CmpOp::Equal, &[2]),
                ],
                matches(
                    "==",
                    &json!({"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, 0x17]}),
                    2.into(),
                ),
            ),
            (
                "an interface by the beginning of its name",
                vec![interface.clone(), compare(CmpOp::NotEqual, b"veth")],
                matches("!=", &iifname, "veth*".into()),
            ),
            (
                "an interface by its name",
                vec![interface, compare(CmpOp::Equal, b"cbr0\0\0\0\0\0\0\0\0\0\0\0\0")],
                matches("==", &iifname, "cbr0".into()),
            ),
            (
                "some bits of the mark",
                vec![
                    mark.clone(),
                    masked(&0xf000_0000_u32.to_ne_bytes()),
                    compare(CmpOp::Equal, &0x7000_0000_u32.to_ne_bytes()),
                ],
                matches("==", &json!({"&": [mark_itself, 0xf000_0000_u32]}), 0x7000_0000_u32.into()),
            ),
            (
                "no bit of the mark",
                vec![mark.clone(), masked(&0x4000_u32.to_ne_bytes()), compare(CmpOp::Equal, &[0; 4])],
                matches("==", &json!({"&": [mark_itself, 0x4000]}), 0.into()),
            ),
            (
                "a bit of the mark is set",
                vec![
                    mark.clone(),
                    Expr::Bitwise {
                        source: Register::R1,
                        dest: Register::R1,
                        mask: (!0x4000_u32).to_ne_bytes().into(),
                        xor: 0x4000_u32.to_ne_bytes().into(),
                    },
                    Expr::SetMark { source: Register::R1 },
                ],
                json!([{"mangle": {"key": mark_itself, "value": {"^": [{"&": [mark_itself, !0x4000_u32]}, 0x4000]}}}]),
            ),
            (
                "a bit of the mark is cleared",
                vec![
                    mark.clone(),
                    masked(&(!0x4000_u32).to_ne_bytes()),
                    Expr::SetMark { source: Register::R1 },
                ],
                json!([{"mangle": {"key": mark_itself, "value": {"&": [mark_itself, !0x4000_u32]}}}]),
            ),
            (
                "a mark that the rule names",
                vec![
                    Expr::Constant { value: vec![0; 4], dest: Register::R1 },
                    Expr::SetMark { source: Register::R1 },
                ],
                json!([{"mangle": {"key": mark_itself, "value": 0}}]),
            ),
            (
                "a value that another program computed",
                vec![Expr::Other("hash".into()), compare(CmpOp::Equal, &[1])],
                json!([
                    {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"unknown": "hash"}}},
                    unknown_match("comparison"),
                ]),
            ),
        ] {
            let statements = statements(TableFamily::Ip, &exprs, &mut Layouts::default());
            assert_eq!(Value::from(statements), expected, "{situation}");
        }
    }

    #[test]
    fn a_map_of_marks_shows_its_layout() {
        let port = [
            Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dest: Register::R1 },
            Expr::Lookup {
                set: "local-marks".into(),
                source: Register::R1,
                dest: Some(Register::R1),
                inverted: false,
            },
            Expr::SetMark { source: Register::R1 },
        ];
        let mut layouts = Layouts { lengths: [("local-marks".to_owned(), 4)].into(), sets: HashMap::new() };
        let statements = statements(TableFamily::Ip, &port, &mut layouts);
        let key = json!({"payload": {"protocol": "th", "field": "dport"}});
        let value = json!({"map": {"key": key, "data": "@local-marks"}});
        let expected = json!([{"mangle": {"key": {"meta": {"key": "mark"}}, "value": value}}]);
        assert_eq!(Value::from(statements), expected);
        assert_eq!(layouts.sets["local-marks"].data, [Kind::Number]);
    }

    #[test]
    fn look_ups_show_how_elements_are_laid_out() {
        let frontend = [
            Expr::RandomBelow { modulus: 3, dest: Register::word(0) },
            Expr::Payload { base: PayloadBase::Network, offset: 16, len: 4, dest: Register::word(1) },
            Expr::Meta { key: MetaKey::L4Proto, dest: Register::word(2) },
            Expr::Payload { base: PayloadBase::Transport, offset: 2, len: 2, dest: Register::word(3) },
            Expr::Lookup {
                set: "endpoints".into(),
                source: Register::R1,
                dest: Some(Register::R1),
                inverted: false,
            },
            Expr::Dnat { ipv6: false, address: Register::R1, port: Some(Register::word(1)) },
        ];
        let mut layouts = Layouts { lengths: [("endpoints".to_owned(), 16)].into(), sets: HashMap::new() };
        let statements = statements(TableFamily::Ip, &frontend, &mut layouts);
        assert_eq!(statements[0]["dnat"]["addr"]["map"]["data"], "@endpoints", "{statements:?}");
        let layout = &layouts.sets["endpoints"];
        assert_eq!(layout.data, [Kind::V4, Kind::Port]);

        let mut key = 2u32.to_ne_bytes().to_vec();
        key.extend([10, 96, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);
        let element = OwnedElement {
            key,
            key_end: None,
            data: Some(OwnedData::Value(vec![10, 244, 1, 1, 31, 144, 0, 0])),
            timeout: None,
            expires: None,
            comment: Some("shop/web:http".into()),
        };
        assert_eq!(
            element_object(&element, layout),
            Some(json!([
                {"elem": {"val": {"concat": [2, "10.96.0.1", "tcp", 80]}, "comment": "shop/web:http"}},
                {"concat": ["10.244.1.1", 8080]},
            ]))
        );
        let cut_off = OwnedElement { key: vec![0; 3], ..element };
        assert_eq!(element_object(&cut_off, layout), None);
    }
}
