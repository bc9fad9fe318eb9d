//! The domain of a Kubernetes service proxy, without I/O: Services, EndpointSlices and Nodes as a
//! proxy and names for Services use them, the [`Catalog`] that holds them, and the [`Planner`] that
//! works out what one node must forward.
//!
//! Data flows one way. A source emits [`Change`]s, and the catalog takes them object by object. The
//! planner recomputes the Services they touch, and returns a [`ChangeSet`] for a dataplane. Nothing
//! here knows a kernel, an API client or a clock.
//!
//! "spec §" in the documentation of this crate means the behaviour of kube-proxy 1.36, clause by
//! clause.

mod address;
mod address_pool;
mod address_range;
mod announced;
mod catalog;
mod change;
mod claims;
mod family;
mod findings;
mod load_balancer_class;
mod name;
mod names_change;
mod node;
mod plan;
mod planner;
mod proxy_protocol;
mod scheduler;
mod select;
mod service;
mod service_plan;
mod slice;
mod special;
mod weights;

pub use address::{parse_address, parse_network};
pub use address_pool::{AddressPool, LabelExpression, LabelOperator, LabelSelector, PoolAllocation};
pub use address_range::{AddressRange, NotARange};
pub use announced::{AllowedNodes, Announced};
pub use catalog::Catalog;
pub use change::{Change, Subject};
pub use family::{Family, PerFamily, Protocol};
pub use load_balancer_class::{LOAD_BALANCER_CLASS, is_own_class};
pub use name::ObjectName;
pub use names_change::{NamesChange, Namespace, Pod, PodPhase, Target, TargetSlice, further};
pub use node::{LocalNode, Loopback, Node, NodePortAddresses, NodePortSelector};
pub use plan::{
    AllowedSources, Backend, ChangeSet, Frontend, FrontendKind, HealthCheck, List, Masquerade, Place,
    PortPlan, Problem, ServiceChange, ServicePlan, Verdict,
};
pub use planner::Planner;
pub use proxy_protocol::{AskedProxyProtocol, ProxyProtocol};
pub use scheduler::{AskedScheduler, Scheduler};
pub use service::{
    ExternalPolicy, HealthCheckPort, IngressMode, InternalPolicy, LoadBalancerIngress, Service, ServicePort,
    ServiceType,
};
pub use service_plan::BUDGET;
pub use slice::{Endpoint, EndpointNames, EndpointSlice, EndpointsTrigger, Hints, SlicePort};
pub use special::Special;
pub use weights::Weights;
