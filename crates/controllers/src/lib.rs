//! What a cluster's controllers make of the objects that people declare: EndpointSlices of the pods
//! that a Service selects, ClusterIPs, NodePorts and health-check ports; and what kubelet makes of
//! a pod's spec so that it finds names. What the other controllers make of objects as the API has
//! them, of workloads, nodes and owners, is in [`manager`].
//!
//! Objects go in one by one, and [`Controllers::reconcile`] returns what is different then, as
//! [`portolan_service::Change`]s and [`Issue`]s. There is no I/O here, no clock and no file: who
//! wants allocations to outlive the process, or to share them with other processes, brings a
//! [`Record`] of them.
//!
//! ```
//! use portolan_controllers::{
//!     Controllers, InMemory, Pod, PortSpec, Ranges, ServiceSpec, TargetPort,
//! };
//! use portolan_service::{Change, ObjectName, Protocol};
//!
//! let services = vec!["10.96.0.0/16".parse().unwrap()];
//! let ranges = Ranges { services, node_ports: 30_000..=32_767 };
//! let mut controllers = Controllers::new(ranges, InMemory::default());
//!
//! let mut service = ServiceSpec::default();
//! service.selector.insert("app".to_owned(), "web".to_owned());
//! service.ports.push(PortSpec {
//!     name: "".into(),
//!     protocol: Protocol::Tcp,
//!     port: 80,
//!     target: TargetPort::Number(8080),
//!     node_port: None,
//! });
//! controllers.set_service(&ObjectName::new("shop", "web"), Some(service.into()));
//!
//! let mut pod = Pod { ready: true, ..Pod::default() };
//! pod.labels.insert("app".to_owned(), "web".to_owned());
//! pod.addresses.v4 = Some("10.1.0.1".parse().unwrap());
//! controllers.set_pod(&ObjectName::new("shop", "web-1"), Some(pod.into()));
//!
//! let outcome = controllers.reconcile();
//! assert!(outcome.issues.is_empty());
//! let [Change::Slice(slice), Change::Service(service)] = &outcome.changes[..] else { panic!() };
//! assert_eq!(slice.endpoints[0].names.pod(), Some("web-1"));
//! assert!(service.cluster_ip.is_some());
//! ```

mod allocation;
mod balanced;
mod controllers;
mod endpoints;
mod issue;
mod kubelet;
mod labels;
pub mod load_balancer;
pub mod manager;
mod pod;
mod service;

pub use allocation::{Allocations, InMemory, Ranges, Record};
pub use controllers::{Controllers, Outcome};
pub use endpoints::{Endpoints, Subset, is_generated_name};
pub use issue::Issue;
pub use kubelet::{
    ClusterDns, DnsConfig, DnsPolicy, HostAlias, HostName, HostNameTooLong, Naming, ResolvConf, hosts,
    hosts_on_host_network,
};
pub use labels::Labels;
pub use pod::{ContainerPort, Pod};
pub use service::{Distribution, FamilyPolicy, PortSpec, ServiceSpec, TargetPort};
