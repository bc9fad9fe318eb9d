//! The resources that are served.

mod table;

use portolan_store::Definition;
use serde_json::Value;

use crate::invalid::Invalid;
pub(crate) use table::{Entry, Subresource};

/// A collection of objects of one kind. The table in `resource/table.rs` says all about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `v1` Services.
    Services,
    /// `discovery.k8s.io/v1` EndpointSlices.
    EndpointSlices,
    /// `v1` Nodes.
    Nodes,
    /// `networking.k8s.io/v1` ServiceCIDRs.
    ServiceCidrs,
    /// `events.k8s.io/v1` Events; `v1` shows the same ones.
    Events,
    /// `v1` Namespaces.
    Namespaces,
    /// `v1` Pods.
    Pods,
    /// `v1` Endpoints.
    Endpoints,
    /// `v1` ConfigMaps.
    ConfigMaps,
    /// `v1` Secrets.
    Secrets,
    /// `v1` ServiceAccounts.
    ServiceAccounts,
    /// `v1` ReplicationControllers.
    ReplicationControllers,
    /// `apps/v1` Deployments; `extensions/v1beta1` shows the same ones.
    Deployments,
    /// `apps/v1` ReplicaSets.
    ReplicaSets,
    /// `apps/v1` DaemonSets.
    DaemonSets,
    /// `apps/v1` StatefulSets.
    StatefulSets,
    /// `apps/v1` ControllerRevisions: the history of DaemonSets and StatefulSets.
    ControllerRevisions,
    /// `batch/v1` Jobs.
    Jobs,
    /// `coordination.k8s.io/v1` Leases.
    Leases,
    /// `networking.k8s.io/v1` IPAddresses.
    IpAddresses,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Services,
        Self::EndpointSlices,
        Self::Nodes,
        Self::ServiceCidrs,
        Self::Events,
        Self::Namespaces,
        Self::Pods,
        Self::Endpoints,
        Self::ConfigMaps,
        Self::Secrets,
        Self::ServiceAccounts,
        Self::ReplicationControllers,
        Self::Deployments,
        Self::ReplicaSets,
        Self::DaemonSets,
        Self::StatefulSets,
        Self::ControllerRevisions,
        Self::Jobs,
        Self::Leases,
        Self::IpAddresses,
    ];

    /// Its position in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn entry(self) -> &'static Entry {
        &table::TABLE[self.index()]
    }

    /// What the store knows of it.
    pub(crate) fn definition(self) -> &'static Definition {
        &self.entry().definition
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        self.definition().group
    }

    /// `apiVersion` of its objects.
    pub fn api_version(self) -> String {
        self.definition().api_version()
    }

    /// The name in paths.
    pub fn plural(self) -> &'static str {
        self.definition().plural
    }

    /// `kind` of its objects.
    pub fn kind(self) -> &'static str {
        self.definition().kind
    }

    /// Whether its objects live in namespaces.
    pub fn namespaced(self) -> bool {
        self.definition().namespaced
    }

    /// What an object belongs to, by its kind.
    pub fn of(object: &Value) -> Result<Self, Invalid> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let mut all = Self::ALL.into_iter();
        all.find(|resource| resource.kind() == kind && resource.api_version() == api_version)
            .ok_or_else(|| Invalid::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of the table is that of the enumeration.
    #[test]
    fn finds_each_in_the_table() {
        for (position, resource) in Resource::ALL.into_iter().enumerate() {
            assert_eq!(resource.index(), position);
            let name = format!("{resource:?}").to_lowercase();
            assert_eq!(resource.plural(), name, "{resource:?}");
        }
    }
}
