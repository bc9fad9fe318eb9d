//! The namespaces of hosts and pods and the links between them.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use ipnet::IpNet;

use super::{NodeSpec, POD_BRIDGE, PodSpec, UNDERLAY, UPLINK, address_of_family, defaults, single};
use crate::Error;
use crate::link::Links;
use crate::netns::{Namespace, sysctl};

/// A namespace with loopback up, no address detection, no redirects that would shorten ways past a
/// node's rules, and no limit on how often a refusal is reported.
pub(super) fn new_namespace(name: &str, forwards: bool, ipv6: bool) -> Result<Namespace, Error> {
    let namespace = Namespace::new(name)?;
    namespace.run(|| {
        for parameter in ["rp_filter", "send_redirects", "accept_redirects", "secure_redirects"] {
            for scope in ["all", "default"] {
                sysctl(&format!("net.ipv4.conf.{scope}.{parameter}"), "0")?;
            }
        }
        sysctl("net.ipv4.icmp_ratelimit", "0")?;
        sysctl("net.ipv4.ip_forward", if forwards { "1" } else { "0" })?;
        if ipv6 {
            for parameter in ["accept_dad", "accept_ra", "accept_redirects", "disable_ipv6"] {
                for scope in ["all", "default"] {
                    sysctl(&format!("net.ipv6.conf.{scope}.{parameter}"), "0")?;
                }
            }
            sysctl("net.ipv6.icmp.ratelimit", "0")?;
            sysctl("net.ipv6.conf.all.forwarding", if forwards { "1" } else { "0" })?;
        }
        // Where it exists: packets between ports of a bridge would meet the rules twice.
        for table in ["iptables", "ip6tables", "arptables"] {
            let key = format!("net.bridge.bridge-nf-call-{table}");
            if Path::new("/proc/sys").join(key.replace('.', "/")).exists() {
                sysctl(&key, "0")?;
            }
        }
        Links::open(name)?.set_up("lo")
    })??;
    Ok(namespace)
}

/// Connects a host to the underlay and gives it its addresses.
pub(super) fn plug(
    underlay: &Namespace,
    port: &str,
    host: &Namespace,
    addresses: &[IpNet],
) -> Result<(), Error> {
    underlay.run(|| {
        let mut links = Links::open(underlay.name())?;
        links.add_veth(port, UPLINK, host.as_fd())?;
        links.set_bridge(port, UNDERLAY)?;
        links.set_up(port)
    })??;
    host.run(|| {
        let mut links = Links::open(host.name())?;
        links.set_up(UPLINK)?;
        links.wait_running(UPLINK)?;
        addresses.iter().try_for_each(|address| links.add_address(UPLINK, *address))
    })??;
    underlay.run(|| Links::open(underlay.name())?.wait_running(port))?
}

/// The bridge of a node's pods, with the gateway address of each pod network.
pub(super) fn add_pod_bridge(namespace: &Namespace, node: &NodeSpec) -> Result<(), Error> {
    namespace.run(|| {
        let mut links = Links::open(&node.name)?;
        links.add_bridge(POD_BRIDGE)?;
        links.set_up(POD_BRIDGE)?;
        node.gateways().iter().try_for_each(|gateway| links.add_address(POD_BRIDGE, *gateway))
    })?
}

/// A pod's namespace behind its node's bridge.
pub(super) fn add_pod(
    node: &Namespace,
    node_spec: &NodeSpec,
    pod: &PodSpec,
    interface: &str,
) -> Result<Namespace, Error> {
    let ipv6 = pod.addresses.iter().any(IpAddr::is_ipv6);
    let namespace = new_namespace(&pod.name, false, ipv6)?;
    node.run(|| {
        let mut links = Links::open(node.name())?;
        links.add_veth(interface, UPLINK, namespace.as_fd())?;
        links.set_bridge(interface, POD_BRIDGE)?;
        links.set_up(interface)?;
        pod.foreign_addresses(node_spec)
            .try_for_each(|address| links.set_route(single(address), None, POD_BRIDGE))
    })??;
    namespace.run(|| {
        let mut links = Links::open(&pod.name)?;
        links.set_up(UPLINK)?;
        links.wait_running(UPLINK)?;
        for address in &pod.addresses {
            links.add_address(UPLINK, single(*address))?;
        }
        for default in defaults() {
            let own = pod.addresses.iter().any(|address| address.is_ipv4() == default.addr().is_ipv4());
            if let Some(gateway) = address_of_family(&node_spec.gateways(), default).filter(|_| own) {
                links.set_route(single(gateway), None, UPLINK)?;
                links.set_route(default, Some(gateway), UPLINK)?;
            }
        }
        Ok::<(), Error>(())
    })??;
    node.run(|| {
        let mut links = Links::open(node.name())?;
        links.wait_running(interface)?;
        links.wait_running(POD_BRIDGE)
    })??;
    Ok(namespace)
}
