//! Who drops packets on their way through this host unless one of their rules accepts them.
//!
//! Docker, ufw and many firewalls do. What one hook's chain drops is gone, whatever other tables
//! accept: a packet needs a yes from all of them. So no rule in a table of ours can help it on, and
//! Services whose endpoints are not on the node itself time out.

use std::fmt;

use portolan_netfilter::nft::{ChainInfo, Hook, TableFamily};
use portolan_netfilter::socket::Socket;
use portolan_netfilter::xtables::{self, Xtables};
use portolan_service::Family;

use crate::error::Error;
use crate::variant::Variant;

/// `NF_INET_FORWARD`
const FORWARD_HOOK: usize = 2;

/// A chain that drops forwarded packets by its policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dropper {
    /// `FORWARD` of table `filter` of iptables.
    Iptables {
        /// Of this variant
        variant: Variant,
        /// and this family.
        family: Family,
    },
    /// A chain that was made with nftables itself.
    Nftables {
        /// `ip`, `ip6` or `inet`
        family: &'static str,
        /// The name of its table
        table: String,
        /// Its own name
        chain: String,
    },
}

impl Dropper {
    /// What lets connections to Services pass it, for people. `--accept-forwarded` can help with
    /// iptables alone: a chain of nftables ends with its policy, and nobody but its owner can put a
    /// rule into it.
    pub fn remedy(&self) -> String {
        match self {
            Dropper::Iptables { .. } => {
                "--accept-forwarded (acceptForwarded: true) lets them pass".to_owned()
            }
            Dropper::Nftables { family, table, chain } => format!(
                "add a rule to it where it is configured, such as `nft add rule {family} {table} {chain} ct status \
                 dnat accept`"
            ),
        }
    }
}

impl fmt::Display for Dropper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dropper::Iptables { variant, family } => {
                write!(f, "{variant}, {family}: chain FORWARD of table filter, as Docker and ufw set it,")
            }
            Dropper::Nftables { family, table, chain } => {
                write!(f, "nftables: chain {chain} of table {family} {table}")
            }
        }
    }
}

/// All chains that drop what is forwarded, of the families in `families`. Changes nothing and loads
/// no module of iptables-legacy.
pub fn droppers(families: &[Family]) -> Result<Vec<Dropper>, Error> {
    let netlink = |source| Error::Netlink { doing: "looking who drops forwarded packets".to_owned(), source };
    let mut droppers = Vec::new();
    let mut socket = Socket::open().map_err(netlink)?;
    for (family, chain) in socket.base_chains().map_err(netlink)? {
        droppers.extend(of_chain(family, &chain).filter(|dropper| dropper.concerns(families)));
    }
    for family in families {
        let of_kernel = crate::variant::table_family(*family);
        if !xtables::tables(of_kernel).map_err(netlink)?.iter().any(|table| table == "filter") {
            continue;
        }
        let table = Xtables::open(of_kernel).and_then(|kernel| kernel.read("filter")).map_err(netlink)?;
        if table.drops(FORWARD_HOOK) {
            droppers.push(Dropper::Iptables { variant: Variant::Legacy, family: *family });
        }
    }
    Ok(droppers)
}

/// What a chain of nftables is to forwarded packets.
fn of_chain(family: u8, chain: &ChainInfo) -> Option<Dropper> {
    if !chain.drops || chain.kind.is_none_or(|kind| kind.hook != Hook::Forward) {
        return None;
    }
    let is_iptables = chain.table == "filter" && chain.name == "FORWARD";
    let family = match TableFamily::from_number(family) {
        Some(TableFamily::Ip) if is_iptables => {
            return Some(Dropper::Iptables { variant: Variant::Nft, family: Family::V4 });
        }
        Some(TableFamily::Ip6) if is_iptables => {
            return Some(Dropper::Iptables { variant: Variant::Nft, family: Family::V6 });
        }
        Some(TableFamily::Ip) => "ip",
        Some(TableFamily::Ip6) => "ip6",
        // NFPROTO_INET
        None if family == 1 => "inet",
        None => return None,
    };
    Some(Dropper::Nftables { family, table: chain.table.clone(), chain: chain.name.clone() })
}

impl Dropper {
    fn concerns(&self, families: &[Family]) -> bool {
        match self {
            Dropper::Iptables { family, .. } => families.contains(family),
            Dropper::Nftables { family: "ip", .. } => families.contains(&Family::V4),
            Dropper::Nftables { family: "ip6", .. } => families.contains(&Family::V6),
            Dropper::Nftables { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use portolan_netfilter::nft::{BaseChain, ChainType};

    use super::*;

    #[test]
    fn droppers_are_told_by_hook_policy_and_name() {
        let chain = |table: &str, name: &str, hook, drops| ChainInfo {
            table: table.to_owned(),
            name: name.to_owned(),
            is_base: true,
            kind: Some(BaseChain { kind: ChainType::Filter, hook, priority: 0 }),
            drops,
            comment: None,
        };
        let iptables = |family| Some(Dropper::Iptables { variant: Variant::Nft, family });
        let nftables = |family, table: &str, chain: &str| {
            Some(Dropper::Nftables { family, table: table.to_owned(), chain: chain.to_owned() })
        };
        for (name, family, chain, expected) in [
            ("Docker", 2, chain("filter", "FORWARD", Hook::Forward, true), iptables(Family::V4)),
            ("ufw, IPv6", 10, chain("filter", "FORWARD", Hook::Forward, true), iptables(Family::V6)),
            ("accepts", 2, chain("filter", "FORWARD", Hook::Forward, false), None),
            ("another hook", 2, chain("filter", "INPUT", Hook::Input, true), None),
            (
                "by hand",
                1,
                chain("filter", "forward", Hook::Forward, true),
                nftables("inet", "filter", "forward"),
            ),
            (
                "inet is nobody's iptables",
                1,
                chain("filter", "FORWARD", Hook::Forward, true),
                nftables("inet", "filter", "FORWARD"),
            ),
            ("by hand, IPv6", 10, chain("fw", "f", Hook::Forward, true), nftables("ip6", "fw", "f")),
            ("a bridge's", 7, chain("filter", "FORWARD", Hook::Forward, true), None),
        ] {
            assert_eq!(of_chain(family, &chain), expected, "{name}");
        }
    }
}
