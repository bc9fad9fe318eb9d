//! The packet table: who may answer whom, and what the endpoint sees. One row a situation, for
//! every mode.

use portolan_service::{Family, Protocol};

use crate::case::Client::{Endpoint, Node, Outside, OutsideOther, PodElsewhere, PodHere};
use crate::case::Expected::{Answers, Dropped, Refused, Untouched};
use crate::case::Frontend::{
    ClusterIp, ExternalIp, LoadBalancer, LoopbackNodePort, NodePort, ProxyModeAddress, RemoteNodePort,
    SecondNodePort, Unallocated, UnknownPort,
};
use crate::case::Setting::{
    BridgeInterface, InterfaceNamePrefix, MasqueradeAll, NoDetector, NoLocalhost, NodeCidr, NodePortAll,
    NodePortLocalhost, NodePortLoopback, NodePortPrimary, NodePortSecond,
};
use crate::case::Source::{self, Own};
use crate::case::{Case, Mode, case};

/// The source address that a masqueraded connection has.
const MASQ: Source = Source::Node;
const ALL: &[&str] = &["a1", "a2", "b1"];
const BOTH: &[&str] = &["a1", "b1"];
const A1: &[&str] = &["a1"];
const B1: &[&str] = &["b1"];
const NFTABLES: &[Mode] = &[Mode::Nftables];
const IPTABLES: &[Mode] = &[Mode::Iptables];
/// Modes in which the proxy relays NodePorts on loopback addresses, if asked to.
const RELAYING: &[Mode] = &[Mode::Nftables, Mode::Ipvs];
/// Modes in which NodePorts answer on all addresses by default, apart from loopback in some.
const NOT_PRIMARY: &[Mode] = &[Mode::Iptables, Mode::Ipvs, Mode::Userspace, Mode::Portals];
/// Modes whose rules are in our tables.
const TABLES: &[Mode] = &[Mode::Nftables, Mode::Ipvs, Mode::Userspace];
/// Modes whose rules are chains of iptables. These do not know what the network of ClusterIPs is
/// (§6.21), and keep nobody from a Service without endpoints (§3.19).
const CHAINS: &[Mode] = &[Mode::Iptables, Mode::Portals];
/// Modes that refuse the node itself, too, where an external address has no endpoints.
const REFUSING_NODE: &[Mode] = &[Mode::Nftables, Mode::Ipvs, Mode::Userspace, Mode::Portals];
/// Modes in which NodePorts answer on all addresses by default, loopback included.
const EVERYWHERE: &[Mode] = &[Mode::Iptables, Mode::Userspace, Mode::Portals];
const V4: &[Family] = &[Family::V4];
const V6: &[Family] = &[Family::V6];

#[rustfmt::skip]
pub(crate) const TABLE: &[Case] = &[
    // Policy Cluster.
    case("web", ClusterIp,        PodHere,      Answers(ALL, Own),  "§4.12"),
    case("web", ClusterIp,        PodElsewhere, Answers(ALL, Own),  "§4.12"),
    case("web", ClusterIp,        Endpoint,     Answers(ALL, Own),  "§4.7"),
    case("web", ClusterIp,        Node,         Answers(ALL, MASQ), "§4.12"),
    case("web", ClusterIp,        Outside,      Answers(ALL, MASQ), "§4.12"),
    case("web", ExternalIp,       PodHere,      Answers(ALL, MASQ), "§4.5"),
    case("web", ExternalIp,       PodElsewhere, Answers(ALL, MASQ), "§4.5"),
    case("web", ExternalIp,       Node,         Answers(ALL, MASQ), "§4.5"),
    case("web", ExternalIp,       Outside,      Answers(ALL, MASQ), "§4.5"),
    case("web", LoadBalancer,     PodHere,      Answers(ALL, MASQ), "§4.12"),
    case("web", LoadBalancer,     PodElsewhere, Answers(ALL, MASQ), "§4.12"),
    case("web", LoadBalancer,     Endpoint,     Answers(ALL, MASQ), "§4.5"),
    case("web", LoadBalancer,     Node,         Answers(ALL, MASQ), "§4.12"),
    case("web", LoadBalancer,     Outside,      Answers(ALL, MASQ), "§4.12"),
    case("web", NodePort,         PodHere,      Answers(ALL, MASQ), "§4.12"),
    case("web", NodePort,         PodElsewhere, Answers(ALL, MASQ), "§4.12"),
    case("web", NodePort,         Endpoint,     Answers(ALL, MASQ), "§4.5"),
    case("web", NodePort,         Node,         Answers(ALL, MASQ), "§4.12"),
    case("web", NodePort,         Outside,      Answers(ALL, MASQ), "§4.12"),
    case("web", RemoteNodePort,   PodHere,      Answers(ALL, MASQ), "§4.12"),
    case("web", RemoteNodePort,   Node,         Answers(ALL, MASQ), "§4.12"),
    case("web", RemoteNodePort,   Outside,      Answers(ALL, MASQ), "§4.12"),
    case("web", ProxyModeAddress, PodHere,      Answers(&["lb"], Own), "§1.13"),
    case("web", ProxyModeAddress, Node,         Answers(&["lb"], Own), "§1.13"),
    case("single", ClusterIp,     Endpoint,     Answers(A1, Own),   "§4.7"),
    case("single", NodePort,      Endpoint,     Answers(A1, MASQ),  "§4.5"),

    case("nodes-unknown", ClusterIp,    PodHere,  Answers(A1, Own),  "§4.7"),
    case("nodes-unknown", ClusterIp,    Endpoint, Answers(A1, Own),  "§4.7"),
    case("nodes-unknown", LoadBalancer, Endpoint, Answers(A1, MASQ), "§4.5"),

    // Ports and addresses that nothing is behind.
    case("web", UnknownPort,      PodHere,      Refused, "§6.7").only(TABLES),
    case("web", UnknownPort,      PodElsewhere, Refused, "§6.7").only(TABLES),
    case("web", UnknownPort,      Node,         Refused, "§6.7").only(TABLES),
    case("web", UnknownPort,      Outside,      Refused, "§6.7").only(TABLES),
    case("web", Unallocated,      PodHere,      Dropped, "§6.7").only(TABLES),
    case("web", Unallocated,      PodElsewhere, Dropped, "§6.7").only(TABLES),
    case("web", Unallocated,      Node,         Dropped, "§6.7").only(TABLES),
    case("web", Unallocated,      Outside,      Dropped, "§6.7").only(TABLES),
    case("other-proxy", ClusterIp, PodHere,     Dropped, "§1.5").only(TABLES),
    case("web", UnknownPort,      PodHere,      Untouched, "§6.21").only(CHAINS),
    case("web", UnknownPort,      Node,         Untouched, "§6.21").only(CHAINS),
    case("web", UnknownPort,      Outside,      Untouched, "§6.21").only(CHAINS),
    case("web", Unallocated,      PodHere,      Untouched, "§6.21").only(CHAINS),
    case("web", Unallocated,      Node,         Untouched, "§6.21").only(CHAINS),
    case("web", Unallocated,      Outside,      Untouched, "§6.21").only(CHAINS),
    case("other-proxy", ClusterIp, PodHere,     Untouched, "§1.5").only(CHAINS),
    case("tcp-only", ClusterIp,   PodHere,      Answers(A1, Own),   "§14.5").over(&[Protocol::Tcp]),
    case("tcp-only", ClusterIp,   PodHere,      Refused, "§14.5").over(&[Protocol::Udp]).only(TABLES),
    case("tcp-only", ClusterIp,   PodHere,      Untouched, "§6.21").over(&[Protocol::Udp]).only(CHAINS),
    case("tcp-only", NodePort,    Outside,      Answers(A1, MASQ),  "§14.5").over(&[Protocol::Tcp]),
    case("tcp-only", NodePort,    Outside,      Refused, "§14.5").over(&[Protocol::Udp]),

    // No endpoints.
    case("none", ClusterIp,       PodHere,      Refused, "§2.10"),
    case("none", ClusterIp,       PodElsewhere, Refused, "§2.10"),
    case("none", ClusterIp,       Node,         Refused, "§2.10"),
    case("none", ClusterIp,       Outside,      Refused, "§2.10"),
    case("none", ExternalIp,      PodHere,      Refused, "§2.10"),
    case("none", ExternalIp,      Node,         Refused, "§6.21").only(REFUSING_NODE),
    case("none", ExternalIp,      Node,         Untouched, "§5.26").only(IPTABLES),
    case("none", ExternalIp,      Outside,      Refused, "§2.10"),
    case("none", LoadBalancer,    PodHere,      Refused, "§2.10"),
    case("none", LoadBalancer,    Node,         Refused, "§6.21").only(REFUSING_NODE),
    case("none", LoadBalancer,    Node,         Untouched, "§5.26").only(IPTABLES),
    case("none", LoadBalancer,    Outside,      Refused, "§2.10"),
    case("none", NodePort,        PodHere,      Refused, "§2.10"),
    case("none", NodePort,        PodElsewhere, Refused, "§2.10"),
    case("none", NodePort,        Node,         Refused, "§2.10"),
    case("none", NodePort,        Outside,      Refused, "§2.10"),
    case("unready", ClusterIp,    PodHere,      Refused, "§2.8"),
    case("unready", NodePort,     Outside,      Refused, "§2.8"),
    case("local-external-none", NodePort,     Outside, Refused, "§2.10"),
    case("local-external-none", LoadBalancer, Outside, Refused, "§2.10"),

    // External policy Local.
    case("local-external", ClusterIp,    PodHere,      Answers(BOTH, Own),  "§2.11"),
    case("local-external", ClusterIp,    Outside,      Answers(BOTH, MASQ), "§2.11"),
    case("local-external", ExternalIp,   PodHere,      Answers(BOTH, Own),  "§4.6"),
    case("local-external", ExternalIp,   PodElsewhere, Answers(BOTH, Own),  "§4.6"),
    case("local-external", ExternalIp,   Node,         Answers(BOTH, MASQ), "§4.6"),
    case("local-external", ExternalIp,   Outside,      Answers(A1, Own),    "§4.6"),
    case("local-external", LoadBalancer, PodHere,      Answers(BOTH, Own),  "§4.12"),
    case("local-external", LoadBalancer, PodElsewhere, Answers(BOTH, Own),  "§4.12"),
    case("local-external", LoadBalancer, Endpoint,     Answers(BOTH, Own),  "§4.7"),
    case("local-external", LoadBalancer, Node,         Answers(BOTH, MASQ), "§4.12"),
    case("local-external", LoadBalancer, Outside,      Answers(A1, Own),    "§4.12"),
    case("local-external", NodePort,     PodHere,      Answers(BOTH, Own),  "§4.12"),
    case("local-external", NodePort,     Node,         Answers(BOTH, MASQ), "§4.12"),
    case("local-external", NodePort,     Outside,      Answers(A1, Own),    "§4.12"),
    case("local-external-single", NodePort, PodElsewhere, Answers(A1, Own), "§4.6"),
    case("local-external-single", RemoteNodePort, Outside, Dropped,         "§2.10"),
    case("local-external-remote", ClusterIp,    PodHere, Answers(B1, Own),  "§2.10"),
    case("local-external-remote", ExternalIp,   PodHere, Answers(B1, Own),  "§2.10"),
    case("local-external-remote", ExternalIp,   Outside, Dropped,           "§2.10"),
    case("local-external-remote", LoadBalancer, PodHere, Answers(B1, Own),  "§2.10"),
    case("local-external-remote", LoadBalancer, PodElsewhere, Answers(B1, Own), "§2.10"),
    case("local-external-remote", LoadBalancer, Node,    Answers(B1, MASQ), "§2.10"),
    case("local-external-remote", LoadBalancer, Outside, Dropped,           "§2.10"),
    case("local-external-remote", NodePort,     PodHere, Answers(B1, Own),  "§2.10"),
    case("local-external-remote", NodePort,     Node,    Answers(B1, MASQ), "§2.10"),
    case("local-external-remote", NodePort,     Outside, Dropped,           "§2.10"),
    case("external-only",       ExternalIp, Outside, Answers(BOTH, MASQ),   "§4.5"),
    case("external-only-local", ExternalIp, Outside, Answers(A1, Own),      "§1.15"),
    case("external-only-local", ExternalIp, PodHere, Answers(BOTH, Own),    "§1.15"),

    // Internal policy Local.
    case("local-internal", ClusterIp,    PodHere,      Answers(A1, Own),    "§2.11"),
    case("local-internal", ClusterIp,    PodElsewhere, Answers(B1, Own),    "§2.11"),
    case("local-internal", ClusterIp,    Endpoint,     Answers(A1, Own),    "§4.7"),
    case("local-internal", ClusterIp,    Node,         Answers(A1, MASQ),   "§4.4"),
    case("local-internal", ClusterIp,    Outside,      Answers(A1, MASQ),   "§4.4"),
    case("local-internal", ExternalIp,   Outside,      Answers(BOTH, MASQ), "§2.11"),
    case("local-internal", LoadBalancer, PodHere,      Answers(BOTH, MASQ), "§2.11"),
    case("local-internal", NodePort,     Outside,      Answers(BOTH, MASQ), "§2.11"),
    case("local-internal-remote", ClusterIp, PodHere,      Dropped,         "§2.10"),
    case("local-internal-remote", ClusterIp, PodElsewhere, Answers(B1, Own), "§2.10"),
    case("local-internal-remote", ClusterIp, Node,         Dropped,         "§2.10"),
    case("local-internal-remote", ClusterIp, Outside,      Dropped,         "§2.10"),
    case("local-internal-remote", NodePort,  Outside,      Answers(B1, MASQ), "§2.11"),

    // Both policies Local: pods and the node still have the Cluster list behind external frontends.
    case("local-both", ClusterIp,    PodHere, Answers(A1, Own),    "§2.11"),
    case("local-both", LoadBalancer, PodHere, Answers(BOTH, Own),  "§2.1"),
    case("local-both", LoadBalancer, Outside, Answers(A1, Own),    "§2.11"),
    case("local-both", NodePort,     Node,    Answers(BOTH, MASQ), "§2.1"),
    case("local-both-remote", ClusterIp, PodHere, Dropped,         "§2.10"),
    case("local-both-remote", NodePort,  PodHere, Answers(B1, Own), "§2.10"),
    case("local-both-remote", NodePort,  Outside, Dropped,         "§2.10"),

    // Source ranges.
    case("ranges", LoadBalancer, Outside,      Answers(BOTH, MASQ), "§3.15"),
    case("ranges", LoadBalancer, OutsideOther, Dropped,             "§3.17"),
    case("ranges", LoadBalancer, PodHere,      Answers(BOTH, MASQ), "§3.15"),
    case("ranges", LoadBalancer, PodElsewhere, Answers(BOTH, MASQ), "§3.15"),
    case("ranges", LoadBalancer, Node,         Dropped,             "§3.15"),
    case("ranges", NodePort,     OutsideOther, Answers(BOTH, MASQ), "§3.13"),
    case("ranges", ExternalIp,   OutsideOther, Answers(BOTH, MASQ), "§3.15"),
    case("ranges", ClusterIp,    OutsideOther, Answers(BOTH, MASQ), "§3.15"),
    case("ranges-outside", LoadBalancer, Outside, Answers(BOTH, MASQ), "§1.14"),
    case("ranges-outside", LoadBalancer, PodHere, Dropped,          "§3.16"),
    case("ranges-zero",  LoadBalancer, OutsideOther, Answers(A1, MASQ), "§1.14"),
    case("ranges-v4",    LoadBalancer, OutsideOther, Dropped,       "§1.14").of(V4),
    case("ranges-v4",    LoadBalancer, OutsideOther, Answers(A1, MASQ), "§1.14").of(V6),
    case("ranges-none",  LoadBalancer, Outside,      Refused,       "§3.19"),
    case("ranges-none",  LoadBalancer, OutsideOther, Dropped,       "§3.19").only(TABLES),
    case("ranges-none",  LoadBalancer, OutsideOther, Refused,       "§3.19").only(CHAINS),
    case("ranges-node",  LoadBalancer, Node,         Answers(BOTH, MASQ), "§3.15"),
    case("ranges-node",  LoadBalancer, Outside,      Dropped,       "§3.17"),

    // Endpoint conditions, duplicates, target ports.
    case("terminating-all",   ClusterIp,    PodHere,      Answers(BOTH, Own),  "§2.3"),
    case("terminating-all",   NodePort,     Outside,      Answers(BOTH, MASQ), "§2.3"),
    case("terminating-some",  ClusterIp,    PodHere,      Answers(B1, Own),    "§2.3"),
    case("terminating-some",  LoadBalancer, Outside,      Answers(B1, MASQ),   "§2.3"),
    case("terminating-local", ClusterIp,    PodHere,      Answers(B1, Own),    "§2.5"),
    case("terminating-local", NodePort,     Outside,      Answers(A1, Own),    "§2.4"),
    case("terminating-local", NodePort,     PodHere,      Answers(B1, Own),    "§2.5"),
    case("terminating-published", ClusterIp, PodHere,     Answers(BOTH, Own),  "§2.8"),
    case("duplicates",        ClusterIp,    PodHere,      Answers(BOTH, Own),  "§1.27"),
    case("duplicates",        NodePort,     Outside,      Answers(BOTH, MASQ), "§1.27"),
    case("target-ports",      ClusterIp,    PodHere,      Answers(&["a1:8080", "b1:9090"], Own),  "§1.22"),
    case("target-ports",      NodePort,     Outside,      Answers(&["a1:8080", "b1:9090"], MASQ), "§1.22"),

    // Topology hints.
    case("zones",          ClusterIp, PodHere,      Answers(A1, Own),    "§2.2"),
    case("zones",          ClusterIp, PodElsewhere, Answers(B1, Own),    "§2.2"),
    case("zones",          ClusterIp, Node,         Answers(A1, MASQ),   "§2.2"),
    case("zones",          NodePort,  Outside,      Answers(A1, MASQ),   "§2.2"),
    case("zones-partly",   ClusterIp, PodHere,      Answers(BOTH, Own),  "§2.2"),
    case("zones-unready",  ClusterIp, PodHere,      Answers(A1, Own),    "§2.2"),
    case("zones-foreign",  ClusterIp, PodHere,      Answers(BOTH, Own),  "§2.2"),
    case("nodes",          ClusterIp, PodHere,      Answers(A1, Own),    "§2.2"),
    case("nodes",          ClusterIp, PodElsewhere, Answers(B1, Own),    "§2.2"),
    case("nodes-to-zones", ClusterIp, PodHere,      Answers(A1, Own),    "§2.2"),
    case("nodes-to-zones", ClusterIp, PodElsewhere, Answers(BOTH, Own),  "§2.2"),
    case("zones-local-external", ClusterIp,    PodHere, Answers(B1, Own), "§2.4"),
    case("zones-local-external", LoadBalancer, PodHere, Answers(B1, Own), "§2.4"),
    case("zones-local-external", LoadBalancer, Outside, Answers(A1, Own), "§2.4"),

    // Which addresses NodePorts answer on.
    case("web", SecondNodePort,   Outside, Refused,            "§3.11").only(NFTABLES),
    case("web", LoopbackNodePort, Node,    Refused,            "§3.10").only(RELAYING),
    case("web", SecondNodePort,   Outside, Answers(ALL, MASQ), "§3.11").only(NOT_PRIMARY),
    case("web", LoopbackNodePort, Node,    Answers(ALL, MASQ), "§3.10").only(EVERYWHERE).of(V4),
    case("web", LoopbackNodePort, Node,    Refused,            "§3.10").only(EVERYWHERE).of(V6),
    case("none", LoopbackNodePort, Node,   Refused,            "§2.10"),
    case("local-external", LoopbackNodePort, Node, Answers(BOTH, MASQ), "§4.12").only(EVERYWHERE).of(V4),
    case("web", NodePort,         Outside, Answers(ALL, MASQ), "§3.7").with(NodePortPrimary),
    case("web", SecondNodePort,   Outside, Refused,            "§3.7").with(NodePortPrimary),
    case("web", LoopbackNodePort, Node,    Refused,            "§3.10").with(NodePortPrimary),
    case("web", NodePort,         Outside, Refused,            "§3.8").with(NodePortLoopback),
    case("web", LoopbackNodePort, Node,    Answers(ALL, MASQ), "KEP-6032").with(NodePortLoopback).only(RELAYING),
    case("web", LoopbackNodePort, Node,    Answers(ALL, MASQ), "§3.10").with(NodePortLoopback).only(EVERYWHERE).of(V4),
    case("web", LoopbackNodePort, Node,    Refused,            "§3.10").with(NodePortLoopback).only(EVERYWHERE).of(V6),
    // The flag is for modes that need route_localnet.
    case("web", LoopbackNodePort, Node,    Refused,            "§3.10").with(NoLocalhost).only(Mode::OF_KERNEL),
    case("web", SecondNodePort,   Outside, Answers(ALL, MASQ), "§3.9").with(NoLocalhost),
    case("web", SecondNodePort,   Outside, Answers(ALL, MASQ), "§3.8").with(NodePortSecond),
    case("web", SecondNodePort,   Node,    Answers(ALL, MASQ), "§3.8").with(NodePortSecond),
    case("web", NodePort,         Outside, Refused,            "§3.8").with(NodePortSecond),
    case("web", NodePort,         Outside, Answers(ALL, MASQ), "§3.9").with(NodePortAll),
    case("web", SecondNodePort,   Outside, Answers(ALL, MASQ), "§3.9").with(NodePortAll),
    case("web", SecondNodePort,   PodHere, Answers(ALL, MASQ), "§3.9").with(NodePortAll),
    case("web", LoopbackNodePort, Node,    Refused,            "§3.10").with(NodePortAll).only(RELAYING),
    case("web", LoopbackNodePort, Node,    Answers(ALL, MASQ), "§3.10").with(NodePortAll).only(EVERYWHERE).of(V4),
    case("web", LoopbackNodePort, Node,    Refused,            "§3.10").with(NodePortAll).only(EVERYWHERE).of(V6),

    // NodePorts on loopback addresses that the proxy relays.
    case("web",                   NodePort,         Outside, Answers(ALL, MASQ),  "§3.7").with(NodePortLocalhost).only(RELAYING),
    case("web",                   SecondNodePort,   Outside, Refused,             "§3.7").with(NodePortLocalhost).only(RELAYING),
    case("web",                   LoopbackNodePort, Node,    Answers(ALL, MASQ),  "KEP-6032").with(NodePortLocalhost).only(RELAYING),
    case("tcp-only",              LoopbackNodePort, Node,    Answers(A1, MASQ),   "KEP-6032").with(NodePortLocalhost).only(RELAYING).over(&[Protocol::Tcp]),
    case("tcp-only",              LoopbackNodePort, Node,    Refused,             "KEP-6032").with(NodePortLocalhost).only(RELAYING).over(&[Protocol::Udp]),
    case("none",                  LoopbackNodePort, Node,    Refused,             "KEP-6032").with(NodePortLocalhost).only(RELAYING),
    case("unready",               LoopbackNodePort, Node,    Refused,             "KEP-6032").with(NodePortLocalhost).only(RELAYING),
    case("local-external",        LoopbackNodePort, Node,    Answers(A1, MASQ),   "KEP-6032").with(NodePortLocalhost).only(RELAYING),
    case("local-external-remote", LoopbackNodePort, Node,    Refused,             "KEP-6032").with(NodePortLocalhost).only(RELAYING),
    case("local-internal-remote", LoopbackNodePort, Node,    Answers(B1, MASQ),   "KEP-6032").with(NodePortLocalhost).only(RELAYING),
    case("terminating-all",       LoopbackNodePort, Node,    Answers(BOTH, MASQ), "KEP-6032").with(NodePortLocalhost).only(RELAYING),
    case("target-ports",          LoopbackNodePort, Node,    Answers(&["a1:8080", "b1:9090"], MASQ), "KEP-6032").with(NodePortLocalhost).only(RELAYING),
    case("zones",                 LoopbackNodePort, Node,    Answers(A1, MASQ),   "KEP-6032").with(NodePortLocalhost).only(RELAYING),

    // Masquerading everything to ClusterIPs.
    case("web", ClusterIp,            PodHere, Answers(ALL, MASQ), "§4.4").with(MasqueradeAll),
    case("web", ClusterIp,            Node,    Answers(ALL, MASQ), "§4.4").with(MasqueradeAll),
    case("web", ClusterIp,            Outside, Answers(ALL, MASQ), "§4.4").with(MasqueradeAll),
    case("local-internal", ClusterIp, PodHere, Answers(A1, MASQ),  "§4.4").with(MasqueradeAll),
    case("local-external", NodePort,  PodHere, Answers(BOTH, Own), "§4.13").with(MasqueradeAll),
    case("local-external", NodePort,  Outside, Answers(A1, Own),   "§4.13").with(MasqueradeAll),

    // How local pods are distinguished from others.
    case("web", ClusterIp,               PodHere,      Answers(ALL, Own),  "§4.8").with(NodeCidr),
    case("web", ClusterIp,               PodElsewhere, Answers(ALL, Own),  "§4.8").with(NodeCidr),
    case("web", ClusterIp,               Outside,      Answers(ALL, MASQ), "§4.8").with(NodeCidr),
    case("web", ClusterIp,               Node,         Answers(ALL, MASQ), "§4.8").with(NodeCidr),
    case("local-external", LoadBalancer, PodHere,      Answers(BOTH, Own), "§4.8").with(NodeCidr),
    case("local-external", NodePort,     PodElsewhere, Answers(A1, Own),   "§4.8").with(NodeCidr),
    case("web", ClusterIp,               PodHere,      Answers(ALL, Own),  "§4.8").with(BridgeInterface),
    case("web", ClusterIp,               Outside,      Answers(ALL, MASQ), "§4.8").with(BridgeInterface),
    case("web", ClusterIp,               Node,         Answers(ALL, MASQ), "§4.10").with(BridgeInterface),
    case("web", ClusterIp,               Endpoint,     Answers(ALL, Own),  "§4.7").with(BridgeInterface),
    case("local-external", LoadBalancer, PodHere,      Answers(BOTH, Own), "§4.8").with(BridgeInterface),
    case("local-external", LoadBalancer, Outside,      Answers(A1, Own),   "§4.8").with(BridgeInterface),
    case("local-external", NodePort,     PodElsewhere, Answers(A1, Own),   "§4.8").with(BridgeInterface),
    case("web", ClusterIp,               PodHere,      Answers(ALL, Own),  "§4.8").with(InterfaceNamePrefix),
    case("web", ClusterIp,               Outside,      Answers(ALL, MASQ), "§4.8").with(InterfaceNamePrefix),
    case("web", ClusterIp,               Node,         Answers(ALL, MASQ), "§4.10").with(InterfaceNamePrefix),
    case("local-external", LoadBalancer, PodHere,      Answers(BOTH, Own), "§4.8").with(InterfaceNamePrefix),
    case("local-external", LoadBalancer, Outside,      Answers(A1, Own),   "§4.8").with(InterfaceNamePrefix),
    case("web", ClusterIp,               PodHere,      Answers(ALL, Own),  "§4.9").with(NoDetector),
    case("single", ClusterIp,            Outside,      Answers(A1, Own),   "§4.9").with(NoDetector),
    case("single", ClusterIp,            Endpoint,     Answers(A1, Own),   "§4.7").with(NoDetector),
    case("web", NodePort,                PodHere,      Answers(ALL, MASQ), "§4.5").with(NoDetector),
    case("local-external", LoadBalancer, PodHere,      Answers(A1, Own),   "§4.9").with(NoDetector),
    case("local-external", LoadBalancer, Node,         Answers(BOTH, MASQ), "§4.9").with(NoDetector),
    case("local-external-remote", NodePort, PodHere,   Dropped,            "§4.9").with(NoDetector),
];
