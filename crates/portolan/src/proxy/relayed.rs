//! Sockets that a dataplane serves with: they outlive it, and their clients are counted.

use portolan_dataplane::Dataplane;
use portolan_dataplane::listeners::{HandedOver, ListenerCounters, Listeners, SocketCounts};
use portolan_observe::{RelayedPort, RelayedPorts, Telemetry};
use portolan_service::Family;

/// Sockets between two dataplanes.
#[derive(Debug, Default)]
pub(super) struct Relayed {
    kept: Option<Listeners>,
    /// Those of the process before.
    handed_over: HandedOver,
    counted: bool,
}

impl Relayed {
    /// Takes the sockets of a dataplane that goes.
    pub(super) fn keep(&mut self, dataplane: &mut dyn Dataplane) {
        self.kept = dataplane.listeners().map(std::mem::take);
    }

    /// Takes the sockets of the process before.
    pub(super) fn take_over(&mut self, sockets: HandedOver) {
        self.handed_over = sockets;
    }

    /// Gives what was kept to a dataplane that comes, and has its clients counted.
    pub(super) fn hand_on(&mut self, dataplane: &mut dyn Dataplane, telemetry: &Telemetry) {
        let handed_over = std::mem::take(&mut self.handed_over);
        let Some(listeners) = dataplane.listeners() else { return };
        if let Some(kept) = self.kept.take() {
            *listeners = kept;
        } else {
            listeners.take_over(handed_over);
        }
        if !std::mem::replace(&mut self.counted, true) {
            let counters = listeners.counters();
            telemetry.metrics.count_relayed(move || counts(&counters));
        }
    }
}

fn counts(counters: &ListenerCounters) -> RelayedPorts {
    let port = |found: SocketCounts| RelayedPort {
        service_port: found.service_port,
        protocol: found.protocol.name(),
        family: Family::of(found.address.ip()),
        listening: found.listening,
        open: found.counts.open,
        total: found.counts.total,
        refused: found.counts.refused_by_limits + found.counts.refused_without_endpoint,
        failed_dials: found.counts.failed_dials,
        retries: found.counts.retries,
        octets_in: found.counts.octets_in,
        octets_out: found.counts.octets_out,
    };
    RelayedPorts { ports: counters.read().into_iter().map(port).collect(), failures: counters.failures() }
}
