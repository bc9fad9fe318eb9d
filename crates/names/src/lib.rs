//! DNS names of Services, endpoints and pods, without I/O, clock or runtime: an answer is a
//! function of state and question.
//!
//! [`Names`] takes the same changes as catalog and planner, and shares their objects. Then
//! [`Names::answer`] turns a client's message into a [`Reply`], or says who else is to be asked.
//!
//! ```
//! use portolan_names::{Names, Outcome, Reply, Settings, Transport};
//! use portolan_service::{Change, ObjectName, Service};
//!
//! let mut web = Service::new(ObjectName::new("shop", "web"));
//! web.cluster_ips = vec!["10.96.0.1".parse()?];
//!
//! let mut names = Names::new(Settings::default(), 0x5eed)?;
//! names.apply([Change::from(web).into()], 1_700_000_000);
//! names.set_synced();
//!
//! let header = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0";
//! let question = b"\x03web\x04shop\x03svc\x07cluster\x05local\0\0\x01\0\x01";
//! let message = [&header[..], question].concat();
//! let mut reply = Reply::new();
//! let outcome = names.answer(&message, Transport::Udp, 4, &mut reply);
//! assert!(matches!(outcome, Outcome::Reply));
//! assert!(reply.message().ends_with(&[10, 96, 0, 1]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! "spec §" in the documentation of this crate means the behaviour of a cluster's DNS server
//! (CoreDNS 1.14 with kubeadm's configuration, where clients can depend on it), clause by clause.

mod answer;
mod endpoint_name;
mod index;
mod lookup;
mod namespaces;
mod networks;
mod pods;
mod random;
mod reply;
mod served;
mod services;
mod settings;
mod state;
mod unready;
mod update;
pub mod wire;

pub use answer::{Next, Outcome, Outside, Searching, Sought, refusal};
pub use reply::Reply;
pub use served::{Absent, Listed, Served, Waiting};
pub use settings::{
    Error, Fallthrough, LabelValue, NamespaceFilter, PodMode, Requirement, SOA_TTL_MAX, Search, Settings,
    TTL_MAX,
};
pub use state::Names;
pub use unready::Unready;
pub use update::Update;
pub use wire::Transport;
