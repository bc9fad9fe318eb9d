//! What is known of Services besides the rules.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use portolan_service::{FrontendKind, Protocol};

/// Services, from manifests or from a running proxy, and what surrounds them; none for a bare dump.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Services {
    /// One each, in no particular order.
    pub services: Vec<KnownService>,
    /// The cluster's other nodes.
    pub nodes: Vec<KnownNode>,
    /// What whoever asks can do next.
    pub next: Next,
}

/// A node other than the one whose rules are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownNode {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What whoever asks can do next, for answers that propose it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Next {
    /// Nothing in particular.
    #[default]
    Nothing,
    /// Live rules were asked, and a folder of manifests was given: its rules can be computed.
    ComputeRules,
    /// The question was asked in a lab.
    InLab {
        /// The flag that names the lab, with a space after it; empty if it needs none.
        flag: String,
        /// Where the packet comes from, in the lab's words.
        from: String,
        /// Where it is sent to, in the lab's words.
        to: String,
    },
}

/// A Service as far as explanations need it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where clients connect to, NodePorts at each address that serves them if that is known.
    pub frontends: Vec<KnownFrontend>,
    /// All of its endpoints, ready or not, each once for each port.
    pub endpoints: Vec<KnownEndpoint>,
    /// For how long a client stays at its endpoint (`sessionAffinity: ClientIP`).
    pub affinity: Option<Duration>,
    /// `internalTrafficPolicy: Local`.
    pub internal_local: bool,
    /// `externalTrafficPolicy: Local`.
    pub external_local: bool,
    /// `loadBalancerSourceRanges`; empty: everybody.
    pub source_ranges: Vec<IpNet>,
    /// Why it has no address that is served, if it has none.
    pub unserved: Option<Unserved>,
    /// What its manifest names and nothing matches, such as pods or a port of theirs: the field,
    /// and what is wrong.
    pub unmatched: Vec<String>,
}

/// Why a Service has no address that a proxy serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unserved {
    /// `clusterIP: None`: its name stands for the addresses of its pods.
    Headless,
    /// `type: ExternalName`: its name stands for another name.
    ExternalName,
    /// It has the label `service.kubernetes.io/service-proxy-name`.
    OtherProxy,
}

/// One address and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownFrontend {
    /// What kind of address it is.
    pub kind: FrontendKind,
    /// The address; `None` for NodePorts whose addresses are not known.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The name of the Service port; empty if it has none.
    pub port_name: String,
}

/// One endpoint at one port.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "conditions of an EndpointSlice that do not exclude each other"
)]
pub struct KnownEndpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// The pod, as `namespace/name` or a bare name.
    pub pod: Option<String>,
    /// It is ready (spec §1.24).
    pub ready: bool,
    /// It serves, ready or not.
    pub serving: bool,
    /// It is being removed.
    pub terminating: bool,
    /// The node it runs on.
    pub node: Option<String>,
    /// That is the node whose rules are asked.
    pub local: bool,
    /// The name of the Service port; empty if it has none.
    pub port_name: String,
}

impl KnownService {
    /// As people write it: `namespace/name`.
    pub fn title(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}
