//! An API server like kube-apiserver 1.36, for labs and tests: real HTTPS (HTTP/1.1 and HTTP/2)
//! over the store of `portolan-store`. kubectl works against it: it fills in defaults, checks
//! objects, allocates addresses and ports, merges every kind of patch, knows who owns which field,
//! and prints tables. Objects are in memory only, and whoever is known may do everything: it is no
//! control plane for production.
//!
//! ```
//! use portolan_apiserver::{Credentials, Options, Resource, Server};
//!
//! let server = Server::start(Options::cluster())?;
//! let folder = tempfile::tempdir()?;
//! server.kubeconfig(&folder.path().join("kubeconfig"), &Credentials::ClientCertificate)?;
//! // Controllers in the same process need no HTTP:
//! let objects = server.objects();
//! let mut follow = objects.follow(&[Resource::Services]);
//! objects.create(serde_json::json!({
//!     "apiVersion": "v1", "kind": "Service",
//!     "metadata": { "namespace": "default", "name": "web" },
//!     "spec": { "ports": [{ "port": 80 }] },
//! }))?;
//! let updates = follow.next(std::time::Duration::from_secs(1));
//! assert!(updates.iter().any(|update| update.name() == "web"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Tests and benches use the same server as a [`Double`]: it takes objects as they are, notes
//! requests, and fails on demand.
//!
//! ```
//! use portolan_apiserver::{Credentials, Double, Options, Resource};
//!
//! let server = Double::start(Options::default())?;
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

mod acceptor;
mod allocation;
mod answer;
mod body;
mod bootstrap;
mod call;
mod clock;
mod defaults;
mod delete;
mod discovery;
mod document;
mod double;
pub mod dry_run;
mod faults;
mod fields;
mod filled;
mod invalid;
mod kubeconfig;
mod labels;
mod list;
mod node_side;
mod objects;
mod openapi;
mod ownership;
mod patch;
mod refusal;
mod resource;
pub mod scale;
mod schema;
mod serve;
mod server;
mod shape;
mod state;
mod streams;
mod table;
mod target;
mod tls;
mod validation;
mod value;
mod view;
mod watch;
mod write;

pub use delete::{DeleteOptions, Propagation};
pub use double::Double;
pub use faults::{Corruption, Starting};
pub use invalid::Invalid;
pub use kubeconfig::Credentials;
pub use node_side::{Duplex, Forward, Later, LogOptions, NodeSide, PodRef, Process, Run, Size};
pub use objects::{Follow, Objects, Update, Waker};
pub use portolan_store::Failure;
pub use resource::Resource;
pub use server::{Options, Server, StartError};
pub use state::{Authentication, Credential, Request, State};
pub use tls::TlsError;
