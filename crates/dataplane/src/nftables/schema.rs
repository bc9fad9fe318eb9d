//! The chains of one table, their rules and its sets: everything that does not belong to a Service.
//!
//! All of it is a function of the family, the [`Settings`], the [`Features`] in use and the endpoint counts in
//! use; it is never read back from state that we keep.

mod chain;
mod rules;
mod set;

use ipnet::IpNet;
use portolan_netfilter::nft::{TableFamily, TableRef};
use portolan_service::Family;

pub(crate) use self::chain::{Chain, is_in_place, short_name};
pub(crate) use self::set::{
    AFFINITY_SETS, SetName, declare_affinity_set, declare_set, is_affinity_set, is_like,
};
use crate::Settings;

/// The name of our table in either family.
pub(crate) const TABLE: &str = "portolan";
/// What `nft list` shows for it.
pub(crate) const TABLE_COMMENT: &str = "Services of Kubernetes; managed by portolan, do not edit";

/// Our table in `family`.
pub(crate) fn table(family: Family) -> TableRef<'static> {
    TableRef {
        family: match family {
            Family::V4 => TableFamily::Ip,
            Family::V6 => TableFamily::Ip6,
        },
        name: TABLE,
    }
}

/// Our table in `family`, for people.
pub(crate) fn table_name(family: Family) -> String {
    format!("table {} {TABLE}", if family == Family::V4 { "ip" } else { "ip6" })
}

/// What some Service needs, and what costs every packet something while it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Four independent facts.
pub(crate) struct Features {
    /// Other endpoints for traffic from outside
    pub(crate) services_local: bool,
    /// External frontends
    pub(crate) masq_external: bool,
    /// Source ranges
    pub(crate) firewall: bool,
    /// Frontends, other than ClusterIPs, without endpoints
    pub(crate) no_endpoints: bool,
}

impl Features {
    /// Everything.
    pub(crate) const ALL: Features =
        Features { services_local: true, masq_external: true, firewall: true, no_endpoints: true };

    /// What both have.
    pub(crate) fn intersection(self, other: Features) -> Features {
        Features {
            services_local: self.services_local && other.services_local,
            masq_external: self.masq_external && other.masq_external,
            firewall: self.firewall && other.firewall,
            no_endpoints: self.no_endpoints && other.no_endpoints,
        }
    }

    /// What either needs.
    pub(crate) fn union(self, other: Features) -> Features {
        Features {
            services_local: self.services_local || other.services_local,
            masq_external: self.masq_external || other.masq_external,
            firewall: self.firewall || other.firewall,
            no_endpoints: self.no_endpoints || other.no_endpoints,
        }
    }
}

/// What the rules of one table depend on, apart from the numbered chains.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schema<'a> {
    pub(crate) family: Family,
    pub(crate) settings: &'a Settings,
    pub(crate) features: Features,
}

impl Schema<'_> {
    /// The chains that exist whatever the numbers of endpoints, each after those that it leads to.
    pub(crate) fn chains(&self) -> Vec<Chain> {
        chain::NAMED
            .iter()
            .map(|(chain, _)| chain.clone())
            .filter(|chain| match chain {
                Chain::Firewall | Chain::FirewallPrerouting | Chain::FirewallOutput => self.features.firewall,
                Chain::Unallocated => self.service_networks().next().is_some(),
                _ => true,
            })
            .collect()
    }

    fn service_networks(&self) -> impl Iterator<Item = IpNet> {
        self.settings
            .service_networks
            .iter()
            .copied()
            .filter(|network| Family::of(network.addr()) == self.family)
    }
}
