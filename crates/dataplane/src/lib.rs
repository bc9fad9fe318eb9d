//! Kernel state for a service plan. One trait, [`Dataplane`]; one folder for each mode.
//!
//! A dataplane takes plans and change sets of `portolan-service` and knows no Kubernetes object.
//! The folder of a mode says in a [`ModeDescriptor`] what the mode is and what it needs. [`MODES`]
//! lists them, and the program asks nothing else. To add a mode, write such a folder and add its
//! line there.
//!
//! A mode's own settings are in the configuration, so that this crate reads `portolan-config`: the
//! mode's folder makes them from there, and no other place has to know them.

mod chain_names;
mod dataplane;
mod diversion;
mod error;
mod families;
pub mod forward_policy;
pub mod iptables;
pub mod ipvs;
mod kube_ipvs;
pub mod kube_proxy;
pub mod listeners;
mod mode;
mod modes;
pub mod nftables;
mod owner;
mod removal;
mod settings;
mod slots;
mod stale_flows;
#[cfg(test)]
mod tests;
mod traffic;
pub mod userspace;
mod variant;

pub use dataplane::{Dataplane, Difference, InUse, Integrity, Outcome, Reconciled, RuleCount, Standing};
pub use diversion::Diversion;
pub use error::Error;
pub use mode::{Atomicity, Computed, ConfiguredMode, ModeDescriptor, OpenTraffic, PacketCounter, Sysctl};
pub use modes::{MODES, endings, named};
pub use removal::{Failure, Kept, Leftovers, Part, RemovalError};
pub use settings::{LocalDetector, NodeFacts, NodePorts, Settings};
pub use traffic::{DestinationTraffic, NamedPort, PortTraffic, Traffic};
pub use variant::Variant;
