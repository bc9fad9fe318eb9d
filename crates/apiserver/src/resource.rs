//! The resources that are served.

use serde_json::{Value, json};

/// A collection of objects of one kind.
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
    /// `events.k8s.io/v1` Events.
    Events,
    /// `v1` Namespaces.
    Namespaces,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Services,
        Self::EndpointSlices,
        Self::Nodes,
        Self::ServiceCidrs,
        Self::Events,
        Self::Namespaces,
    ];

    /// Its position in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Services | Self::Nodes | Self::Namespaces => "",
            Self::EndpointSlices => "discovery.k8s.io",
            Self::ServiceCidrs => "networking.k8s.io",
            Self::Events => "events.k8s.io",
        }
    }

    /// `apiVersion` of its objects.
    pub fn api_version(self) -> String {
        match self.group() {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        }
    }

    /// The name in paths.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
            Self::ServiceCidrs => "servicecidrs",
            Self::Events => "events",
            Self::Namespaces => "namespaces",
        }
    }

    /// `kind` of its objects.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Services => "Service",
            Self::EndpointSlices => "EndpointSlice",
            Self::Nodes => "Node",
            Self::ServiceCidrs => "ServiceCIDR",
            Self::Events => "Event",
            Self::Namespaces => "Namespace",
        }
    }

    /// Whether its objects live in namespaces.
    pub fn namespaced(self) -> bool {
        matches!(self, Self::Services | Self::EndpointSlices | Self::Events)
    }

    /// The fields by which it can be selected, besides `metadata.name` and `metadata.namespace`.
    pub(crate) fn selectable(self) -> &'static [&'static str] {
        match self {
            Self::Services => &["spec.clusterIP", "spec.type"],
            Self::Nodes => &["spec.unschedulable"],
            Self::Events => &["reason", "reportingController", "type"],
            Self::Namespaces => &["status.phase"],
            Self::EndpointSlices | Self::ServiceCidrs => &[],
        }
    }

    pub(crate) fn from_path(group: &str, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.group() == group && resource.plural() == plural)
    }

    pub(crate) fn from_kind(api_version: &str, kind: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|resource| resource.kind() == kind && resource.api_version() == api_version)
    }

    /// What a real server puts into a bookmark besides kind, version and metadata: the zero value of the type.
    pub(crate) fn zero(self) -> Value {
        match self {
            Self::Services => json!({ "spec": {}, "status": { "loadBalancer": {} } }),
            Self::EndpointSlices => json!({ "addressType": "", "endpoints": null, "ports": null }),
            Self::Nodes => json!({ "spec": {}, "status": {
                "daemonEndpoints": { "kubeletEndpoint": { "Port": 0 } },
                "nodeInfo": { "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "",
                    "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "",
                    "operatingSystem": "", "architecture": "" } } }),
            Self::ServiceCidrs | Self::Namespaces => json!({ "spec": {}, "status": {} }),
            Self::Events => json!({ "eventTime": null, "regarding": {} }),
        }
    }

    /// How discovery lists it.
    pub(crate) fn discovery(self) -> Value {
        json!({
            "name": self.plural(),
            "singularName": self.kind().to_lowercase(),
            "namespaced": self.namespaced(),
            "kind": self.kind(),
            "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
        })
    }
}
