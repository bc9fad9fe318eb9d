//! What zone data is made of: the objects that a proxy needs, and some that only names need.

use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{Change, EndpointNames, ObjectName};

/// One step of the observed state.
///
/// Namespaces, pods and slices of names are not among `portolan_service::Change`: catalog, planner
/// and dataplanes have no use for them, and pods are many.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// An object that rules come from too.
    Object(Change),
    /// A Namespace was created or changed.
    Namespace(Namespace),
    /// A Namespace is gone.
    NamespaceRemoved(Arc<str>),
    /// A Pod was created or changed. Only [`crate::PodMode::Verified`] has a use for it.
    Pod(Pod),
    /// A Pod is gone.
    PodRemoved(ObjectName),
    /// An EndpointSlice of type FQDN was created or changed.
    Targets(Arc<TargetSlice>),
    /// An EndpointSlice of type FQDN is gone.
    TargetsRemoved(ObjectName),
}

impl From<Change> for Update {
    fn from(change: Change) -> Update {
        Update::Object(change)
    }
}

/// A Namespace object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// `metadata.name`
    pub name: Arc<str>,
    /// `metadata.labels`; may be left out if the namespaces are not selected by labels.
    pub labels: Box<[(Box<str>, Box<str>)]>,
}

/// `status.phase` of a Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodPhase {
    /// Its containers are yet to start.
    Pending,
    /// They run.
    Running,
    /// All have ended well.
    Succeeded,
    /// All have ended, one badly.
    Failed,
    /// Its node does not answer.
    Unknown,
}

/// A Pod, reduced to what gives it a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Namespace and name.
    pub name: ObjectName,
    /// `status.podIPs`
    pub addresses: Vec<IpAddr>,
    /// `status.phase`
    pub phase: PodPhase,
    /// It has a deletionTimestamp.
    pub leaving: bool,
}

impl Pod {
    /// Whether its addresses have names.
    pub(crate) fn is_listed(&self) -> bool {
        matches!(self.phase, PodPhase::Pending | PodPhase::Running) && !self.leaving
    }
}

/// An EndpointSlice of type FQDN that names its Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetSlice {
    /// Namespace and name of the slice.
    pub name: ObjectName,
    /// The Service it belongs to.
    pub service: ObjectName,
    /// `endpoints`
    pub endpoints: Vec<Target>,
}

/// One endpoint of a [`TargetSlice`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// `addresses[0]`
    pub target: Arc<str>,
    /// `conditions.ready`; nil is true.
    pub ready: bool,
    /// `hostname` and `targetRef`
    pub names: EndpointNames,
}
