//! kube-proxy's flags and configuration file (spec §10), and the configuration that follows from
//! them.
//!
//! [`Flags`] are parsed by the program; [`load`] puts them together with the text of the file. It
//! returns all that is wrong, or the effective [`Config`] with what an operator should know.
//! Nothing here touches the kernel or the network; [`watch`] waits for a file to change.
//!
//! Where the outcome differs from kube-proxy's on purpose: without a mode nftables is used; there
//! is no least time between two transactions unless one is set; fields that are unknown, without
//! effect or overridden are named.

mod address;
mod announcement;
mod bound;
pub mod config;
mod consistency;
mod decode;
mod duration;
mod flags;
mod from_flags;
mod gates;
mod load;
mod load_balancer;
mod logging;
mod meaningless;
mod numbers;
mod object;
mod problem;
mod problems;
mod removed;
mod resolve;
mod section;
mod userspace;
pub mod watch;
mod write;

pub use config::{Announcement, Config, Diversion, Mode};
pub use consistency::NodeFacts;
pub use duration::{GoDuration, NotADuration};
pub use flags::{Flags, path};
pub use gates::Gate;
pub use load::{Loaded, load};
pub use problem::{ConfigError, Level, Note, Place};
pub use removed::Removed;
pub use write::{to_json, write};
