//! The rules by which a node forwards while new flows are timed.

use serde::{Deserialize, Serialize};

/// What the node forwards by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rules {
    /// No rules and no connection tracking: what sending and forwarding cost.
    None,
    /// One rule that translates every Service's address to one endpoint's.
    OneDnat,
    /// [`crate::kube_proxy::rules`].
    KubeProxy,
    /// What Portolan loads.
    Portolan,
    /// What Portolan loads in mode ipvs.
    Ipvs,
    /// [`crate::kube_proxy_ipvs::load`].
    KubeProxyIpvs,
}

impl Rules {
    /// IPVS forwards.
    pub(crate) fn balance(self) -> bool {
        matches!(self, Rules::Ipvs | Rules::KubeProxyIpvs)
    }
}
