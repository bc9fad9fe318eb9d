//! Generated clusters: Services with endpoints, as objects, as plans and as manifests.
//!
//! Everything follows from the number of a Service, so that each step of a benchmark can generate
//! its own copy.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use portolan_service::{
    Backend, Endpoint, EndpointSlice, Family, Frontend, FrontendKind, List, LocalNode, Masquerade,
    ObjectName, Place, PortPlan, Protocol, Service, ServicePlan, ServicePort, SlicePort, Verdict,
};
use serde::{Deserialize, Serialize};

/// The port of every Service.
pub(crate) const SERVICE_PORT: u16 = 80;
/// The port of every endpoint.
pub(crate) const ENDPOINT_PORT: u16 = 8080;
/// The pod network, which all endpoints and clients are in.
pub(crate) const POD_NETWORK: &str = "10.128.0.0/9";
/// [`POD_NETWORK`] as address and length.
pub(crate) const POD_ADDRESSES: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 128, 0, 0), 9);
/// The network that all ClusterIPs are in.
pub(crate) const CLUSTER_IPS: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 96, 0, 0), 16);
/// The node under test.
pub(crate) const NODE: &str = "node-0";

const NAMESPACE: &str = "bench";
const NODES: u32 = 100;
const FIRST_CLUSTER_IP: u32 = 0x0a60_0001; // 10.96.0.1
const FIRST_ENDPOINT: u32 = 0x0a80_0001; // 10.128.0.1
const FIRST_SPARE: u32 = 0x0ae0_0001; // 10.224.0.1, above the last endpoint of the largest cluster

/// How many Services with how many endpoints each; one port a Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shape {
    pub(crate) services: u32,
    pub(crate) endpoints: u32,
}

impl Shape {
    pub(crate) const fn new(services: u32, endpoints: u32) -> Shape {
        Shape { services, endpoints }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.services, self.endpoints)
    }
}

/// What a Service is made of where clusters differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Member {
    /// The number of the Service, from 0.
    pub(crate) number: u32,
    pub(crate) endpoints: u32,
    pub(crate) protocol: Protocol,
    /// [`SERVICE_PORT`] unless the Service was changed.
    pub(crate) port: u16,
    /// If set, the first endpoint has the spare address of this number.
    pub(crate) replaced: Option<u32>,
}

impl Member {
    pub(crate) fn new(shape: Shape, protocol: Protocol, number: u32) -> Member {
        Member { number, endpoints: shape.endpoints, protocol, port: SERVICE_PORT, replaced: None }
    }

    pub(crate) fn name(&self) -> ObjectName {
        ObjectName::new(NAMESPACE, &self.bare_name())
    }

    fn bare_name(&self) -> String {
        format!("service-{:05}", self.number)
    }

    pub(crate) fn cluster_ip(&self) -> Ipv4Addr {
        cluster_ip(self.number)
    }

    pub(crate) fn endpoint(&self, index: u32) -> Ipv4Addr {
        match self.replaced {
            Some(spare) if index == 0 => Ipv4Addr::from(FIRST_SPARE + spare),
            _ => Ipv4Addr::from(FIRST_ENDPOINT + self.number * self.endpoints + index),
        }
    }

    /// The number of the node that an endpoint is on.
    fn node(&self, index: u32) -> u32 {
        (self.number * self.endpoints + index) % NODES
    }

    pub(crate) fn service(&self) -> Service {
        let cluster_ip = IpAddr::V4(self.cluster_ip());
        Service {
            cluster_ip: Some(cluster_ip),
            cluster_ips: vec![cluster_ip],
            ip_families: vec![Family::V4],
            ports: vec![ServicePort {
                name: "http".into(),
                protocol: self.protocol,
                port: self.port,
                node_port: None,
            }],
            ..Service::new(self.name())
        }
    }

    pub(crate) fn slice(&self, nodes: &[Arc<str>]) -> EndpointSlice {
        EndpointSlice {
            name: ObjectName::new(NAMESPACE, &format!("{}-slice", self.bare_name())),
            service: self.name(),
            family: Family::V4,
            ports: vec![SlicePort {
                name: "http".into(),
                protocol: self.protocol,
                port: Some(ENDPOINT_PORT),
            }],
            endpoints: (0..self.endpoints)
                .map(|index| Endpoint {
                    node: Some(nodes[self.node(index) as usize].clone()),
                    ..Endpoint::new(self.endpoint(index).into())
                })
                .collect(),
        }
    }

    /// What [`NODE`] must forward for it.
    pub(crate) fn plan(&self) -> ServicePlan {
        let mut backends: Vec<Backend> = (0..self.endpoints)
            .map(|index| Backend {
                address: self.endpoint(index).into(),
                port: ENDPOINT_PORT,
                place: if self.node(index) == 0 { Place::Here } else { Place::Elsewhere },
                weight: 1,
            })
            .collect();
        // By text, as spec §1.28 has it.
        backends.sort_by_cached_key(|backend| SocketAddr::new(backend.address, backend.port).to_string());
        let backends: Arc<[Backend]> = backends.into();
        let none: Arc<[Backend]> = Arc::default();
        let forward = if self.endpoints == 0 { Verdict::Reject } else { Verdict::Forward(List::Cluster) };
        ServicePlan {
            name: self.name(),
            ports: vec![PortPlan {
                family: Family::V4,
                name: "http".into(),
                protocol: self.protocol,
                cluster: backends.clone(),
                local: none.clone(),
                serving: if self.protocol == Protocol::Udp { backends } else { none },
                affinity: None,
                proxy_protocol: None,
                scheduler: None,
                resting: Arc::default(),
                node_port: None,
                frontends: vec![Frontend {
                    kind: FrontendKind::ClusterIp,
                    address: self.cluster_ip().into(),
                    port: self.port,
                    inside: forward,
                    outside: forward,
                    masquerade: Masquerade::NotLocal,
                    allowed_sources: None,
                }],
            }],
            health_check: None,
        }
    }

    /// The Service and its slice, as a file of two YAML documents.
    pub(crate) fn manifest(&self) -> String {
        let name = self.bare_name();
        let protocol = self.protocol.to_string().to_uppercase();
        let mut text = format!(
            "apiVersion: v1\n\
             kind: Service\n\
             metadata:\n  namespace: {NAMESPACE}\n  name: {name}\n\
             spec:\n  clusterIP: {ip}\n  clusterIPs: [{ip}]\n  ipFamilies: [IPv4]\n  \
             ports:\n  - name: http\n    protocol: {protocol}\n    port: {port}\n    targetPort: {ENDPOINT_PORT}\n\
             ---\n\
             apiVersion: discovery.k8s.io/v1\n\
             kind: EndpointSlice\n\
             metadata:\n  namespace: {NAMESPACE}\n  name: {name}-slice\n  \
             labels:\n    kubernetes.io/service-name: {name}\n\
             addressType: IPv4\n\
             ports:\n- name: http\n  protocol: {protocol}\n  port: {ENDPOINT_PORT}\n\
             endpoints:\n",
            ip = self.cluster_ip(),
            port = self.port,
        );
        for index in 0..self.endpoints {
            let (address, node) = (self.endpoint(index), self.node(index));
            write!(
                text,
                "- addresses: [{address}]\n  conditions:\n    ready: true\n  nodeName: node-{node}\n"
            )
            .expect("a String takes everything");
        }
        text
    }

    /// The name of the file that holds [`Member::manifest`].
    pub(crate) fn file_name(&self) -> String {
        format!("{}.yaml", self.bare_name())
    }
}

/// The ClusterIP of the Service of this number.
pub(crate) fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST_CLUSTER_IP + number)
}

/// All members of a cluster.
pub(crate) fn members(shape: Shape, protocol: Protocol) -> impl Iterator<Item = Member> {
    (0..shape.services).map(move |number| Member::new(shape, protocol, number))
}

/// The names of the cluster's nodes, shared by all its endpoints.
pub(crate) fn nodes() -> Vec<Arc<str>> {
    (0..NODES).map(|node| format!("node-{node}").into()).collect()
}

/// The node that is planned for.
pub(crate) fn local_node() -> LocalNode {
    LocalNode { name: NODE.into(), ..LocalNode::default() }
}

impl FromStr for Shape {
    type Err = String;

    fn from_str(text: &str) -> Result<Shape, String> {
        text.split_once('x')
            .and_then(|(services, endpoints)| {
                Some(Shape::new(services.parse().ok()?, endpoints.parse().ok()?))
            })
            .ok_or_else(|| format!("{text:?} is not a shape such as 10000x1: Services, x, endpoints of each"))
    }
}

#[cfg(test)]
mod tests {
    use portolan_service::{Change, Planner};

    use super::*;

    #[test]
    fn generated_plans_are_the_planners() {
        let nodes = nodes();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for shape in [Shape::new(150, 1), Shape::new(7, 50), Shape::new(2, 0)] {
                let mut planner = Planner::new(local_node());
                for member in members(shape, protocol) {
                    planner.apply([Change::from(member.service()), Change::from(member.slice(&nodes))]);
                }
                for member in members(shape, protocol) {
                    let planned = planner.plan(&member.name()).map(|plan| (**plan).clone());
                    assert_eq!(planned, Some(member.plan()), "{shape} {protocol}, Service {}", member.number);
                }
            }
        }
    }
}
