//! Metrics under the names that CoreDNS has for them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use portolan_dns::{Counts, Histogram, Source, ZoneCounts};
use portolan_names::wire::rcode;
use portolan_names::{Names, Transport};
use portolan_observe::BuildInfo;
use portolan_service::{EndpointsTrigger, Family};
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntGaugeVec, Opts, Registry, TextEncoder, exponential_buckets,
};

/// The metrics that are not counted by the server itself.
pub(super) struct Metrics {
    registry: Registry,
    /// Those of other servers and caches.
    pub(super) upstream: portolan_upstream::Metrics,
    programming: HistogramVec,
    enabled: IntGaugeVec,
    reload_failed: IntCounter,
}

impl Metrics {
    /// All of them, of this program.
    pub(super) fn new(build: &BuildInfo) -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let built = Opts::new("coredns_build_info", "What was built; always 1");
        let built = IntGaugeVec::new(built, &["version", "revision", "goversion"])?;
        let version = build.git_version.trim_start_matches('v');
        built.with_label_values(&[version, &build.git_commit, ""]).set(1);
        let programming = HistogramVec::new(
            HistogramOpts::new(
                "coredns_kubernetes_dns_programming_duration_seconds",
                "From a change of endpoints in the cluster to the changed answer",
            )
            .buckets(exponential_buckets(0.001, 2.0, 20)?),
            &["service_kind"],
        )?;
        let enabled = Opts::new("coredns_plugin_enabled", "Which plugins are in use; always 1");
        let enabled = IntGaugeVec::new(enabled, &["server", "zone", "view", "name"])?;
        let reload_failed = IntCounter::new(
            "coredns_reload_failed_total",
            "Changes of the Corefile that could not be brought about",
        )?;
        registry.register(Box::new(built))?;
        registry.register(Box::new(programming.clone()))?;
        registry.register(Box::new(enabled.clone()))?;
        registry.register(Box::new(reload_failed.clone()))?;
        let upstream = portolan_upstream::Metrics::new(&registry)?;
        Ok(Metrics { registry, upstream, programming, enabled, reload_failed })
    }

    /// A changed Corefile cannot be used.
    pub(super) fn reload_failed(&self) {
        self.reload_failed.inc();
    }

    /// These plugins are in use: server, zone and name of each.
    pub(super) fn enable(&self, plugins: &[(String, String, &'static str)]) {
        self.enabled.reset();
        for (server, zone, name) in plugins {
            self.enabled.with_label_values(&[server, zone, "", name]).set(1);
        }
    }

    /// Changes of endpoints are in answers from now on.
    pub(super) fn programmed(&self, names: &Names, triggers: &[EndpointsTrigger]) {
        for trigger in triggers {
            let headless = names.service_object(&trigger.service).is_some_and(|service| service.headless);
            // Only the controller of endpoints, which needs a selector, says when it was.
            let kind = if headless { "headless_with_selector" } else { "cluster_ip" };
            if let Ok(took) = trigger.at.elapsed() {
                self.programming.with_label_values(&[kind]).observe(took.as_secs_f64());
            }
        }
    }

    /// All metrics as Prometheus reads them.
    pub(super) fn text(&self, counts: &Counts) -> String {
        let mut text = TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default();
        // Text takes all that is written.
        let _ = write_counts(&mut text, counts);
        text
    }
}

/// `dns://:53`, or with the address if it is one of several.
pub(super) fn server_label(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("dns://:{}", address.port())
    } else {
        format!("dns://{address}")
    }
}

/// The name of a response code.
pub(super) fn rcode_name(code: u16) -> String {
    rcode::name(code).map_or_else(|| code.to_string(), str::to_owned)
}

/// Appends what the server has counted.
fn write_counts(text: &mut String, counts: &Counts) -> std::fmt::Result {
    let zones = &counts.zones;
    head(text, "coredns_dns_requests_total", "Questions", "counter")?;
    for zone in zones {
        for request in &zone.requests {
            let family = if request.family == Family::V4 { 1 } else { 2 };
            let (labels, proto, kind) = (labels(zone), proto(request.transport), request.kind);
            writeln!(
                text,
                "coredns_dns_requests_total{{{labels},proto=\"{proto}\",family=\"{family}\",type=\"{kind}\"}} {}",
                request.count
            )?;
        }
    }
    head(text, "coredns_dns_responses_total", "Answers", "counter")?;
    for zone in zones {
        for response in &zone.responses {
            let plugin = match response.source {
                Source::Cluster => "kubernetes",
                Source::Others => "forward",
                Source::Server => "",
            };
            let (labels, code) = (labels(zone), rcode_name(response.rcode));
            writeln!(
                text,
                "coredns_dns_responses_total{{{labels},rcode=\"{code}\",plugin=\"{plugin}\"}} {}",
                response.count
            )?;
        }
    }
    head(text, "coredns_autopath_success_total", "Questions that a search has found a name for", "counter")?;
    let mut found: BTreeMap<String, u64> = BTreeMap::new();
    for zone in zones.iter().filter(|zone| zone.found > 0) {
        *found.entry(server_label(zone.listener)).or_default() += zone.found;
    }
    for (server, count) in found {
        writeln!(text, "coredns_autopath_success_total{{server=\"{server}\"}} {count}")?;
    }
    let name = "coredns_dns_request_duration_seconds";
    head(text, name, "From a question to its answer", "histogram")?;
    for zone in zones {
        histogram(text, name, &labels(zone), &zone.durations, 1e-9)?;
    }
    let sizes: [(&str, &str, SizesOf); 2] = [
        ("coredns_dns_request_size_bytes", "Lengths of questions", |zone| &zone.request_sizes),
        ("coredns_dns_response_size_bytes", "Lengths of answers", |zone| &zone.response_sizes),
    ];
    for (name, help, of) in sizes {
        head(text, name, help, "histogram")?;
        for zone in zones {
            for (transport, sizes) in [Transport::Udp, Transport::Tcp].into_iter().zip(of(zone)) {
                let labels = format!("{},proto=\"{}\"", labels(zone), proto(transport));
                histogram(text, name, &labels, sizes, 1.0)?;
            }
        }
    }
    write_totals(text, counts)
}

/// Lengths over UDP and TCP, of questions or of answers.
type SizesOf = fn(&ZoneCounts) -> &[Histogram; 2];

/// Appends what is counted for all zones together.
fn write_totals(text: &mut String, counts: &Counts) -> std::fmt::Result {
    for (name, help, kind, value) in [
        ("coredns_panics_total", "Answers that a fault of the program has ended", "counter", counts.panics),
        ("portolan_dns_forbidden_total", "Questions of clients who may not ask", "counter", counts.forbidden),
        ("portolan_dns_ignored_total", "Messages that are no questions", "counter", counts.ignored),
        ("portolan_dns_rejected_total", "Questions that cannot be decoded", "counter", counts.rejected),
        ("portolan_dns_elsewhere_total", "Questions for names in no zone", "counter", counts.elsewhere),
        ("portolan_dns_unsent_total", "Answers that the kernel did not take", "counter", counts.unsent),
        (
            "portolan_dns_overflowed_total",
            "Datagrams that came while the kernel's queue was full",
            "counter",
            counts.overflowed,
        ),
        (
            "portolan_dns_log_dropped_total",
            "Questions that the log had no room for",
            "counter",
            counts.log_dropped,
        ),
        ("portolan_dns_connections_total", "Connections that were accepted", "counter", counts.connections),
        (
            "portolan_dns_connections_refused_total",
            "Connections that were one too many",
            "counter",
            counts.connections_refused,
        ),
        ("portolan_dns_connections", "Connections that are open", "gauge", counts.connections_open),
    ] {
        head(text, name, help, kind)?;
        writeln!(text, "{name} {value}")?;
    }
    Ok(())
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) -> std::fmt::Result {
    writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn labels(zone: &ZoneCounts) -> String {
    // A domain may have any octet but those that its text escapes; quotes are left.
    let name = zone.zone.replace('\\', "\\\\").replace('"', "\\\"");
    format!("server=\"{}\",zone=\"{name}\",view=\"\"", server_label(zone.listener))
}

fn proto(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    }
}

/// Appends a histogram whose numbers are so many of the metric's unit.
#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
fn histogram(text: &mut String, name: &str, labels: &str, found: &Histogram, unit: f64) -> std::fmt::Result {
    let mut total = 0;
    for (number, count) in found.counts.iter().enumerate() {
        total += count;
        match found.bounds.get(number) {
            Some(bound) => {
                let bound = *bound as f64 * unit;
                // Without the last digits, which are none of the number's.
                let bound = (bound * 1e9).round() / 1e9;
                writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}")?;
            }
            None => writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}")?,
        }
    }
    writeln!(text, "{name}_sum{{{labels}}} {}", found.sum as f64 * unit)?;
    writeln!(text, "{name}_count{{{labels}}} {total}")
}

#[cfg(test)]
mod tests {
    use portolan_dns::{Requests, Responses};

    use super::*;

    #[test]
    fn counts_have_the_names_of_the_reference() {
        let histogram = |bounds, counts: &[u64], sum| Histogram { bounds, counts: counts.to_vec(), sum };
        let sizes = || [(); 2].map(|()| histogram(&[100], &[1, 0], 50));
        let zone = ZoneCounts {
            listener: "[::]:53".parse().unwrap(),
            zone: ".".to_owned(),
            found: 6,
            requests: vec![Requests { transport: Transport::Tcp, family: Family::V6, kind: "A", count: 7 }],
            responses: vec![Responses { rcode: 3, source: Source::Cluster, count: 5 }],
            durations: histogram(&[250_000, 500_000], &[2, 1, 1], 3_000_000),
            request_sizes: sizes(),
            response_sizes: sizes(),
        };
        let metrics = Metrics::new(&BuildInfo::new("1.2.3")).unwrap();
        metrics.enable(&[("dns://:53".to_owned(), ".".to_owned(), "kubernetes")]);
        metrics.reload_failed();
        let text = metrics.text(&Counts { zones: vec![zone], panics: 4, ..Counts::default() });
        for expected in [
            "coredns_dns_requests_total{server=\"dns://:53\",zone=\".\",view=\"\",proto=\"tcp\",family=\"2\",type=\"A\"} 7",
            "coredns_dns_responses_total{server=\"dns://:53\",zone=\".\",view=\"\",rcode=\"NXDOMAIN\",plugin=\"kubernetes\"} 5",
            "coredns_dns_request_duration_seconds_bucket{server=\"dns://:53\",zone=\".\",view=\"\",le=\"0.0005\"} 3",
            "coredns_dns_request_duration_seconds_bucket{server=\"dns://:53\",zone=\".\",view=\"\",le=\"+Inf\"} 4",
            "coredns_dns_request_duration_seconds_sum{server=\"dns://:53\",zone=\".\",view=\"\"} 0.003",
            "coredns_dns_request_size_bytes_count{server=\"dns://:53\",zone=\".\",view=\"\",proto=\"udp\"} 1",
            "coredns_build_info{goversion=\"\",revision=\"\",version=\"1.2.3\"} 1",
            "coredns_plugin_enabled{name=\"kubernetes\",server=\"dns://:53\",view=\"\",zone=\".\"} 1",
            "coredns_reload_failed_total 1",
            "coredns_autopath_success_total{server=\"dns://:53\"} 6",
            "coredns_panics_total 4",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
        }
    }
}
