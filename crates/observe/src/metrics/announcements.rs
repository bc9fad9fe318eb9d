//! Load-balancer addresses that this process announces: read when somebody asks.

use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Registry};

use super::register::Register;

/// What has been announced.
#[derive(Debug, Clone, Copy, Default)]
pub struct Announcements {
    /// Addresses that this node announces now
    pub held: u64,
    /// Other nodes that are heard now, on all interfaces
    pub heard: u64,
    /// Requests that were answered
    pub answers: u64,
    /// Frames that announce an address unasked
    pub sent: u64,
    /// Times that another machine said it has an address of this node
    pub contradictions: u64,
    /// Heartbeats of another key
    pub foreign: u64,
    /// Frames that the kernel did not take
    pub unsent: u64,
}

/// A metric, and what it shows.
type Shown<M> = (M, fn(&Announcements) -> u64);

/// The metrics that are filled anew for each scrape.
struct Filled {
    gauges: [Shown<IntGauge>; 2],
    counters: [Shown<IntCounter>; 5],
}

struct Announced<R> {
    filled: Filled,
    /// One scrape at a time.
    turn: Mutex<()>,
    read: R,
}

impl<R: Fn() -> Option<Announcements> + Send + Sync> Collector for Announced<R> {
    fn desc(&self) -> Vec<&Desc> {
        // By them the registry distinguishes this collector from others.
        self.filled.gauges.iter().flat_map(|(gauge, _)| gauge.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(read) = (self.read)() else { return Vec::new() };
        let gauges = self.filled.gauges.iter().flat_map(|(gauge, of)| {
            gauge.set(i64::try_from(of(&read)).unwrap_or(i64::MAX));
            gauge.collect()
        });
        let counters = self.filled.counters.iter().flat_map(|(counter, of)| {
            counter.reset();
            counter.inc_by(of(&read));
            counter.collect()
        });
        gauges.chain(counters).collect()
    }
}

impl Filled {
    fn new(registry: &Registry) -> Filled {
        let ours = Register { registry, prefix: "portolan" };
        let gauge = |name, help: &str| IntGauge::with_opts(ours.opts(name, help)).expect("the name is valid");
        let counter =
            |name, help: &str| IntCounter::with_opts(ours.opts(name, help)).expect("the name is valid");
        Filled {
            gauges: [
                (gauge("announced_addresses", "Addresses that this node announces"), |all| all.held),
                (gauge("announcing_nodes_heard", "Other nodes that are heard"), |all| all.heard),
            ],
            counters: [
                (counter("announcement_answers_total", "Requests that were answered"), |all| all.answers),
                (counter("announcements_total", "Frames that announce an address unasked"), |all| all.sent),
                (
                    counter(
                        "announcement_contradictions_total",
                        "Times that another machine said it has one",
                    ),
                    |all| all.contradictions,
                ),
                (counter("announcement_foreign_heartbeats_total", "Heartbeats of another key"), |all| {
                    all.foreign
                }),
                (counter("announcement_unsent_total", "Frames that the kernel did not take"), |all| {
                    all.unsent
                }),
            ],
        }
    }
}

/// Registers them.
pub(super) fn register(
    registry: &Registry,
    read: impl Fn() -> Option<Announcements> + Send + Sync + 'static,
) {
    let filled = Filled::new(registry);
    registry
        .register(Box::new(Announced { filled, turn: Mutex::new(()), read }))
        .expect("they are registered once");
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn what_is_read_is_shown_each_time() {
        let registry = Registry::new();
        register(&registry, || Some(Announcements { held: 3, answers: 7, ..Announcements::default() }));
        for _ in 0..2 {
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            for line in ["portolan_announced_addresses 3", "portolan_announcement_answers_total 7"] {
                assert!(text.lines().any(|found| found == line), "{line} in {text}");
            }
        }
    }
}
