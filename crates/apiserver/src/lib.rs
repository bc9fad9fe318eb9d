//! A small stand-in for kube-apiserver 1.36, for tests and benches: real HTTPS (HTTP/1.1 and HTTP/2), lists, watches,
//! bookmarks, streaming lists, paging and selectors with a real server's semantics, and faults on demand.
//!
//! ```
//! use portolan_apiserver::{Credentials, Options, Resource, Server};
//!
//! let server = Server::start(Options::default())?;
//! server.apply(serde_json::json!({
//!     "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": "web" },
//!     "spec": { "clusterIP": "10.96.0.10", "ports": [{ "port": 80 }] },
//! }))?;
//! let folder = tempfile::tempdir()?;
//! server.kubeconfig(&folder.path().join("kubeconfig"), &Credentials::None)?;
//! // ... start a client with it, then:
//! server.cut();
//! assert_eq!(server.look(|state| state.count(Resource::Services)), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What it is not: an authoriser, a validator of objects, a controller. Objects are stored as they are applied.

mod body;
mod kubeconfig;
mod list;
mod object;
mod resource;
pub mod scale;
mod selector;
mod serve;
mod server;
mod state;
mod status;
mod store;
mod target;
mod tls;
mod watch;
mod write;

pub use kubeconfig::Credentials;
pub use object::Invalid;
pub use resource::Resource;
pub use server::{Corruption, Options, Server, StartError};
pub use state::{Authentication, Credential, Request, Starting, State};
pub use tls::TlsError;
