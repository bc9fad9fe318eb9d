//! Pods of manifests that have probes: probed from here, as there is no kubelet.
//!
//! What comes of it goes to the manifests as if somebody had written it there, so that endpoints
//! follow as they follow from files.

use std::time::{Duration, Instant};

use anyhow::Context;
use portolan_observe::rows::{PodRow, ProbeFailureRow, ProbeRow};
use portolan_observe::{Metrics, Probes, ProbesOfKind};
use portolan_probe::{PodReport, ProbeKind, ProbeReport, Prober, Verdict};
use portolan_source::manifests::{Manifests, Update};
use tracing::{info, warn};

use crate::describe::counted;

/// At a start, nothing is planned before so long, unless each Pod has been probed: what the kernel
/// has serves on.
const FIRST_WITHIN: Duration = Duration::from_secs(2);
/// At most so many changes of Pods are logged within so long.
const LOGGED: usize = 20;
const LOGGED_WITHIN: Duration = Duration::from_secs(10);

/// Probes what manifests ask for.
pub(crate) struct Probing {
    prober: Prober,
    is_started: bool,
    log: Log,
}

impl Probing {
    /// Nothing is probed yet. `prober` is one that is not started.
    pub(crate) fn new(prober: Prober) -> Probing {
        Probing { prober, is_started: false, log: Log::new(Instant::now()) }
    }

    /// Takes all that is probed at the start of the process, and waits for the first outcomes.
    /// Returns what follows from them.
    pub(crate) fn begin(
        &mut self,
        manifests: &mut Manifests,
        first: &Update,
    ) -> anyhow::Result<Option<Update>> {
        if first.probes.is_empty() {
            return Ok(None);
        }
        self.set(manifests, first, true)?;
        self.prober.wait_for_first(FIRST_WITHIN);
        let verdicts = self.prober.take_verdicts();
        let [pods, ready, not_ready] = [
            first.probes.len(),
            verdicts.iter().filter(|verdict| verdict.ready).count(),
            verdicts.iter().filter(|verdict| !verdict.ready).count(),
        ];
        info!("{} probed: {ready} ready, {not_ready} not ready", counted(pods, "Pod"));
        // Those that were ready before the start are no news.
        let news = verdicts.iter().filter(|verdict| !verdict.ready);
        news.for_each(|verdict| self.log.verdict(verdict, Instant::now()));
        Ok(Some(set_readiness(manifests, &verdicts)))
    }

    /// Takes what is to be probed otherwise than before.
    pub(crate) fn update(&mut self, manifests: &Manifests, update: &Update) -> anyhow::Result<()> {
        self.set(manifests, update, false)
    }

    fn set(&mut self, manifests: &Manifests, update: &Update, has_run: bool) -> anyhow::Result<()> {
        if !self.is_started && !update.probes.is_empty() {
            let waker = manifests.waker();
            self.prober.start(move || waker.wake()).context("starting to probe Pods")?;
            self.is_started = true;
        }
        for (pod, target) in &update.probes {
            self.prober.set(pod, target.clone(), has_run);
        }
        Ok(())
    }

    /// What follows from new outcomes, if there are any.
    pub(crate) fn news(&mut self, manifests: &mut Manifests) -> Option<Update> {
        let verdicts = self.prober.take_verdicts();
        let now = Instant::now();
        for verdict in &verdicts {
            self.log.verdict(verdict, now);
        }
        self.log.unlogged(now);
        (!verdicts.is_empty()).then(|| set_readiness(manifests, &verdicts))
    }
}

fn set_readiness(manifests: &mut Manifests, verdicts: &[Verdict]) -> Update {
    manifests.set_readiness(verdicts.iter().map(|verdict| (&verdict.pod, verdict.ready)))
}

/// What is logged of Pods: so much at a time.
struct Log {
    begun: Instant,
    lines: usize,
    unlogged: usize,
}

impl Log {
    fn new(now: Instant) -> Log {
        Log { begun: now, lines: 0, unlogged: 0 }
    }

    fn verdict(&mut self, verdict: &Verdict, now: Instant) {
        self.unlogged(now);
        if !self.takes_another() {
            return;
        }
        let Verdict { pod, ready, reason } = verdict;
        if *ready {
            info!("Pod {pod} is ready: it gets new connections");
        } else {
            let reason = reason.as_deref().unwrap_or("its probes have not passed");
            warn!("Pod {pod} is not ready, and gets no new connections: {reason}");
        }
    }

    fn takes_another(&mut self) -> bool {
        let takes = self.lines < LOGGED;
        *(if takes { &mut self.lines } else { &mut self.unlogged }) += 1;
        takes
    }

    /// Reports what was not logged, when time for it has come.
    fn unlogged(&mut self, now: Instant) {
        if now.saturating_duration_since(self.begun) < LOGGED_WITHIN {
            return;
        }
        if self.unlogged > 0 {
            warn!(
                "{} more changes of whether Pods are ready; `portolan get endpoints` lists all Pods",
                self.unlogged
            );
        }
        *self = Log::new(now);
    }
}

/// The Pods of `prober` for `portolan get`, all or those of a namespace.
pub(crate) fn rows(prober: &Prober, namespace: Option<&str>) -> Vec<PodRow> {
    let reports = prober.reports().into_iter();
    reports
        .filter(|report| namespace.is_none_or(|namespace| report.pod.namespace() == namespace))
        .map(|report| row(&report))
        .collect()
}

fn row(report: &PodReport) -> PodRow {
    PodRow {
        namespace: report.pod.namespace().to_owned(),
        pod: report.pod.name().to_owned(),
        address: report.target.address,
        ready: report.ready,
        since_seconds: report.since.map(|since| since.as_secs_f64()),
        probes: report.probes.iter().map(probe_row).collect(),
    }
}

fn probe_row(probe: &ProbeReport) -> ProbeRow {
    ProbeRow {
        container: probe.container.to_string(),
        kind: probe.kind.name().to_owned(),
        passes: probe.passes,
        count: probe.count,
        ago_seconds: probe.age.map(|age| age.as_secs_f64()),
        took_seconds: probe.took.map(|took| took.as_secs_f64()),
        last_failure: probe.last_failure.as_ref().map(|failure| ProbeFailureRow {
            ago_seconds: failure.age.as_secs_f64(),
            reason: failure.reason.clone(),
            over: failure.is_over,
        }),
    }
}

/// Counts what `prober` does.
pub(crate) fn count(prober: &Prober, metrics: &Metrics) {
    let prober = prober.clone();
    metrics.count_probes(move || {
        let counters = prober.counters();
        let kinds = ProbeKind::ALL.into_iter().zip(counters.outcomes);
        Probes {
            pods: counters.pods as u64,
            not_ready: counters.not_ready as u64,
            kinds: kinds
                .map(|(kind, outcomes)| ProbesOfKind {
                    kind: kind.name(),
                    passed: outcomes.passed,
                    failed: outcomes.failed,
                    seconds: outcomes.took.as_secs_f64(),
                })
                .collect(),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_logged_than_people_read() {
        let begun = Instant::now();
        let mut log = Log::new(begun);
        assert_eq!((0..100).filter(|_| log.takes_another()).count(), LOGGED);
        assert_eq!(log.unlogged, 100 - LOGGED);
        log.unlogged(begun + LOGGED_WITHIN / 2);
        assert_eq!(log.unlogged, 100 - LOGGED);
        log.unlogged(begun + LOGGED_WITHIN);
        assert_eq!((log.unlogged, log.takes_another()), (0, true));
    }
}
