//! What the end-to-end suite asks of a cluster: objects, and commands run in pods.
//!
//! Objects are JSON, as in the API's documentation, so that a case can be read without knowing a
//! client's types.

pub mod api;
pub mod cluster;
pub mod node;
pub mod objects;
pub mod pod;
