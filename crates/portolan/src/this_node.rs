//! What the proxy must know of the node it runs on, put together from flags, its Node object and
//! its interfaces.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use ipnet::IpNet;
use portolan_config::config::DetectLocalMode;
use portolan_config::{Config, Gate};
use portolan_dataplane::{ConfiguredMode, LocalDetector, ModeDescriptor, NodeFacts, NodePorts, Sysctl};
use portolan_observe::servers::{Addresses, Listen};
use portolan_service::{Family, LocalNode, Loopback, Node, NodePortAddresses, PerFamily, Special};

/// The node's state as last observed. [`ThisNode::local_node`] and [`ThisNode::configured`] follow
/// from it.
#[derive(Debug)]
pub(crate) struct ThisNode {
    name: Arc<str>,
    /// The node's address of its family, whatever the Node object says (spec §1.33).
    bind_address: Option<IpAddr>,
    nodeport_addresses: NodePortAddresses,
    /// The mode, and the configuration that its settings are made from.
    mode: &'static ModeDescriptor,
    config: Config,
    /// When the program started, connection tracking called no packet invalid for being outside of
    /// its window (spec §5.14, §5.15).
    tcp_is_liberal: bool,
    service_networks: Vec<IpNet>,
    detector: Detector,
    object: Option<Node>,
    /// The Node object was deleted since.
    object_is_gone: bool,
    addresses: Vec<IpAddr>,
    /// See [`ThisNode::update_own`].
    own: PerFamily<Option<IpAddr>>,
    api_server: Vec<IpAddr>,
    /// External IPs are not served (feature gate `AllowServiceExternalIPs`, spec §0.4).
    ignore_external_ips: bool,
}

/// Where the local detector of each family comes from (spec §4.8).
#[derive(Debug)]
enum Detector {
    Fixed(PerFamily<Option<LocalDetector>>),
    NodeCidr,
}

impl ThisNode {
    /// The node called `name` as configured, before any object has been seen.
    /// `tcp_is_liberal` is what the kernel's setting is when the program starts.
    pub(crate) fn new(
        name: &str,
        mode: &'static ModeDescriptor,
        config: &Config,
        service_networks: &[IpNet],
        tcp_is_liberal: bool,
    ) -> ThisNode {
        let local = &config.detect_local;
        let detector = match local.mode {
            DetectLocalMode::ClusterCidr => Detector::Fixed(networks(&local.cluster_cidrs)),
            DetectLocalMode::NodeCidr => Detector::NodeCidr,
            DetectLocalMode::BridgeInterface => {
                both(LocalDetector::Interface(local.bridge_interface.clone()))
            }
            DetectLocalMode::InterfaceNamePrefix => {
                both(LocalDetector::InterfacePrefix(local.interface_name_prefix.clone()))
            }
        };
        let mut node = ThisNode {
            name: name.into(),
            bind_address: config.node_address(),
            nodeport_addresses: config.nodeport_addresses.clone(),
            mode,
            config: config.clone(),
            tcp_is_liberal,
            service_networks: service_networks.iter().map(IpNet::trunc).collect(),
            detector,
            object: None,
            object_is_gone: false,
            addresses: Vec::new(),
            own: PerFamily::default(),
            api_server: Vec::new(),
            ignore_external_ips: !config.enabled(Gate::AllowServiceExternalIps),
        };
        node.update_own();
        node
    }

    /// The node's name.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Takes the Node object of this node.
    pub(crate) fn set_object(&mut self, node: Node) {
        self.object = Some(node);
        self.object_is_gone = false;
        self.update_own();
    }

    /// Takes that the Node object was deleted. What it said holds for rules, and for nothing else.
    pub(crate) fn object_is_gone(&mut self) {
        self.object_is_gone = true;
    }

    /// Takes the networks that ClusterIPs are allocated from.
    pub(crate) fn set_service_networks(&mut self, networks: Vec<IpNet>) {
        self.service_networks = networks;
    }

    /// Takes the addresses at which the API server is reached.
    pub(crate) fn set_api_server(&mut self, mut addresses: Vec<IpAddr>) {
        addresses.sort_unstable();
        self.api_server = addresses;
    }

    /// Takes all addresses on the node's interfaces.
    pub(crate) fn set_addresses(&mut self, addresses: Vec<IpAddr>) {
        self.addresses = addresses;
        self.update_own();
    }

    /// The node's own address of each family for sockets of a mode: the first one, else one of its
    /// interfaces, which stays for as long as the node has it.
    fn update_own(&mut self) {
        let ips = self.ips();
        let found = |family: Family, before: Option<IpAddr>| {
            let of_family =
                |address: &&IpAddr| Family::of(**address) == family && Special::of(**address).is_none();
            let own = || self.addresses.iter().filter(of_family);
            let known = own().find(|address| Some(**address) == before);
            (*ips.get(family)).or_else(|| known.or_else(|| own().next()).copied())
        };
        self.own = PerFamily { v4: found(Family::V4, self.own.v4), v6: found(Family::V6, self.own.v6) };
    }

    /// The node's first address of each family (spec §1.33).
    fn ips(&self) -> PerFamily<Option<IpAddr>> {
        let mut ips = PerFamily::<Option<IpAddr>>::default();
        let object = self.object.iter().flat_map(|node| &node.addresses);
        for address in self.bind_address.iter().chain(object) {
            ips.get_mut(Family::of(*address)).get_or_insert(*address);
        }
        ips
    }

    /// Where health-check responders listen: on the addresses that are selected for NodePorts,
    /// loopback addresses included, in a family where those are all addresses on the unspecified
    /// one (spec §11.8).
    pub(crate) fn health_check_addresses(&self) -> Addresses {
        let ips = self.ips();
        let of_family = |family| {
            if self.nodeport_addresses.selects_all(family, &ips) {
                Listen::Any
            } else {
                Listen::On(self.nodeport_addresses.select_family(family, &ips, &self.addresses))
            }
        };
        Addresses { v4: of_family(Family::V4), v6: of_family(Family::V6) }
    }

    fn nodeport_addresses(&self, ips: &PerFamily<Option<IpAddr>>) -> Vec<IpAddr> {
        self.nodeport_addresses.select(ips, &self.addresses, (self.mode.loopback)(&self.config))
    }

    /// What the planner must know.
    pub(crate) fn local_node(&self) -> LocalNode {
        let ips = self.ips();
        LocalNode {
            name: self.name.clone(),
            zone: self.object.as_ref().and_then(|node| node.zone.clone()),
            nodeport_addresses: self.nodeport_addresses(&ips),
            relays_loopback: (self.mode.loopback)(&self.config) == Loopback::Named,
            writes_proxy_protocol: self.mode.writes_proxy_protocol,
            has_schedulers: self.mode.has_schedulers,
            ips,
            addresses: self.own_addresses(),
            api_server: self.api_server.clone(),
            ignore_external_ips: self.ignore_external_ips,
        }
    }

    /// Load-balancer addresses may be announced from here: the node is ready, does not leave, and
    /// is not excluded. In a cluster, it must have a Node object that says so.
    pub(crate) fn takes_load_balancers(&self, in_cluster: bool) -> bool {
        let known = self.object.is_some() && !self.object_is_gone;
        let fit = self.object.as_ref().is_none_or(|node| node.ready && !node.excluded && !node.leaving);
        fit && (known || !in_cluster)
    }

    /// The node's own address of each family, whether it is known from outside or from interfaces.
    pub(crate) fn first_addresses(&self) -> Vec<IpAddr> {
        Family::ALL.into_iter().filter_map(|family| *self.own.get(family)).collect()
    }

    /// The addresses of the node that a Service could have, too. Those on the interfaces of pods,
    /// which come and go, are link-local and not among them.
    fn own_addresses(&self) -> Vec<IpAddr> {
        let object = self.object.iter().flat_map(|node| &node.addresses);
        let all = self.bind_address.iter().chain(object).chain(&self.addresses).copied();
        let own: BTreeSet<IpAddr> = all.filter(|address| Special::of(*address).is_none()).collect();
        own.into_iter().collect()
    }

    /// The mode with its settings for this node.
    pub(crate) fn configured(&self) -> Box<dyn ConfiguredMode> {
        (self.mode.configure)(&self.config, &self.facts())
    }

    /// What a mode's settings may depend on.
    fn facts(&self) -> NodeFacts {
        let local = match &self.detector {
            Detector::Fixed(detectors) => detectors.clone(),
            Detector::NodeCidr => {
                networks(self.object.as_ref().map_or(&[], |node| node.pod_cidrs.as_slice()))
            }
        };
        NodeFacts {
            local,
            service_networks: self.service_networks.clone(),
            addresses: self.own,
            node_ports: self.node_ports(),
            selects_loopback: self.nodeport_addresses.selects_loopback(&self.ips()),
            tcp_is_liberal: self.tcp_is_liberal,
        }
    }

    fn node_ports(&self) -> PerFamily<NodePorts> {
        let ips = self.ips();
        let mut selected = PerFamily::<Vec<IpAddr>>::default();
        for address in self.nodeport_addresses(&ips) {
            selected.get_mut(Family::of(address)).push(address);
        }
        let of_family = |family, addresses| {
            if self.nodeport_addresses.selects_all(family, &ips) {
                NodePorts::All
            } else {
                NodePorts::Addresses(addresses)
            }
        };
        PerFamily { v4: of_family(Family::V4, selected.v4), v6: of_family(Family::V6, selected.v6) }
    }
}

fn both(detector: LocalDetector) -> Detector {
    Detector::Fixed(PerFamily { v4: Some(detector.clone()), v6: Some(detector) })
}

/// Sources in the first network of each family are local.
fn networks(list: &[IpNet]) -> PerFamily<Option<LocalDetector>> {
    let mut first = PerFamily::<Option<LocalDetector>>::default();
    for network in list {
        first
            .get_mut(Family::of(network.addr()))
            .get_or_insert(LocalDetector::SourceNetwork(network.trunc()));
    }
    first
}

/// Settings of the kernel that the mode will need, whatever the node's addresses are.
pub(crate) fn sysctls(mode: &ModeDescriptor, config: &Config) -> Vec<Sysctl> {
    // Whatever the node's own address will be, it is no loopback address.
    let ips = PerFamily { v4: Some(IpAddr::from([192, 0, 2, 1])), v6: None };
    let selects_loopback = config.nodeport_addresses.selects_loopback(&ips);
    (mode.configure)(config, &NodeFacts { selects_loopback, ..NodeFacts::default() }).sysctls()
}

/// The node's name in the API (spec §1.6).
pub(crate) fn name(config: &Config) -> anyhow::Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").context("reading the host's name")?;
    config.node_name(&host).ok_or_else(|| anyhow!("this node has no name: give --hostname-override"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration;

    fn config(flags: &[&str]) -> Config {
        configuration::of_flags(&[&["--hostname-override", " Host1 "], flags].concat())
    }

    fn mode(config: &Config) -> &'static ModeDescriptor {
        portolan_dataplane::named(config.mode.name()).expect("it is there")
    }

    fn this_node(flags: &[&str]) -> ThisNode {
        let config = config(flags);
        ThisNode::new(&name(&config).unwrap(), mode(&config), &config, &[], false)
    }

    fn host1() -> Node {
        Node {
            name: "host1".into(),
            zone: Some("a".into()),
            addresses: ["192.0.2.1", "192.0.2.9", "2001:db8::1"].map(|ip| ip.parse().unwrap()).to_vec(),
            pod_cidrs: ["10.1.0.0/24", "fd00:1::/64"].map(|net| net.parse().unwrap()).to_vec(),
            leaving: false,
            ready: true,
            excluded: false,
        }
    }

    #[test]
    fn name_is_trimmed_and_lower_case() {
        assert_eq!(&**this_node(&[]).name(), "host1"); // spec §1.6
    }

    #[test]
    fn first_address_of_each_family_is_the_nodes() {
        let mut node = this_node(&[]);
        assert_eq!(node.local_node().ips, PerFamily::default());
        node.set_object(host1());
        let local = node.local_node(); // spec §1.33
        assert_eq!(local.ips.v4, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(local.ips.v6, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(local.zone.as_deref(), Some("a"));
        assert_eq!(local.nodeport_addresses.len(), 2);
    }

    #[test]
    fn a_bind_address_stands_for_the_nodes() {
        let mut node = this_node(&["--bind-address=192.0.2.77"]); // spec §1.33
        node.set_object(host1());
        assert_eq!(node.local_node().ips.v4, Some("192.0.2.77".parse().unwrap()));
        assert_eq!(node.local_node().ips.v6, Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn a_loopback_bind_address_stands_for_none() {
        for address in ["127.0.0.1", "127.9.9.9", "::1"] {
            let mut node = this_node(&["--bind-address", address]);
            node.set_object(host1());
            assert_eq!(node.local_node().ips.v4, Some("192.0.2.1".parse().unwrap()), "{address}");
            assert_eq!(node.local_node().ips.v6, Some("2001:db8::1".parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn health_check_responders_listen_where_nodeports_are_selected() {
        // spec §11.8
        let on = |list: &[&str]| Listen::On(list.iter().map(|ip| ip.parse().unwrap()).collect());
        for mode in ["nftables", "iptables"] {
            let mode = format!("--proxy-mode={mode}");
            for (name, addresses, v4, v6) in [
                ("nothing of it is here", "172.20.0.0/16", on(&[]), Listen::Any),
                ("loopback alone", "127.0.0.0/8,::1/128", on(&["127.0.0.1"]), on(&["::1"])),
                ("the word for it", "localhost", on(&["127.0.0.1"]), on(&["::1"])),
                ("the node's own", "primary", on(&["192.0.2.1"]), on(&["2001:db8::1"])),
                ("everything", "all", Listen::Any, Listen::Any),
                (
                    "two of three",
                    "primary,127.0.0.1/32",
                    on(&["127.0.0.1", "192.0.2.1"]),
                    on(&["2001:db8::1"]),
                ),
            ] {
                let mut node = this_node(&[mode.as_str(), "--nodeport-addresses", addresses]);
                node.set_object(host1());
                let local = ["127.0.0.1", "192.0.2.1", "192.0.2.9", "2001:db8::1", "::1", "fe80::1"];
                node.set_addresses(local.map(|ip| ip.parse().unwrap()).to_vec());
                assert_eq!(node.health_check_addresses(), Addresses { v4, v6 }, "{mode} {name}");
            }
        }
    }

    #[test]
    fn unknown_node_address_makes_primary_match_all() {
        let mut node = this_node(&[]); // spec §3.7
        node.set_addresses(["127.0.0.1", "192.0.2.7", "fe80::1"].map(|ip| ip.parse().unwrap()).to_vec());
        assert_eq!(node.local_node().nodeport_addresses, ["192.0.2.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn nodeports_of_mode_nftables() {
        // KEP-6032: loopback addresses that are named are relayed, with the gate's leave.
        let off = "--feature-gates=KubeProxyNFTablesLocalhostNodePorts=false";
        for (flags, expected, relayed) in [
            (&[][..], "192.0.2.1 2001:db8::1", true),
            (&["--nodeport-addresses=primary,localhost"], "127.0.0.1 192.0.2.1 ::1 2001:db8::1", true),
            (&["--nodeport-addresses=all"], "192.0.2.1 192.0.2.9 2001:db8::1", true),
            (&["--nodeport-addresses=primary,127.0.0.0/8"], "127.0.0.1 192.0.2.1 2001:db8::1", true),
            (&["--nodeport-addresses=primary,localhost", off], "192.0.2.1 2001:db8::1", false),
        ] {
            let mut node = this_node(flags);
            node.set_object(host1());
            let local = ["127.0.0.1", "192.0.2.1", "192.0.2.9", "2001:db8::1", "::1", "fe80::1"];
            node.set_addresses(local.map(|ip| ip.parse().unwrap()).to_vec());
            let expected: Vec<IpAddr> = expected.split(' ').map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(node.local_node().nodeport_addresses, expected, "{flags:?}");
            assert_eq!(node.local_node().relays_loopback, relayed, "{flags:?}");
            assert!(node.configured().sysctls().is_empty(), "{flags:?}");
        }
    }

    #[test]
    fn nodeports_of_mode_iptables() {
        let addresses =
            |list: &[&str]| NodePorts::Addresses(list.iter().map(|ip| ip.parse().unwrap()).collect());
        // Clause and situation, flags, addresses of IPv4 and of IPv6, on loopback
        for (name, flags, v4, v6, localhost) in [
            ("§3.11 by default all", &[][..], NodePorts::All, NodePorts::All, true),
            (
                "§3.7 primary",
                &["--nodeport-addresses=primary"],
                addresses(&["192.0.2.1"]),
                addresses(&["2001:db8::1"]),
                false,
            ),
            (
                "§3.6 a family without a network",
                &["--nodeport-addresses=192.0.2.0/24"],
                addresses(&["192.0.2.1", "192.0.2.9"]),
                NodePorts::All,
                false,
            ),
            (
                "§3.10 loopback among them",
                &["--nodeport-addresses=127.0.0.0/8,192.0.2.1/32,fd00::/8"],
                addresses(&["127.0.0.1", "192.0.2.1"]),
                addresses(&[]),
                true,
            ),
            (
                "§3.10 one loopback address",
                &["--nodeport-addresses=127.0.0.1/32"],
                addresses(&["127.0.0.1"]),
                NodePorts::All,
                true,
            ),
            (
                "KEP-6032 words together",
                &["--nodeport-addresses=primary,localhost"],
                addresses(&["127.0.0.1", "192.0.2.1"]),
                addresses(&["2001:db8::1"]),
                true,
            ),
            (
                "KEP-6032 a word and a network",
                &["--nodeport-addresses=primary,192.0.2.9/32"],
                addresses(&["192.0.2.1", "192.0.2.9"]),
                addresses(&["2001:db8::1"]),
                false,
            ),
            ("KEP-6032 all", &["--nodeport-addresses=primary,all"], NodePorts::All, NodePorts::All, true),
            (
                "KEP-6032 localhost alone",
                &["--nodeport-addresses=localhost"],
                addresses(&["127.0.0.1"]),
                addresses(&[]),
                true,
            ),
            ("§3.10 never of IPv6", &["--nodeport-addresses=::1/128"], NodePorts::All, addresses(&[]), true),
            (
                "§3.10 switched off",
                &["--iptables-localhost-nodeports=false", "--nodeport-addresses=127.0.0.0/8,0.0.0.0/0"],
                NodePorts::All,
                NodePorts::All,
                false,
            ),
            (
                "§3.10 switched off, loopback in a network",
                &["--iptables-localhost-nodeports=false", "--nodeport-addresses=127.0.0.0/8,fd00::/8"],
                addresses(&[]),
                addresses(&[]),
                false,
            ),
        ] {
            let mut node = this_node(&[&["--proxy-mode=iptables"], flags].concat());
            node.set_object(host1());
            let local = ["127.0.0.1", "192.0.2.1", "192.0.2.9", "2001:db8::1", "::1", "fe80::1"];
            node.set_addresses(local.map(|ip| ip.parse().unwrap()).to_vec());
            assert_eq!(node.facts().node_ports, PerFamily { v4, v6 }, "{name}");
            assert_eq!(node.configured().sysctls().len(), usize::from(localhost), "{name}");
            let planned = node.local_node().nodeport_addresses;
            assert_eq!(planned.contains(&IpAddr::from([127, 0, 0, 1])), localhost, "{name}");
            assert!(!planned.iter().any(|ip| ip.is_ipv6() && ip.is_loopback()), "{name}");
        }
    }

    #[test]
    fn other_modes_do_not_see_what_only_iptables_needs() {
        let configured = |mode: &str, bit: &str, nodeports: &str, liberal| {
            let config = config(&[
                &format!("--proxy-mode={mode}"),
                &format!("--iptables-masquerade-bit={bit}"),
                &format!("--nodeport-addresses={nodeports}"),
            ]);
            let mut node = ThisNode::new("host1", self::mode(&config), &config, &[], liberal);
            node.set_addresses(["127.0.0.1", "192.0.2.1"].map(|ip| ip.parse().unwrap()).to_vec());
            assert_eq!(
                node.local_node().nodeport_addresses.contains(&IpAddr::from([127, 0, 0, 1])),
                nodeports.starts_with("127."),
                "{mode} {nodeports}"
            );
            node.configured()
        };
        for (mode, same) in [("nftables", true), ("iptables", false)] {
            let usual = configured(mode, "14", "192.0.2.0/24", false);
            for other in [
                configured(mode, "20", "192.0.2.0/24", false),
                configured(mode, "14", "127.0.0.0/8,192.0.2.0/24", false),
                configured(mode, "14", "192.0.2.0/24", true),
            ] {
                assert_eq!(usual.equals(&*other), same, "{usual:?} {other:?}");
            }
        }
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
            let mut node = this_node(flags);
            node.set_object(host1());
            assert_eq!(node.facts().local, PerFamily { v4, v6 }, "{flags:?}");
        }
    }
}
