//! The pods of a StatefulSet, by their numbers.

use serde_json::{Value, json};

use super::{REVISION, StatefulSet, StatefulSetStatus};
use crate::manager::pod::{Pod, from_template, map_at};
use crate::manager::time::Timestamp;

/// Pods by number.
pub(super) struct Members<'a> {
    /// One for each number that is wanted, beginning with the first.
    pub(super) wanted: Vec<Option<&'a Pod>>,
    /// Those that are not, the highest number first.
    pub(super) condemned: Vec<&'a Pod>,
    start: i64,
}

/// The number at the end of a pod's name, if the rest is the set's.
pub(super) fn ordinal(set: &StatefulSet, name: &str) -> Option<i64> {
    let digits = name.strip_prefix(set.name())?.strip_prefix('-')?;
    let is_plain = digits == "0" || !digits.starts_with('0');
    (is_plain && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok()).flatten()
}

/// The record that a pod was made of, by name.
pub(super) fn revision_of(pod: &Pod) -> &str {
    pod.labels().get(REVISION).map(String::as_str).unwrap_or_default()
}

fn is_running(pod: &Pod) -> bool {
    pod.status.phase == "Running"
}

impl<'a> Members<'a> {
    pub(super) fn of(set: &StatefulSet, pods: &[&'a Pod]) -> Self {
        let start = set.spec.ordinals.start.max(0);
        let count = usize::try_from(set.spec.wanted()).unwrap_or_default();
        let mut members = Self { wanted: vec![None; count], condemned: Vec::new(), start };
        for pod in pods {
            let ordinal = ordinal(set, pod.name()).unwrap_or_default();
            let place = usize::try_from(ordinal - start).ok();
            match place.and_then(|place| members.wanted.get_mut(place)) {
                Some(place) => *place = Some(pod),
                None => members.condemned.push(pod),
            }
        }
        members.condemned.sort_by_key(|pod| std::cmp::Reverse(ordinal(set, pod.name())));
        members
    }

    pub(super) fn ordinal(&self, place: usize) -> i64 {
        self.start.saturating_add(i64::try_from(place).unwrap_or_default())
    }

    /// Counts them. What is on its way out counts as a replica, though as one of no record.
    pub(super) fn count(
        &self,
        set: &StatefulSet,
        status: &mut StatefulSetStatus,
        (current, update): (&str, &str),
        now: Timestamp,
    ) {
        for pod in self.wanted.iter().flatten().chain(&self.condemned) {
            status.replicas += 1;
            if is_running(pod) && pod.is_ready() {
                status.ready_replicas += 1;
            }
            if is_available(set, pod, now) {
                status.available_replicas += 1;
            }
            if !pod.is_deleting() {
                status.current_replicas += i64::from(revision_of(pod) == current);
                status.updated_replicas += i64::from(revision_of(pod) == update);
            }
        }
    }
}

/// Whether a pod runs and has been ready for as long as its set wants.
pub(super) fn is_available(set: &StatefulSet, pod: &Pod, now: Timestamp) -> bool {
    is_running(pod) && pod.is_available(set.spec.min_ready_seconds, now)
}

/// The pod with a number, made of a template.
pub(super) fn pod(set: &StatefulSet, ordinal: i64, template: &Value, revision: &str) -> Value {
    let name = format!("{}-{ordinal}", set.name());
    let mut pod = from_template(template, &set.as_controller(), set.namespace(), &name, None);
    let labels = map_at(&mut pod, &["metadata", "labels"]);
    labels.insert(REVISION.to_owned(), json!(revision));
    labels.insert("statefulset.kubernetes.io/pod-name".to_owned(), json!(name));
    labels.insert("apps.kubernetes.io/pod-index".to_owned(), json!(ordinal.to_string()));
    let spec = map_at(&mut pod, &["spec"]);
    spec.insert("hostname".to_owned(), json!(name));
    if !set.spec.service_name.is_empty() {
        spec.insert("subdomain".to_owned(), json!(set.spec.service_name));
    }
    pod
}
