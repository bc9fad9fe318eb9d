//! A test double of kube-apiserver 1.36, for tests and benches: real HTTPS (HTTP/1.1 and HTTP/2)
//! over the store of `portolan-store`, which has lists, watches and selectors, and faults on
//! demand.
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
//! What it is not: an authoriser, a validator of objects, a controller. Objects are stored as they
//! are applied.

mod acceptor;
mod body;
mod faults;
mod filled;
mod invalid;
mod kubeconfig;
mod list;
mod resource;
pub mod scale;
mod serve;
mod server;
mod state;
mod target;
mod tls;
mod watch;
mod write;

pub use faults::{Corruption, Starting};
pub use invalid::Invalid;
pub use kubeconfig::Credentials;
pub use resource::Resource;
pub use server::{Options, Server, StartError};
pub use state::{Authentication, Credential, Request, State};
pub use tls::TlsError;
