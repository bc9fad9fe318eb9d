//! Service ports whose clients this process relays to endpoints: read when somebody asks.

use std::sync::{Mutex, PoisonError};

use portolan_config::Mode;
use portolan_service::{Family, PerFamily};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::register::Register;

/// All of them.
#[derive(Debug, Clone, Default)]
pub struct RelayedPorts {
    /// One for each socket. Those of the same Service port, protocol and family are added up.
    pub ports: Vec<RelayedPort>,
    /// How often a socket of each family could not be opened.
    pub failures: PerFamily<u64>,
}

/// What has happened at one socket.
#[derive(Debug, Clone)]
pub struct RelayedPort {
    /// `namespace/name:port`, or `namespace/name`
    pub service_port: String,
    /// `TCP` or `UDP`
    pub protocol: &'static str,
    /// The family of its address
    pub family: Family,
    /// It is listened on. If not, clients of before are still there.
    pub listening: bool,
    /// Connections, or UDP clients, that are there now
    pub open: u64,
    /// All of them so far
    pub total: u64,
    /// Connections or datagrams refused, because there is no room or no endpoint
    pub refused: u64,
    /// Endpoints that could not be reached
    pub failed_dials: u64,
    /// Further endpoints that were tried after that
    pub retries: u64,
    /// Octets from clients
    pub octets_in: u64,
    /// Octets from endpoints
    pub octets_out: u64,
}

/// The metrics that are filled anew for each scrape.
struct Filled {
    listeners: IntGaugeVec,
    failures: IntCounterVec,
    open: IntGaugeVec,
    counters: [Counted; 4],
    octets: IntCounterVec,
}

/// A counter, and what of a port it counts.
type Counted = (IntCounterVec, fn(&RelayedPort) -> u64);

struct Relayed<R> {
    filled: Mutex<Filled>,
    read: R,
}

impl<R: Fn() -> RelayedPorts + Send + Sync> Collector for Relayed<R> {
    fn desc(&self) -> Vec<&Desc> {
        // The registry does without: names and labels are checked when the metrics are made.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = (self.read)();
        let filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.fill(&read);
        filled.all().flat_map(Collector::collect).collect()
    }
}

impl Filled {
    fn new(registry: &Registry, mode: Mode) -> Filled {
        let ours = Register { registry, prefix: "portolan" };
        let labels = &["service_port", "protocol", "ip_family"];
        let counters = |name, help: &str, labels: &[&str]| {
            IntCounterVec::new(ours.opts(name, help), labels).expect("names and labels are valid")
        };
        let gauges = |register: &Register<'_>, name, help, labels: &[&str]| {
            IntGaugeVec::new(register.opts(name, help), labels).expect("names and labels are valid")
        };
        // kube-proxy's names (KEP-6032) where they mean the same.
        let (prefix, listeners, failures) = if mode == Mode::Nftables {
            (
                "kubeproxy",
                "nftables_localhost_nodeport_listeners",
                "nftables_localhost_nodeport_listener_creation_failures_total",
            )
        } else {
            (ours.prefix, "relay_listeners", "relay_listener_creation_failures_total")
        };
        let named = Register { registry, prefix };
        let failures = named.opts(failures, "Times that a socket could not be opened");
        Filled {
            listeners: gauges(&named, listeners, "Sockets that are listened on", &["ip_family"]),
            failures: IntCounterVec::new(failures, &["ip_family"]).expect("names and labels are valid"),
            open: gauges(&ours, "relay_open", "Connections and UDP clients that are there", labels),
            counters: [
                (counters("relay_clients_total", "Connections and UDP clients", labels), |port| port.total),
                (counters("relay_refused_total", "Connections and datagrams refused", labels), |port| {
                    port.refused
                }),
                (
                    counters("relay_failed_dials_total", "Endpoints that could not be reached", labels),
                    |port| port.failed_dials,
                ),
                (counters("relay_retries_total", "Further endpoints that were tried", labels), |port| {
                    port.retries
                }),
            ],
            octets: counters(
                "relay_bytes_total",
                "Bytes passed on, from clients (in) and from endpoints (out)",
                &["service_port", "protocol", "ip_family", "direction"],
            ),
        }
    }

    fn all(&self) -> impl Iterator<Item = &dyn Collector> {
        let counters = self.counters.iter().map(|(counter, _)| counter as &dyn Collector);
        let gauges: [&dyn Collector; 4] = [&self.listeners, &self.failures, &self.open, &self.octets];
        gauges.into_iter().chain(counters)
    }

    fn fill(&self, read: &RelayedPorts) {
        for gauges in [&self.listeners, &self.open] {
            gauges.reset();
        }
        for counters in
            self.counters.iter().map(|(counters, _)| counters).chain([&self.failures, &self.octets])
        {
            counters.reset();
        }
        for family in Family::ALL {
            let name = family.to_string();
            let listening = read.ports.iter().filter(|port| port.listening && port.family == family).count();
            self.listeners.with_label_values(&[&name]).set(i64::try_from(listening).unwrap_or(i64::MAX));
            self.failures.with_label_values(&[&name]).inc_by(*read.failures.get(family));
        }
        for port in &read.ports {
            let family = port.family.to_string();
            let labels = [port.service_port.as_str(), port.protocol, &family];
            self.open.with_label_values(&labels).add(i64::try_from(port.open).unwrap_or(i64::MAX));
            for (counter, of) in &self.counters {
                counter.with_label_values(&labels).inc_by(of(port));
            }
            for (direction, octets) in [("in", port.octets_in), ("out", port.octets_out)] {
                let [service_port, protocol, family] = labels;
                self.octets.with_label_values(&[service_port, protocol, family, direction]).inc_by(octets);
            }
        }
    }
}

/// Registers them, with kube-proxy's names where those of `mode` have some.
pub(super) fn register(
    registry: &Registry,
    mode: Mode,
    read: impl Fn() -> RelayedPorts + Send + Sync + 'static,
) {
    let filled = Mutex::new(Filled::new(registry, mode));
    registry.register(Box::new(Relayed { filled, read })).expect("they are registered once");
}

#[cfg(test)]
mod tests {
    use prometheus::TextEncoder;

    use super::*;

    #[test]
    fn sockets_of_a_port_are_added_up() {
        let port = |listening, family| RelayedPort {
            service_port: "shop/web:http".to_owned(),
            protocol: "TCP",
            family,
            listening,
            open: 1,
            total: 2,
            refused: 3,
            failed_dials: 4,
            retries: 5,
            octets_in: 6,
            octets_out: 7,
        };
        let ports = [(true, Family::V4), (false, Family::V4), (true, Family::V6)]
            .map(|(listening, family)| port(listening, family));
        let read = RelayedPorts { ports: ports.to_vec(), failures: PerFamily { v4: 8, v6: 0 } };
        for (mode, prefix) in
            [(Mode::Nftables, "kubeproxy_nftables_localhost_nodeport"), (Mode::Iptables, "portolan_relay")]
        {
            let registry = Registry::new();
            let read = read.clone();
            register(&registry, mode, move || read.clone());
            let text = TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
            // Each scrape begins anew.
            assert_eq!(TextEncoder::new().encode_to_string(&registry.gather()).unwrap(), text);
            let of = |family| {
                format!("{{ip_family=\"{family}\",protocol=\"TCP\",service_port=\"shop/web:http\"}}")
            };
            let (v4, v6) = (of("IPv4"), of("IPv6"));
            for line in [
                format!("{prefix}_listeners{{ip_family=\"IPv4\"}} 1"),
                format!("{prefix}_listeners{{ip_family=\"IPv6\"}} 1"),
                format!("{prefix}_listener_creation_failures_total{{ip_family=\"IPv4\"}} 8"),
                format!("{prefix}_listener_creation_failures_total{{ip_family=\"IPv6\"}} 0"),
                format!("portolan_relay_open{v4} 2"),
                format!("portolan_relay_clients_total{v4} 4"),
                format!("portolan_relay_refused_total{v6} 3"),
                format!("portolan_relay_failed_dials_total{v6} 4"),
                format!("portolan_relay_retries_total{v6} 5"),
                format!("portolan_relay_bytes_total{{direction=\"out\",{} 14", &v4[1..]),
            ] {
                assert!(text.lines().any(|found| found == line), "{line}\n{text}");
            }
        }
    }
}
