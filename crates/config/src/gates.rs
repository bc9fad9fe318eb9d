//! Feature gates (spec §0.4).

use std::collections::BTreeMap;

/// A feature gate that means something to a service proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// External IPs of Services are served.
    AllowServiceExternalIps,
    /// `trafficDistribution: PreferSameZone` and `PreferSameNode`.
    PreferSameTrafficDistribution,
    /// The nftables mode.
    NftablesProxyMode,
    /// ServiceCIDR objects.
    MultiCidrServiceAllocator,
    /// The page `/flagz`.
    ComponentFlagz,
    /// The page `/statusz`.
    ComponentStatusz,
    /// Histograms in Prometheus' native form.
    NativeHistograms,
    /// The nftables mode writes over netlink, not with the program `nft`.
    NftablesNetlink,
    /// The ipvs mode may be chosen.
    KubeProxyIpvs,
    /// NodePorts answer on loopback addresses in nftables mode (KEP-6032; as in Kubernetes 1.38).
    KubeProxyNftablesLocalhostNodePorts,
    /// Alpha options of logging.
    LoggingAlphaOptions,
    /// Beta options of logging.
    LoggingBetaOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Alpha,
    Beta,
    Ga,
    Deprecated,
}

impl Gate {
    /// All of them.
    pub const ALL: [Gate; 12] = [
        Gate::AllowServiceExternalIps,
        Gate::PreferSameTrafficDistribution,
        Gate::NftablesProxyMode,
        Gate::MultiCidrServiceAllocator,
        Gate::ComponentFlagz,
        Gate::ComponentStatusz,
        Gate::NativeHistograms,
        Gate::NftablesNetlink,
        Gate::KubeProxyIpvs,
        Gate::KubeProxyNftablesLocalhostNodePorts,
        Gate::LoggingAlphaOptions,
        Gate::LoggingBetaOptions,
    ];

    /// The name in flags and files.
    pub fn name(self) -> &'static str {
        match self {
            Gate::AllowServiceExternalIps => "AllowServiceExternalIPs",
            Gate::PreferSameTrafficDistribution => "PreferSameTrafficDistribution",
            Gate::NftablesProxyMode => "NFTablesProxyMode",
            Gate::MultiCidrServiceAllocator => "MultiCIDRServiceAllocator",
            Gate::ComponentFlagz => "ComponentFlagz",
            Gate::ComponentStatusz => "ComponentStatusz",
            Gate::NativeHistograms => "NativeHistograms",
            Gate::NftablesNetlink => "NFTablesNetlink",
            Gate::KubeProxyIpvs => "KubeProxyIPVS",
            Gate::KubeProxyNftablesLocalhostNodePorts => "KubeProxyNFTablesLocalhostNodePorts",
            Gate::LoggingAlphaOptions => "LoggingAlphaOptions",
            Gate::LoggingBetaOptions => "LoggingBetaOptions",
        }
    }

    /// How far the feature is, as in the metric `kubernetes_feature_enabled`: `ALPHA`, `BETA`,
    /// `DEPRECATED` or empty.
    pub fn stage(self) -> &'static str {
        match self.stage_and_default().0 {
            Stage::Alpha => "ALPHA",
            Stage::Beta => "BETA",
            Stage::Ga => "",
            Stage::Deprecated => "DEPRECATED",
        }
    }

    /// Whether the feature is to be removed (KEP-5707: `spec.externalIPs` of Services is deprecated
    /// since Kubernetes 1.36, on by default until 1.40).
    pub fn is_deprecated(self) -> bool {
        self.stage_and_default().0 == Stage::Deprecated
    }

    /// Whether the gate can only be set to its default.
    pub fn is_locked(self) -> bool {
        matches!(
            self,
            Gate::PreferSameTrafficDistribution | Gate::NftablesProxyMode | Gate::MultiCidrServiceAllocator
        )
    }

    /// Whether it is on when nothing is said.
    pub fn default(self) -> bool {
        self.stage_and_default().1
    }

    fn stage_and_default(self) -> (Stage, bool) {
        match self {
            Gate::PreferSameTrafficDistribution
            | Gate::NftablesProxyMode
            | Gate::MultiCidrServiceAllocator => (Stage::Ga, true),
            Gate::AllowServiceExternalIps | Gate::KubeProxyIpvs => (Stage::Deprecated, true),
            Gate::ComponentFlagz
            | Gate::ComponentStatusz
            | Gate::NftablesNetlink
            | Gate::KubeProxyNftablesLocalhostNodePorts
            | Gate::LoggingBetaOptions => (Stage::Beta, true),
            Gate::NativeHistograms | Gate::LoggingAlphaOptions => (Stage::Alpha, false),
        }
    }

    pub(crate) fn enabled(self, given: &BTreeMap<String, bool>) -> bool {
        let (stage, default) = self.stage_and_default();
        let all = match stage {
            Stage::Alpha => given.get(ALL_ALPHA),
            Stage::Beta => given.get(ALL_BETA),
            Stage::Ga | Stage::Deprecated => None,
        };
        given.get(self.name()).or(all).copied().unwrap_or(default)
    }
}

/// Sets all gates of alpha features that are not set themselves.
pub(crate) const ALL_ALPHA: &str = "AllAlpha";
/// Sets all gates of beta features that are not set themselves.
pub(crate) const ALL_BETA: &str = "AllBeta";
