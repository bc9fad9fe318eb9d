//! Where objects come from. A source emits [`portolan_service::Change`]s and problems, nothing else.
//!
//! Objects travel one way: text or API answer → wire structs ([`objects`]) → checked declarations (`declared`)
//! → what a cluster's controllers would add to them (`cluster`) → changes for the catalog. Only
//! [`manifests`] knows files.

mod cluster;
mod declared;
pub mod manifests;
mod nearest;
pub mod objects;
mod schema;

pub use declared::{parse_address, parse_network};
