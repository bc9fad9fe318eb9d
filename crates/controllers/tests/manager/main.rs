//! The controllers of `manager`, held against what Kubernetes' own do: one look at a situation,
//! and whole sequences in a world that does what they want.

mod batch_job;
mod daemon_set;
mod deployment;
mod endpoint_slices;
mod garbage;
mod hostile;
mod namespace;
mod node_lifecycle;
mod replica_set;
mod scheduler;
mod stateful_set;
mod work;
mod world;
