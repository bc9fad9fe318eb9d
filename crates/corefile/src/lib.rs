//! CoreDNS's configuration file, the Corefile, as typed settings: no I/O, no runtime.
//!
//! [`parse`] reads what CoreDNS 1.14 reads. What is understood and not had is refused, and named
//! with its line, what it is and what to do: nothing is obeyed by half. What has no effect here and
//! changes no answer is accepted, and is among the [notices](Corefile::notices). All that is wrong
//! is found at once.
//!
//! ```
//! use portolan_corefile::{NoSurroundings, parse};
//!
//! let text = ".:53 {
//!     kubernetes cluster.local in-addr.arpa ip6.arpa {
//!         pods insecure
//!         ttl 30
//!     }
//!     forward . /etc/resolv.conf
//! }";
//! let corefile = parse("Corefile", text, 53, &NoSurroundings).unwrap();
//! let names = &corefile.blocks[0].kubernetes.as_ref().unwrap().names;
//! assert_eq!(names.ttl, 30);
//!
//! let refused = parse("Corefile", ".:53 {\n    rewrite stop\n}", 53, &NoSurroundings);
//! assert!(refused.unwrap_err().to_string().contains("Corefile:2: rewrite: "));
//! ```

mod absent;
mod blocks;
mod corefile;
mod directive;
mod domain;
mod key;
mod kubeadm;
mod overlap;
mod parse;
mod plugins;
mod problem;
mod selector;
mod surroundings;
mod token;
mod words;

pub use corefile::{Corefile, ServerBlock};
pub use key::Zone;
pub use kubeadm::kubeadm;
pub use parse::parse;
pub use plugins::acl::{Acl, Action, Policy};
pub use plugins::autopath::Autopath;
pub use plugins::bind::{Bind, Host};
pub use plugins::cache::{Cache, Kept, Prefetch, Refresh, Stale};
pub use plugins::forward::{Forward, HealthCheck, Selection, Tls, To};
pub use plugins::health::Health;
pub use plugins::hosts::Hosts;
pub use plugins::kubernetes::{ApiServer, Kubeconfig, Kubernetes};
pub use plugins::log::{Class, Log};
pub use plugins::ready::Ready;
pub use plugins::reload::Reload;
pub use plugins::template::Template;
pub use problem::{Errors, Place, Problem};
pub use surroundings::{Imported, NoSurroundings, Surroundings};
pub use words::Listen;
