//! The source against an API server that lists, watches, and fails in all the ways that real ones
//! do.

mod changes;
mod credentials;
mod fixture;
mod garbage;
mod names;
mod refusals;
mod restarts;
mod snapshot;
mod watches;
