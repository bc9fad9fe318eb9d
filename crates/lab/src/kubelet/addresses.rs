//! The addresses of pods: which pod has which.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::Error;
use crate::topology::NodeSpec;

/// Addresses that are given out, by the uid of the pod that has them.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    taken: BTreeSet<IpAddr>,
    of_pods: BTreeMap<String, Vec<IpAddr>>,
    /// The last one given out of each network. The next one follows it, so that an address does not
    /// come back at once with another pod behind it.
    last: BTreeMap<IpNet, IpAddr>,
}

impl Addresses {
    /// These are a node's, and are never given out.
    pub(super) fn reserve(&mut self, of_node: impl IntoIterator<Item = IpAddr>) {
        self.taken.extend(of_node);
    }

    /// Those of a pod on this node: the ones that it asks for, with a comma between them, or one of
    /// each of the node's pod networks.
    pub(super) fn give(&mut self, uid: &str, node: &NodeSpec, asked: &str) -> Result<Vec<IpAddr>, Error> {
        let mut given = Vec::new();
        for text in asked.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            let wrong = || Error::AskedAddress { address: text.to_owned() };
            let address: IpAddr = text.parse().map_err(|_| wrong())?;
            if self.taken.contains(&address) {
                return Err(wrong());
            }
            given.push(address);
        }
        if given.is_empty() {
            for network in &node.pod_networks {
                let free = self.next(*network).ok_or_else(|| Error::NetworkFull {
                    node: node.name.clone(),
                    networks: network.to_string(),
                })?;
                self.last.insert(*network, free);
                given.push(free);
            }
        }
        self.taken.extend(&given);
        self.of_pods.insert(uid.to_owned(), given.clone());
        Ok(given)
    }

    /// A pod needs none of its own.
    pub(super) fn give_none(&mut self, uid: &str) {
        self.of_pods.insert(uid.to_owned(), Vec::new());
    }

    /// A pod has ended. Gives what it had once, to be released when nothing has it any more.
    pub(super) fn leave(&mut self, uid: &str) -> Option<Vec<IpAddr>> {
        self.of_pods.remove(uid)
    }

    /// Others can have these.
    pub(super) fn release(&mut self, of_pod: Vec<IpAddr>) {
        for address in of_pod {
            self.taken.remove(&address);
        }
    }

    fn next(&self, network: IpNet) -> Option<IpAddr> {
        let after = self.last.get(&network).copied();
        let free = |address: &IpAddr| !self.taken.contains(address) && *address != network.network();
        let later = |address: &IpAddr| after.is_none_or(|after| *address > after);
        // No network has more pods than this.
        let hosts = || network.hosts().take(1 << 16);
        hosts().filter(later).find(free).or_else(|| hosts().find(free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_one_pod() {
        let node = NodeSpec {
            name: "one".to_owned(),
            addresses: vec![],
            pod_networks: vec!["10.0.0.0/29".parse().unwrap(), "fd00::/64".parse().unwrap()],
        };
        let mut addresses = Addresses::default();
        addresses.reserve(["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        let mut give = |uid: &str, asked: &str| {
            let given = addresses.give(uid, &node, asked);
            given.map_or_else(|error| error.to_string(), |list| format!("{list:?}"))
        };
        assert_eq!(give("a", ""), "[10.0.0.2, fd00::2]");
        assert_eq!(give("b", "10.0.0.5"), "[10.0.0.5]");
        assert_eq!(give("c", "10.0.0.5"), Error::AskedAddress { address: "10.0.0.5".into() }.to_string());
        assert_eq!(give("d", "x"), Error::AskedAddress { address: "x".into() }.to_string());
        assert_eq!(give("e", ""), "[10.0.0.3, fd00::3]");
        let left = addresses.leave("a").unwrap();
        assert_eq!(addresses.leave("a"), None);
        addresses.release(left);
        let mut give = |uid: &str| {
            let given = addresses.give(uid, &node, "");
            given.map_or_else(|error| error.to_string(), |list| list[0].to_string())
        };
        // 10.0.0.2 comes back last.
        assert_eq!([give("f"), give("g"), give("h")], ["10.0.0.4", "10.0.0.6", "10.0.0.2"]);
        assert!(give("i").contains("have no free address"));
    }
}
