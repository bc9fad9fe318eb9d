//! Rules of policy routing (linux/fib_rules.h).

use std::io;

use super::{FAMILY_V4, FAMILY_V6, Rtnetlink};
use crate::wire::{Attributes, Message};

const NEW: u16 = 32;
const GET: u16 = 34;

/// `FRA_PRIORITY`
const PRIORITY: u16 = 6;
/// `FRA_TABLE`
const TABLE: u16 = 15;

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

impl Rtnetlink {
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
