//! Whether the configuration fits the node, once the node is known (spec §10D).

use std::net::IpAddr;
use std::path::Path;

use anyhow::anyhow;
use portolan_config::{Config, NodeFacts};
use portolan_service::{Change, Family, Node};

use crate::batch::Batch;
use crate::configuration;

/// A check that is made once.
#[derive(Debug)]
pub(crate) struct NodeCheck {
    config: Config,
    node: String,
    /// The node's object comes from the cluster. Without one, what is known first is all there is.
    in_cluster: bool,
    dual_stack: bool,
    done: bool,
}

impl NodeCheck {
    /// For the node called `node`, on this host.
    pub(crate) fn new(config: &Config, node: &str, in_cluster: bool) -> NodeCheck {
        let dual_stack = has_ipv6(Path::new("/"));
        NodeCheck { config: config.clone(), node: node.to_owned(), in_cluster, dual_stack, done: false }
    }

    /// Looks once, when `batch` has the node's object, whether the configuration fits. Logs what
    /// should be known; what cannot work is an error.
    pub(crate) fn check(&mut self, batch: &Batch) -> anyhow::Result<()> {
        if self.done {
            return Ok(());
        }
        let node = batch.changes.iter().rev().find_map(|change| match change {
            Change::Node(node) if *node.name == *self.node => Some(node),
            _ => None,
        });
        if node.is_none() && (self.in_cluster || !batch.complete) {
            return Ok(());
        }
        self.done = true;
        match self.config.check_node(&self.facts(node)) {
            Ok(notes) => {
                configuration::log(&notes);
                Ok(())
            }
            Err(errors) => Err(anyhow!("node {}: {}", self.node, configuration::unusable(&errors))),
        }
    }

    fn facts(&self, node: Option<&Node>) -> NodeFacts {
        let addresses: Vec<IpAddr> = node.map_or_else(Vec::new, |node| node.addresses.clone());
        let bind = self.config.node_address();
        NodeFacts {
            primary: bind.or(addresses.first().copied()).map_or(Family::V4, Family::of),
            dual_stack: self.dual_stack,
            addresses,
            pod_cidrs: node.map_or_else(Vec::new, |node| node.pod_cidrs.clone()),
        }
    }
}

/// The host forwards IPv6 (spec §1.32).
fn has_ipv6(root: &Path) -> bool {
    let disabled = std::fs::read_to_string(root.join("proc/sys/net/ipv6/conf/all/disable_ipv6"));
    root.join("proc/net/if_inet6").exists() && !disabled.is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn fit(flags: &[&str], in_cluster: bool) -> NodeCheck {
        let config = configuration::of_flags(flags);
        NodeCheck { dual_stack: false, ..NodeCheck::new(&config, "host1", in_cluster) }
    }

    fn batch(nodes: &[(&str, &str)]) -> Batch {
        let nodes = nodes.iter().map(|(name, address)| {
            Change::Node(Node {
                name: (*name).into(),
                zone: None,
                addresses: vec![address.parse().unwrap()],
                pod_cidrs: Vec::new(),
                leaving: false,
                ready: true,
                excluded: false,
            })
        });
        Batch::of_changes(nodes.collect(), Instant::now())
    }

    #[test]
    fn when_it_is_checked_and_what_is_fatal() {
        let v6 = &["--cluster-cidr=fd00::/48"][..];
        let v4 = &["--cluster-cidr=10.0.0.0/8"][..];
        // Name, flags, in a cluster, what comes, then: checked, fits.
        for (name, flags, in_cluster, batch, checked, fits) in [
            ("§10.20 networks of the wrong family", v6, true, batch(&[("host1", "192.0.2.1")]), true, false),
            ("of the right one", v4, true, batch(&[("host1", "192.0.2.1")]), true, true),
            (
                "the node's first address has the family",
                v6,
                true,
                batch(&[("host1", "2001:db8::1")]),
                true,
                true,
            ),
            (
                "a cluster has the node's object later",
                v6,
                true,
                batch(&[("host2", "192.0.2.2")]),
                false,
                true,
            ),
            ("without a cluster nobody does", v6, false, batch(&[]), true, false),
            ("not before all is known", v6, false, Batch::of_addresses(Vec::new()), false, true),
            (
                "§1.33 the bind address has the family",
                &["--cluster-cidr=fd00::/48", "--bind-address=2001:db8::7"],
                true,
                batch(&[("host1", "192.0.2.1")]),
                true,
                true,
            ),
        ] {
            let mut fit = fit(flags, in_cluster);
            let result = fit.check(&batch);
            assert_eq!((fit.done, result.is_ok()), (checked, fits), "{name}: {result:?}");
            assert!(!fit.done || fit.check(&batch).is_ok(), "{name}: once is enough");
        }
    }

    #[test]
    fn the_error_says_what_is_wrong() {
        let error =
            fit(&["--cluster-cidr=fd00::/48"], true).check(&batch(&[("host1", "192.0.2.1")])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node host1: the configuration cannot be used:\n  clusterCIDR: IPv6 only, but the node is IPv4 only; give \
             the pods' network of that family"
        );
    }

    #[test]
    fn hosts_with_ipv6() {
        let root = tempfile::TempDir::new().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert!(!has_ipv6(root.path()));
        write("proc/net/if_inet6", "");
        assert!(has_ipv6(root.path()));
        write("proc/sys/net/ipv6/conf/all/disable_ipv6", "1\n");
        assert!(!has_ipv6(root.path()));
    }
}
