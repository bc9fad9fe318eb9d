//! Whether the proxy does its work: what `/healthz`, `/livez` and health-check node ports answer
//! (spec §11.1-11.7).
//!
//! Stricter than kube-proxy on purpose: a node whose kernel is not known to hold what is wanted
//! gets no traffic from load balancers. The two questions differ: `/healthz` is whether traffic
//! should come here, `/livez` whether a restart might help. An API server that is away is no reason
//! for either: the rules in force serve on.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::StatusCode;
use portolan_service::{Family, PerFamily};
use serde::Serialize;

use crate::timestamp::{self, rfc3339};

/// One turn of the proxy's loop may take this long, however short `syncPeriod` is: a first load of
/// a very large cluster does.
const TURN_AT_LEAST: Duration = Duration::from_mins(1);
/// This many things that are not served are listed.
const LISTED: usize = 20;

/// What the node's object says of whether load balancers should send traffic here (spec §11.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Eligibility {
    /// Nothing here has Node objects: eligible.
    #[default]
    NoNodes,
    /// The Node has not been seen yet (spec §12.6).
    Unseen,
    /// The Node is there, and stays.
    Eligible,
    /// The Node is being deleted, or marked so by the cluster autoscaler (spec §12.7).
    Leaving,
}

/// The age of what is known, if anything is: the time since the source was last known to be up to
/// date.
pub type Age = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// Where the objects in force come from.
#[derive(Clone, Default)]
pub enum View {
    /// Files on this node.
    #[default]
    Manifests,
    /// An API server that is being watched.
    Live {
        /// How old the view is.
        age: Age,
    },
    /// What an API server said before the last start; it has not been reached since.
    Snapshot {
        /// When it was true.
        taken: SystemTime,
    },
}

impl View {
    /// How old it is; `None` for files and for a server that has said nothing yet.
    pub fn age(&self) -> Option<Duration> {
        match self {
            View::Manifests => None,
            View::Live { age } => age(),
            View::Snapshot { taken } => Some(taken.elapsed().unwrap_or(Duration::ZERO)),
        }
    }

    /// Whether it is a snapshot.
    pub fn is_snapshot(&self) -> bool {
        matches!(self, View::Snapshot { .. })
    }
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            View::Manifests => f.write_str("Manifests"),
            View::Live { .. } => write!(f, "Live {{ age: {:?} }}", self.age()),
            View::Snapshot { taken } => f.debug_struct("Snapshot").field("taken", taken).finish(),
        }
    }
}

/// Why one family is not served while others are; each with the reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Its rules are not as wanted. What was in force stays.
    Behind(String),
    /// This host does not have it, or nothing to serve it with. That is no failure.
    Absent(String),
}

/// The proxy's health. The proxy's loop reports what happens, the servers ask.
#[derive(Debug)]
pub struct Health {
    families: Vec<Family>,
    /// A change or a failure may last this long (spec §11.3).
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    families: PerFamily<FamilyState>,
    /// Since when the oldest unsatisfied change waits.
    pending_since: Option<Instant>,
    /// When the turn began that the loop is in.
    turn_since: Option<Instant>,
    /// When the source of objects last showed that it still works, if it does that.
    source_seen: Option<Instant>,
    /// What nothing is written before, for people.
    waiting_for: Option<String>,
    /// What else should be known; no reason to be unhealthy.
    note: Option<String>,
    /// What cannot be honoured: found in manifests, and found by the plan.
    problems: [usize; 2],
    /// What is planned and not served: the first few, and how many there are.
    unserved: (Vec<String>, usize),
    node: Eligibility,
    view: View,
}

impl State {
    fn count_problems(&self) -> usize {
        self.problems.iter().sum::<usize>() + self.unserved.1
    }
}

#[derive(Debug, Default)]
struct FamilyState {
    /// When the kernel was last brought to what is wanted.
    in_force_at: Option<SystemTime>,
    failure: Option<Failure>,
    absent: Option<String>,
}

impl FamilyState {
    fn is_healthy(&self) -> bool {
        self.failure.is_none() && self.in_force_at.is_some()
    }

    fn fail(&mut self, reason: &str) {
        let since = self.failure.as_ref().map_or_else(Instant::now, |known| known.since);
        self.failure = Some(Failure { since, reason: reason.to_owned() });
    }
}

#[derive(Debug)]
struct Failure {
    since: Instant,
    reason: String,
}

/// What the state means at one moment.
struct Assessment {
    healthy: bool,
    /// What concerns all families is well.
    common: bool,
    live: bool,
    reasons: Vec<String>,
}

/// A turn of the proxy's loop, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "the turn ends when this is dropped"]
pub struct Turn<'a>(&'a Health);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().turn_since = None;
    }
}

impl Health {
    /// The health of a proxy that has done nothing yet, for `families`, with `syncPeriod` as
    /// configured.
    pub fn new(families: &[Family], sync_period: Duration) -> Health {
        Health { families: families.to_vec(), patience: sync_period * 2, state: Mutex::default() }
    }

    /// A change is waiting since `since`; the oldest unsatisfied one counts (spec §11.3).
    pub fn pending(&self, since: Instant) {
        let mut state = self.state();
        state.pending_since = Some(state.pending_since.map_or(since, |known| known.min(since)));
    }

    /// The kernel holds what is wanted: nothing is waiting, nothing has failed.
    pub fn in_force(&self) {
        self.in_force_but(&PerFamily::default());
    }

    /// The kernel holds what is wanted, but for families that are in trouble.
    pub fn in_force_but(&self, troubles: &PerFamily<Option<Trouble>>) {
        let mut state = self.state();
        state.pending_since = None;
        for family in &self.families {
            let of_family = state.families.get_mut(*family);
            match troubles.get(*family) {
                None => {
                    let in_force_at = Some(SystemTime::now());
                    *of_family = FamilyState { in_force_at, ..FamilyState::default() };
                }
                Some(Trouble::Behind(reason)) => {
                    of_family.absent = None;
                    of_family.fail(reason);
                }
                Some(Trouble::Absent(reason)) => {
                    *of_family = FamilyState { absent: Some(reason.clone()), ..FamilyState::default() };
                }
            }
        }
    }

    /// The kernel does not hold what is wanted, or nobody knows; `reason` for people. Lasts until
    /// [`Health::in_force`].
    pub fn failed(&self, reason: &str) {
        let mut state = self.state();
        for family in &self.families {
            state.families.get_mut(*family).fail(reason);
        }
    }

    /// The source of objects still works, whether it has anything new or not. Once it has reported
    /// that, it has to do so again within a minute.
    pub fn source_goes_on(&self) {
        self.state().source_seen = Some(Instant::now());
    }

    /// Nothing is written before something has happened, which is `waiting_for` for people; `None`
    /// when it has.
    pub fn set_waiting_for(&self, waiting_for: Option<String>) {
        self.state().waiting_for = waiting_for;
    }

    /// What else should be known, for people.
    pub fn set_note(&self, note: Option<String>) {
        self.state().note = note;
    }

    /// So many things in the manifests cannot be honoured. That is no reason to be unhealthy: what
    /// was right before stays.
    pub fn set_manifest_problems(&self, count: usize) {
        self.state().problems[0] = count;
    }

    /// So many things that Services ask for cannot be planned. That is no reason to be unhealthy.
    pub fn set_plan_problems(&self, count: usize) {
        self.state().problems[1] = count;
    }

    /// These things are planned and not served, though all rules are in force, each for people: a
    /// port that another program has. That is no reason to be unhealthy.
    pub fn set_unserved(&self, mut unserved: Vec<String>) {
        let count = unserved.len();
        unserved.truncate(LISTED);
        self.state().unserved = (unserved, count);
    }

    /// The first few of what is planned and not served.
    pub fn unserved(&self) -> Vec<String> {
        self.state().unserved.0.clone()
    }

    /// How many things that are asked for cannot be honoured, wherever that was found.
    pub fn problems(&self) -> usize {
        self.state().count_problems()
    }

    /// The proxy's loop has something to do, until what this returns is dropped. A turn that does
    /// not end is a loop that is stuck. A loop that waits for events is in no turn, for however
    /// long.
    pub fn turn(&self) -> Turn<'_> {
        self.state().turn_since = Some(Instant::now());
        Turn(self)
    }

    /// What the node's object says.
    pub fn set_node(&self, node: Eligibility) {
        self.state().node = node;
    }

    /// Where the objects in force come from.
    pub fn set_view(&self, view: View) {
        self.state().view = view;
    }

    /// Where the objects in force come from.
    pub fn view(&self) -> View {
        self.state().view.clone()
    }

    /// The kernel holds what is wanted and nothing is stuck: what health-check node ports show
    /// (spec §11.4, §11.10). Says nothing of whether the node is leaving.
    pub fn healthy(&self) -> bool {
        self.assess(Instant::now()).healthy
    }

    /// [`Health::healthy`], as far as it concerns one family.
    pub fn family_healthy(&self, family: Family) -> bool {
        let assessment = self.assess(Instant::now());
        assessment.common && self.state().families.get(family).is_healthy()
    }

    /// Status and body of `/healthz`: 200 if traffic should come to this node (spec §11.2-11.5).
    pub fn healthz(&self) -> (StatusCode, String) {
        self.healthz_at(Instant::now(), SystemTime::now())
    }

    /// Status and body of `/livez`: 503 if a restart might help (spec §11.4).
    pub fn livez(&self) -> (StatusCode, String) {
        self.livez_at(Instant::now(), SystemTime::now())
    }

    fn healthz_at(&self, now: Instant, wall: SystemTime) -> (StatusCode, String) {
        let mut assessment = self.assess(now);
        let node = self.state().node;
        let eligible = matches!(node, Eligibility::NoNodes | Eligibility::Eligible);
        let ok = assessment.healthy && eligible;
        if !eligible {
            assessment.reasons.push(match node {
                Eligibility::Leaving => "the node is being deleted or marked for deletion".to_owned(),
                _ => "the Node object has not been seen".to_owned(),
            });
        }
        self.answer(ok, Some(eligible), &assessment, wall)
    }

    fn livez_at(&self, now: Instant, wall: SystemTime) -> (StatusCode, String) {
        let assessment = self.assess(now);
        self.answer(assessment.live, None, &assessment, wall)
    }

    fn assess(&self, now: Instant) -> Assessment {
        let state = self.state();
        let present = || self.families.iter().filter(|family| state.families.get(**family).absent.is_none());
        let mut assessment = Assessment { healthy: true, common: true, live: true, reasons: Vec::new() };
        let mut failed_for_long = 0;
        let failures: Vec<(Family, &Failure)> = present()
            .filter_map(|family| Some((*family, state.families.get(*family).failure.as_ref()?)))
            .collect();
        for (family, failure) in &failures {
            let lasts = now.saturating_duration_since(failure.since);
            failed_for_long += usize::from(lasts >= self.patience);
            // What concerns all families is said once.
            let same = |(_, other): &(Family, &Failure)| other.reason == failure.reason;
            let everywhere = failures.len() == self.families.len() && failures.iter().all(same);
            if everywhere && *family != failures[0].0 {
                continue;
            }
            let whose = if everywhere { String::new() } else { format!("{family}: ") };
            assessment.reasons.push(format!("{whose}{} (for {})", failure.reason, seconds(lasts)));
        }
        let never = present().all(|family| state.families.get(*family).in_force_at.is_none());
        if failures.is_empty() && never {
            assessment.reasons.push("no state has been brought into force yet".to_owned());
        }
        assessment.healthy = present().all(|family| state.families.get(*family).is_healthy()) && !never;
        // A restart does not help one family, and would harm the other.
        assessment.live = failed_for_long == 0 || failed_for_long < present().count();
        let mut unhealthy = |live: bool, reason: String| {
            assessment.healthy = false;
            assessment.common = false;
            assessment.live &= live;
            assessment.reasons.push(reason);
        };
        if let Some(what) = &state.waiting_for {
            unhealthy(true, what.clone());
        }
        if let Some(seen) = state.source_seen {
            let silent = now.saturating_duration_since(seen);
            if silent >= self.patience.max(TURN_AT_LEAST) {
                unhealthy(false, format!("the source of objects has been stuck for {}", seconds(silent)));
            }
        }
        if let Some(since) = state.pending_since {
            let waits = now.saturating_duration_since(since);
            if waits >= self.patience {
                unhealthy(false, format!("a change has been waiting for {}", seconds(waits)));
            }
        }
        if let Some(since) = state.turn_since {
            let lasts = now.saturating_duration_since(since);
            if lasts >= self.patience.max(TURN_AT_LEAST) {
                unhealthy(false, format!("the event loop has been stuck for {}", seconds(lasts)));
            }
        }
        assessment
    }

    fn answer(
        &self,
        ok: bool,
        node_eligible: Option<bool>,
        assessment: &Assessment,
        wall: SystemTime,
    ) -> (StatusCode, String) {
        let Assessment { healthy, common, ref reasons, .. } = *assessment;
        let state = self.state();
        let view = state.view.clone();
        let of_families = || self.families.iter().map(|family| state.families.get(*family));
        let now = rfc3339(wall);
        let in_force_at = of_families().filter_map(|family| family.in_force_at).max();
        let last_updated = in_force_at.map_or_else(|| timestamp::NEVER.to_owned(), rfc3339);
        let family = |family| {
            let known = self.families.contains(&family).then(|| state.families.get(family));
            known.filter(|of_family| of_family.absent.is_none()).map(|of_family| FamilyBody {
                last_updated: of_family.in_force_at.map(rfc3339),
                healthy: common && of_family.is_healthy(),
            })
        };
        let absent = |family| state.families.get(family).absent.clone();
        let absent = AbsentBody { v4: absent(Family::V4), v6: absent(Family::V6) };
        let note = state.note.clone();
        let problems = state.count_problems();
        let status = StatusBody { v4: family(Family::V4), v6: family(Family::V6) };
        drop(state);
        let body = Body {
            last_updated: if ok { now.clone() } else { last_updated.clone() },
            current_time: now,
            node_eligible,
            healthy,
            status,
            absent: (absent != AbsentBody::default()).then_some(absent),
            note,
            problems: (problems > 0).then_some(problems),
            reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            // Outside of the lock: the age is asked of somebody else.
            view: ViewBody::of(&view),
        };
        let status = if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, serde_json::to_string(&body).unwrap_or_default())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock; and if it did, the plain values would still be
        // good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// kube-proxy's fields (spec §11.2), then our own.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: StatusBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<AbsentBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// How many things cannot be honoured. Missing if everything is.
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<usize>,
    view: ViewBody,
}

#[derive(Serialize)]
struct StatusBody {
    #[serde(rename = "IPv4", skip_serializing_if = "Option::is_none")]
    v4: Option<FamilyBody>,
    #[serde(rename = "IPv6", skip_serializing_if = "Option::is_none")]
    v6: Option<FamilyBody>,
}

/// Families that this host does not have, with the reason.
#[derive(Serialize, Default, PartialEq, Eq)]
struct AbsentBody {
    #[serde(rename = "IPv4", skip_serializing_if = "Option::is_none")]
    v4: Option<String>,
    #[serde(rename = "IPv6", skip_serializing_if = "Option::is_none")]
    v6: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyBody {
    /// Missing if it never was in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_updated: Option<String>,
    healthy: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ViewBody {
    source: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_taken: Option<String>,
}

impl ViewBody {
    fn of(view: &View) -> ViewBody {
        let (source, snapshot_taken) = match view {
            View::Manifests => ("manifests", None),
            View::Live { .. } => ("api", None),
            View::Snapshot { taken } => ("snapshot", Some(rfc3339(*taken))),
        };
        ViewBody { source, age_seconds: view.age().map(|age| age.as_secs_f64()), snapshot_taken }
    }
}

#[cfg(test)]
mod tests;
