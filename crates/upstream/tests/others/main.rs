//! Questions to servers that do all that servers do: answer, lie, stay silent, cut, loop.
//!
//! "spec §" is a clause of the behaviour of a cluster's DNS server.

mod answers;
mod busy;
mod cached;
mod fake;
mod files;
mod health;
mod lies;
mod loops;
#[cfg(feature = "tls")]
mod tls;
mod types;
mod ways;
