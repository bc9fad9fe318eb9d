//! Jobs: pods that run to their end, so many times.
//!
//! What has ended is counted by the pods that are there, and by what the status says of those that
//! are not any more: without the finalizer by which a real controller keeps each pod until it is
//! counted. A pod that ends and is deleted in the same moment is run once more.

mod indexes;
mod outcome;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::circumstances::Circumstances;
use super::claim::claim;
use super::count::bounded;
use super::object::{Condition, Object, condition, difference, is_default, set_condition};
use super::pod::{Pod, from_template, map_at};
use super::selector::LabelSelector;
use super::time::Timestamp;
use super::write::{Propagation, Step, Write};
use indexes::{INDEX, index_of};
use outcome::Outcome;

/// A Job.
pub type BatchJob = Object<BatchJobSpec, BatchJobStatus>;

/// `spec` of a Job.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchJobSpec {
    pub(crate) parallelism: Option<i64>,
    pub(crate) completions: Option<i64>,
    pub(crate) backoff_limit: Option<i64>,
    pub(crate) active_deadline_seconds: Option<i64>,
    pub(crate) ttl_seconds_after_finished: Option<i64>,
    pub(crate) suspend: bool,
    pub(crate) completion_mode: String,
    pub(crate) pod_replacement_policy: String,
    pub(crate) selector: LabelSelector,
    pub(crate) template: Value,
}

/// `status` of a Job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BatchJobStatus {
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) conditions: Vec<Condition>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) start_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) completion_time: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) active: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ready: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) terminating: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) succeeded: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) failed: i64,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) completed_indexes: String,
}

const COMPONENT: &str = "job-controller";
/// At most so many pods come or go at once (`MaxPodCreateDeletePerSync`).
const AT_ONCE: usize = 500;
/// How long the first failure is waited for, in seconds; each in a row twice as long
/// (`DefaultJobPodFailureBackOff`, `MaxJobPodFailureBackOff`).
const BACKOFF: i64 = 10;
const LONGEST_BACKOFF: i64 = 600;

impl BatchJob {
    fn is_indexed(&self) -> bool {
        self.spec.completion_mode == "Indexed"
    }

    fn has(&self, kind: &str) -> bool {
        condition(&self.status.conditions, kind).is_some_and(|found| found.status == "True")
    }

    fn is_finished(&self) -> bool {
        self.has("Complete") || self.has("Failed")
    }
}

/// The pods of a Job, by what has become of them.
struct Tally<'a> {
    active: Vec<&'a Pod>,
    terminating: usize,
    succeeded: i64,
    failed: i64,
    /// Those of an indexed Job that have succeeded.
    indexes: BTreeSet<i64>,
    /// Failures since the last success, and when the last of them was.
    in_a_row: (u32, Option<Timestamp>),
}

impl<'a> Tally<'a> {
    fn of(job: &BatchJob, owned: &[&'a Pod]) -> Tally<'a> {
        let ended = |phase: &str| owned.iter().filter(|pod| pod.status.phase == phase).count();
        let count = |phase: &str| i64::try_from(ended(phase)).unwrap_or(i64::MAX);
        let mut indexes = indexes::read(&job.status.completed_indexes);
        let succeeded = owned.iter().filter(|pod| pod.status.phase == "Succeeded");
        indexes.extend(succeeded.clone().filter_map(|pod| index_of(pod)));
        let wanted = bounded(job.spec.completions.unwrap_or_default());
        indexes.retain(|index| *index < wanted);
        let last_success = succeeded.filter_map(|pod| pod.ended_at()).max();
        let failures =
            owned.iter().filter(|pod| pod.status.phase == "Failed").filter_map(|pod| pod.ended_at());
        let failures: Vec<Timestamp> =
            failures.filter(|at| last_success.is_none_or(|success| *at > success)).collect();
        Tally {
            active: owned.iter().copied().filter(|pod| pod.is_active()).collect(),
            terminating: owned.iter().filter(|pod| pod.is_deleting() && !pod.is_finished()).count(),
            succeeded: if job.is_indexed() {
                i64::try_from(indexes.len()).unwrap_or(i64::MAX)
            } else {
                count("Succeeded").max(job.status.succeeded)
            },
            failed: count("Failed").max(job.status.failed),
            indexes,
            in_a_row: (u32::try_from(failures.len()).unwrap_or(u32::MAX), failures.into_iter().max()),
        }
    }
}

/// What a Job makes of its pods.
///
/// `pods` are those that it manages and those of its namespace that nobody does; others do no
/// harm.
pub fn batch_job<'a>(
    job: &BatchJob,
    pods: impl IntoIterator<Item = &'a Pod>,
    circumstances: &mut Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    let owned = claim(job, &job.spec.selector, pods, &mut step);
    let tally = Tally::of(job, &owned);
    let now = circumstances.now;
    if job.is_deleting() {
        return step;
    }
    if job.is_finished() {
        expire(job, now, &mut step);
        return step;
    }
    let mut status = BatchJobStatus {
        active: i64::try_from(tally.active.len()).unwrap_or(i64::MAX),
        ready: i64::try_from(tally.active.iter().filter(|pod| pod.is_ready()).count()).unwrap_or(i64::MAX),
        terminating: i64::try_from(tally.terminating).unwrap_or(i64::MAX),
        succeeded: tally.succeeded,
        failed: tally.failed,
        completed_indexes: if job.is_indexed() { indexes::write(&tally.indexes) } else { String::new() },
        ..job.status.clone()
    };
    let outcome = Outcome::of(job, &tally, now);
    suspend_or_start(job, &mut status, now, &mut step);
    let victims = match &outcome {
        Some(outcome) => {
            let all_gone = tally.active.is_empty() && tally.terminating == 0;
            outcome.note(&mut status, all_gone, now);
            if all_gone {
                outcome.report(job, &mut step);
                status.completion_time = outcome.is_success().then_some(now);
            }
            tally.active.clone()
        }
        None => keep_up(job, &tally, circumstances, &mut step),
    };
    for pod in victims {
        step.delete(pod.target(), Propagation::Background);
        step.event(COMPONENT, job.target(), "SuccessfulDelete", format!("Deleted pod: {}", pod.name()));
    }
    if let (None, Some(start), Some(most)) =
        (&outcome, status.start_time, job.spec.active_deadline_seconds.filter(|_| !job.spec.suspend))
    {
        step.again_at(start.plus(bounded(most)));
    }
    // Whoever sees the status of pods that are to come must see that they are on their way.
    let mut before = Step::default();
    before.status(job.target(), difference(&job.status, &status));
    before.writes.append(&mut step.writes);
    Step { writes: before.writes, again: step.again }
}

/// A Job that has finished is deleted after a while, if it says so.
fn expire(job: &BatchJob, now: Timestamp, step: &mut Step) {
    let Some(patience) = job.spec.ttl_seconds_after_finished else { return };
    let conditions = ["Complete", "Failed"].map(|kind| condition(&job.status.conditions, kind));
    let finished = conditions.into_iter().flatten().find(|found| found.status == "True");
    let Some(at) = finished.and_then(|found| found.last_transition_time) else { return };
    let at = at.plus(bounded(patience));
    if at <= now {
        step.delete(job.target(), Propagation::Foreground);
    } else {
        step.again_at(at);
    }
}

fn suspend_or_start(job: &BatchJob, status: &mut BatchJobStatus, now: Timestamp, step: &mut Step) {
    let mut change = |is: bool, reason: &'static str, event: &'static str, message: &str| {
        let condition = Condition {
            kind: "Suspended".to_owned(),
            status: if is { "True" } else { "False" }.to_owned(),
            last_transition_time: Some(now),
            reason: reason.to_owned(),
            message: message.to_owned(),
            ..Condition::default()
        };
        set_condition(&mut status.conditions, condition);
        step.event(COMPONENT, job.target(), event, message.to_owned());
    };
    if job.spec.suspend {
        if !job.has("Suspended") {
            change(true, "JobSuspended", "Suspended", "Job suspended");
        }
        status.start_time = None;
        return;
    }
    if job.has("Suspended") {
        change(false, "JobResumed", "Resumed", "Job resumed");
    }
    status.start_time = status.start_time.or(Some(now));
}

/// Creates the pods that are missing. Gives those that are too many.
fn keep_up<'a>(
    job: &BatchJob,
    tally: &Tally<'a>,
    circumstances: &mut Circumstances<'_>,
    step: &mut Step,
) -> Vec<&'a Pod> {
    let active = i64::try_from(tally.active.len()).unwrap_or(i64::MAX);
    let parallel = if job.spec.suspend { 0 } else { bounded(job.spec.parallelism.unwrap_or(1)) };
    let wanted = match job.spec.completions {
        Some(completions) => parallel.min((bounded(completions) - tally.succeeded).max(0)),
        // Whoever succeeded knew that nothing is left to do: no more begin.
        None if tally.succeeded > 0 && !job.spec.suspend => active.min(parallel),
        None => parallel,
    };
    if active > wanted {
        let count = usize::try_from(active - wanted).unwrap_or_default().min(AT_ONCE);
        let mut victims = tally.active.clone();
        victims.sort_by_key(|pod| (pod.is_ready(), std::cmp::Reverse(pod.metadata.creation_timestamp)));
        victims.truncate(count);
        return victims;
    }
    let waits_for_the_old = job.spec.pod_replacement_policy == "Failed";
    let old = if waits_for_the_old { i64::try_from(tally.terminating).unwrap_or(i64::MAX) } else { 0 };
    let missing = usize::try_from(wanted - active - old).unwrap_or_default().min(AT_ONCE);
    if missing == 0 {
        return Vec::new();
    }
    if let (count @ 1.., Some(last)) = tally.in_a_row {
        let wait = BACKOFF.checked_shl(count - 1).filter(|wait| *wait > 0).unwrap_or(LONGEST_BACKOFF);
        let at = last.plus(wait.min(LONGEST_BACKOFF));
        if at > circumstances.now {
            step.again_at(at);
            return Vec::new();
        }
    }
    if job.is_indexed() {
        let running: BTreeSet<i64> = tally.active.iter().filter_map(|pod| index_of(pod)).collect();
        let all = 0..bounded(job.spec.completions.unwrap_or_default());
        let free = all.filter(|index| !tally.indexes.contains(index) && !running.contains(index));
        for index in free.take(missing) {
            create(job, Some(index), circumstances, step);
        }
    } else {
        (0..missing).for_each(|_| create(job, None, circumstances, step));
    }
    Vec::new()
}

fn create(job: &BatchJob, index: Option<i64>, circumstances: &mut Circumstances<'_>, step: &mut Step) {
    let base = match index {
        Some(index) => format!("{}-{index}-", job.name()),
        None => format!("{}-", job.name()),
    };
    let name = circumstances.name(&base);
    let owner = job.as_controller();
    let mut pod = from_template(&job.spec.template, &owner, job.namespace(), &name, Some(&base));
    if let Some(index) = index {
        for place in ["labels", "annotations"] {
            map_at(&mut pod, &["metadata", place]).insert(INDEX.to_owned(), json!(index.to_string()));
        }
        let own_name = pod["spec"]["hostname"].as_str().is_some_and(|name| !name.is_empty());
        if !own_name {
            pod["spec"]["hostname"] = json!(format!("{}-{index}", job.name()));
        }
        for kind in ["initContainers", "containers"] {
            for container in pod["spec"][kind].as_array_mut().into_iter().flatten() {
                let variable = json!({ "name": "JOB_COMPLETION_INDEX", "value": index.to_string() });
                match container["env"].as_array_mut() {
                    Some(variables) => variables.push(variable),
                    None => container["env"] = json!([variable]),
                }
            }
        }
    }
    step.writes.push(Write::Create(pod));
    step.event(COMPONENT, job.target(), "SuccessfulCreate", format!("Created pod: {name}"));
}
