//! Counters, with the names that CoreDNS has for them.

use portolan_names::wire::rcode;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    exponential_buckets,
};

/// What `forward` is called in the label `proxy_name`.
const PROXY: &str = "forward";

/// Counters of one or several forwarders. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    requests: IntCounterVec,
    hits: IntCounterVec,
    misses: IntCounterVec,
    entries: IntGaugeVec,
    evictions: IntCounterVec,
    prefetched: IntCounterVec,
    served_stale: IntCounterVec,
    rejected: IntCounter,
    all_down: IntCounter,
    looping: IntGauge,
    durations: HistogramVec,
    failed_probes: IntCounterVec,
    reused: IntCounterVec,
    connected: IntCounterVec,
    strays: IntCounterVec,
    hosts: IntGaugeVec,
}

impl Metrics {
    /// Counters that `registry` shows.
    pub fn new(registry: &Registry) -> prometheus::Result<Metrics> {
        const ZONE: [&str; 3] = ["server", "zones", "view"];
        const ZONE_TYPE: [&str; 4] = ["server", "type", "zones", "view"];
        const SERVER: [&str; 2] = ["proxy_name", "to"];
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counters.clone()))?;
            Ok::<_, prometheus::Error>(counters)
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauges.clone()))?;
            Ok::<_, prometheus::Error>(gauges)
        };
        let durations = durations()?;
        registry.register(Box::new(durations.clone()))?;
        let counter = |name: &str, help: &str| -> prometheus::Result<IntCounter> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let looping =
            IntGauge::new("portolan_dns_looping_servers", "Servers whose questions come back to us")?;
        registry.register(Box::new(looping.clone()))?;
        Ok(Metrics {
            requests: counters("coredns_cache_requests_total", "Questions to the cache", &ZONE)?,
            hits: counters("coredns_cache_hits_total", "Questions that the cache has answered", &ZONE_TYPE)?,
            misses: counters("coredns_cache_misses_total", "Questions that it has not answered", &ZONE)?,
            entries: gauges("coredns_cache_entries", "Answers in the cache", &ZONE_TYPE)?,
            evictions: counters(
                "coredns_cache_evictions_total",
                "Answers that have left the cache before their time",
                &ZONE_TYPE,
            )?,
            prefetched: counters(
                "coredns_cache_prefetch_total",
                "Questions that were asked anew before their answers ended",
                &ZONE,
            )?,
            served_stale: counters(
                "coredns_cache_served_stale_total",
                "Questions that got an old answer",
                &ZONE,
            )?,
            rejected: counter(
                "coredns_forward_max_concurrent_rejects_total",
                "Questions that were refused because too many were under way",
            )?,
            all_down: counter(
                "coredns_forward_healthcheck_broken_total",
                "Questions for which all servers were down",
            )?,
            looping,
            durations,
            failed_probes: counters(
                "coredns_proxy_healthcheck_failures_total",
                "Failed probes of servers",
                &SERVER,
            )?,
            reused: counters(
                "coredns_proxy_conn_cache_hits_total",
                "Questions over connections that were there",
                &["proxy_name", "to", "proto"],
            )?,
            connected: counters(
                "coredns_proxy_conn_cache_misses_total",
                "Connections that were made for a question",
                &["proxy_name", "to", "proto"],
            )?,
            strays: counters(
                "portolan_dns_strays_total",
                "Messages from a server's address that did not answer the question: spoofed, perhaps",
                &SERVER,
            )?,
            hosts: gauges("coredns_hosts_entries", "Names with fixed addresses", &["server", "zones"])?,
        })
    }

    pub(crate) fn zone(&self, server: &str, zone: &str) -> ZoneMetrics {
        let plain = [server, zone, ""];
        let of_type = |kind| [server, kind, zone, ""];
        ZoneMetrics {
            requests: self.requests.with_label_values(&plain),
            hits_success: self.hits.with_label_values(&of_type("success")),
            hits_denial: self.hits.with_label_values(&of_type("denial")),
            misses: self.misses.with_label_values(&plain),
            entries_success: self.entries.with_label_values(&of_type("success")),
            entries_denial: self.entries.with_label_values(&of_type("denial")),
            evicted_success: self.evictions.with_label_values(&of_type("success")),
            evicted_denial: self.evictions.with_label_values(&of_type("denial")),
            prefetched: self.prefetched.with_label_values(&plain),
            served_stale: self.served_stale.with_label_values(&plain),
            rejected: self.rejected.clone(),
            all_down: self.all_down.clone(),
            hosts: self.hosts.with_label_values(&[server, zone]),
        }
    }

    pub(crate) fn server(&self, to: &str, proto: &str) -> ServerMetrics {
        ServerMetrics {
            to: to.to_owned(),
            durations: self.durations.clone(),
            failed_probes: self.failed_probes.with_label_values(&[PROXY, to]),
            reused: self.reused.with_label_values(&[PROXY, to, proto]),
            connected: self.connected.with_label_values(&[PROXY, to, proto]),
            strays: self.strays.with_label_values(&[PROXY, to]),
            looping: self.looping.clone(),
        }
    }
}

impl Default for Metrics {
    /// Counters that nobody sees.
    fn default() -> Metrics {
        match Metrics::new(&Registry::new()) {
            Ok(metrics) => metrics,
            // Only names that are no names, or are there twice, are refused.
            Err(error) => unreachable!("metrics in a registry of their own: {error}"),
        }
    }
}

/// How long questions to servers take, in CoreDNS' steps.
fn durations() -> prometheus::Result<HistogramVec> {
    let options = HistogramOpts::new(
        "coredns_proxy_request_duration_seconds",
        "Time that each question to a server took, by its response code",
    );
    HistogramVec::new(
        options.buckets(exponential_buckets(0.000_25, 2.0, 16)?),
        &["proxy_name", "to", "rcode"],
    )
}

/// Counters of a zone.
#[derive(Debug, Clone)]
pub(crate) struct ZoneMetrics {
    pub(crate) requests: IntCounter,
    pub(crate) hits_success: IntCounter,
    pub(crate) hits_denial: IntCounter,
    pub(crate) misses: IntCounter,
    pub(crate) entries_success: IntGauge,
    pub(crate) entries_denial: IntGauge,
    pub(crate) evicted_success: IntCounter,
    pub(crate) evicted_denial: IntCounter,
    pub(crate) prefetched: IntCounter,
    pub(crate) served_stale: IntCounter,
    pub(crate) rejected: IntCounter,
    pub(crate) all_down: IntCounter,
    pub(crate) hosts: IntGauge,
}

/// Counters of a server.
#[derive(Debug, Clone)]
pub(crate) struct ServerMetrics {
    to: String,
    durations: HistogramVec,
    pub(crate) failed_probes: IntCounter,
    pub(crate) reused: IntCounter,
    pub(crate) connected: IntCounter,
    pub(crate) strays: IntCounter,
    pub(crate) looping: IntGauge,
}

impl ServerMetrics {
    /// Counts a question that took `seconds` to be answered with the rcode `code`.
    pub(crate) fn answered(&self, code: u16, seconds: f64) {
        // Of others there may be as many as a server likes.
        let name = rcode::name(code).filter(|_| code <= rcode::REFUSED).unwrap_or("OTHER");
        self.durations.with_label_values(&[PROXY, &self.to, name]).observe(seconds);
    }
}
