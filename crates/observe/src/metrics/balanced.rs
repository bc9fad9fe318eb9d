//! Service ports whose connections the kernel's IPVS balances: read when somebody asks.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use portolan_service::{Family, Protocol};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGauge, Registry};

use super::register::Register;

/// So many Service ports have metrics of their own. A node of a large cluster would have some
/// hundred thousand time series.
const LISTED: usize = 1000;

/// What was counted for a Service port.
#[derive(Debug, Clone)]
pub struct BalancedPort {
    /// `namespace/name:port`, or `namespace/name`
    pub service_port: String,
    /// Its protocol
    pub protocol: Protocol,
    /// The family of its addresses
    pub family: Family,
    /// Connections, or flows of UDP
    pub connections: u64,
    /// Packets of clients, and to them
    pub packets: [u64; 2],
    /// Bytes of clients, and to them
    pub bytes: [u64; 2],
}

/// What a port is known by.
type Key = (String, Protocol, Family);

/// The metrics that are filled anew for each scrape.
struct Filled {
    connections: IntCounterVec,
    packets: IntCounterVec,
    bytes: IntCounterVec,
    unlisted: IntGauge,
    /// Those that have metrics keep them for as long as they are there.
    listed: BTreeSet<Key>,
}

struct Balanced<R> {
    filled: Mutex<Filled>,
    /// The one of `filled`
    unlisted: IntGauge,
    read: R,
}

impl<R: Fn() -> Option<Vec<BalancedPort>> + Send + Sync> Collector for Balanced<R> {
    fn desc(&self) -> Vec<&Desc> {
        // By it the registry distinguishes this collector from others.
        self.unlisted.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Some(ports) = (self.read)() else { return Vec::new() };
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.fill(&ports);
        let Filled { connections, packets, bytes, unlisted, .. } = &*filled;
        let all: [&dyn Collector; 4] = [connections, packets, bytes, unlisted];
        all.into_iter().flat_map(Collector::collect).collect()
    }
}

impl Filled {
    fn new(registry: &Registry) -> Filled {
        let ours = Register { registry, prefix: "portolan" };
        let labels = ["service_port", "protocol", "ip_family", "direction"];
        let counters = |name, help: &str, labels: &[&str]| {
            IntCounterVec::new(ours.opts(name, help), labels).expect("names and labels are valid")
        };
        let unlisted = ours.opts("ipvs_unlisted_service_ports", "Service ports without metrics of their own");
        Filled {
            connections: counters("ipvs_connections_total", "Connections balanced", &labels[..3]),
            packets: counters("ipvs_packets_total", "Packets of clients (in) and to them (out)", &labels),
            bytes: counters("ipvs_bytes_total", "Bytes of clients (in) and to them (out)", &labels),
            unlisted: IntGauge::with_opts(unlisted).expect("the name is valid"),
            listed: BTreeSet::new(),
        }
    }

    fn fill(&mut self, ports: &[BalancedPort]) {
        for counters in [&self.connections, &self.packets, &self.bytes] {
            counters.reset();
        }
        let key = |port: &BalancedPort| (port.service_port.clone(), port.protocol, port.family);
        let used: BTreeSet<Key> = ports.iter().filter(|port| port.connections > 0).map(key).collect();
        self.listed.retain(|port| used.contains(port));
        let room = LISTED - self.listed.len();
        let new: Vec<Key> =
            used.iter().filter(|port| !self.listed.contains(*port)).take(room).cloned().collect();
        self.listed.extend(new);
        let unlisted = used.len() - self.listed.len();
        self.unlisted.set(i64::try_from(unlisted).unwrap_or(i64::MAX));
        for port in ports.iter().filter(|port| self.listed.contains(&key(port))) {
            let (protocol, family) = (port.protocol.to_string().to_uppercase(), port.family.to_string());
            let labels = [port.service_port.as_str(), &protocol, &family];
            self.connections.with_label_values(&labels).inc_by(port.connections);
            for (counters, [of_clients, to_clients]) in
                [(&self.packets, port.packets), (&self.bytes, port.bytes)]
            {
                for (direction, count) in [("in", of_clients), ("out", to_clients)] {
                    let [service_port, protocol, family] = labels;
                    counters.with_label_values(&[service_port, protocol, family, direction]).inc_by(count);
                }
            }
        }
    }
}

/// Registers them. `read` returns each port once; `None` leaves them out.
pub(super) fn register(
    registry: &Registry,
    read: impl Fn() -> Option<Vec<BalancedPort>> + Send + Sync + 'static,
) {
    let filled = Filled::new(registry);
    let unlisted = filled.unlisted.clone();
    let balanced = Balanced { filled: Mutex::new(filled), unlisted, read };
    registry.register(Box::new(balanced)).expect("they are registered once");
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    fn port(name: &str, connections: u64) -> BalancedPort {
        BalancedPort {
            service_port: name.to_owned(),
            protocol: Protocol::Tcp,
            family: Family::V4,
            connections,
            packets: [3, 4],
            bytes: [5, 6],
        }
    }

    #[test]
    fn ports_with_connections_are_listed_and_stay_so() {
        let registry = Registry::new();
        // Beside another one that has labels.
        super::super::relayed::register(&registry, portolan_config::Mode::Ipvs, Default::default);
        let ports = std::sync::Arc::new(Mutex::new(None));
        let read = ports.clone();
        register(&registry, move || read.lock().unwrap().clone());
        let text = || TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(!text().contains("portolan_ipvs"), "{}", text());

        *ports.lock().unwrap() = Some(vec![port("shop/web:http", 7), port("shop/idle", 0)]);
        let found = text();
        let of = "ip_family=\"IPv4\",protocol=\"TCP\",service_port=\"shop/web:http\"} ";
        for line in [
            format!("portolan_ipvs_connections_total{{{of}7"),
            format!("portolan_ipvs_packets_total{{direction=\"in\",{of}3"),
            format!("portolan_ipvs_packets_total{{direction=\"out\",{of}4"),
            format!("portolan_ipvs_bytes_total{{direction=\"in\",{of}5"),
            format!("portolan_ipvs_bytes_total{{direction=\"out\",{of}6"),
            "portolan_ipvs_unlisted_service_ports 0".to_owned(),
        ] {
            assert!(found.lines().any(|found| found == line), "{line}\n{found}");
        }
        assert!(!found.contains("idle"), "{found}");
        assert_eq!(text(), found);

        // Others come, whose names are before it: it keeps its place.
        let many = (0..LISTED).map(|number| port(&format!("a/{number}"), 1));
        *ports.lock().unwrap() = Some(many.chain([port("shop/web:http", 8)]).collect());
        let found = text();
        let line = format!("portolan_ipvs_connections_total{{{of}8");
        assert!(found.lines().any(|found| found == line), "{found}");
        assert!(found.contains("portolan_ipvs_unlisted_service_ports 1\n"));
        assert_eq!(found.matches("portolan_ipvs_connections_total{").count(), LISTED);
    }
}
