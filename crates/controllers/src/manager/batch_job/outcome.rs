//! How a Job ends.

use super::{BatchJob, BatchJobStatus, COMPONENT, Tally};
use crate::manager::count::bounded;
use crate::manager::object::{Condition, condition, set_condition};
use crate::manager::time::Timestamp;
use crate::manager::write::Step;

/// What a Job has come to, while the last of its pods end, and afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    succeeds: bool,
    reason: String,
    message: String,
}

/// Conditions that stay: the first while pods end, the second from then on.
const SUCCESS: [&str; 2] = ["SuccessCriteriaMet", "Complete"];
const FAILURE: [&str; 2] = ["FailureTarget", "Failed"];

impl Outcome {
    /// The outcome, if there is one. One that was noted stays, whatever pods do meanwhile.
    pub(super) fn of(job: &BatchJob, tally: &Tally<'_>, now: Timestamp) -> Option<Outcome> {
        for (kind, succeeds) in [(SUCCESS[0], true), (FAILURE[0], false)] {
            let noted = condition(&job.status.conditions, kind).filter(|found| found.status == "True");
            if let Some(Condition { reason, message, .. }) = noted {
                return Some(Outcome { succeeds, reason: reason.clone(), message: message.clone() });
            }
        }
        let failed = |reason: &str, message: &str| {
            Some(Outcome { succeeds: false, reason: reason.to_owned(), message: message.to_owned() })
        };
        let limit = bounded(job.spec.backoff_limit.unwrap_or(6));
        let restarts: i64 = tally.active.iter().map(|pod| pod.restarts()).sum();
        // With OnFailure a container fails, and not its pod.
        let restarts_too_often = restarts > 0 && restarts >= limit;
        let on_failure = job.spec.template["spec"]["restartPolicy"] == "OnFailure";
        if tally.failed > limit || (on_failure && restarts_too_often) {
            return failed("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        let deadline = job.spec.active_deadline_seconds.filter(|_| !job.spec.suspend);
        let started = job.status.start_time;
        if let (Some(start), Some(deadline)) = (started, deadline)
            && start.plus(bounded(deadline)) <= now
        {
            return failed("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        let succeeds = match job.spec.completions {
            Some(completions) => tally.succeeded >= bounded(completions),
            None => tally.succeeded > 0 && tally.active.is_empty() && !job.spec.suspend,
        };
        succeeds.then(|| Outcome {
            succeeds: true,
            reason: "CompletionsReached".to_owned(),
            message: "Reached expected number of succeeded pods".to_owned(),
        })
    }

    pub(super) fn is_success(&self) -> bool {
        self.succeeds
    }

    /// Notes it in the conditions.
    pub(super) fn note(&self, status: &mut BatchJobStatus, all_gone: bool, now: Timestamp) {
        let kinds = if self.succeeds { SUCCESS } else { FAILURE };
        for kind in &kinds[..if all_gone { 2 } else { 1 }] {
            let condition = Condition {
                kind: (*kind).to_owned(),
                status: "True".to_owned(),
                last_transition_time: Some(now),
                reason: self.reason.clone(),
                message: self.message.clone(),
                ..Condition::default()
            };
            set_condition(&mut status.conditions, condition);
        }
    }

    /// Says it in an event.
    pub(super) fn report(&self, job: &BatchJob, step: &mut Step) {
        if self.succeeds {
            step.event(COMPONENT, job.target(), "Completed", "Job completed".to_owned());
        } else {
            // Reasons are those of this file, but that one may have been read from the status.
            let reason = match self.reason.as_str() {
                "DeadlineExceeded" => "DeadlineExceeded",
                _ => "BackoffLimitExceeded",
            };
            step.warning(COMPONENT, job.target(), reason, self.message.clone());
        }
    }
}
