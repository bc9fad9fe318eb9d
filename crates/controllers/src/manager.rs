//! What kube-controller-manager and kube-scheduler do: pods of workloads, their nodes, what becomes
//! of objects whose owner or namespace is gone.
//!
//! Each controller is a function of objects as the API has them, the time, and chance
//! ([`Circumstances`]). It returns a [`Step`]: what is to be created, changed or deleted, and when to
//! look again though nothing has changed. It goes by what it sees, not by what happened, so it can
//! be run at any time and any number of times; one that finds all in order wants nothing.
//!
//! Whoever runs them keeps to one rule: a controller sees its own writes. What it wanted created is
//! among its objects when it is run again; otherwise it would want it created once more.

mod circumstances;
mod claim;
mod count;
mod deployment;
mod object;
mod placement;
mod pod;
mod replica_set;
mod selector;
mod template;
mod time;
mod write;

pub use circumstances::Circumstances;
pub use deployment::{Deployment, DeploymentSpec, DeploymentStatus, deployment, name_taken};
pub use object::{Anything, Nothing, Object, OwnerReference, Target, Unreadable};
pub use placement::{Node, NodeSpec, NodeStatus};
pub use pod::{Pod, PodSpec, PodStatus};
pub use replica_set::{
    ReplicaSet, ReplicaSetSpec, ReplicaSetStatus, ReplicationController, replica_set, replication_controller,
};
pub use selector::LabelSelector;
pub use time::{NotATime, Timestamp};
pub use write::{Event, Propagation, Step, Write};
