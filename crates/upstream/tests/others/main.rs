//! Questions to servers that do all that servers do: answer, lie, stay silent, cut, loop.
//!
//! "spec §" is a clause of the behaviour of a cluster's DNS server.

mod answers;
mod cached;
mod fake;
mod lies;
mod ways;
