//! The resources that are served.

use portolan_store::Definition;
use serde_json::{Value, json};

use crate::invalid::Invalid;

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
    /// `v1` Pods.
    Pods,
}

static SERVICES: Definition = Definition {
    group: "",
    version: "v1",
    plural: "services",
    kind: "Service",
    namespaced: true,
    selectable: &["spec.clusterIP", "spec.type"],
    zero: r#"{"spec":{},"status":{"loadBalancer":{}}}"#,
};

static ENDPOINT_SLICES: Definition = Definition {
    group: "discovery.k8s.io",
    version: "v1",
    plural: "endpointslices",
    kind: "EndpointSlice",
    namespaced: true,
    selectable: &[],
    zero: r#"{"addressType":"","endpoints":null,"ports":null}"#,
};

static NODES: Definition = Definition {
    group: "",
    version: "v1",
    plural: "nodes",
    kind: "Node",
    namespaced: false,
    selectable: &["spec.unschedulable"],
    zero: concat!(
        r#"{"spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","#,
        r#""systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","#,
        r#""kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}}}"#,
    ),
};

static SERVICE_CIDRS: Definition = Definition {
    group: "networking.k8s.io",
    version: "v1",
    plural: "servicecidrs",
    kind: "ServiceCIDR",
    namespaced: false,
    selectable: &[],
    zero: r#"{"spec":{},"status":{}}"#,
};

static EVENTS: Definition = Definition {
    group: "events.k8s.io",
    version: "v1",
    plural: "events",
    kind: "Event",
    namespaced: true,
    selectable: &["reason", "reportingController", "type"],
    zero: r#"{"eventTime":null,"regarding":{}}"#,
};

static NAMESPACES: Definition = Definition {
    group: "",
    version: "v1",
    plural: "namespaces",
    kind: "Namespace",
    namespaced: false,
    selectable: &["status.phase"],
    zero: r#"{"spec":{},"status":{}}"#,
};

static PODS: Definition = Definition {
    group: "",
    version: "v1",
    plural: "pods",
    kind: "Pod",
    namespaced: true,
    selectable: &["spec.nodeName", "spec.restartPolicy", "status.phase", "status.podIP"],
    zero: r#"{"spec":{"containers":null},"status":{}}"#,
};

impl Resource {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Services,
        Self::EndpointSlices,
        Self::Nodes,
        Self::ServiceCidrs,
        Self::Events,
        Self::Namespaces,
        Self::Pods,
    ];

    /// Its position in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    /// What the store knows of it.
    pub(crate) fn definition(self) -> &'static Definition {
        match self {
            Self::Services => &SERVICES,
            Self::EndpointSlices => &ENDPOINT_SLICES,
            Self::Nodes => &NODES,
            Self::ServiceCidrs => &SERVICE_CIDRS,
            Self::Events => &EVENTS,
            Self::Namespaces => &NAMESPACES,
            Self::Pods => &PODS,
        }
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

    pub(crate) fn from_path(group: &str, plural: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource| resource.group() == group && resource.plural() == plural)
    }

    /// What an object belongs to, by its kind.
    pub(crate) fn of(object: &Value) -> Result<Self, Invalid> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let mut all = Self::ALL.into_iter();
        all.find(|resource| resource.kind() == kind && resource.api_version() == api_version)
            .ok_or_else(|| Invalid::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() })
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
