//! The two interfaces of the kernel behind the command `iptables`.

use std::fmt;

use portolan_netfilter::nft::TableFamily;
use portolan_service::Family;

/// Which of the kernel's interfaces holds rules of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Rules are nftables rules, in tables that iptables-nft calls its own.
    Nft,
    /// Rules are in the older tables of x_tables.
    Legacy,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Variant::Nft => "iptables (nft)",
            Variant::Legacy => "iptables (legacy)",
        })
    }
}

/// The family of tables in the kernel's terms.
pub(crate) fn table_family(family: Family) -> TableFamily {
    match family {
        Family::V4 => TableFamily::Ip,
        Family::V6 => TableFamily::Ip6,
    }
}
