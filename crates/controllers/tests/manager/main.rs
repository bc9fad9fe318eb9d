//! The controllers of `manager`, held against what Kubernetes' own do: one look at a situation, and
//! whole sequences in a world that does what they want.

mod deployment;
mod replica_set;
mod world;
