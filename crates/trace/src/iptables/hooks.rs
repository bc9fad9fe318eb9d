//! Where the kernel asks the chains of a table.

use crate::ruleset::{Base, Hook, Kind};

/// Where the kernel enters `chain` of `table`, with the priorities of linux/netfilter_ipv4.h.
pub(super) fn base(table: &str, chain: &str, drops: bool) -> Option<Base> {
    let hook = match chain {
        "PREROUTING" => Hook::Prerouting,
        "INPUT" => Hook::Input,
        "FORWARD" => Hook::Forward,
        "OUTPUT" => Hook::Output,
        "POSTROUTING" => Hook::Postrouting,
        _ => return None,
    };
    let (kind, priority) = match (table, hook) {
        ("raw", Hook::Prerouting | Hook::Output) => (Kind::Filter, -300),
        ("mangle", _) => (Kind::Filter, -150),
        ("nat", Hook::Prerouting | Hook::Output) => (Kind::Nat, -100),
        ("nat", Hook::Input | Hook::Postrouting) => (Kind::Nat, 100),
        ("filter", Hook::Input | Hook::Forward | Hook::Output) => (Kind::Filter, 0),
        ("security", Hook::Input | Hook::Forward | Hook::Output) => (Kind::Filter, 50),
        _ => return None,
    };
    Some(Base { hook, kind, priority, drops })
}
