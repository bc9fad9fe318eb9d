//! What the proxy must know of the node it runs on, put together from flags, its Node object and its interfaces.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use ipnet::IpNet;
use portolan_dataplane::{LocalDetector, Settings};
use portolan_service::{Family, LocalNode, Node, NodePortAddresses, PerFamily};

use crate::cli::{DetectLocalMode, ProxyArgs};

/// The node's state as last observed. [`ThisNode::local_node`] and [`ThisNode::settings`] follow from it.
#[derive(Debug)]
pub(crate) struct ThisNode {
    name: Arc<str>,
    nodeport_addresses: NodePortAddresses,
    masquerade_all: bool,
    service_networks: Vec<IpNet>,
    detector: Detector,
    object: Option<Node>,
    addresses: Vec<IpAddr>,
}

/// Where the local detector of each family comes from (spec §4.8).
#[derive(Debug)]
enum Detector {
    Fixed(PerFamily<Option<LocalDetector>>),
    NodeCidr,
}

impl ThisNode {
    /// From the command line, before any object has been seen. Refuses flags that contradict each other (spec §10.13).
    pub(crate) fn new(args: &ProxyArgs) -> anyhow::Result<ThisNode> {
        let detector = match args.detect_local_mode {
            DetectLocalMode::ClusterCidr => {
                let mut networks = PerFamily::<Option<LocalDetector>>::default();
                for network in &args.cluster_cidr {
                    let slot = networks.get_mut(Family::of(network.addr()));
                    ensure!(
                        slot.is_none(),
                        "--cluster-cidr: two networks of one family, {network}: give at most one IPv4 and one IPv6 network"
                    );
                    *slot = Some(LocalDetector::SourceNetwork(network.trunc()));
                }
                Detector::Fixed(networks)
            }
            DetectLocalMode::NodeCidr => Detector::NodeCidr,
            DetectLocalMode::BridgeInterface => both(LocalDetector::Interface(interface(
                args.pod_bridge_interface.as_ref(),
                "--pod-bridge-interface",
            )?)),
            DetectLocalMode::InterfaceNamePrefix => both(LocalDetector::InterfacePrefix(interface(
                args.pod_interface_name_prefix.as_ref(),
                "--pod-interface-name-prefix",
            )?)),
        };
        Ok(ThisNode {
            name: name(args.hostname_override.as_deref())?.into(),
            nodeport_addresses: args.nodeport_addresses.clone(),
            masquerade_all: args.masquerade_all,
            service_networks: args.service_cluster_ip_range.iter().map(IpNet::trunc).collect(),
            detector,
            object: None,
            addresses: Vec::new(),
        })
    }

    /// The node's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Takes the Node object of this node.
    pub(crate) fn set_object(&mut self, node: Node) {
        self.object = Some(node);
    }

    /// Takes the networks that ClusterIPs are allocated from.
    pub(crate) fn set_service_networks(&mut self, networks: Vec<IpNet>) {
        self.service_networks = networks;
    }

    /// Takes all addresses on the node's interfaces.
    pub(crate) fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
    }

    /// The node's first address of each family (spec §1.33).
    fn ips(&self) -> PerFamily<Option<IpAddr>> {
        let mut ips = PerFamily::<Option<IpAddr>>::default();
        for address in self.object.iter().flat_map(|node| &node.addresses) {
            ips.get_mut(Family::of(*address)).get_or_insert(*address);
        }
        ips
    }

    /// Where health-check responders listen: on the addresses that NodePorts answer on, in a family where those
    /// are all addresses on the unspecified one (spec §11.8).
    pub(crate) fn health_check_addresses(&self) -> Vec<IpAddr> {
        let ips = self.ips();
        let mut addresses = self.nodeport_addresses.select(&ips, &self.addresses);
        addresses.retain(|address| !self.nodeport_addresses.selects_all(Family::of(*address), &ips));
        addresses
    }

    /// What the planner must know.
    pub(crate) fn local_node(&self) -> LocalNode {
        let ips = self.ips();
        LocalNode {
            name: self.name.clone(),
            zone: self.object.as_ref().and_then(|node| node.zone.clone()),
            nodeport_addresses: self.nodeport_addresses.select(&ips, &self.addresses),
            ips,
        }
    }

    /// What the dataplane must know.
    pub(crate) fn settings(&self) -> Settings {
        let local = match &self.detector {
            Detector::Fixed(detectors) => detectors.clone(),
            Detector::NodeCidr => {
                let mut networks = PerFamily::<Option<LocalDetector>>::default();
                for network in self.object.iter().flat_map(|node| &node.pod_cidrs) {
                    networks
                        .get_mut(Family::of(network.addr()))
                        .get_or_insert(LocalDetector::SourceNetwork(network.trunc()));
                }
                networks
            }
        };
        Settings {
            local,
            masquerade_all: self.masquerade_all,
            service_networks: self.service_networks.clone(),
        }
    }
}

fn both(detector: LocalDetector) -> Detector {
    Detector::Fixed(PerFamily { v4: Some(detector.clone()), v6: Some(detector) })
}

fn interface(name: Option<&String>, flag: &str) -> anyhow::Result<String> {
    match name.map(String::as_str) {
        None | Some("") => bail!("{flag} is missing: --detect-local-mode needs the interface's name"),
        // IFNAMSIZ with its terminating zero (linux/if.h).
        Some(name) if name.len() > 15 => {
            bail!("{flag}: {name:?} is longer than the 15 characters of an interface")
        }
        Some(name) => Ok(name.to_owned()),
    }
}

/// Spec §1.6: the flag or the host's name, trimmed, in lower case, not empty.
fn name(hostname_override: Option<&str>) -> anyhow::Result<String> {
    let name = match hostname_override {
        Some(name) => name.to_owned(),
        None => std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host's name")?,
    };
    let name = name.trim().to_lowercase();
    ensure!(!name.is_empty(), "this node has no name: give --hostname-override");
    Ok(name)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        proxy: ProxyArgs,
    }

    fn this_node(flags: &[&str]) -> anyhow::Result<ThisNode> {
        let args = ["test", "--hostname-override", " Host1 "].iter().chain(flags);
        ThisNode::new(&Flags::try_parse_from(args)?.proxy)
    }

    fn host1() -> Node {
        Node {
            name: "host1".into(),
            zone: Some("a".into()),
            addresses: ["192.0.2.1", "192.0.2.9", "2001:db8::1"].map(|ip| ip.parse().unwrap()).to_vec(),
            pod_cidrs: ["10.1.0.0/24", "fd00:1::/64"].map(|net| net.parse().unwrap()).to_vec(),
            leaving: false,
        }
    }

    #[test]
    fn name_is_trimmed_and_lower_case() {
        assert_eq!(&**this_node(&[]).unwrap().name(), "host1"); // spec §1.6
        assert!(this_node(&["--hostname-override="]).is_err());
    }

    #[test]
    fn first_address_of_each_family_is_the_nodes() {
        let mut node = this_node(&[]).unwrap();
        assert_eq!(node.local_node().ips, PerFamily::default());
        node.set_object(host1());
        let local = node.local_node(); // spec §1.33
        assert_eq!(local.ips.v4, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(local.ips.v6, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(local.zone.as_deref(), Some("a"));
        assert_eq!(local.nodeport_addresses.len(), 2);
    }

    #[test]
    fn unknown_node_address_makes_primary_match_all() {
        let mut node = this_node(&[]).unwrap(); // spec §3.7
        node.set_addresses(["127.0.0.1", "192.0.2.7", "fe80::1"].map(|ip| ip.parse().unwrap()).to_vec());
        assert_eq!(node.local_node().nodeport_addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn local_detectors() {
        let network = |text: &str| Some(LocalDetector::SourceNetwork(text.parse().unwrap()));
        let bridge = Some(LocalDetector::Interface("cbr0".into()));
        let prefix = Some(LocalDetector::InterfacePrefix("veth".into()));
        for (flags, v4, v6) in [
            (&[][..], None, None),                                         // spec §4.9
            (&["--cluster-cidr=10.0.0.9/8"], network("10.0.0.0/8"), None), // spec §4.11
            (&["--cluster-cidr=10.0.0.0/8,fd00::/16"], network("10.0.0.0/8"), network("fd00::/16")),
            (&["--detect-local-mode=NodeCIDR"], network("10.1.0.0/24"), network("fd00:1::/64")),
            (&["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=cbr0"], bridge.clone(), bridge),
            (
                &["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"],
                prefix.clone(),
                prefix,
            ),
        ] {
            let mut node = this_node(flags).unwrap();
            node.set_object(host1());
            assert_eq!(node.settings().local, PerFamily { v4, v6 }, "{flags:?}");
        }
    }

    #[test]
    fn contradicting_flags_are_refused() {
        for (flags, message) in [
            (&["--cluster-cidr=10.0.0.0/8,11.0.0.0/8"][..], "two networks of one family"),
            (&["--detect-local-mode=BridgeInterface"], "--pod-bridge-interface is missing"),
            (
                &["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=abcdefghijklmnop"],
                "longer than the 15",
            ),
        ] {
            let error = this_node(flags).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(message), "{flags:?}: {error}");
        }
    }
}
