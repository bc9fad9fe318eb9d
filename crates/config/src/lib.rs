//! kube-proxy's flags and configuration file (spec §10), and the configuration that follows from them.
//!
//! [`Flags`] are parsed by the program; `load` puts them together with the text of the file. It returns all that is
//! wrong, or the effective [`Config`] with what an operator should know. Nothing here touches the kernel or the
//! network; `watch` waits for a file to change.

pub mod config;
mod duration;
mod flags;
mod gates;
mod problem;

pub use config::{Config, Mode};
pub use duration::{GoDuration, NotADuration};
pub use flags::Flags;
pub use gates::Gate;
pub use problem::{ConfigError, Level, Note, Place};
