//! The cluster's own networks: nobody else knows names of addresses in them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Networks of Services and of nodes' pods.
#[derive(Debug, Clone, Default)]
pub(crate) struct Networks {
    /// How many say so.
    counts: HashMap<IpNet, usize>,
    /// How many networks have a length: few lengths are in use.
    lengths: BTreeMap<u8, usize>,
    nodes: HashMap<Arc<str>, Box<[IpNet]>>,
}

impl Networks {
    pub(crate) fn new(own: &[IpNet]) -> Networks {
        let mut networks = Networks::default();
        for network in own {
            networks.add(*network);
        }
        networks
    }

    /// A node's pods have these networks, and no others. No node is called "": under that name come
    /// the networks of Services.
    pub(crate) fn set_node(&mut self, node: &Arc<str>, networks: &[IpNet]) {
        if self.nodes.get(node).is_some_and(|known| **known == *networks) {
            return;
        }
        self.remove_node(node);
        for network in networks {
            self.add(*network);
        }
        if !networks.is_empty() {
            self.nodes.insert(node.clone(), networks.into());
        }
    }

    /// A node is gone.
    pub(crate) fn remove_node(&mut self, node: &str) {
        for network in self.nodes.remove(node).unwrap_or_default() {
            self.remove(network);
        }
    }

    /// Whether all addresses that begin with the first `length` bits of `address` are in one of
    /// them.
    pub(crate) fn contain(&self, address: IpAddr, length: u8) -> bool {
        self.lengths.range(..=length).any(|(length, _)| {
            IpNet::new(address, *length).is_ok_and(|network| self.counts.contains_key(&network.trunc()))
        })
    }

    fn add(&mut self, network: IpNet) {
        let count = self.counts.entry(network.trunc()).or_default();
        *count += 1;
        if *count == 1 {
            *self.lengths.entry(network.prefix_len()).or_default() += 1;
        }
    }

    fn remove(&mut self, network: IpNet) {
        let network = network.trunc();
        let Some(count) = self.counts.get_mut(&network) else { return };
        *count -= 1;
        if *count > 0 {
            return;
        }
        self.counts.remove(&network);
        if let Some(count) = self.lengths.get_mut(&network.prefix_len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&network.prefix_len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_come_and_go_with_nodes() {
        let (network, ip) = (|text: &str| text.parse().unwrap(), |text: &str| text.parse().unwrap());
        let mut networks = Networks::new(&[network("10.96.0.0/12")]);
        let contains = |networks: &Networks, text: &str, length| networks.contain(ip(text), length);
        networks.set_node(&"a".into(), &[network("10.244.1.0/24"), network("fd00:1::/64")]);
        networks.set_node(&"b".into(), &[network("10.244.1.0/24")]);
        assert!(contains(&networks, "10.97.1.1", 32) && contains(&networks, "10.97.0.0", 16));
        assert!(!contains(&networks, "10.0.0.0", 8), "larger than what is known");
        networks.remove_node("a");
        assert!(contains(&networks, "10.244.1.9", 32), "another node has it too");
        assert!(!contains(&networks, "fd00:1::1", 128));
        networks.set_node(&"b".into(), &[network("10.244.2.0/24")]);
        assert!(!contains(&networks, "10.244.1.9", 32) && contains(&networks, "10.244.2.9", 32));
    }
}
