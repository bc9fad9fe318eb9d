//! What every Kubernetes component tells: its build, its feature gates, its requests to the API server, its health checks
//! (spec §11.17).

use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec, Registry};

use super::register::Register;
use crate::BuildInfo;

/// One request to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRequest {
    /// The HTTP method, such as `GET`.
    pub method: String,
    /// Host and port of the server.
    pub host: String,
    /// The status of the answer; `None` if there was none.
    pub code: Option<u16>,
    /// From sending the request to the head of the answer.
    pub took: Duration,
}

/// How settled a feature is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeatureStage {
    /// ALPHA
    Alpha,
    /// BETA
    Beta,
    /// Generally available
    Stable,
    /// DEPRECATED
    Deprecated,
}

/// A feature gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// Its name.
    pub name: String,
    /// How settled it is.
    pub stage: FeatureStage,
    /// Whether it is on.
    pub enabled: bool,
}

pub(super) struct Component {
    requests: IntCounterVec,
    request_duration: HistogramVec,
    features: IntGaugeVec,
}

impl Component {
    pub(super) fn register(registry: &Registry, build: &BuildInfo) -> Component {
        let kubernetes = Register { registry, prefix: "kubernetes" };
        let client = Register { registry, prefix: "rest_client" };
        let labels = [
            ("major", &build.major),
            ("minor", &build.minor),
            ("git_version", &build.git_version),
            ("git_commit", &build.git_commit),
            ("git_tree_state", &build.git_tree_state),
            ("build_date", &build.build_date),
            ("go_version", &build.go_version),
            ("compiler", &build.compiler),
            ("platform", &build.platform),
        ];
        let values = labels.map(|(_, value)| value.as_str());
        kubernetes
            .int_gauges("build_info", "What was built; always 1", &labels.map(|(name, _)| name))
            .with_label_values(&values)
            .set(1);
        Component {
            requests: client.int_counters(
                "requests_total",
                "Requests to the API server by status code (<error> if none came), method and host",
                &["code", "method", "host"],
            ),
            request_duration: client.histograms(
                "request_duration_seconds",
                "How long the API server took to answer, in seconds",
                vec![0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0],
                &["verb", "host"],
            ),
            features: kubernetes.int_gauges(
                "feature_enabled",
                "Feature gates: 1 if on, 0 if off",
                &["name", "stage"],
            ),
        }
    }

    pub(super) fn api_request(&self, request: &ApiRequest) {
        let code = request.code.map_or_else(|| "<error>".to_owned(), |code| code.to_string());
        self.requests.with_label_values(&[code.as_str(), &request.method, &request.host]).inc();
        self.request_duration
            .with_label_values(&[&request.method, &request.host])
            .observe(request.took.as_secs_f64());
    }

    pub(super) fn feature(&self, feature: &Feature) {
        let stage = match feature.stage {
            FeatureStage::Alpha => "ALPHA",
            FeatureStage::Beta => "BETA",
            FeatureStage::Stable => "",
            FeatureStage::Deprecated => "DEPRECATED",
        };
        self.features.with_label_values(&[&feature.name, stage]).set(i64::from(feature.enabled));
    }
}

/// The answers of the health checks as service level indicators, in a registry of their own: `/metrics/slis`.
pub(super) struct HealthSlis {
    registry: Registry,
    last: IntGaugeVec,
    answers: IntCounterVec,
}

impl HealthSlis {
    pub(super) fn new() -> HealthSlis {
        let registry = Registry::new();
        let register = Register { registry: &registry, prefix: "kubernetes" };
        HealthSlis {
            last: register.int_gauges(
                "healthcheck",
                "1 if the health check last succeeded, 0 if it failed",
                &["name", "type"],
            ),
            answers: register.int_counters(
                "healthchecks_total",
                "Answers of the health check by status",
                &["name", "type", "status"],
            ),
            registry,
        }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn answered(&self, check: &str, code: u16) {
        let ok = code == 200;
        self.last.with_label_values(&["proxy", check]).set(i64::from(ok));
        self.answers.with_label_values(&["proxy", check, if ok { "success" } else { "error" }]).inc();
    }

    pub(super) fn reset(&self) {
        self.last.reset();
        self.answers.reset();
    }
}
