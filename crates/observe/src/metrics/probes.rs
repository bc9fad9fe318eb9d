//! Pods that this process probes: read when somebody asks.

use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, IntCounterVec, IntGauge, Registry};

use super::register::Register;

/// What has been probed.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    /// Pods that are probed now
    pub pods: u64,
    /// Those of them that probes have found not to be ready
    pub not_ready: u64,
    /// What came of the probes of each kind
    pub kinds: Vec<ProbesOfKind>,
}

/// Probes of one kind.
#[derive(Debug, Clone, Copy)]
pub struct ProbesOfKind {
    /// `startup`, `liveness` or `readiness`
    pub kind: &'static str,
    /// How many passed
    pub passed: u64,
    /// How many failed
    pub failed: u64,
    /// How long all of them took
    pub seconds: f64,
}

struct Probed<R> {
    pods: IntGauge,
    not_ready: IntGauge,
    probes: IntCounterVec,
    seconds: CounterVec,
    /// One scrape at a time.
    turn: Mutex<()>,
    read: R,
}

impl<R: Fn() -> Probes + Send + Sync> Collector for Probed<R> {
    fn desc(&self) -> Vec<&Desc> {
        // By them the registry distinguishes this collector from others.
        self.pods.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let read = (self.read)();
        self.pods.set(i64::try_from(read.pods).unwrap_or(i64::MAX));
        self.not_ready.set(i64::try_from(read.not_ready).unwrap_or(i64::MAX));
        self.probes.reset();
        self.seconds.reset();
        for ProbesOfKind { kind, passed, failed, seconds } in read.kinds {
            self.probes.with_label_values(&[kind, "success"]).inc_by(passed);
            self.probes.with_label_values(&[kind, "failure"]).inc_by(failed);
            self.seconds.with_label_values(&[kind]).inc_by(seconds);
        }
        let gauges = [&self.pods, &self.not_ready].into_iter().flat_map(Collector::collect);
        gauges.chain(self.probes.collect()).chain(self.seconds.collect()).collect()
    }
}

/// Registers them.
pub(super) fn register(registry: &Registry, read: impl Fn() -> Probes + Send + Sync + 'static) {
    let ours = Register { registry, prefix: "portolan" };
    let gauge = |name, help| IntGauge::with_opts(ours.opts(name, help)).expect("the name is valid");
    let probes = ours.opts("probes_total", "Probes of Pods that were carried out");
    let seconds = ours.opts("probe_seconds_total", "How long probes of Pods took");
    let probed = Probed {
        pods: gauge("probed_pods", "Pods that are probed"),
        not_ready: gauge("probed_pods_not_ready", "Pods that probes have found not to be ready"),
        probes: IntCounterVec::new(probes, &["kind", "result"]).expect("names and labels are valid"),
        seconds: CounterVec::new(seconds, &["kind"]).expect("names and labels are valid"),
        turn: Mutex::new(()),
        read,
    };
    registry.register(Box::new(probed)).expect("they are registered once");
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn what_is_read_is_shown_each_time() {
        let registry = Registry::new();
        let readiness = ProbesOfKind { kind: "readiness", passed: 7, failed: 2, seconds: 0.5 };
        register(&registry, move || Probes { pods: 3, not_ready: 1, kinds: vec![readiness] });
        for _ in 0..2 {
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            for line in [
                "portolan_probed_pods 3",
                "portolan_probed_pods_not_ready 1",
                "portolan_probes_total{kind=\"readiness\",result=\"failure\"} 2",
                "portolan_probe_seconds_total{kind=\"readiness\"} 0.5",
            ] {
                assert!(text.lines().any(|found| found == line), "{line} in {text}");
            }
        }
    }
}
