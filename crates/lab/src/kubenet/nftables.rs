//! Host ports as one table of nftables.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::program;
use super::{HostPorts, of_family};
use crate::Error;
use crate::netns::Namespace;
use crate::topology::POD_BRIDGE;

/// Makes these the host ports of the node, in one transaction.
pub(super) fn set(node: &Namespace, cluster_networks: &[IpNet], host_ports: &HostPorts) -> Result<(), Error> {
    program::run(node, "nft", &["-f", "-"], &ruleset(cluster_networks, host_ports))
}

/// The whole table in place of what was there. It comes after the proxy's: what a Service takes is
/// no host port.
fn ruleset(cluster_networks: &[IpNet], host_ports: &HostPorts) -> String {
    let mut ports = String::new();
    let mut pods = BTreeSet::new();
    for ipv4 in [true, false] {
        // Ports of one address go before those of all.
        let mut all: Vec<_> = of_family(host_ports, ipv4).collect();
        all.sort_by_key(|(_, port)| port.bound_to().is_none());
        for (pod, port) in all {
            let bound = port.bound_to().map_or(String::new(), |ip| format!("{} daddr {ip} ", word(ip)));
            let (family, to) = (word(port.pod_ip), SocketAddr::new(port.pod_ip, port.pod_port));
            let _ = writeln!(
                ports,
                "    meta nfproto {} {bound}{} dport {} dnat {family} to {to} comment \"{}/{}\"",
                if ipv4 { "ipv4" } else { "ipv6" },
                port.protocol,
                port.port,
                pod.namespace,
                pod.name
            );
            pods.insert(port.pod_ip);
        }
    }
    let mut sources = String::new();
    for pod in pods {
        let family = word(pod);
        let _ = writeln!(sources, "    ct status dnat {family} saddr {pod} {family} daddr {pod} masquerade");
    }
    for network in cluster_networks {
        if network.addr().is_ipv4() {
            let _ = writeln!(sources, "    ip saddr 127.0.0.0/8 oifname \"{POD_BRIDGE}\" masquerade");
        }
        let family = word(network.addr());
        let _ = writeln!(sources, "    {family} daddr != {network} fib daddr type != local masquerade");
    }
    format!(
        "table inet kubenet\ndelete table inet kubenet\ntable inet kubenet {{
  chain host-ports {{\n{ports}  }}
  chain prerouting {{\n    type nat hook prerouting priority -90;\n    fib daddr type local jump host-ports\n  }}
  chain output {{\n    type nat hook output priority -90;\n    fib daddr type local jump host-ports\n  }}
  chain postrouting {{\n    type nat hook postrouting priority 110;\n{sources}  }}
}}\n"
    )
}

fn word(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}
