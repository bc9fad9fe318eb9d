//! What mode iptables is, and what it needs.

use std::fs;
use std::path::Path;

use caps::Capability;
use portolan_netfilter::nfacct;
use portolan_netfilter::socket::Socket;
use portolan_service::{Family, Loopback, ServicePlan};

use super::chains::{DROPPED_INVALID, LOCALHOST_ACCEPTED};
use super::options::{Options, serves_loopback};
use super::own_chains::OwnChains;
use super::{Iptables, is_ours, rules};
use crate::dataplane::Dataplane;
use crate::error::Error;
use crate::mode::{Atomicity, ConfiguredMode, ModeDescriptor, PacketCounter, Sysctl, same};
use crate::settings::Settings;

/// What the programs of iptables need, which open a raw socket. They are run as root, and so have
/// what the bounding set has.
pub const CAPABILITIES: &[Capability] = &[Capability::CAP_NET_RAW];

/// Mode iptables.
pub static MODE: ModeDescriptor = ModeDescriptor {
    name: "iptables",
    atomicity: |_| Atomicity::EachTable,
    capabilities: |_| CAPABILITIES,
    fits_nftables: |_| false,
    loopback: |config| if serves_loopback(config) { Loopback::V4 } else { Loopback::None },
    writes_proxy_protocol: false,
    has_schedulers: false,
    load: || {},
    configure: |config, node| {
        Box::new(Configured {
            settings: Settings {
                local: node.local.clone(),
                masquerade_all: config.masquerade_all,
                // An address of a Service is known by its rules alone, whatever networks there are
                // (spec §6.21).
                service_networks: Vec::new(),
            },
            options: Options::new(config, node),
        })
    },
    warnings: || bridge_warning(Path::new("/")).into_iter().collect(),
    counters: &[
        PacketCounter {
            metric: "iptables_ct_state_invalid_dropped_packets_total",
            help: "Packets dropped as invalid by connection tracking",
            read: || packets(DROPPED_INVALID),
        },
        PacketCounter {
            metric: "iptables_localhost_nodeports_accepted_packets_total",
            help: "Packets accepted at NodePorts on loopback addresses",
            read: || packets(LOCALHOST_ACCEPTED),
        },
    ],
    traffic: None,
    shares_chain: is_ours,
    ends: |_| None,
    find_own: |in_use| OwnChains::beside(in_use).find(),
    remove_own: |in_use| OwnChains::beside(in_use).remove(),
};

#[derive(Debug, PartialEq, Eq)]
struct Configured {
    settings: Settings,
    options: Options,
}

impl ConfiguredMode for Configured {
    fn dataplane(&self) -> Result<Box<dyn Dataplane>, Error> {
        Ok(Box::new(Iptables::new(&self.settings, &self.options)?))
    }

    fn text(&self, family: Family, plans: &[&ServicePlan]) -> Option<String> {
        Some(rules(&self.settings, &self.options, family, plans))
    }

    /// Packets from loopback addresses may leave the node, for NodePorts on them (spec §3.10). The
    /// rule that keeps strangers from loopback addresses is there then (spec §5.20).
    fn sysctls(&self) -> Vec<Sysctl> {
        let route_localnet = Sysctl {
            path: "net/ipv4/conf/all/route_localnet",
            value: 1,
            leave: "iptables.localhostNodePorts: false",
        };
        self.options.localhost_node_ports.then_some(route_localnet).into_iter().collect()
    }

    fn equals(&self, other: &dyn ConfiguredMode) -> bool {
        same(self, other)
    }
}

/// What a counter of rules has counted (spec §5.16, §5.25); `None` if nobody counts.
fn packets(counter: &str) -> Option<u64> {
    let read = || nfacct::read(&mut Socket::open()?, counter);
    read().ok().flatten().map(|counter| counter.packets)
}

/// Which setting of the kernel keeps rules from seeing packets that pods of this node send to each
/// other over a bridge. The settings are there with the kernel module br_netfilter: without it
/// there may be no bridge. `root` is `/`, but in tests.
fn bridge_warning(root: &Path) -> Option<String> {
    let is_off = |name: &&str| {
        let path = root.join("proc/sys/net/bridge").join(name);
        fs::read_to_string(path).is_ok_and(|value| value.trim() == "0")
    };
    let off: Vec<&str> =
        ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"].into_iter().filter(is_off).collect();
    (!off.is_empty()).then(|| {
        let verb = if off.len() == 1 { "is" } else { "are" };
        format!(
            "net.bridge.{} {verb} 0: if pods of this node are on one bridge, their answers to each other through a Service do \
             not come back translated; set it to 1 (sysctl -w)",
            off.join(" and net.bridge.")
        )
    })
}

#[cfg(test)]
mod tests {
    use portolan_config::Config;

    use super::*;
    use crate::settings::NodeFacts;

    #[test]
    fn a_bridge_that_rules_do_not_see() {
        let root = std::env::temp_dir().join(format!("portolan-bridge-{}", std::process::id()));
        assert_eq!(bridge_warning(&root), None, "without the module");
        let folder = root.join("proc/sys/net/bridge");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("bridge-nf-call-iptables"), "0\n").unwrap();
        fs::write(folder.join("bridge-nf-call-ip6tables"), "1\n").unwrap();
        let warning = bridge_warning(&root).unwrap();
        assert!(warning.starts_with("net.bridge.bridge-nf-call-iptables is 0: "), "{warning}");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn loopback_is_let_out_where_it_is_served() {
        for (asked, selected, expected) in
            [(true, true, 1), (true, false, 0), (false, true, 0), (false, false, 0)]
        {
            let mut config = Config::default();
            config.iptables.localhost_nodeports = asked;
            let node = NodeFacts { selects_loopback: selected, ..NodeFacts::default() };
            let sysctls = (MODE.configure)(&config, &node).sysctls();
            assert_eq!(sysctls.len(), expected, "asked {asked}, selected {selected}");
        }
    }

    #[test]
    fn settings_that_are_equal() {
        let config = Config::default();
        let configured = |liberal| {
            (MODE.configure)(&config, &NodeFacts { tcp_is_liberal: liberal, ..NodeFacts::default() })
        };
        assert!(configured(false).equals(&*configured(false)));
        assert!(!configured(false).equals(&*configured(true)), "invalid packets are dropped or not");
        let facts =
            NodeFacts { service_networks: vec!["10.96.0.0/16".parse().unwrap()], ..NodeFacts::default() };
        let with_networks = (MODE.configure)(&config, &facts);
        assert!(
            configured(false).equals(&*with_networks),
            "an allocation range that changes changes no rule"
        );
        let other = (crate::nftables::MODE.configure)(&config, &NodeFacts::default());
        assert!(!configured(false).equals(&*other) && !other.equals(&*configured(false)));
    }
}
