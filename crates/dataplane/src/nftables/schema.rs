//! Which chains a table has and which rules are in them, apart from those of Service ports.
//!
//! All of it is a function of the family, the [`Settings`], the [`Features`] in use and the
//! endpoint counts in use. It is never read back from state that we keep.

mod expressions;
mod rules;
mod steering;

use ipnet::IpNet;
use portolan_service::Family;

use super::chain::{Chain, NAMED};
use super::layout::Layout;
use crate::settings::Settings;

/// What some Service needs, and what costs every packet something while it is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Independent facts.
pub(crate) struct Features {
    /// Frontends of more endpoints than the dispatch tries by itself, or with session affinity
    pub(crate) services: bool,
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
    pub(crate) const ALL: Features = Features {
        services: true,
        services_local: true,
        masq_external: true,
        firewall: true,
        no_endpoints: true,
    };

    /// What both have.
    pub(crate) fn intersection(self, other: Features) -> Features {
        Features {
            services: self.services && other.services,
            services_local: self.services_local && other.services_local,
            masq_external: self.masq_external && other.masq_external,
            firewall: self.firewall && other.firewall,
            no_endpoints: self.no_endpoints && other.no_endpoints,
        }
    }

    /// What either needs.
    pub(crate) fn union(self, other: Features) -> Features {
        Features {
            services: self.services || other.services,
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
    pub(crate) layout: &'a Layout,
    pub(crate) features: Features,
}

impl Schema<'_> {
    /// The chains that exist whatever the numbers of endpoints, each after those that it leads to.
    pub(crate) fn chains(&self) -> Vec<Chain> {
        NAMED
            .iter()
            .map(|(chain, _)| chain.clone())
            .filter(|chain| match chain {
                Chain::NoLocal | Chain::NatPrerouting | Chain::NatOutput => self.layout.chooses_endpoints(),
                Chain::Steer | Chain::Unsteer | Chain::Unhandled | Chain::Reroute => self.bit().is_some(),
                Chain::Unmark => self.bit().is_some() && self.features.services_local,
                Chain::Firewall | Chain::FirewallPrerouting | Chain::FirewallOutput => self.features.firewall,
                Chain::Unallocated => self.service_networks().next().is_some(),
                _ => true,
            })
            .collect()
    }

    /// The bit that steers, in tables that do.
    fn bit(&self) -> Option<u32> {
        self.layout.bit()
    }

    fn service_networks(&self) -> impl Iterator<Item = IpNet> {
        self.settings
            .service_networks
            .iter()
            .copied()
            .filter(|network| Family::of(network.addr()) == self.family)
    }
}
