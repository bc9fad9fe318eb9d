//! DNS names of Services, endpoints and pods, without I/O, clock or runtime: an answer is a
//! function of state and question.
//!
//! [`Names`] takes the same changes as catalog and planner, and shares their objects. Then
//! [`Names::answer`] turns a client's message into a [`Reply`], or says who else is to be asked.
//!
//! "spec §" in the documentation of this crate means the behaviour of a cluster's DNS server
//! (CoreDNS 1.14 with kubeadm's configuration, where clients can depend on it), clause by clause.

mod answer;
mod endpoint_name;
mod index;
mod lookup;
mod namespaces;
mod networks;
mod pods;
mod random;
mod reply;
mod services;
mod settings;
mod state;
mod update;
pub mod wire;

pub use answer::{Outcome, Outside};
pub use reply::Reply;
pub use settings::{
    Error, Fallthrough, LabelValue, NamespaceFilter, PodMode, Requirement, Settings, TTL_MAX,
};
pub use state::Names;
pub use update::{Namespace, Pod, PodPhase, Target, TargetSlice, Update};
pub use wire::Transport;
