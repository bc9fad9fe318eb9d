//! The pods of a DaemonSet, by node.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DaemonSet, DaemonSetStatus};
use crate::manager::circumstances::Circumstances;
use crate::manager::count::Count;
use crate::manager::placement::{Node, Toleration, untolerated};
use crate::manager::pod::{Pod, PodSpec, from_template, map_at};
use crate::manager::stateful_set::REVISION;
use crate::manager::time::Timestamp;
use crate::manager::write::{Propagation, Step, Write};

/// Who writes the events.
const COMPONENT: &str = "daemonset-controller";

/// A DaemonSet's pods stay on nodes where others could not: key and effect.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];

/// A node and the set's pods on it.
struct Place<'a> {
    pods: Vec<&'a Pod>,
    /// Whether there should be a pod.
    is_wanted: bool,
    /// Whether one that is there may stay.
    may_stay: bool,
}

/// A DaemonSet's pods.
pub(super) struct Fleet<'a> {
    set: &'a DaemonSet,
    /// The label of pods of the template of today.
    revision: &'a str,
    places: BTreeMap<&'a str, Place<'a>>,
    /// Pods on nodes that are gone.
    lost: Vec<&'a Pod>,
    tolerations: Vec<Toleration>,
    now: Timestamp,
}

/// The label of a pod that says of which template it is.
pub(super) fn revision_of(pod: &Pod) -> &str {
    pod.labels().get(REVISION).map(String::as_str).unwrap_or_default()
}

/// The node that a pod is on, or must be.
fn node_of(pod: &Pod) -> &str {
    match pod.spec.node_name.as_str() {
        "" => pod.spec.affinity.only_node().unwrap_or_default(),
        name => name,
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl<'a> Fleet<'a> {
    pub(super) fn new(
        set: &'a DaemonSet,
        template: &PodSpec,
        revision: &'a str,
        nodes: &[&'a Node],
        pods: &[&'a Pod],
        now: Timestamp,
    ) -> Self {
        let tolerated = TOLERATED.into_iter();
        let network = ("node.kubernetes.io/network-unavailable", "NoSchedule");
        let tolerated = tolerated.chain(template.host_network.then_some(network));
        let own = tolerated.map(|(key, effect)| Toleration {
            key: key.to_owned(),
            operator: "Exists".to_owned(),
            effect: effect.to_owned(),
            ..Toleration::default()
        });
        let own: Vec<Toleration> = own.filter(|own| !template.tolerations.contains(own)).collect();
        let tolerations: Vec<Toleration> = template.tolerations.iter().cloned().chain(own).collect();
        let mut fleet = Self { set, revision, places: BTreeMap::new(), lost: Vec::new(), tolerations, now };
        for node in nodes {
            let fits = (template.node_name.is_empty() || template.node_name == node.name())
                && template.node_selector.iter().all(|(key, value)| node.labels().get(key) == Some(value))
                && template.affinity.allows(node);
            let is_free = |effects: &[&str]| {
                fits && untolerated(&node.spec.taints, &fleet.tolerations, effects).is_none()
            };
            let (is_wanted, may_stay) = (is_free(&["NoSchedule", "NoExecute"]), is_free(&["NoExecute"]));
            fleet.places.insert(node.name(), Place { pods: Vec::new(), is_wanted, may_stay });
        }
        for pod in pods {
            match fleet.places.get_mut(node_of(pod)) {
                Some(place) => place.pods.push(pod),
                None => fleet.lost.push(pod),
            }
        }
        for place in fleet.places.values_mut() {
            // The one that is kept first: bound to its node, the oldest.
            place.pods.sort_by_key(|pod| {
                (pod.spec.node_name.is_empty(), pod.metadata.creation_timestamp, pod.name())
            });
        }
        fleet
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.set.spec.min_ready_seconds, self.now) && !pod.is_deleting()
    }

    pub(super) fn status(&self, before: &DaemonSetStatus) -> DaemonSetStatus {
        let mut status = DaemonSetStatus {
            observed_generation: self.set.metadata.generation,
            collision_count: before.collision_count,
            conditions: before.conditions.clone(),
            ..DaemonSetStatus::default()
        };
        for place in self.places.values() {
            if !place.is_wanted {
                status.number_misscheduled += i64::from(!place.pods.is_empty());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(pod) = place.pods.first() else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i64::from(pod.is_ready());
            status.number_available += i64::from(self.is_available(pod));
            status.updated_number_scheduled += i64::from(revision_of(pod) == self.revision);
        }
        status.number_unavailable = status.desired_number_scheduled - status.number_available;
        status
    }

    /// Creates pods where they are missing, and deletes those that are too many.
    pub(super) fn man(&self, step: &mut Step, circumstances: &mut Circumstances<'_>) {
        for (node, place) in &self.places {
            if place.is_wanted && place.pods.is_empty() {
                self.create(node, step, circumstances);
            }
            let (finished, running): (Vec<&Pod>, Vec<&Pod>) =
                place.pods.iter().partition(|pod| pod.is_finished());
            let keep = usize::from(place.may_stay);
            let surplus = running.iter().filter(|pod| !pod.is_deleting()).skip(keep);
            for pod in finished.iter().chain(surplus.copied().collect::<Vec<_>>().iter()) {
                if pod.is_finished() && !pod.is_deleting() {
                    let message = format!(
                        "Found failed daemon pod {}/{} on node {node}, will try to kill it",
                        pod.namespace(),
                        pod.name()
                    );
                    step.warning(COMPONENT, self.set.target(), "FailedDaemonPod", message);
                }
                self.delete(pod, step);
            }
        }
        for pod in &self.lost {
            self.delete(pod, step);
        }
    }

    /// Deletes pods of another template: those that are of no use, and as many others as may be
    /// missing.
    pub(super) fn update(&self, step: &mut Step) {
        if self.set.spec.update_strategy.kind == "OnDelete" {
            return;
        }
        let wanted = count(self.places.values().filter(|place| place.is_wanted).count());
        let most = self.set.spec.update_strategy.rolling_update.max_unavailable.as_ref();
        let most = most.unwrap_or(&Count::Number(1)).rounded_up(wanted).max(1);
        let mut missing = 0;
        let mut candidates = Vec::new();
        for place in self.places.values().filter(|place| place.is_wanted) {
            match place.pods.iter().find(|pod| pod.is_active()) {
                Some(pod) if self.is_available(pod) => {
                    if revision_of(pod) != self.revision {
                        candidates.push(pod);
                    }
                }
                other => {
                    missing += 1;
                    if let Some(pod) = other.filter(|pod| revision_of(pod) != self.revision) {
                        self.delete(pod, step);
                    }
                }
            }
        }
        let left = usize::try_from(most - missing).unwrap_or_default();
        for pod in candidates.into_iter().take(left) {
            self.delete(pod, step);
        }
    }

    fn create(&self, node: &str, step: &mut Step, circumstances: &mut Circumstances<'_>) {
        let base = format!("{}-", self.set.name());
        let name = circumstances.name(&base);
        let owner = self.set.as_controller();
        let template = &self.set.spec.template;
        let mut pod = from_template(template, &owner, self.set.namespace(), &name, Some(&base));
        let labels = map_at(&mut pod, &["metadata", "labels"]);
        labels.insert(REVISION.to_owned(), json!(self.revision));
        let generation = self.set.metadata.annotations.get("deprecated.daemonset.template.generation");
        if let Some(generation) = generation {
            labels.insert("pod-template-generation".to_owned(), json!(generation));
        }
        let spec = map_at(&mut pod, &["spec"]);
        spec.insert("tolerations".to_owned(), json!(self.tolerations));
        aim_at(spec, node);
        step.writes.push(Write::Create(pod));
        step.event(COMPONENT, self.set.target(), "SuccessfulCreate", format!("Created pod: {name}"));
    }

    fn delete(&self, pod: &Pod, step: &mut Step) {
        let is_done = step
            .writes
            .iter()
            .any(|write| matches!(write, Write::Delete { target, .. } if target.uid == pod.uid()));
        if pod.is_deleting() || is_done {
            return;
        }
        step.delete(pod.target(), Propagation::Background);
        let message = format!("Deleted pod: {}", pod.name());
        step.event(COMPONENT, self.set.target(), "SuccessfulDelete", message);
    }
}

/// Lets the scheduler put a pod on no other node: each of its terms wants that one by name.
fn aim_at(spec: &mut serde_json::Map<String, Value>, node: &str) {
    let here = json!([{ "key": "metadata.name", "operator": "In", "values": [node] }]);
    let mut whole = Value::Object(std::mem::take(spec));
    let required =
        map_at(&mut whole, &["affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"]);
    let terms = required.entry("nodeSelectorTerms").or_insert_with(|| json!([]));
    match terms.as_array_mut().filter(|terms| !terms.is_empty()) {
        Some(terms) => {
            for term in terms {
                // An empty term stands for no node, and would stand for this one.
                if term.as_object().is_some_and(|term| !term.is_empty()) {
                    term["matchFields"] = here.clone();
                }
            }
        }
        None => *terms = json!([{ "matchFields": here }]),
    }
    if let Value::Object(whole) = whole {
        *spec = whole;
    }
}
