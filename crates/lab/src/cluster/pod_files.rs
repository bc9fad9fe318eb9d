//! What a pod is called and has in `/etc` while its node has something else: as kubelet gives it.

use std::net::IpAddr;

use portolan_controllers::{ClusterDns, HostName, ResolvConf, hosts, hosts_on_host_network};
use serde::{Deserialize, Serialize};

use super::placement::Placed;
use crate::Error;
use crate::sandbox::RESOLV_CONF;

/// The cluster's domain.
pub(super) const CLUSTER_DOMAIN: &str = "cluster.local";

/// Texts of a pod's files, and its host name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodFiles {
    /// What `hostname` prints.
    pub(crate) host_name: String,
    /// `/etc/hosts`
    pub(crate) hosts: String,
    /// `/etc/resolv.conf`
    pub(crate) resolv_conf: String,
}

/// Those of `pod`, with the addresses of the cluster's DNS Service and the node's `/etc/hosts`.
pub(super) fn pod_files(pod: &Placed, dns: &[IpAddr], hosts_of_node: &str) -> Result<PodFiles, Error> {
    // As kubelet is configured: with one address, which the pod can reach.
    let reached = |server: &&IpAddr| pod.spec.addresses.iter().any(|own| own.is_ipv4() == server.is_ipv4());
    let servers = dns.iter().find(reached).copied().into_iter().collect();
    let cluster = ClusterDns { servers, domain: CLUSTER_DOMAIN.to_owned() };
    let node = ResolvConf::parse(RESOLV_CONF);
    let resolv_conf = ResolvConf::of_pod(&pod.naming, &pod.namespace, &cluster, &node).to_string();
    let aliases = &pod.naming.aliases;
    let (host_name, hosts) = if pod.spec.host_network {
        (pod.spec.node.clone(), hosts_on_host_network(hosts_of_node, aliases))
    } else {
        let name = HostName::of_pod(&pod.naming, &pod.namespace, pod.name(), CLUSTER_DOMAIN);
        (kernel_name(pod, &name)?, hosts(&pod.spec.addresses, &name, aliases))
    };
    Ok(PodFiles { host_name, hosts, resolv_conf })
}

/// Refuses a pod that kubelet would never start.
pub(super) fn check_host_name(pod: &Placed) -> Result<(), Error> {
    let name = HostName::of_pod(&pod.naming, &pod.namespace, pod.name(), CLUSTER_DOMAIN);
    if pod.spec.host_network { Ok(()) } else { kernel_name(pod, &name).map(drop) }
}

fn kernel_name(pod: &Placed, name: &HostName) -> Result<String, Error> {
    name.kernel().map_err(|too_long| Error::HostName { pod: pod.spec.name.clone(), name: too_long.0 })
}

#[cfg(test)]
mod tests {
    use portolan_controllers::{DnsPolicy, HostAlias, Naming};

    use super::*;
    use crate::topology::PodSpec;

    fn pod(naming: Naming) -> Placed {
        let host_network = naming.host_network;
        Placed {
            spec: PodSpec {
                name: "shop/db-0".to_owned(),
                node: "host1".to_owned(),
                addresses: vec!["10.244.1.2".parse().unwrap(), "fd00:244:1::2".parse().unwrap()],
                ports: vec![],
                host_network,
            },
            object: serde_json::Value::Null,
            ready: true,
            namespace: "shop".to_owned(),
            naming,
            runs_dns: false,
        }
    }

    #[test]
    fn a_pod_has_what_kubelet_gives_it() {
        let dns: [IpAddr; 2] = ["fd00:10:96::a".parse().unwrap(), "10.96.0.10".parse().unwrap()];
        let of_cluster = "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver fd00:10:96::a\noptions ndots:5\n";
        let named = Naming {
            hostname: Some("db-0".into()),
            subdomain: Some("db".into()),
            hostname_as_fqdn: true,
            aliases: vec![HostAlias { address: "1.2.3.4".parse().unwrap(), names: vec!["a".to_owned()] }],
            ..Naming::default()
        };
        let on_host = Naming { host_network: true, ..Naming::default() };
        let of_both = Naming { policy: DnsPolicy::ClusterFirstWithHostNet, ..on_host.clone() };
        for (situation, naming, dns, host_name, hosts, resolv_conf) in [
            ("nothing asked for", Naming::default(), &dns[..], "db-0", "\nfd00:244:1::2\tdb-0\n", of_cluster),
            (
                "names",
                named,
                &dns,
                "db-0.db.shop.svc.cluster.local",
                "\n10.244.1.2\tdb-0.db.shop.svc.cluster.local\tdb-0\n",
                of_cluster,
            ),
            ("on the host network", on_host, &dns, "host1", "127.0.0.1 of-node", RESOLV_CONF),
            ("there, with the cluster's names", of_both, &dns, "host1", "127.0.0.1 of-node", of_cluster),
            ("no DNS", Naming::default(), &[], "db-0", "\tdb-0\n", RESOLV_CONF),
        ] {
            let files = pod_files(&pod(naming), dns, "127.0.0.1 of-node\n").unwrap();
            assert_eq!(
                (files.host_name.as_str(), files.resolv_conf.as_str()),
                (host_name, resolv_conf),
                "{situation}"
            );
            assert!(files.hosts.contains(hosts), "{situation}: {}", files.hosts);
        }
    }

    #[test]
    fn a_host_name_that_no_kernel_keeps_is_refused() {
        let (subdomain, hostname_as_fqdn) = (Some("a-service-with-a-long-name-for-its-pods".into()), true);
        let long = Naming { subdomain, hostname_as_fqdn, ..Naming::default() };
        assert_eq!(
            check_host_name(&pod(long.clone())).unwrap_err().to_string(),
            "pod shop/db-0: its host name db-0.a-service-with-a-long-name-for-its-pods.shop.svc.cluster.local has more than 64 \
             characters, and kubelet would not start it: shorten hostname or subdomain, or leave out setHostnameAsFQDN"
        );
        assert!(check_host_name(&pod(Naming { host_network: true, ..long })).is_ok());
    }
}
