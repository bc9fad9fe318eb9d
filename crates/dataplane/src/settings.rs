//! What rules depend on besides Services.

use std::net::IpAddr;

use ipnet::IpNet;
use portolan_service::PerFamily;

/// How local pods are recognised among other sources (`--detect-local-mode`, spec §4.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalDetector {
    /// Their source address is in this network.
    SourceNetwork(IpNet),
    /// They come in through this interface.
    Interface(String),
    /// They come in through an interface whose name begins so.
    InterfacePrefix(String),
}

/// The addresses of one family that NodePorts answer on, for a mode that asks the kernel whether an
/// address is the node's own (spec §5.17). The plan names them too, as they are now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NodePorts {
    /// Every address that is local to the node when a packet comes (spec §3.9). Whether loopback is
    /// among them is the mode's to say.
    #[default]
    All,
    /// These, sorted (spec §3.8).
    Addresses(Vec<IpAddr>),
}

/// Settings that hold for the whole node, in every mode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// How local pods are recognised, per family; without a detector nothing counts as local (spec
    /// §4.9).
    pub local: PerFamily<Option<LocalDetector>>,
    /// Masquerade all ClusterIP traffic (spec §4.4).
    pub masquerade_all: bool,
    /// Networks that ClusterIPs are allocated from: traffic to an address there that no Service has
    /// is dropped (spec §6.7). May be empty.
    pub service_networks: Vec<IpNet>,
}

/// What is known of the node, as far as a mode's settings may depend on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// How local pods are recognised, per family
    pub local: PerFamily<Option<LocalDetector>>,
    /// Networks that ClusterIPs are allocated from
    pub service_networks: Vec<IpNet>,
    /// The node's own address of each family, for sockets
    pub addresses: PerFamily<Option<IpAddr>>,
    /// The addresses that NodePorts answer on
    pub node_ports: PerFamily<NodePorts>,
    /// The configured addresses for NodePorts select loopback addresses of IPv4 (spec §3.10).
    pub selects_loopback: bool,
    /// When the program started, connection tracking called no packet invalid for being outside of
    /// its TCP connection's window (spec §5.14, §5.15).
    pub tcp_is_liberal: bool,
}
