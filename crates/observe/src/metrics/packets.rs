//! Packets that the kernel counts for us (spec §11.16): read when somebody asks.

use std::fmt;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry};

use super::register::Register;

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

/// Registers a counter: the name of its metric after kube-proxy's prefix, what it counts for
/// people, and what reads it.
pub(super) fn register(
    registry: &Registry,
    name: &str,
    help: &str,
    read: impl Fn() -> Option<u64> + Send + Sync + 'static,
) {
    let register = Register { registry, prefix: "kubeproxy" };
    let counter = IntCounter::with_opts(register.opts(name, help)).expect("the name is valid");
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
        register(&registry, "dropped_packets_total", "Dropped", move || Some(read.load(Ordering::Relaxed)));
        register(&registry, "localhost_packets_total", "Accepted", || None);
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text().contains("kubeproxy_dropped_packets_total 7\n"), "{}", text());
        kernel.store(9, Ordering::Relaxed);
        assert!(text().contains("dropped_packets_total 9\n"), "{}", text());
        assert!(!text().contains("localhost"), "{}", text());
    }
}
