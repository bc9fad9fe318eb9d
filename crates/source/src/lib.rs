//! Objects from a folder of manifests. A source emits [`portolan_service::Change`]s and problems,
//! nothing else.
//!
//! Objects travel one way: text → wire structs (`objects`) → checked declarations (`declared`) →
//! what a cluster's controllers would make of them ([`portolan_controllers`]) → changes for the
//! catalog. Only [`manifests`] knows files.

mod declared;
pub mod manifests;
mod objects;
mod schema;

pub use declared::naming;
