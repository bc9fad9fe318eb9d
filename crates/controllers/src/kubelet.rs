//! What kubelet makes of a Pod's spec so that the pod finds names and has one: its host name and
//! its files `/etc/hosts` and `/etc/resolv.conf`. Texts only; nothing here reads or writes a file.
//!
//! It is what kubelet 1.36 does (`pkg/kubelet/network/dns`, `pkg/kubelet/kubelet_pods.go`), and for
//! resolv.conf the text that containerd writes of it.

mod host_name;
mod hosts;
mod resolv_conf;

use std::net::IpAddr;
use std::sync::Arc;

pub use host_name::{HostName, HostNameTooLong};
pub use hosts::{hosts, hosts_on_host_network};
pub use resolv_conf::{ClusterDns, ResolvConf};

/// The fields of `spec` of a Pod that are about names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Naming {
    /// `hostNetwork`
    pub host_network: bool,
    /// `hostname`: a label. Endpoints have it, too, in the Service that `subdomain` names.
    pub hostname: Option<Arc<str>>,
    /// `subdomain`: a label.
    pub subdomain: Option<Arc<str>>,
    /// `hostnameOverride`: it takes the place of `hostname` and `subdomain` within the pod.
    pub hostname_override: Option<Arc<str>>,
    /// `setHostnameAsFQDN`: the kernel's host name has the domain behind it.
    pub hostname_as_fqdn: bool,
    /// `hostAliases`
    pub aliases: Vec<HostAlias>,
    /// `dnsPolicy`
    pub policy: DnsPolicy,
    /// `dnsConfig`
    pub dns: DnsConfig,
}

/// An entry of `hostAliases`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostAlias {
    /// `ip`
    pub address: IpAddr,
    /// `hostnames`
    pub names: Vec<String>,
}

/// `dnsPolicy`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DnsPolicy {
    /// The cluster's DNS; on the host's network, the node's.
    #[default]
    ClusterFirst,
    /// The cluster's DNS, on the host's network, too.
    ClusterFirstWithHostNet,
    /// The node's.
    Default,
    /// What `dnsConfig` says, and nothing else.
    None,
}

/// `dnsConfig`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// `nameservers`
    pub servers: Vec<IpAddr>,
    /// `searches`
    pub searches: Vec<String>,
    /// `options`: names, and values where they have one.
    pub options: Vec<(String, Option<String>)>,
}
