//! What only names for Services come from: no rule depends on it, so that catalog, planner and
//! dataplanes never see it. Pods are many.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use crate::{EndpointNames, EndpointSlice, ObjectName};

/// One step of the observed state that changes names and no rule. A source emits it beside
/// [`crate::Change`]s; the order between the two does not matter.
#[derive(Debug, Clone, PartialEq)]
pub enum NamesChange {
    /// A Namespace was created or changed.
    Namespace(Namespace),
    /// A Namespace is gone.
    NamespaceRemoved(Arc<str>),
    /// A Pod was created or changed.
    Pod(Pod),
    /// A Pod is gone.
    PodRemoved(ObjectName),
    /// An EndpointSlice of type FQDN was created or changed.
    Targets(Arc<TargetSlice>),
    /// An EndpointSlice of type FQDN is gone.
    TargetsRemoved(ObjectName),
    /// The addresses of a slice's endpoints after their first, as endpoints of a slice of their
    /// own, which [`further`] makes. A proxy uses the first ones only (spec §1.23).
    Further(Arc<EndpointSlice>),
    /// The endpoints of the slice of this name, which is one that [`further`] makes, have no
    /// further addresses any more.
    FurtherRemoved(ObjectName),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
    #[default]
    Unknown,
}

impl PodPhase {
    /// The phase called `name`; [`PodPhase::Unknown`] if there is none of that name.
    pub fn named(name: &str) -> PodPhase {
        match name {
            // An API server writes it; a manifest may leave it out.
            "" | "Pending" => PodPhase::Pending,
            "Running" => PodPhase::Running,
            "Succeeded" => PodPhase::Succeeded,
            "Failed" => PodPhase::Failed,
            _ => PodPhase::Unknown,
        }
    }
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
    pub fn is_listed(&self) -> bool {
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

/// What `slice` is called as a slice of further addresses: no object has such a name.
pub fn further(slice: &ObjectName) -> ObjectName {
    ObjectName::new(slice.namespace(), &format!("{}+", slice.name()))
}

/// What a change is about: of two with the same subject the later one says everything.
#[derive(PartialEq, Eq, Hash)]
enum Subject<'a> {
    Namespace(&'a str),
    Pod(&'a ObjectName),
    Targets(&'a ObjectName),
    Further(&'a ObjectName),
}

impl NamesChange {
    fn subject(&self) -> Subject<'_> {
        match self {
            NamesChange::Namespace(namespace) => Subject::Namespace(&namespace.name),
            NamesChange::NamespaceRemoved(name) => Subject::Namespace(name),
            NamesChange::Pod(pod) => Subject::Pod(&pod.name),
            NamesChange::PodRemoved(name) => Subject::Pod(name),
            NamesChange::Targets(slice) => Subject::Targets(&slice.name),
            NamesChange::TargetsRemoved(name) => Subject::Targets(name),
            NamesChange::Further(slice) => Subject::Further(&slice.name),
            NamesChange::FurtherRemoved(name) => Subject::Further(name),
        }
    }

    /// Leaves of all `changes` with the same subject the last one, in their order.
    pub fn keep_last(changes: &mut Vec<NamesChange>) {
        let mut seen = HashSet::with_capacity(changes.len());
        let mut last: Vec<bool> = changes.iter().rev().map(|change| seen.insert(change.subject())).collect();
        changes.retain(|_| last.pop().unwrap_or(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_object_the_last_change_is_kept() {
        let name = ObjectName::new("shop", "a");
        let (pod, targets) =
            (NamesChange::PodRemoved(name.clone()), NamesChange::TargetsRemoved(name.clone()));
        let (gone, further) =
            (NamesChange::NamespaceRemoved("a".into()), NamesChange::FurtherRemoved(further(&name)));
        let there = NamesChange::Namespace(Namespace { name: "a".into(), labels: Box::default() });
        let mut changes =
            vec![pod.clone(), there, targets.clone(), pod.clone(), gone.clone(), further.clone()];
        NamesChange::keep_last(&mut changes);
        assert_eq!(changes, [targets, pod, gone, further]);
    }

    #[test]
    fn phases_by_name() {
        for (name, listed) in
            [("", true), ("Pending", true), ("Running", true), ("Succeeded", false), ("Lost", false)]
        {
            let pod = Pod {
                name: ObjectName::new("shop", "a"),
                addresses: Vec::new(),
                phase: PodPhase::named(name),
                leaving: false,
            };
            assert_eq!(pod.is_listed(), listed, "{name:?}");
            assert!(!Pod { leaving: true, ..pod }.is_listed(), "{name:?}, leaving");
        }
    }
}
