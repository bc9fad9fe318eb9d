//! Which chains of iptables are kube-proxy's, of all its modes and versions.

use crate::modes::MODES;

/// Modes IPVS (spec §7.18) and userspace (§7.24).
const OTHER_FILTER_CHAINS: [&str; 5] = [
    "KUBE-NODE-PORT",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-NODEPORT-NON-LOCAL",
];
/// As [`OTHER_FILTER_CHAINS`]; KUBE-FIRE-WALL is from IPVS mode before 1.26.
const OTHER_NAT_CHAINS: [&str; 7] = [
    "KUBE-NODE-PORT",
    "KUBE-LOAD-BALANCER",
    "KUBE-FIRE-WALL",
    "KUBE-PORTALS-CONTAINER",
    "KUBE-PORTALS-HOST",
    "KUBE-NODEPORT-CONTAINER",
    "KUBE-NODEPORT-HOST",
];
/// Chains of one Service port, of versions before 1.24 (spec §5.44).
const OTHER_NAT_PREFIX: &str = "KUBE-XLB-";

/// The chain is one of kube-proxy's, of all its modes.
pub(crate) fn is_of_kube_proxy(table: &str, chain: &str) -> bool {
    is_of_other_modes(table, chain) || MODES.iter().any(|mode| (mode.shares_chain)(table, chain))
}

/// The chain is kube-proxy's alone: none of our modes uses a chain of that name.
pub(crate) fn is_of_other_modes(table: &str, chain: &str) -> bool {
    match table {
        "filter" => OTHER_FILTER_CHAINS.contains(&chain),
        "nat" => OTHER_NAT_CHAINS.contains(&chain) || chain.starts_with(OTHER_NAT_PREFIX),
        _ => false,
    }
}
