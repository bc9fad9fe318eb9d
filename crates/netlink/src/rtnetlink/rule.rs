//! Rules of policy routing (linux/fib_rules.h).

use std::io;

use super::{FAMILY_V4, FAMILY_V6, Rtnetlink};
use crate::socket::IfThere;
use crate::wire::{Attributes, Message, Writer};

const NEW: u16 = 32;
const DELETE: u16 = 33;
const GET: u16 = 34;

// FRA_*
const PRIORITY: u16 = 6;
const MARK: u16 = 10;
const TABLE: u16 = 15;
const MARK_MASK: u16 = 16;
const PROTOCOL: u16 = 21;

/// `FR_ACT_TO_TBL`: the table is looked into.
const TO_TABLE: u8 = 1;

/// Length of `struct fib_rule_hdr`, bytes
const HEADER: usize = 12;

/// The priorities and tables of the rules that every kernel starts with: `local`, `main` and
/// `default` (`fib_default_rules_init` of net/ipv4/fib_rules.c, `fib6_rules_net_init` of
/// net/ipv6/fib6_rules.c).
const FIRST_RULES: [(u32, u32); 3] = [(0, 255), (32_766, 254), (32_767, 253)];

/// A rule that says which table packets are routed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    /// Rules are asked in this order.
    priority: u32,
    /// The number of the table; 0 if it names none
    table: u32,
}

impl Rule {
    pub(super) fn parse(message: &Message<'_>) -> Option<Rule> {
        if message.kind != NEW {
            return None;
        }
        let [family, _, _, _, table, ..] = *message.payload.first_chunk::<HEADER>()?;
        if !matches!(family, FAMILY_V4 | FAMILY_V6) {
            return None;
        }
        let attributes = Attributes::new(message.payload.get(HEADER..)?);
        let number = |kind: u16| attributes.get(kind).and_then(|attribute| attribute.ne32());
        Some(Rule {
            priority: number(PRIORITY).unwrap_or(0),
            table: number(TABLE).unwrap_or_else(|| table.into()),
        })
    }

    /// It is one that every kernel starts with.
    fn is_usual(self) -> bool {
        FIRST_RULES.contains(&(self.priority, self.table))
    }
}

/// A rule for packets that have one of the bits of a mark: they are routed by a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MarkRule {
    /// Rules are asked in this order.
    pub priority: u32,
    /// One bit of the mark
    pub bit: u32,
    /// The number of the table
    pub table: u32,
    /// Whose it is (`RTPROT_*`): those above 4 are for programs to choose.
    pub protocol: u8,
}

impl MarkRule {
    fn header(family: u8) -> [u8; HEADER] {
        [family, 0, 0, 0, 0, 0, 0, TO_TABLE, 0, 0, 0, 0]
    }

    fn emit(&self, to: &mut Writer) {
        to.ne32(PRIORITY, self.priority);
        to.ne32(MARK, self.bit);
        to.ne32(MARK_MASK, self.bit);
        to.ne32(TABLE, self.table);
        to.u8(PROTOCOL, self.protocol);
    }
}

impl Rtnetlink {
    /// Adds a rule for IPv4, or for IPv6. `EEXIST`: it is there.
    pub fn add_mark_rule(&mut self, ipv6: bool, rule: &MarkRule) -> io::Result<()> {
        let header = MarkRule::header(if ipv6 { FAMILY_V6 } else { FAMILY_V4 });
        self.netlink.create(NEW, IfThere::Refuse, &header, |to| rule.emit(to))
    }

    /// Deletes what [`Rtnetlink::add_mark_rule`] added; `ENOENT` if it is missing.
    pub fn delete_mark_rule(&mut self, ipv6: bool, rule: &MarkRule) -> io::Result<()> {
        let header = MarkRule::header(if ipv6 { FAMILY_V6 } else { FAMILY_V4 });
        self.netlink.acknowledged(DELETE, &header, |to| rule.emit(to))
    }

    /// Whether there are rules of policy routing, of IPv4 or IPv6, besides those that every kernel
    /// has.
    pub fn policy_routing(&mut self) -> io::Result<bool> {
        self.netlink.dump_whole(
            GET,
            &[0; HEADER],
            |_| {},
            |others: &mut bool, message| {
                *others |= Rule::parse(message).is_some_and(|rule| !rule.is_usual());
            },
        )
    }
}
