//! Host ports and the source of what leaves the cluster, with real packets.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use portolan_lab::ProxyMode;
use portolan_lab::kubenet::{HostPort, HostPorts, Kubenet, PodName, Protocol};
use portolan_lab::probe::{self, Measured, Outcome, Request};
use portolan_lab::topology::Lab;

use crate::ways::spec;

pub(crate) fn trials() -> Vec<Trial> {
    let of_mode = |mode: ProxyMode| {
        Trial::test(format!("host_ports_in_mode_{}", mode.name()), move || host_ports(mode))
    };
    vec![of_mode(ProxyMode::Iptables), of_mode(ProxyMode::Nftables)]
}

fn port(ip: &str, port: u16, protocol: Protocol, pod_ip: &str) -> HostPort {
    let pod_ip: IpAddr = pod_ip.parse().expect("an address");
    HostPort { ip: ip.parse().ok(), port, protocol, pod_ip, pod_port: 8080 }
}

fn host_ports(mode: ProxyMode) -> Result<(), Failed> {
    let lab = Lab::build(&spec())?;
    let networks = ["10.244.0.0/16", "fd00:244::/32"].map(|network| network.parse().expect("a network"));
    let mut kubenet = Kubenet::new(lab.node("host1")?, mode, networks.to_vec())?;
    let pod = PodName { namespace: "default".to_owned(), name: "a1".to_owned() };
    let ports = vec![
        port("", 7000, Protocol::Tcp, "10.244.1.11"),
        port("", 7000, Protocol::Udp, "10.244.1.11"),
        port("", 7000, Protocol::Tcp, "fd00:244:1::11"),
        port("127.0.0.1", 7001, Protocol::Tcp, "10.244.1.11"),
    ];
    kubenet.set(&HostPorts::from([(pod, ports)]))?;
    let tcp: fn(&Request) -> Measured = probe::http;
    for (from, to, probe, answers) in [
        ("client", "192.168.50.1:7000", tcp, true),
        ("client", "192.168.50.1:7000", probe::udp, true),
        ("client", "[fd00:50::1]:7000", tcp, true),
        ("client", "192.168.50.1:7001", tcp, false),
        ("host1", "127.0.0.1:7000", tcp, true),
        ("host1", "127.0.0.1:7001", tcp, true),
        ("host1", "192.168.50.1:7000", tcp, true),
        ("a2", "192.168.50.1:7000", tcp, true),
        ("b1", "192.168.50.1:7000", tcp, true),
        ("a1", "192.168.50.1:7000", tcp, true),
        ("a1", "192.168.50.1:7000", probe::udp, true),
    ] {
        let to: SocketAddr = to.parse()?;
        let outcome =
            lab.namespace(from)?.run(|| probe(&Request::to(to).within(Duration::from_secs(2))).outcome)?;
        let answered = outcome.answer().is_some_and(|answer| answer.pod == "a1");
        if answered != answers {
            return Err(format!("{from} to {to}: {outcome}").into());
        }
    }
    let seen = |outcome: Outcome| outcome.answer().map(|answer| answer.client.ip());
    let within = lab.namespace("a1")?.run(|| probe::http(&Request::to(([10, 244, 2, 21], 8080).into())))?;
    assert_eq!(seen(within.outcome), Some([10, 244, 1, 11].into()), "another pod sees the pod");
    // On the other node's own address: outside of the pods' networks.
    let outside = lab.namespace("a1")?.run(|| probe::http(&Request::to(([192, 168, 50, 2], 8080).into())))?;
    assert_eq!(seen(outside.outcome), Some([192, 168, 50, 1].into()), "outside, the node is seen");
    kubenet.set(&HostPorts::new())?;
    let gone = lab.client().run(|| probe::http(&Request::to(([192, 168, 50, 1], 7000).into())))?;
    assert_eq!(gone.outcome, Outcome::Refused, "no host port is left");
    Ok(())
}
