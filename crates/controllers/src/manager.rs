//! What kube-controller-manager and kube-scheduler do: pods of workloads, their nodes, what
//! becomes of objects whose owner or namespace is gone.
//!
//! Each controller is a function of objects as the API has them, the time, and chance
//! ([`Circumstances`]). It returns a [`Step`]: what is to be created, changed or deleted, and when
//! to look again though nothing has changed. It goes by what it sees, not by what happened, so it
//! can be run at any time and any number of times; one that finds all in order wants nothing.
//!
//! Whoever runs them keeps to one rule: a controller sees its own writes. What it wanted created
//! is among its objects when it is run again; otherwise it would want it created once more.
//!
//! A controller is run when something changed that it looks at. [`Work`] sees to that. For each
//! kind of object it is:
//!
//! - Pod: the controller of its [`controller`](Object::controller), before and now; if it has
//!   none, those of its namespace that select it. [`deployment`] of the owner of its ReplicaSet,
//!   when it has finished or is gone, because Recreate waits for that. [`endpoint_slices`] and
//!   [`endpoints`] of the Services that select it, before and now.
//!   [`schedule`], if it has no node, and for all that have none when it is gone.
//!   [`node_lifecycle`] of its node, when it comes there.
//! - ReplicaSet: [`replica_set`], and [`deployment`] of its controller or, if it has none, of
//!   those that select it.
//! - ReplicationController, Deployment, StatefulSet, DaemonSet: the function of that name; for a
//!   Job, [`batch_job`].
//! - ControllerRevision: that of its controller.
//! - Service: [`endpoint_slices`] and [`endpoints`]; EndpointSlice, Endpoints: that of its
//!   Service.
//! - Node: [`node_lifecycle`]. Each [`daemon_set`], and [`schedule`] for all pods that have no
//!   node, when it comes, or its labels, taints or `unschedulable` change. [`lost_pods`], when it
//!   is gone.
//! - Lease of a node: nothing. [`node_lifecycle`] looks again when the lease could be too old.
//! - Namespace: [`namespace`]; so it is with anything in one that has been deleted.
//! - Anything: [`garbage`] for it, and for all that have its uid among their owners.

mod batch_job;
mod circumstances;
mod claim;
mod count;
mod daemon_set;
mod deployment;
mod endpoint_slices;
mod garbage;
mod history;
mod namespace;
mod node_lifecycle;
mod object;
mod placement;
mod pod;
mod replica_set;
mod scheduler;
mod selector;
mod stateful_set;
mod template;
mod time;
mod work;
mod write;

pub use batch_job::{BatchJob, BatchJobSpec, BatchJobStatus, batch_job};
pub use circumstances::Circumstances;
pub use daemon_set::{DaemonSet, DaemonSetSpec, DaemonSetStatus, daemon_set};
pub use deployment::{Deployment, DeploymentSpec, DeploymentStatus, deployment, name_taken};
pub use endpoint_slices::{EndpointSlice, Service, ServiceSpec, endpoint_slices, endpoints};
pub use garbage::garbage;
pub use history::ControllerRevision;
pub use namespace::{Namespace, NamespaceSpec, NamespaceStatus, namespace};
pub use node_lifecycle::{Lease, LeaseSpec, Patience, healthy_conditions, lost_pods, node_lifecycle};
pub use object::{Anything, Nothing, Object, OwnerReference, Target, Unreadable};
pub use placement::{Node, NodeSpec, NodeStatus};
pub use pod::{Pod, PodSpec, PodStatus};
pub use replica_set::{
    ReplicaSet, ReplicaSetSpec, ReplicaSetStatus, ReplicationController, replica_set, replication_controller,
};
pub use scheduler::schedule;
pub use selector::LabelSelector;
pub use stateful_set::{StatefulSet, StatefulSetSpec, StatefulSetStatus, stateful_set};
pub use time::{NotATime, Timestamp};
pub use work::{Job, Work};
pub use write::{Event, Propagation, Step, Write};
