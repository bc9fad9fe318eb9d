//! Kubernetes nodes and pods from network namespaces on one machine.
//!
//! A lab lives in a [`sandbox`]: private user, mount, network and process namespaces that need no
//! root and end with the program. In it, a [`topology`] of [`netns`] namespaces joined by [`link`]s
//! stands for nodes, pods and a client outside. Pods answer through a [`responder`], and a
//! [`probe`] asks as a client would. A [`pod`] that lives has processes of its own and is looked
//! after as kubelet does it.

pub mod cluster;
pub mod commands;
mod error;
pub mod link;
pub mod netns;
pub mod pod;
mod privileges;
pub mod probe;
pub mod responder;
pub mod sandbox;
pub mod topology;

pub use error::Error;
