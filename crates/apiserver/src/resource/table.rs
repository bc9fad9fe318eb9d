//! Everything about each resource that is data.

use portolan_store::Definition;

/// What can be asked of a part of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subresource {
    Status,
    Scale,
    Binding,
    Eviction,
    Finalize,
    Log,
    Exec,
    Attach,
    PortForward,
}

impl Subresource {
    /// Its name in paths.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Finalize => "finalize",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
        }
    }

    /// Group, version and kind of what is read and written there; none: of the object itself.
    pub(crate) fn kind(self) -> Option<(&'static str, &'static str, &'static str)> {
        match self {
            Self::Scale => Some(("autoscaling", "v1", "Scale")),
            Self::Eviction => Some(("policy", "v1", "Eviction")),
            Self::Binding => Some(("", "v1", "Binding")),
            Self::Exec => Some(("", "v1", "PodExecOptions")),
            Self::Attach => Some(("", "v1", "PodAttachOptions")),
            Self::PortForward => Some(("", "v1", "PodPortForwardOptions")),
            Self::Status | Self::Finalize | Self::Log => None,
        }
    }

    /// What discovery says can be done.
    pub(crate) fn verbs(self) -> &'static [&'static str] {
        match self {
            Self::Status | Self::Scale => &["get", "patch", "update"],
            Self::Binding | Self::Eviction => &["create"],
            Self::Finalize => &["update"],
            Self::Log => &["get"],
            Self::Exec | Self::Attach | Self::PortForward => &["create", "get"],
        }
    }
}

/// A resource.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) definition: Definition,
    pub(crate) short: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) subresources: &'static [Subresource],
    /// The name of its type in the schema: `core.v1.Pod`.
    pub(crate) schema: &'static str,
    /// Whether changes of its spec are counted in `metadata.generation`.
    pub(crate) counts_generations: bool,
}

const CORE: Definition = Definition {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    namespaced: true,
    selectable: &[],
    zero: r#"{"spec":{},"status":{}}"#,
};
const APPS: Definition = Definition { group: "apps", ..CORE };
const NETWORKING: Definition = Definition { group: "networking.k8s.io", namespaced: false, ..CORE };

const PLAIN: Entry = Entry {
    definition: CORE,
    short: &[],
    categories: &[],
    subresources: &[],
    schema: "",
    counts_generations: false,
};
const ALL: &[&str] = &["all"];
const STATUS: &[Subresource] = &[Subresource::Status];
const STATUS_SCALE: &[Subresource] = &[Subresource::Status, Subresource::Scale];

const NODE_ZERO: &str = concat!(
    r#"{"spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":{"machineID":"","#,
    r#""systemUUID":"","bootID":"","kernelVersion":"","osImage":"","containerRuntimeVersion":"","#,
    r#""kubeletVersion":"","kubeProxyVersion":"","operatingSystem":"","architecture":""}}}"#,
);

/// One entry for each of `Resource::ALL`, in that order.
pub(super) static TABLE: [Entry; 20] = [
    Entry {
        definition: Definition {
            plural: "services",
            kind: "Service",
            selectable: &["spec.clusterIP", "spec.type"],
            zero: r#"{"spec":{},"status":{"loadBalancer":{}}}"#,
            ..CORE
        },
        short: &["svc"],
        categories: ALL,
        subresources: STATUS,
        schema: "core.v1.Service",
        ..PLAIN
    },
    Entry {
        definition: Definition {
            group: "discovery.k8s.io",
            plural: "endpointslices",
            kind: "EndpointSlice",
            zero: r#"{"addressType":"","endpoints":null,"ports":null}"#,
            ..CORE
        },
        schema: "discovery.v1.EndpointSlice",
        counts_generations: true,
        ..PLAIN
    },
    Entry {
        definition: Definition {
            plural: "nodes",
            kind: "Node",
            namespaced: false,
            selectable: &["spec.unschedulable"],
            zero: NODE_ZERO,
            ..CORE
        },
        short: &["no"],
        subresources: STATUS,
        schema: "core.v1.Node",
        ..PLAIN
    },
    Entry {
        definition: Definition { plural: "servicecidrs", kind: "ServiceCIDR", ..NETWORKING },
        subresources: STATUS,
        schema: "networking.v1.ServiceCIDR",
        ..PLAIN
    },
    Entry {
        definition: Definition {
            group: "events.k8s.io",
            plural: "events",
            kind: "Event",
            selectable: &[
                "reason",
                "reportingController",
                "type",
                "regarding.apiVersion",
                "regarding.fieldPath",
                "regarding.kind",
                "regarding.name",
                "regarding.namespace",
                "regarding.resourceVersion",
                "regarding.uid",
                "deprecatedSource.component",
            ],
            zero: r#"{"eventTime":null,"regarding":{}}"#,
            ..CORE
        },
        short: &["ev"],
        schema: "events.v1.Event",
        ..PLAIN
    },
    Entry {
        definition: Definition {
            plural: "namespaces",
            kind: "Namespace",
            namespaced: false,
            selectable: &["status.phase"],
            ..CORE
        },
        short: &["ns"],
        subresources: &[Subresource::Status, Subresource::Finalize],
        schema: "core.v1.Namespace",
        ..PLAIN
    },
    Entry {
        definition: Definition {
            plural: "pods",
            kind: "Pod",
            selectable: &[
                "spec.nodeName",
                "spec.restartPolicy",
                "status.phase",
                "status.podIP",
                "spec.schedulerName",
                "spec.serviceAccountName",
                "spec.hostNetwork",
                "status.nominatedNodeName",
            ],
            zero: r#"{"spec":{"containers":null},"status":{}}"#,
            ..CORE
        },
        short: &["po"],
        categories: ALL,
        subresources: &[
            Subresource::Attach,
            Subresource::Binding,
            Subresource::Eviction,
            Subresource::Exec,
            Subresource::Log,
            Subresource::PortForward,
            Subresource::Status,
        ],
        schema: "core.v1.Pod",
        counts_generations: true,
    },
    Entry {
        definition: Definition { plural: "endpoints", kind: "Endpoints", zero: "{}", ..CORE },
        short: &["ep"],
        schema: "core.v1.Endpoints",
        ..PLAIN
    },
    Entry {
        definition: Definition { plural: "configmaps", kind: "ConfigMap", zero: "{}", ..CORE },
        short: &["cm"],
        schema: "core.v1.ConfigMap",
        ..PLAIN
    },
    Entry {
        definition: Definition {
            plural: "secrets",
            kind: "Secret",
            selectable: &["type"],
            zero: "{}",
            ..CORE
        },
        schema: "core.v1.Secret",
        ..PLAIN
    },
    Entry {
        definition: Definition { plural: "serviceaccounts", kind: "ServiceAccount", zero: "{}", ..CORE },
        short: &["sa"],
        schema: "core.v1.ServiceAccount",
        ..PLAIN
    },
    Entry {
        definition: Definition {
            plural: "replicationcontrollers",
            kind: "ReplicationController",
            selectable: &["status.replicas"],
            ..CORE
        },
        short: &["rc"],
        categories: ALL,
        subresources: STATUS_SCALE,
        schema: "core.v1.ReplicationController",
        counts_generations: true,
    },
    Entry {
        definition: Definition { plural: "deployments", kind: "Deployment", ..APPS },
        short: &["deploy"],
        categories: ALL,
        subresources: STATUS_SCALE,
        schema: "apps.v1.Deployment",
        counts_generations: true,
    },
    Entry {
        definition: Definition {
            plural: "replicasets",
            kind: "ReplicaSet",
            selectable: &["status.replicas"],
            ..APPS
        },
        short: &["rs"],
        categories: ALL,
        subresources: STATUS_SCALE,
        schema: "apps.v1.ReplicaSet",
        counts_generations: true,
    },
    Entry {
        definition: Definition { plural: "daemonsets", kind: "DaemonSet", ..APPS },
        short: &["ds"],
        categories: ALL,
        subresources: STATUS,
        schema: "apps.v1.DaemonSet",
        counts_generations: true,
    },
    Entry {
        definition: Definition { plural: "statefulsets", kind: "StatefulSet", ..APPS },
        short: &["sts"],
        categories: ALL,
        subresources: STATUS_SCALE,
        schema: "apps.v1.StatefulSet",
        counts_generations: true,
    },
    Entry {
        definition: Definition {
            plural: "controllerrevisions",
            kind: "ControllerRevision",
            zero: r#"{"revision":0}"#,
            ..APPS
        },
        schema: "apps.v1.ControllerRevision",
        ..PLAIN
    },
    Entry {
        definition: Definition {
            group: "batch",
            plural: "jobs",
            kind: "Job",
            selectable: &["status.successful"],
            ..CORE
        },
        categories: ALL,
        subresources: STATUS,
        schema: "batch.v1.Job",
        counts_generations: true,
        ..PLAIN
    },
    Entry {
        definition: Definition {
            group: "coordination.k8s.io",
            plural: "leases",
            kind: "Lease",
            zero: r#"{"spec":{}}"#,
            ..CORE
        },
        schema: "coordination.v1.Lease",
        ..PLAIN
    },
    Entry {
        definition: Definition {
            plural: "ipaddresses",
            kind: "IPAddress",
            zero: r#"{"spec":{}}"#,
            ..NETWORKING
        },
        short: &["ip"],
        schema: "networking.v1.IPAddress",
        ..PLAIN
    },
];
