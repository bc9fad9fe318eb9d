//! What `portolan trace` can be asked.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use portolan_observe::control;
use portolan_service::{Family, Protocol};
use portolan_trace::State;

use crate::place::Place;
use crate::program::RuleMode;

#[derive(Debug, Args)]
#[command(after_help = "\
Places: an address or ADDRESS:PORT, pod/NAMESPACE/NAME[:PORT], svc/NAMESPACE/NAME[:PORT] with the name or the number of a Service
port (svc/ may be left out), node[:PORT], localhost[:PORT], outside. For --to also a DNS name or NAME:PORT, which is looked up as
--from looks it up.

Examples:
  Where a pod's packets to a Service go, by the rules in force on this node (as root):
    portolan trace --from 10.244.1.5 --to shop/web:http
  Why a NodePort does not answer, with all rules that do not match:
    portolan trace --from outside --in-interface eth0 --to node:30080 -v
  By the rules of another node:
    ssh node-2 sudo iptables-save | portolan trace --iptables-save - --from outside --to shop/web
    ssh node-2 sudo nft -j list ruleset | portolan trace --nft-json - --from 10.244.1.5 --to 10.96.0.10:80
  By the rules that a folder of manifests would have, before there is a cluster; as a picture:
    portolan trace --manifests examples/trace --proxy-mode iptables --from pod/shop/cart-0 --to shop/web:http \
      -o svg -- --hostname-override=worker-1 --cluster-cidr=10.244.0.0/16 > way.svg
  Real packets, as they pass:
    portolan trace --watch --to shop/web:http --count 3
More in docs/trace.md.")]
/// The command line of `portolan trace`.
pub struct TraceArgs {
    /// Where the packet comes from
    #[arg(long, value_name = "PLACE", required_unless_present_any = ["packets", "watch"], conflicts_with = "packets")]
    pub(crate) from: Option<Place>,

    /// Where it is sent to
    #[arg(long, value_name = "PLACE", required_unless_present_any = ["packets", "watch"], conflicts_with = "packets")]
    pub(crate) to: Option<Place>,

    /// For a DNS name: trace the questions for it to the cluster's DNS, too
    #[arg(long, conflicts_with_all = ["packets", "watch"])]
    pub(crate) lookup: bool,

    /// Its protocol [default: that of the Service port, else tcp]
    #[arg(long, value_enum, value_name = "PROTOCOL")]
    pub(crate) protocol: Option<ProtocolName>,

    /// Its address family, where the places have both
    #[arg(long, value_enum, value_name = "FAMILY")]
    pub(crate) family: Option<FamilyName>,

    /// The interface it comes in through
    #[arg(long, value_name = "NAME")]
    pub(crate) in_interface: Option<String>,

    /// The interface it leaves through, if it leaves; otherwise routes decide
    #[arg(long, value_name = "NAME", conflicts_with = "watch")]
    pub(crate) out_interface: Option<String>,

    /// What connection tracking says of it
    #[arg(long, value_enum, default_value_t = StateName::New)]
    pub(crate) state: StateName,

    /// Many packets, a JSON object a line: {"from": PLACE, "to": PLACE, "protocol": ..., "expect":
    /// {"verdict": ..., "endpoints": [...], "masquerade": ...}}; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) packets: Option<PathBuf>,

    /// Follow real packets of this node through the rules of nftables. Where --from, --to or
    /// --protocol is left out, it may be anything. Needs root
    #[arg(long, conflicts_with_all = ["packets", "state", "iptables_save", "nft_json", "dump", "proxy_mode", "node_ip", "ip_addr",
        "ip_route", "ipset_save", "ipvsadm_save"])]
    pub(crate) watch: bool,

    /// Watch until so many packets were seen
    #[arg(long, value_name = "PACKETS", requires = "watch", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Watch for so long
    #[arg(long = "for", value_name = "SECONDS", requires = "watch", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    pub(crate) watch_for: Option<u64>,

    #[command(flatten)]
    pub(crate) source: SourceArgs,

    /// What `portolan lab trace` was asked: the lab's name, empty for the usual one, from where,
    /// and to where
    #[arg(long, hide = true, num_args = 3, value_names = ["LAB", "FROM", "TO"])]
    pub(crate) in_lab: Vec<String>,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = TraceOutput::Text)]
    pub(crate) output: TraceOutput,

    /// Show the rules that do not match, too
    #[arg(short, long)]
    pub(crate) verbose: bool,
}

/// Where the rules come from, and what is known besides them.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Ask the rules that this node's kernel holds (the default)
    #[arg(long, conflicts_with_all = ["iptables_save", "nft_json", "dump", "proxy_mode"])]
    pub(crate) live: bool,

    /// Ask rules that iptables-save or ip6tables-save has printed, or `iptables -S`, `iptables -L
    /// -n -v`, or a part of these (`| grep KUBE`); repeat for other tables and the other family;
    /// `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "proxy_mode", aliases = ["ip6tables-save", "iptables", "iptables-list"])]
    pub(crate) iptables_save: Vec<PathBuf>,

    /// Ask rules that `nft -j list ruleset` or `nft list ruleset` has printed; `-` is standard
    /// input
    #[arg(long, value_name = "FILE", conflicts_with = "proxy_mode", aliases = ["nft", "nft-list", "nft-text"])]
    pub(crate) nft_json: Vec<PathBuf>,

    /// Ask rules that any of these programs has printed: which one is seen from the text; `-` is
    /// standard input
    #[arg(long, value_name = "FILE", conflicts_with = "proxy_mode")]
    pub(crate) dump: Vec<PathBuf>,

    /// Sets that rules of iptables look into, as `ipset save` or `ipset list` has printed them; `-`
    /// is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["proxy_mode", "live"], aliases = ["ipset", "ipset-list"])]
    pub(crate) ipset_save: Vec<PathBuf>,

    /// Virtual servers of IPVS that rules lead to, as `ipvsadm -Sn` or, with the numbers of
    /// connections, `ipvsadm -Ln` has printed them; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["proxy_mode", "live"], aliases = ["ipvs", "ipvsadm"])]
    pub(crate) ipvsadm_save: Vec<PathBuf>,

    /// Addresses of the node and their interfaces, for rules that are not this node's, as `ip addr`
    /// or `ip -j addr` has printed them; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "live", aliases = ["ip-address"])]
    pub(crate) ip_addr: Vec<PathBuf>,

    /// Routes of the node, for rules that are not this node's, as `ip route` or `ip -j route` has
    /// printed them; repeat for `ip -6 route`; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "live", aliases = ["ip-routes"])]
    pub(crate) ip_route: Vec<PathBuf>,

    /// The domain of the cluster's DNS
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    pub(crate) cluster_domain: String,

    /// Folder of manifests: names Services and pods by it; with --proxy-mode, asks the rules that
    /// it would have
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: Option<PathBuf>,

    /// Compute the rules of this mode from the manifests; nothing on this machine is touched
    #[arg(long, value_enum, value_name = "MODE", requires = "manifests")]
    pub(crate) proxy_mode: Option<RuleMode>,

    /// An address of the node, for rules that are not this node's; repeat for each
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) node_ip: Vec<IpAddr>,

    /// The socket of the running proxy, which knows the Services of live rules
    #[arg(long, value_name = "PATH", default_value = control::DEFAULT_SOCKET)]
    pub(crate) socket: PathBuf,

    /// After `--`: flags of `portolan run` that rules computed from manifests follow from, such as
    /// --cluster-cidr
    #[arg(last = true, value_name = "FLAG", requires = "proxy_mode")]
    pub(crate) run_flags: Vec<String>,
}

impl SourceArgs {
    /// Whether rules are those of dumps.
    pub(crate) fn has_dumps(&self) -> bool {
        !(self.iptables_save.is_empty() && self.nft_json.is_empty() && self.dump.is_empty())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TraceOutput {
    /// For people
    Text,
    /// For programs: see docs/trace.md
    Json,
    /// A picture, for Graphviz
    Dot,
    /// A picture, for a browser
    Svg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProtocolName {
    Tcp,
    Udp,
    Sctp,
}

impl From<ProtocolName> for Protocol {
    fn from(name: ProtocolName) -> Protocol {
        match name {
            ProtocolName::Tcp => Protocol::Tcp,
            ProtocolName::Udp => Protocol::Udp,
            ProtocolName::Sctp => Protocol::Sctp,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FamilyName {
    Ipv4,
    Ipv6,
}

impl From<FamilyName> for Family {
    fn from(name: FamilyName) -> Family {
        match name {
            FamilyName::Ipv4 => Family::V4,
            FamilyName::Ipv6 => Family::V6,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateName {
    /// The first packet of a connection
    New,
    /// A later one: it meets no rule that translates
    Established,
    /// Not to be understood
    Invalid,
}

impl From<StateName> for State {
    fn from(name: StateName) -> State {
        match name {
            StateName::New => State::New,
            StateName::Established => State::Established,
            StateName::Invalid => State::Invalid,
        }
    }
}
