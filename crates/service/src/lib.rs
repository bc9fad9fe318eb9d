//! The domain of a Kubernetes service proxy, without I/O: Services, EndpointSlices and Nodes as a proxy uses
//! them, the [`Catalog`] that holds them, and the [`Planner`] that works out what one node must forward.
//!
//! Data flows one way: a source emits [`Change`]s, the catalog takes them object by object, the planner
//! recomputes the Services they touch and returns a [`ChangeSet`] for a dataplane. Nothing here knows a kernel,
//! an API client or a clock.
//!
//! "spec §" in the documentation of this crate means the behaviour of kube-proxy 1.36, clause by clause.

mod catalog;
mod claims;
mod family;
mod findings;
mod name;
mod node;
mod object;
mod plan;
mod planner;
mod select;
mod service_plan;
mod special;

pub use catalog::Catalog;
pub use family::{Family, PerFamily, Protocol};
pub use name::ObjectName;
pub use node::{LocalNode, Node, NodePortAddresses, NodePortSelector};
pub use object::{
    Change, Endpoint, EndpointSlice, EndpointsTrigger, ExternalPolicy, HealthCheckPort, IngressMode,
    InternalPolicy, LoadBalancerIngress, Service, ServicePort, ServiceType, SlicePort, Subject,
};
pub use plan::{
    AllowedSources, Backend, ChangeSet, Frontend, FrontendKind, HealthCheck, List, Masquerade, Place,
    PortPlan, Problem, ServiceChange, ServicePlan, Verdict,
};
pub use planner::Planner;
pub use service_plan::BUDGET;
pub use special::Special;
