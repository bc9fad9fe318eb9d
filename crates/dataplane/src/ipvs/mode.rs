//! What mode ipvs is, and what it needs.

use portolan_config::{Config, Gate};
use portolan_netfilter::ipvs::{Timeouts, is_present};
use portolan_service::{Loopback, ServicePlan};

use super::compute::compute;
use super::settings::IpvsSettings;
use super::{Ipvs, removal};
use crate::dataplane::Dataplane;
use crate::error::Error;
use crate::mode::{Atomicity, Computed, ConfiguredMode, ModeDescriptor, Sysctl, same};
use crate::settings::Settings;

/// Mode ipvs.
pub static MODE: ModeDescriptor = ModeDescriptor {
    name: "ipvs",
    atomicity: |_| Atomicity::EachTable,
    capabilities: |_| &[],
    fits_nftables: |_| true,
    writes_proxy_protocol: false,
    has_schedulers: true,
    load: super::kernel::load,
    loopback: |config| {
        let relayed = config.enabled(Gate::KubeProxyNftablesLocalhostNodePorts);
        if relayed { Loopback::Named } else { Loopback::None }
    },
    configure: |config, node| {
        Box::new(Configured(IpvsSettings {
            rules: Settings {
                local: node.local.clone(),
                masquerade_all: config.masquerade_all,
                service_networks: node.service_networks.clone(),
            },
            bit: 1 << config.iptables.masquerade_bit,
            scheduler: scheduler(config),
            timeouts: timeouts(config),
        }))
    },
    warnings,
    counters: &[],
    traffic: Some(super::traffic::open),
    shares_chain: |_, _| false,
    ends: removal::ends,
    find_own: removal::find_own,
    remove_own: removal::remove_own,
};

fn scheduler(config: &Config) -> String {
    let given = config.ipvs.scheduler.as_str();
    if given.is_empty() { super::wanted::ROUND_ROBIN.into() } else { given.into() }
}

fn timeouts(config: &Config) -> Timeouts {
    let seconds = |time: std::time::Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    let ipvs = &config.ipvs;
    Timeouts {
        tcp: seconds(ipvs.tcp_timeout),
        tcp_fin: seconds(ipvs.tcp_fin_timeout),
        udp: seconds(ipvs.udp_timeout),
    }
}

fn warnings() -> Vec<String> {
    if is_present() {
        return Vec::new();
    }
    vec![
        "the kernel module ip_vs is not loaded; it is loaded when the mode starts, if the kernel has it"
            .into(),
    ]
}

#[derive(Debug, PartialEq, Eq)]
struct Configured(IpvsSettings);

impl ConfiguredMode for Configured {
    fn dataplane(&self) -> Result<Box<dyn Dataplane>, Error> {
        Ok(Box::new(Ipvs::new(self.0.clone())?))
    }

    fn compute(&self, plans: &[&ServicePlan]) -> Result<Computed, Error> {
        compute(&self.0, plans)
    }

    fn sysctls(&self) -> Vec<Sysctl> {
        super::kernel::SYSCTLS.into()
    }

    fn equals(&self, other: &dyn ConfiguredMode) -> bool {
        same(self, other)
    }
}
