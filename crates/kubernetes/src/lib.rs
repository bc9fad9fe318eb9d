//! A source of objects that follows the Kubernetes API server: Services, EndpointSlices, the own
//! Node and ServiceCIDRs (spec §1.1), and where names are wanted Namespaces and Pods, listed and
//! watched, and handed on as [`portolan_service::Change`]s and [`portolan_service::NamesChange`]s.
//!
//! One thread, one current-thread runtime. Each resource is followed on its own; what they bring is
//! collected and delivered in batches: first everything at once, then each burst of events as it
//! can be read. Bytes are cut into objects as they come (`split`), decoded into structs that have
//! only the fields a service proxy reads (`wire`, `decode`), turned into domain types as leniently
//! as kube-proxy does (`convert`), and forgotten: what is kept of an object is its name and version
//! (`known_objects`).
//!
//! A controller, which reads other fields and writes, has [`Api`].
//!
//! An API server that is away is no error. What it last said stays; it is asked again for ever.

mod access;
mod api;
mod changes;
mod client;
mod collector;
mod convert;
mod decode;
mod dry_run;
mod error;
mod follow;
mod known_objects;
mod outbox;
mod pace;
mod publish;
mod reach;
mod record;
mod resource;
mod shared;
pub mod snapshot;
mod source;
mod split;
mod status;
mod timing;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use portolan_service::{Change, EndpointsTrigger, NamesChange, ObjectName};

pub use access::PluginError;
pub use api::{Api, Events, Heard, Send};
pub use client::Failure;
#[doc(hidden)]
pub use dry_run::{DryRun, dry_run};
pub use error::Error;
pub use publish::Reporter;
pub use source::{Source, start, start_with};
pub use status::{Observation, Received, Report, ResourceReport, Status};
pub use timing::Timing;

/// How to reach the API server, and as whom.
#[derive(Debug, Clone)]
pub struct Options {
    /// A kubeconfig file; without it and without `master`, the configuration of the pod this runs
    /// in (spec §1.7).
    pub kubeconfig: Option<PathBuf>,
    /// The URL of the API server, instead of the kubeconfig's.
    pub master: Option<String>,
    /// Requests a second, on average. Zero or less means no limit.
    pub qps: f32,
    /// Requests that may be sent at once after a pause.
    pub burst: u32,
    /// The name of the own Node.
    pub node_name: Arc<str>,
    /// What is followed beside Services, EndpointSlices and ServiceCIDRs.
    pub followed: Followed,
    /// The file that keeps the last good state, for a start while the API server is away.
    pub snapshot: Option<PathBuf>,
}

/// What is followed beside Services, EndpointSlices and ServiceCIDRs. Nothing else is asked for, so
/// that it takes neither a right to see it nor memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Followed {
    /// The own Node.
    pub node: bool,
    /// What only names come from: Namespaces, headless Services, Services of other proxies, and
    /// their EndpointSlices.
    pub names: bool,
    /// Pods that have not ended, for their names.
    pub pods: bool,
}

impl Default for Followed {
    /// What a proxy needs.
    fn default() -> Followed {
        Followed { node: true, names: false, pods: false }
    }
}

/// Changes that belong together, in the order in which they must be applied.
#[derive(Debug)]
pub struct Update {
    /// Services, EndpointSlices and the own Node, as they now are or that they are gone.
    pub changes: Vec<Change>,
    /// What only names come from.
    pub names: Vec<NamesChange>,
    /// With it, all is known that names come from. The rules do not wait for that, since one may
    /// have the right to see Services, and not Namespaces.
    pub names_complete: bool,
    /// The networks of all ServiceCIDRs, when they have changed.
    pub service_networks: Option<Vec<IpNet>>,
    /// When what led to this update happened to endpoints (spec §9.15).
    pub triggers: Vec<EndpointsTrigger>,
    /// When the first byte of the oldest event in here was read.
    pub received: Instant,
    /// Where this comes from.
    pub origin: Origin,
    /// Objects that could not be decoded. What was known of them before stays in force.
    pub problems: Vec<Problem>,
}

/// Where an [`Update`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The whole last good state, read from disk: the API server has not answered yet.
    Snapshot {
        /// When it was last written to.
        taken: SystemTime,
    },
    /// The first complete lists of the API server: all that there is, or the difference to the
    /// snapshot.
    Initial,
    /// What has changed since.
    Change,
}

/// An object that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `Service`, `EndpointSlice`, `Node`, `ServiceCIDR`, `Namespace` or `Pod`.
    pub kind: &'static str,
    /// `namespace/name`, or the name alone where there are no namespaces; empty if not even that
    /// could be read.
    pub name: String,
    /// What is wrong.
    pub message: String,
}

/// Something to report to people, as an `events.k8s.io/v1` Event (spec §11.20).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Event {
    /// What it is about.
    pub regarding: Regarding,
    /// `Warning` rather than `Normal`.
    pub warning: bool,
    /// One word for machines, such as `Starting`.
    pub reason: &'static str,
    /// What was being done, such as `StartKubeProxy`.
    pub action: &'static str,
    /// A sentence for people; at most 1024 bytes of it are sent.
    pub note: String,
}

/// What an [`Event`] is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Regarding {
    /// The own Node.
    Node,
    /// A Service.
    Service {
        /// What it is called.
        name: ObjectName,
        /// Its `metadata.uid`, which `kubectl describe` finds Events by.
        uid: Option<Arc<str>>,
    },
}
