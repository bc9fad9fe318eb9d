//! Which chains of iptables are kube-proxy's, of all its modes and versions.

use crate::modes::MODES;

/// Mode IPVS (spec §7.18).
const OTHER_FILTER_CHAINS: [&str; 4] =
    ["KUBE-NODE-PORT", "KUBE-SOURCE-RANGES-FIREWALL", "KUBE-IPVS-FILTER", "KUBE-IPVS-OUT-FILTER"];
/// As [`OTHER_FILTER_CHAINS`]; KUBE-FIRE-WALL is from before 1.26.
const OTHER_NAT_CHAINS: [&str; 3] = ["KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-FIRE-WALL"];
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
