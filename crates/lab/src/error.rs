//! What can go wrong in a lab.

use std::io;
use std::net::IpAddr;

use portolan_source::manifests::Problem;

/// Why something in the lab could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel or the file system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with its object.
        what: String,
        /// The answer.
        source: io::Error,
    },
    /// User namespaces are not to be had.
    #[error("the kernel does not let this user create a user namespace ({source}); {remedy}")]
    NoUserNamespaces {
        /// The answer of unshare(2).
        source: io::Error,
        /// What to set.
        remedy: String,
    },
    /// A name that nothing in the lab has.
    #[error("there is no {kind} {name:?} in the lab; there is {known}")]
    Unknown {
        /// `node` or `pod`, for instance.
        kind: &'static str,
        /// The name.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A container in which nothing runs.
    #[error("container {container} is not running; its status says why, and its log what it wrote")]
    NotRunning {
        /// The container.
        container: String,
    },
    /// A name that is taken.
    #[error("{kind} {name:?} exists already; choose another name")]
    Exists {
        /// `node` or `pod`, for instance.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// An address that two hold.
    #[error("{holder}: address {address} is taken by {other}; give one of them another")]
    AddressTaken {
        /// Who asks.
        holder: String,
        /// The address.
        address: IpAddr,
        /// Who has it.
        other: String,
    },
    /// A network without a free address.
    #[error("node {node}: its pod networks {networks} have no free address; give it a larger podCIDR")]
    NetworkFull {
        /// The node.
        node: String,
        /// Its pod networks.
        networks: String,
    },
    /// A host name that the kernel does not keep.
    #[error(
        "pod {pod}: its host name {name} has more than 64 characters, and kubelet would not start it: shorten \
         hostname or subdomain, or leave out setHostnameAsFQDN"
    )]
    HostName {
        /// The pod.
        pod: String,
        /// The name.
        name: String,
    },
    /// An address that a pod asks for and cannot have.
    #[error(
        "annotation lab.portolan/pod-ips: {address} is no free address; give one that no pod and no node has, or \
         leave it out"
    )]
    AskedAddress {
        /// As it is written.
        address: String,
    },
    /// A node that still has pods.
    #[error("node {node}: pod {pod} is still there; delete it first")]
    InUse {
        /// The node.
        node: String,
        /// One of its pods.
        pod: String,
    },
    /// The only node there is.
    #[error("node {node} is the last one, and stays; `lab down` ends the whole lab")]
    LastNode {
        /// The node.
        node: String,
    },
    /// A Node that cannot be made.
    #[error("{what}")]
    Node {
        /// Node, field, and what is wrong with it.
        what: String,
    },
    /// A field of a Pod that cannot be read.
    #[error("pod {pod}: {what}")]
    Spec {
        /// The pod.
        pod: String,
        /// Field, and what is wrong with it.
        what: String,
    },
    /// The API server refused something of the lab's own.
    #[cfg(feature = "cluster")]
    #[error("{what}: {failure}")]
    Api {
        /// What was tried.
        what: String,
        /// The answer.
        failure: portolan_apiserver::Failure,
    },
    /// The API server did not start.
    #[cfg(feature = "cluster")]
    #[error("the API server: {0}")]
    Server(#[from] portolan_apiserver::StartError),
    /// A manifest, or a field of it, that the lab cannot work with.
    #[error("{0}")]
    Manifest(Box<Problem>),
    /// A DNS server that did not become ready.
    #[error("the DNS server in pod {pod} does not answer; its log ends with:\n{log}")]
    Dns {
        /// The pod.
        pod: String,
        /// The last lines it wrote.
        log: String,
    },
    /// A proxy that did not become ready.
    #[error("the proxy of node {node} {what}; its log ends with:\n{log}")]
    Proxy {
        /// The node.
        node: String,
        /// What happened.
        what: String,
        /// The last lines it wrote.
        log: String,
    },
}

impl Error {
    /// For `map_err`: an [`Error::Io`] that says what was tried.
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source: source.into() }
    }
}
