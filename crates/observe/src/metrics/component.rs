//! What every Kubernetes component has: its build, its feature gates, its health checks (spec
//! §11.17).

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::{IntCounterVec, IntGaugeVec, Registry};

use super::register::Register;
use crate::BuildInfo;

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
    features: IntGaugeVec,
}

impl Component {
    pub(super) fn register(registry: &Registry, build: &BuildInfo) -> Component {
        let kubernetes = Register { registry, prefix: "kubernetes" };
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
            features: kubernetes.int_gauges(
                "feature_enabled",
                "Feature gates: 1 if on, 0 if off",
                &["name", "stage"],
            ),
        }
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

/// What is asked of a proxy's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HealthCheck {
    /// `/healthz`
    Healthz,
    /// `/livez`
    Livez,
}

impl HealthCheck {
    pub(crate) const ALL: [HealthCheck; 2] = [HealthCheck::Healthz, HealthCheck::Livez];

    fn kind(self) -> &'static str {
        match self {
            HealthCheck::Healthz => "healthz",
            HealthCheck::Livez => "livez",
        }
    }
}

/// The answers of the health checks as service level indicators, in a registry of their own:
/// `/metrics/slis`.
pub(super) struct HealthSlis {
    registry: Registry,
    last: IntGaugeVec,
    answers: IntCounterVec,
    /// They have been read.
    read: AtomicBool,
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
            read: AtomicBool::new(false),
            registry,
        }
    }

    /// Whether this is the first time that they are read.
    pub(super) fn is_first_reading(&self) -> bool {
        !self.read.swap(true, Ordering::Relaxed)
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Whether `check` has been answered since the answers were last forgotten.
    pub(super) fn has(&self, check: HealthCheck) -> bool {
        let count = |status| self.answers.with_label_values(&["proxy", check.kind(), status]).get();
        count("success") + count("error") > 0
    }

    pub(super) fn answered(&self, check: HealthCheck, code: u16) {
        let ok = code == 200;
        self.last.with_label_values(&["proxy", check.kind()]).set(i64::from(ok));
        self.answers.with_label_values(&["proxy", check.kind(), if ok { "success" } else { "error" }]).inc();
    }

    pub(super) fn reset(&self) {
        self.last.reset();
        self.answers.reset();
    }
}
