//! Names of chains that belong to one Service port or one of its endpoints (spec §5.9, §5.10).
//!
//! They are what runbooks and other tools know: the same in every implementation, and the same
//! after a restart.

use std::net::SocketAddr;

use data_encoding::BASE32;
use portolan_service::Protocol;
use sha2::{Digest, Sha256};

/// How much of the hash a name has.
const SUFFIX: usize = 16;

/// What all such names begin with; whatever has such a name in table nat is ours (spec §5.11).
const PREFIXES: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];

/// The names of one Service port's chains.
#[derive(Debug, Clone)]
pub(super) struct PortChains {
    /// Balances over the Cluster list.
    pub(super) cluster: String,
    /// Balances over the Local list.
    pub(super) local: String,
    /// Entered by traffic to external frontends.
    pub(super) external: String,
    /// Entered by traffic to load-balancer addresses with source ranges.
    pub(super) firewall: String,
}

impl PortChains {
    /// The chains of the port with this name (`namespace/name:port`, spec §1.19) and protocol.
    pub(super) fn of(port_name: &str, protocol: Protocol) -> PortChains {
        let suffix = hash(&[port_name, lower_case(protocol)]);
        PortChains {
            cluster: format!("KUBE-SVC-{suffix}"),
            local: format!("KUBE-SVL-{suffix}"),
            external: format!("KUBE-EXT-{suffix}"),
            firewall: format!("KUBE-FW-{suffix}"),
        }
    }
}

/// The chain of `endpoint` of a port.
pub(super) fn endpoint_chain(port_name: &str, protocol: Protocol, endpoint: SocketAddr) -> String {
    format!("KUBE-SEP-{}", hash(&[port_name, lower_case(protocol), &endpoint.to_string()]))
}

/// The chain belongs to a Service port or an endpoint, of this proxy or of one before it.
pub(super) fn is_of_a_service(chain: &str) -> bool {
    PREFIXES.iter().any(|prefix| chain.starts_with(prefix))
}

/// A protocol as iptables writes it.
pub(super) fn lower_case(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn hash(parts: &[&str]) -> String {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part);
    }
    let mut text = BASE32.encode(&sha.finalize());
    text.truncate(SUFFIX);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_published_walkthroughs() {
        let tcp = Protocol::Tcp;
        for (port, suffix, endpoints) in [
            ("default/karmaweb:http", "5XYKYCRLOJZB2ITL", &[("10.244.5.241:3000", "RX5EM3L6A5YPWQT5")][..]),
            (
                "default/hello-app-service",
                "YG6ZEOBCLVGD3AJB",
                &[("172.16.166.130:8080", "7I3URQ2O437FVP5U"), ("172.16.192.89:8080", "PSPHHDAXPY5YRT7B")],
            ),
            (
                "monitoring/grafana-example-service",
                "OIUYAK75OI4PJHUN",
                &[("10.244.0.115:3000", "LAT64KIID4KEQMCP")],
            ),
            ("default/kubernetes:https", "NPX46M4PTMTKRN6Y", &[("10.20.30.71:6443", "NMM3QW2QWCLSESBJ")]),
            // Of 2017: an unnamed port ended in a colon.
            ("default/svc-test-1:", "SWP62QIEGFZNLQE7", &[("10.100.3.7:8080", "OA6FICRP4YS6R3CE")]),
        ] {
            assert_eq!(PortChains::of(port, tcp).cluster, format!("KUBE-SVC-{suffix}"), "{port}");
            for (endpoint, suffix) in endpoints {
                let chain = endpoint_chain(port, tcp, endpoint.parse().unwrap());
                assert_eq!(chain, format!("KUBE-SEP-{suffix}"), "{port} {endpoint}");
            }
        }
    }

    #[test]
    fn names_are_those_that_everybody_knows() {
        // Spec §14.1.
        for (port, protocol, suffix) in [
            ("ns1/svc1:p80", Protocol::Tcp, "XPGD46QRK7WJZT7O"),
            ("default/kubernetes:https", Protocol::Tcp, "NPX46M4PTMTKRN6Y"),
            ("kube-system/kube-dns:dns", Protocol::Udp, "TCOU7JCQXEZGVUNU"),
            ("kube-system/kube-dns:dns-tcp", Protocol::Tcp, "ERIFXISQEP7F7OF4"),
            ("kube-system/kube-dns:metrics", Protocol::Tcp, "JD5MR3NA4I4DYORP"),
            ("ns/svc", Protocol::Tcp, "VQRITURWPHXFU3HQ"),
            // As written until 2018: an unnamed port ended in a colon (spec §5.47).
            ("e2e-tests-horizontal-pod-autoscaling-preah/rc-light:", Protocol::Tcp, "UKCZEAY4QLLOPVW3"),
        ] {
            let chains = PortChains::of(port, protocol);
            assert_eq!(chains.cluster, format!("KUBE-SVC-{suffix}"), "{port}");
            assert_eq!(chains.local, format!("KUBE-SVL-{suffix}"), "{port}");
            assert_eq!(chains.external, format!("KUBE-EXT-{suffix}"), "{port}");
            assert_eq!(chains.firewall, format!("KUBE-FW-{suffix}"), "{port}");
        }
        for (port, endpoint, suffix) in [
            ("ns1/svc1:p80", "10.180.0.1:80", "SXIVWICOYRO3J4NJ"),
            ("ns/svc", "[fd00::1]:80", "GLR666NNIESMGGT2"),
            ("kube-system/monitoring-influxdb:http", "10.245.1.4:8083", "BLDUOTADS3KH6RB3"),
        ] {
            let chain = endpoint_chain(port, Protocol::Tcp, endpoint.parse().unwrap());
            assert_eq!(chain, format!("KUBE-SEP-{suffix}"), "{port} {endpoint}");
            assert!(is_of_a_service(&chain));
            assert!(chain.len() <= 28, "the longest name that the kernel takes");
        }
        assert!(!is_of_a_service("KUBE-SERVICES"));
    }
}
