//! Names that are not the cluster's: servers that are asked, what is kept of their answers, and
//! names with fixed addresses.
//!
//! [`Forwarder`] answers clients' messages. It is what the plugins `forward`, `cache`, `hosts` and
//! `loop` of CoreDNS are, and takes their options as [`Settings`].
//!
//! ```
//! use portolan_upstream::{Cache, Forward, Forwarder, Metrics, Settings, Zone};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let mut zone = Zone::new(".");
//! zone.cache = Some(Cache::of(30));
//! zone.forwards.push(Forward::new(["192.0.2.53".parse()?]));
//! let settings = Settings { zones: vec![zone], ..Settings::default() };
//! let forwarder = Forwarder::new(&settings, Metrics::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! "spec §" in the documentation of this crate means the behaviour of a cluster's DNS server
//! (CoreDNS 1.14 with kubeadm's configuration, where clients can depend on it), clause by clause.

mod answer;
mod cache;
mod entropy;
mod exchange;
mod files;
mod flights;
mod forwarder;
mod group;
mod hosts;
mod loops;
mod maker;
mod metrics;
mod question;
mod resolv_conf;
mod server;
mod settings;
mod task;
#[cfg(feature = "tls")]
mod tls;
mod zone;

pub use forwarder::{Forwarder, passed_on};
pub use metrics::Metrics;
pub use settings::{
    AllDown, BadTarget, Cache, Error, Forward, Health, Hosts, Kept, Policy, Prefetch, Protocol, Settings,
    Stale, Target, Tls, Zone,
};
