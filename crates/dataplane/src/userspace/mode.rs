//! What mode userspace is, and what it needs.

use std::net::SocketAddr;

use portolan_config::{Config, Diversion};
use portolan_service::{Family, List, Loopback, PortPlan, Protocol, ServicePlan};

use super::Userspace;
use super::divert::divert;
use super::settings::UserspaceSettings;
use crate::dataplane::Dataplane;
use crate::error::Error;
use crate::iptables;
use crate::mode::{Atomicity, ConfiguredMode, ModeDescriptor, same};
use crate::removal::Leftovers;
use crate::settings::Settings;

/// Mode userspace.
pub static MODE: ModeDescriptor = ModeDescriptor {
    name: "userspace",
    atomicity: |config| match config.userspace.diversion {
        Diversion::Nftables => Atomicity::AllTables,
        Diversion::Iptables => Atomicity::EachTable,
    },
    capabilities: |config| if has_iptables(config) { iptables::CAPABILITIES } else { &[] },
    fits_nftables: |config| !has_iptables(config),
    // What the node sends to itself is diverted to its own address, and answered from there.
    loopback: |_| Loopback::V4,
    writes_proxy_protocol: true,
    has_schedulers: false,
    load: || {},
    configure: |config, node| {
        Box::new(Configured(UserspaceSettings {
            rules: Settings {
                local: node.local.clone(),
                masquerade_all: false,
                service_networks: node.service_networks.clone(),
            },
            iptables: has_iptables(config).then(|| iptables::Options::portals(node)),
            addresses: node.addresses,
            ports: config.userspace.ports.clone(),
            udp_idle: config.userspace.udp_idle_timeout,
        }))
    },
    warnings: Vec::new,
    counters: &[],
    traffic: None,
    shares_chain: |_, _| false,
    // Tables and chains are those of the other modes, which find them; sockets end with their
    // process.
    ends: |_| None,
    find_own: |_| Ok(Leftovers::default()),
    remove_own: |_| Ok(Leftovers::default()),
};

fn has_iptables(config: &Config) -> bool {
    config.userspace.diversion == Diversion::Iptables
}

#[derive(Debug, PartialEq, Eq)]
struct Configured(UserspaceSettings);

impl ConfiguredMode for Configured {
    fn dataplane(&self) -> Result<Box<dyn Dataplane>, Error> {
        Ok(Box::new(Userspace::new(self.0.clone())?))
    }

    /// With sockets that count up from the first port of the range, or of those that the kernel
    /// usually chooses: which they get is known once they are open.
    fn text(&self, family: Family, plans: &[&ServicePlan]) -> Option<String> {
        let Configured(settings) = self;
        let options = settings.iptables.as_ref()?;
        let mut next = settings.ports.as_ref().map_or(32_768, |ports| *ports.start());
        let mut place = |port: &PortPlan, _: List| {
            let address = (*settings.addresses.get(port.family))?;
            let place = SocketAddr::new(address, next);
            next = next.saturating_add(1);
            (port.protocol != Protocol::Sctp).then_some(place)
        };
        let diverted: Vec<ServicePlan> = plans.iter().map(|plan| divert(plan, &mut place)).collect();
        let diverted: Vec<&ServicePlan> = diverted.iter().collect();
        Some(iptables::rules(&settings.rules, options, family, &diverted))
    }

    fn equals(&self, other: &dyn ConfiguredMode) -> bool {
        same(self, other)
    }
}
