//! What is sent to the API server, under client-go's names: `rest_client_*` (spec §11.17).
//!
//! Buckets and labels are those of Kubernetes 1.36
//! (`component-base/metrics/prometheus/restclient`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Histogram, HistogramVec, IntCounterVec, IntGauge, Registry};

use super::register::Register;

const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];
const BYTES: [f64; 11] = [
    64.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];
/// From ten minutes to four years.
const AGES: [f64; 11] = [
    600.0,
    1800.0,
    3600.0,
    14_400.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
    124_416_000.0,
];

/// Metrics of requests to the API server. `host` is its host and port.
pub struct ApiClient {
    requests: IntCounterVec,
    retries: IntCounterVec,
    request_duration: HistogramVec,
    request_size: HistogramVec,
    response_size: HistogramVec,
    limiter: HistogramVec,
    resolver: HistogramVec,
    plugin_calls: IntCounterVec,
    certificate_age: Histogram,
    certificate_until: Arc<Mutex<Option<SystemTime>>>,
    transports: IntGauge,
    transport_calls: IntCounterVec,
}

impl ApiClient {
    pub(super) fn register(registry: &Registry) -> ApiClient {
        let client = Register { registry, prefix: "rest_client" };
        let by_verb = ["verb", "host"];
        let certificate_until = Arc::default();
        let ttl = TimeToLive {
            gauge: Gauge::with_opts(client.opts(
                "exec_plugin_ttl_seconds",
                "Seconds until the client certificate of the exec plugin ends; +Inf without one",
            ))
            .expect("a valid name"),
            until: Arc::clone(&certificate_until),
        };
        registry.register(Box::new(ttl)).expect("a unique name");
        ApiClient {
            requests: client.int_counters(
                "requests_total",
                "Requests to the API server by status code (<error> if none came), method and host",
                &["code", "method", "host"],
            ),
            retries: client.int_counters(
                "request_retries_total",
                "Requests made again as the API server asked, by the status code of its answer, verb and host",
                &["code", "verb", "host"],
            ),
            request_duration: client.histograms(
                "request_duration_seconds",
                "How long the API server took to answer, in seconds",
                SECONDS.to_vec(),
                &by_verb,
            ),
            request_size: client.histograms(
                "request_size_bytes",
                "Size of the bodies of requests in bytes",
                BYTES.to_vec(),
                &by_verb,
            ),
            response_size: client.histograms(
                "response_size_bytes",
                "Size of the bodies of answers in bytes, without watches",
                BYTES.to_vec(),
                &by_verb,
            ),
            limiter: client.histograms(
                "rate_limiter_duration_seconds",
                "How long requests waited for the client's own rate limit, in seconds",
                SECONDS.to_vec(),
                &by_verb,
            ),
            resolver: client.histograms(
                "dns_resolution_duration_seconds",
                "How long it took to look up the API server's name, in seconds",
                SECONDS[..11].to_vec(),
                &["host"],
            ),
            plugin_calls: client.int_counters(
                "exec_plugin_call_total",
                "Calls of the exec plugin by its exit code and what came of it",
                &["code", "call_status"],
            ),
            certificate_age: client.histogram(
                "exec_plugin_certificate_rotation_age",
                "How long a client certificate of the exec plugin was used before it was replaced, in seconds",
                AGES.to_vec(),
            ),
            certificate_until,
            transports: client.int_gauge("transport_cache_entries", "Transports in use"),
            transport_calls: client.int_counters(
                "transport_create_calls_total",
                "Transports made; each is a miss, since one is kept until configuration or credentials are read anew",
                &["result"],
            ),
        }
    }

    /// A request waited for its turn for as long as `took`.
    pub fn limited(&self, host: &str, method: &str, took: Duration) {
        self.limiter.with_label_values(&[method, host]).observe(took.as_secs_f64());
    }

    /// A request with a body of `length` bytes was answered with the status `code` after `took`;
    /// `None` if no answer came.
    pub fn requested(&self, host: &str, method: &str, code: Option<u16>, took: Duration, length: usize) {
        let code = code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        self.requests.with_label_values(&[code.as_str(), method, host]).inc();
        self.request_duration.with_label_values(&[method, host]).observe(took.as_secs_f64());
        self.request_size.with_label_values(&[method, host]).observe(bytes(length));
    }

    /// An answer with a body of `length` bytes was read to its end.
    pub fn answered(&self, host: &str, method: &str, length: usize) {
        self.response_size.with_label_values(&[method, host]).observe(bytes(length));
    }

    /// A request is made again because the server asked for it, with the status `code`.
    pub fn retried(&self, host: &str, method: &str, code: u16) {
        self.retries.with_label_values(&[code.to_string().as_str(), method, host]).inc();
    }

    /// It took this long to look up the server's name.
    pub fn resolved(&self, host: &str, took: Duration) {
        self.resolver.with_label_values(&[host]).observe(took.as_secs_f64());
    }

    /// A program was asked for credentials. It ended with `code`; `outcome` is client-go's word for
    /// it, such as `no_error`.
    pub fn plugin_called(&self, code: i32, outcome: &str) {
        self.plugin_calls.with_label_values(&[code.to_string().as_str(), outcome]).inc();
    }

    /// A program gave a client certificate. It has to be replaced at `until`, if ever; the one
    /// before it was used for as long as `replaced_after`.
    pub fn certificate_given(&self, until: Option<SystemTime>, replaced_after: Option<Duration>) {
        *self.certificate_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
        if let Some(age) = replaced_after {
            self.certificate_age.observe(age.as_secs_f64());
        }
    }

    /// A transport was made, with the configuration and the credentials as they now are.
    pub fn transport_made(&self) {
        self.transports.set(1);
        self.transport_calls.with_label_values(&["miss"]).inc();
    }
}

/// How long a certificate is still good, when somebody asks.
struct TimeToLive {
    gauge: Gauge,
    until: Arc<Mutex<Option<SystemTime>>>,
}

impl Collector for TimeToLive {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let until = *self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        self.gauge.set(until.map_or(f64::INFINITY, |until| match until.duration_since(now) {
            Ok(left) => left.as_secs_f64(),
            Err(past) => -past.duration().as_secs_f64(),
        }));
        self.gauge.collect()
    }
}

/// Above 2^53, eight petabytes, a little is lost.
#[expect(clippy::cast_precision_loss)]
fn bytes(length: usize) -> f64 {
    length as f64
}
