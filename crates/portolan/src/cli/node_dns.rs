//! The flags of `portolan run` that have names answered on the node.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;
use ipnet::IpNet;
use portolan_service::ObjectName;

/// Whether names are answered on the node, and how.
#[derive(Debug, Clone, Args)]
pub(crate) struct NodeDnsArgs {
    /// Answer on this node, without NAT and connection tracking, what is sent to the cluster's DNS
    ///
    /// Names come from the same state as the rules. What is sent to the DNS Service goes to its
    /// endpoints as before until all is known, and again when this ends.
    #[arg(long)]
    pub(crate) dns: bool,

    /// The Service whose addresses are answered for, on port 53
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        default_value = "kube-system/kube-dns",
        value_parser = object_name,
        requires = "dns"
    )]
    pub(crate) dns_service: ObjectName,

    /// More addresses to answer at, such as 169.254.20.10; nobody else answers there when this ends
    #[arg(
        long,
        value_name = "ADDRESS,...",
        value_delimiter = ',',
        value_parser = unicast,
        requires = "dns"
    )]
    pub(crate) dns_address: Vec<IpAddr>,

    /// A Corefile that says how; without it, the one that kubeadm installs
    #[arg(long, value_name = "FILE", requires = "dns")]
    pub(crate) dns_conf: Option<PathBuf>,

    /// The cluster's domain, where no Corefile says it
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", requires = "dns")]
    pub(crate) cluster_domain: String,

    /// Networks whose questions are answered, unless the Corefile has acl; without this flag those
    /// that are not routed on the Internet
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', requires = "dns")]
    pub(crate) dns_allow_from: Vec<IpNet>,

    /// Log one of so many questions, where the Corefile has log
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..),
        requires = "dns"
    )]
    pub(crate) dns_log_one_of: u32,

    /// Threads that answer; without it, one for each processor core
    #[arg(long, value_name = "NUMBER", requires = "dns")]
    pub(crate) dns_threads: Option<usize>,
}

fn unicast(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "it is no address".to_owned())?;
    let refused = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
    };
    if refused || address.is_unspecified() || address.is_loopback() {
        return Err("give a unicast address that no interface has, such as 169.254.20.10".to_owned());
    }
    Ok(address)
}

fn object_name(text: &str) -> Result<ObjectName, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ObjectName::new(namespace, name))
        }
        _ => Err("give a namespace and a name, such as kube-system/kube-dns".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_to_answer_at_are_unicast() {
        for good in ["169.254.20.10", "10.96.0.10", "fd00::53"] {
            assert!(unicast(good).is_ok(), "{good}");
        }
        let bad = ["0.0.0.0", "127.0.0.1", "224.0.0.251", "255.255.255.255", "::", "ff02::1", "fe80::1", "a"];
        for bad in bad.into_iter().chain(["::ffff:10.1.1.1"]) {
            assert!(unicast(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn services_have_a_namespace_and_a_name() {
        assert_eq!(object_name("kube-system/kube-dns"), Ok(ObjectName::new("kube-system", "kube-dns")));
        for bad in ["", "kube-dns", "/kube-dns", "kube-system/", "a/b/c"] {
            assert!(object_name(bad).is_err(), "{bad}");
        }
    }
}
