//! Kubernetes nodes and pods from network namespaces on one machine.
//!
//! A lab lives in a [`sandbox`]: private user, mount, network and process namespaces that need no
//! root and end with the program. In it, a [`topology`] of [`netns`] namespaces joined by [`link`]s
//! stands for nodes, pods and a client outside. Pods answer through a [`responder`], and a
//! [`probe`] asks as a client would. A [`pod`] that lives has processes of its own and is looked
//! after as kubelet does it.

#[cfg(feature = "cluster")]
mod applied;
#[cfg(feature = "cluster")]
mod clock;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod commands;
mod error;
#[cfg(feature = "cluster")]
mod finding;
#[cfg(feature = "cluster")]
mod kubelet;
#[cfg(feature = "cluster")]
pub mod kubenet;
pub mod link;
#[cfg(feature = "cluster")]
pub mod live;
#[cfg(feature = "cluster")]
mod load_balancer;
#[cfg(feature = "cluster")]
pub mod manager;
pub mod netns;
#[cfg(feature = "cluster")]
mod nodes;
#[cfg(feature = "cluster")]
mod object;
mod own_files;
pub mod pod;
mod privileges;
pub mod probe;
mod proxy;
#[cfg(feature = "cluster")]
mod recorder;
pub mod responder;
pub mod sandbox;
mod search_path;
#[cfg(feature = "cluster")]
pub mod streams;
pub mod topology;

pub use error::Error;
#[cfg(feature = "cluster")]
pub use finding::Finding;
pub use proxy::ProxyMode;
