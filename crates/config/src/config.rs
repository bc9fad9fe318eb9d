//! The effective configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use portolan_service::{AddressPool, NodePortAddresses};

use crate::gates::Gate;

/// What the proxy shall do, after defaults and precedence (spec §10).
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they are fields of the configuration file")]
pub struct Config {
    /// How packets are forwarded. Never left open: the default is nftables.
    pub mode: Mode,
    /// How the API server is reached.
    pub client: Client,
    /// The node's name, if it is not the host's (spec §1.6).
    pub hostname_override: Option<String>,
    /// The node's own address, if it is not unspecified; its family decides address defaults (spec
    /// §10.8).
    pub bind_address: IpAddr,
    /// Where `/healthz` is served; `None` if it is switched off (spec §10.9).
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` is served.
    pub metrics: SocketAddr,
    /// A server whose address cannot be bound ends the process (spec §9.14).
    pub bind_address_hard_fail: bool,
    /// Asked for Go's profiles.
    pub enable_profiling: bool,
    /// The version whose hidden metrics are asked for; empty for none.
    pub show_hidden_metrics_for_version: String,
    /// How often what failed is tried again, and half of the time after which health is lost (spec
    /// §9.4).
    pub sync_period: Duration,
    /// The least time between two transactions. Zero, the default: changes are applied as they
    /// come.
    pub min_sync_period: Duration,
    /// Masquerade all traffic to ClusterIPs.
    pub masquerade_all: bool,
    /// For iptables mode.
    pub iptables: Iptables,
    /// For IPVS mode.
    pub ipvs: Ipvs,
    /// For nftables mode.
    pub nftables: Nftables,
    /// How local pods are distinguished from other sources (spec §4.8).
    pub detect_local: DetectLocal,
    /// On which addresses NodePorts answer (spec §3.6-3.11).
    pub nodeport_addresses: NodePortAddresses,
    /// Connections to Services pass where iptables drops what is forwarded. Not in kube-proxy.
    pub accept_forwarded: bool,
    /// -1000 to 1000 (spec §8.12).
    pub oom_score_adj: i32,
    /// Kernel settings of connection tracking (spec §8.8).
    pub conntrack: Conntrack,
    /// How often objects are listed anew.
    pub config_sync_period: Duration,
    /// How log lines are written.
    pub logging: Logging,
    /// As given; see [`Config::enabled`].
    pub feature_gates: BTreeMap<String, bool>,
    /// The ports of mode userspace, as given.
    pub port_range: String,
    /// For userspace mode.
    pub userspace: Userspace,
    /// How load-balancer addresses are announced. Not in kube-proxy.
    pub announcement: Announcement,
    /// Addresses for Services of type LoadBalancer. Not in kube-proxy.
    pub load_balancer: LoadBalancer,
    /// For Windows.
    pub windows: Windows,
}

impl Config {
    /// Whether a feature gate is on: as given, else as `AllAlpha` and `AllBeta` say, else its
    /// default.
    pub fn enabled(&self, gate: Gate) -> bool {
        gate.enabled(&self.feature_gates)
    }

    /// The address that stands for the node's own whatever its Node object says (spec §1.33):
    /// `bindAddress`, unless it is unspecified or loopback, which say nothing about where others
    /// find the node.
    pub fn node_address(&self) -> Option<IpAddr> {
        Some(self.bind_address).filter(|address| !address.is_unspecified() && !address.is_loopback())
    }

    /// The mode whose kind of rules there are. In mode userspace they are those of another one.
    pub fn rules(&self) -> Mode {
        match (self.mode, self.userspace.diversion) {
            (Mode::Userspace, Diversion::Nftables) => Mode::Nftables,
            (Mode::Userspace, Diversion::Iptables) => Mode::Iptables,
            (mode, _) => mode,
        }
    }

    /// The node's name in the API, given the host's name; `None` if there is none (spec §1.6).
    pub fn node_name(&self, host: &str) -> Option<String> {
        let name = self.hostname_override.as_deref().unwrap_or(host).trim().to_lowercase();
        (!name.is_empty()).then_some(name)
    }
}

/// How packets are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Elements of nftables maps.
    Nftables,
    /// iptables rules.
    Iptables,
    /// The kernel's IPVS load balancer.
    Ipvs,
    /// Sockets of this process, to which rules divert.
    Userspace,
}

impl Mode {
    /// All modes.
    pub const ALL: [Mode; 4] = [Mode::Iptables, Mode::Ipvs, Mode::Nftables, Mode::Userspace];

    /// The name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Nftables => "nftables",
            Mode::Iptables => "iptables",
            Mode::Ipvs => "ipvs",
            Mode::Userspace => "userspace",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Client {
    /// The file with address and credentials; `None` for those of the pod that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Asked-for encodings of answers.
    pub accept_content_types: String,
    /// Asked-for encoding of requests.
    pub content_type: String,
    /// Requests a second, in the long run; below zero for any number.
    pub qps: f32,
    /// Requests at once.
    pub burst: u32,
}

/// Options of iptables mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Iptables {
    /// 0-31 (spec §4.1).
    pub masquerade_bit: u8,
    /// NodePorts answer on 127.0.0.1 (spec §3.10).
    pub localhost_nodeports: bool,
}

/// Options of nftables mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nftables {
    /// 0-31 (spec §4.1).
    pub masquerade_bit: u8,
}

/// Options of userspace mode: those that kube-proxy 1.25 had, and how clients get to its sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Userspace {
    /// What brings clients to the sockets. Not in kube-proxy.
    pub diversion: Diversion,
    /// The ports that it listens on; `None` for those that the kernel chooses.
    pub ports: Option<RangeInclusive<u16>>,
    /// A UDP client that has neither sent nor got anything for so long is forgotten. Not zero.
    pub udp_idle_timeout: Duration,
}

/// What brings clients of mode userspace to its sockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Diversion {
    /// Elements of the tables of mode nftables.
    #[default]
    Nftables,
    /// Rules of iptables, in the chains of kube-proxy's userspace mode.
    Iptables,
}

impl Diversion {
    /// All that there are.
    pub const ALL: [Diversion; 2] = [Diversion::Nftables, Diversion::Iptables];

    /// The name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Diversion::Nftables => "nftables",
            Diversion::Iptables => "iptables",
        }
    }
}

/// How load-balancer addresses are announced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announcement {
    /// By ARP and Neighbour Discovery, from one node each.
    pub layer2: bool,
    /// The file with what the nodes of a cluster have in common.
    pub key_file: Option<PathBuf>,
    /// Names of interfaces, or their beginnings and a `*`; empty for those that fit.
    pub interfaces: Vec<String>,
    /// The routing table that has a route for each address which this node may announce, for a
    /// routing daemon to read.
    pub routing_table: Option<u32>,
}

/// Addresses for Services of type LoadBalancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Also for Services without a `spec.loadBalancerClass`.
    pub default: bool,
    /// No two have the same name, or an address in common.
    pub pools: Vec<AddressPool>,
}

/// Options of IPVS mode (spec §7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipvs {
    /// Empty for round robin.
    pub scheduler: String,
    /// Virtual servers in these networks are somebody else's.
    pub exclude_cidrs: Vec<IpNet>,
    /// Answer ARP strictly.
    pub strict_arp: bool,
    /// Zero leaves the kernel's.
    pub tcp_timeout: Duration,
    /// Zero leaves the kernel's.
    pub tcp_fin_timeout: Duration,
    /// Zero leaves the kernel's.
    pub udp_timeout: Duration,
}

/// How local pods are distinguished from other sources (spec §4.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetectLocal {
    /// Which of the values below counts.
    pub mode: DetectLocalMode,
    /// At most one network a family, in order of preference of family.
    pub cluster_cidrs: Vec<IpNet>,
    /// Not empty in mode BridgeInterface.
    pub bridge_interface: String,
    /// Not empty in mode InterfaceNamePrefix.
    pub interface_name_prefix: String,
}

/// By what local pods are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectLocalMode {
    /// By their address being in the cluster's pod networks.
    ClusterCidr,
    /// By their address being in the node's pod networks.
    NodeCidr,
    /// By the interface that they come in through.
    BridgeInterface,
    /// By what the name of that interface begins with.
    InterfaceNamePrefix,
}

impl DetectLocalMode {
    /// All of them.
    pub const ALL: [DetectLocalMode; 4] = [
        DetectLocalMode::ClusterCidr,
        DetectLocalMode::NodeCidr,
        DetectLocalMode::BridgeInterface,
        DetectLocalMode::InterfaceNamePrefix,
    ];

    /// The name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            DetectLocalMode::ClusterCidr => "ClusterCIDR",
            DetectLocalMode::NodeCidr => "NodeCIDR",
            DetectLocalMode::BridgeInterface => "BridgeInterface",
            DetectLocalMode::InterfaceNamePrefix => "InterfaceNamePrefix",
        }
    }
}

impl fmt::Display for DetectLocalMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Kernel settings of connection tracking (spec §8.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conntrack {
    /// Connections for each processor; zero leaves the kernel's limit.
    pub max_per_core: u32,
    /// Connections at least.
    pub min: u32,
    /// Zero leaves the kernel's.
    pub tcp_established_timeout: Duration,
    /// Zero leaves the kernel's.
    pub tcp_close_wait_timeout: Duration,
    /// Let packets outside of the window pass; false leaves the kernel's setting.
    pub tcp_be_liberal: bool,
    /// The timeout of connections without an answer; zero leaves the kernel's.
    pub udp_timeout: Duration,
    /// The timeout of connections with answers; zero leaves the kernel's.
    pub udp_stream_timeout: Duration,
}

/// How log lines are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// The form of a line.
    pub format: LogFormat,
    /// How long lines may wait to be written.
    pub flush_frequency: Duration,
    /// From 0, higher is more.
    pub verbosity: u32,
    /// Other verbosities for some files of a Go program.
    pub vmodule: Vec<Vmodule>,
    /// Options of the text form.
    pub text: LogStreams,
    /// Options of the JSON form.
    pub json: LogStreams,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

/// A verbosity for some files of a Go program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vmodule {
    /// A file's name without `.go`, with wildcards.
    pub file_pattern: String,
    /// From 0, higher is more.
    pub verbosity: u32,
}

/// Where log lines go (alpha in kube-proxy).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStreams {
    /// Errors to stderr, all else to stdout.
    pub split_stream: bool,
    /// Bytes held back on stdout.
    pub info_buffer_size: u64,
}

/// Options for Windows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Windows {
    /// `winkernel.networkName`
    pub network_name: String,
    /// `winkernel.sourceVip`
    pub source_vip: String,
    /// `winkernel.enableDSR`
    pub enable_dsr: bool,
    /// `winkernel.rootHnsEndpointName`
    pub root_hns_endpoint_name: String,
    /// `winkernel.forwardHealthCheckVip`
    pub forward_health_check_vip: bool,
    /// `windowsRunAsService`
    pub run_as_service: bool,
}
