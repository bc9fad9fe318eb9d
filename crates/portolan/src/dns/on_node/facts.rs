//! What answering on the node depends on: the DNS Service and the node's addresses, as they are in
//! force.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{Change, Family, Node, ObjectName, Protocol, Service, Special};

use super::{Event, PORT};
use crate::batch::Batch;
use crate::feed::Consumer;
use crate::mailbox::Sender;

/// Passes on what of a batch matters here.
pub(super) struct Watcher {
    pub(super) service: ObjectName,
    pub(super) node: Arc<str>,
    pub(super) events: Sender<Event>,
}

impl Consumer for Watcher {
    fn take(&self, batch: &Batch) {
        // Whoever follows may have ended.
        let send = |event| drop(self.events.send(event));
        for change in &batch.changes {
            match change {
                Change::Service(service) if service.name == self.service => {
                    send(Event::Service(Some(service.clone())));
                }
                Change::ServiceRemoved(name) if *name == self.service => send(Event::Service(None)),
                Change::Node(node) if node.name == self.node => send(Event::Node(node.clone())),
                _ => {}
            }
        }
        if let Some(addresses) = &batch.addresses {
            send(Event::Interfaces(addresses.clone()));
        }
    }
}

/// The last that was heard of each.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) service: Option<Arc<Service>>,
    pub(super) node: Option<Node>,
    pub(super) interfaces: Vec<IpAddr>,
}

impl Facts {
    /// The addresses of the Service that are answered for.
    pub(super) fn addresses(&self) -> BTreeSet<IpAddr> {
        let answers = |service: &&Arc<Service>| {
            let has =
                |protocol| service.ports.iter().any(|port| (port.protocol, port.port) == (protocol, PORT));
            has(Protocol::Udp) || has(Protocol::Tcp)
        };
        let service = self.service.iter().filter(answers);
        service.flat_map(|service| service.cluster_ips.iter().copied()).collect()
    }

    /// Who may ask, whatever addresses that are: the node, and the pods of its networks.
    pub(super) fn own_networks(&self) -> Vec<IpNet> {
        let node = self.node.iter().flat_map(|node| node.addresses.iter());
        let addresses = node.chain(&self.interfaces).map(|address| IpNet::from(*address));
        let pods = self.node.iter().flat_map(|node| node.pod_cidrs.iter().copied());
        let own: BTreeSet<IpNet> = addresses.chain(pods).collect();
        own.into_iter().collect()
    }

    /// For each of these addresses, the one that the node itself asks from.
    pub(super) fn sources(&self, addresses: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Option<IpAddr>> {
        addresses.iter().map(|address| (*address, self.source(Family::of(*address)))).collect()
    }

    /// The node's address of a family: the first that its object has, or else an interface.
    fn source(&self, family: Family) -> Option<IpAddr> {
        let object = self.node.iter().flat_map(|node| node.addresses.iter().copied());
        let ordinary = self.interfaces.iter().copied().filter(|address| Special::of(*address).is_none());
        let mut known = object.filter(|address| self.interfaces.contains(address)).chain(ordinary);
        known.find(|address| Family::of(*address) == family)
    }
}

#[cfg(test)]
mod tests {
    use portolan_service::ServicePort;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_a_service_with_the_port_is_answered_for() {
        let mut service = Service::new(ObjectName::new("kube-system", "kube-dns"));
        service.cluster_ips = addresses(&["10.96.0.10", "fd00::a"]);
        for (port, protocol, expected) in
            [(53, Protocol::Udp, 2), (53, Protocol::Tcp, 2), (53, Protocol::Sctp, 0), (54, Protocol::Udp, 0)]
        {
            service.ports = vec![ServicePort { name: "dns".into(), protocol, port, node_port: None }];
            let facts = Facts { service: Some(Arc::new(service.clone())), ..Facts::default() };
            assert_eq!(facts.addresses().len(), expected, "{port}/{protocol}");
        }
        assert!(Facts::default().addresses().is_empty());
    }

    #[test]
    fn the_node_asks_from_an_address_that_it_has() {
        let interfaces = addresses(&["127.0.0.1", "169.254.1.1", "192.0.2.7", "192.0.2.8", "fe80::1"]);
        let source = |node: &[&str]| {
            let node = Node {
                name: "n1".into(),
                zone: None,
                addresses: addresses(node),
                pod_cidrs: Vec::new(),
                leaving: false,
                ready: true,
                excluded: false,
            };
            let facts = Facts { node: Some(node), interfaces: interfaces.clone(), ..Facts::default() };
            (facts.source(Family::V4), facts.source(Family::V6))
        };
        let v4 = |text: &str| (Some(text.parse().unwrap()), None);
        assert_eq!(source(&[]), v4("192.0.2.7"), "the first that others reach");
        assert_eq!(source(&["192.0.2.8"]), v4("192.0.2.8"), "the one of its object");
        assert_eq!(source(&["198.51.100.1"]), v4("192.0.2.7"), "not one of its interfaces");
    }
}
