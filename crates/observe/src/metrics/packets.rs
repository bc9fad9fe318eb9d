//! Packets that the kernel counts for us (spec §11.16): read when somebody asks.

use std::fmt;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Opts, Registry};

use super::register::Register;

/// What rules of mode iptables count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketCounter {
    /// Packets that were dropped because connection tracking could not make sense of them.
    InvalidDropped,
    /// Packets that were accepted at NodePorts on loopback addresses.
    LocalhostAccepted,
}

impl PacketCounter {
    fn opts(self, register: &Register<'_>) -> Opts {
        let (name, help) = match self {
            PacketCounter::InvalidDropped => (
                "iptables_ct_state_invalid_dropped_packets_total",
                "Packets dropped as invalid by connection tracking",
            ),
            PacketCounter::LocalhostAccepted => (
                "iptables_localhost_nodeports_accepted_packets_total",
                "Packets accepted at NodePorts on loopback addresses",
            ),
        };
        register.opts(name, help)
    }
}

/// A counter in the kernel. While it cannot be read, there is no such metric.
struct InKernel<R> {
    counter: IntCounter,
    read: R,
}

impl<R: Fn() -> Option<u64> + Send + Sync> Collector for InKernel<R> {
    fn desc(&self) -> Vec<&Desc> {
        self.counter.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(packets) = (self.read)() else { return Vec::new() };
        self.counter.reset();
        self.counter.inc_by(packets);
        self.counter.collect()
    }
}

impl<R> fmt::Debug for InKernel<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InKernel").field("counter", &self.counter.get()).finish_non_exhaustive()
    }
}

pub(super) fn register(
    registry: &Registry,
    packets: PacketCounter,
    read: impl Fn() -> Option<u64> + Send + Sync + 'static,
) {
    let register = Register { registry, prefix: "kubeproxy" };
    let counter = IntCounter::with_opts(packets.opts(&register)).expect("the name is valid");
    registry.register(Box::new(InKernel { counter, read })).expect("each is registered once");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn they_are_as_in_the_kernel_and_not_there_without() {
        let registry = Registry::new();
        let kernel = Arc::new(AtomicU64::new(7));
        let read = kernel.clone();
        register(&registry, PacketCounter::InvalidDropped, move || Some(read.load(Ordering::Relaxed)));
        register(&registry, PacketCounter::LocalhostAccepted, || None);
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(
            text().contains("kubeproxy_iptables_ct_state_invalid_dropped_packets_total 7\n"),
            "{}",
            text()
        );
        kernel.store(9, Ordering::Relaxed);
        assert!(text().contains("dropped_packets_total 9\n"), "{}", text());
        assert!(!text().contains("localhost"), "{}", text());
    }
}
