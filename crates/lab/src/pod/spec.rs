//! A pod's spec, as far as the lab goes by it.

use std::collections::BTreeMap;
use std::time::Duration;

use portolan_probe::{ProbeKind, Timing};
use serde::Deserialize;
use serde_json::Value;

/// What of a Pod object is of use.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Object {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
}

/// `metadata`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) uid: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
}

/// `spec`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Spec {
    pub(super) node_name: String,
    pub(super) restart_policy: String,
    pub(super) termination_grace_period_seconds: Option<u32>,
    pub(super) service_account_name: String,
    pub(super) init_containers: Vec<Container>,
    pub(super) containers: Vec<Container>,
}

/// A container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) image: String,
    pub(super) command: Vec<String>,
    pub(super) args: Vec<String>,
    pub(super) working_dir: String,
    pub(super) env: Vec<Variable>,
    pub(super) ports: Vec<Port>,
    pub(super) restart_policy: String,
    pub(super) liveness_probe: Option<Probe>,
    pub(super) readiness_probe: Option<Probe>,
    pub(super) startup_probe: Option<Probe>,
}

/// An environment variable.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) value_from: Value,
}

/// A port of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) container_port: u16,
}

/// A probe.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Probe {
    pub(super) http_get: Option<HttpGet>,
    pub(super) tcp_socket: Option<TcpSocket>,
    pub(super) grpc: Option<Grpc>,
    pub(super) exec: Option<Exec>,
    initial_delay_seconds: u32,
    timeout_seconds: Option<u32>,
    period_seconds: Option<u32>,
    success_threshold: Option<u32>,
    failure_threshold: Option<u32>,
    termination_grace_period_seconds: Option<u32>,
}

/// `httpGet`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HttpGet {
    pub(super) path: String,
    pub(super) port: Value,
    pub(super) host: String,
    pub(super) scheme: String,
    pub(super) http_headers: Vec<Header>,
}

/// A header of a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: String,
}

/// `tcpSocket`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct TcpSocket {
    pub(super) port: Value,
    pub(super) host: String,
}

/// `grpc`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Grpc {
    pub(super) port: Value,
    pub(super) service: String,
}

/// `exec`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Exec {
    pub(super) command: Vec<String>,
}

impl Object {
    /// Reads a Pod. A field that is null counts as absent.
    pub(super) fn read(pod: &Value) -> serde_json::Result<Object> {
        Object::deserialize(without_nulls(pod))
    }
}

fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            fields.map(|(key, value)| (key.clone(), without_nulls(value))).collect()
        }
        Value::Array(items) => items.iter().map(without_nulls).collect(),
        value => value.clone(),
    }
}

impl Spec {
    /// How long a pod has to end when it is not said otherwise.
    pub(super) fn grace(&self) -> Duration {
        Duration::from_secs(self.termination_grace_period_seconds.unwrap_or(30).into())
    }
}

impl Container {
    /// Its probe of a kind.
    pub(super) fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        let probe = match kind {
            ProbeKind::Startup => &self.startup_probe,
            ProbeKind::Liveness => &self.liveness_probe,
            ProbeKind::Readiness => &self.readiness_probe,
        };
        probe.as_ref()
    }

    /// The number of a port that a probe names.
    pub(super) fn port(&self, port: &Value) -> Option<u16> {
        match port {
            Value::String(name) => {
                let named = self.ports.iter().find(|port| port.name == *name);
                named.map(|port| port.container_port).or_else(|| name.parse().ok())
            }
            number => number.as_u64().and_then(|number| u16::try_from(number).ok()),
        }
        .filter(|port| *port > 0)
    }
}

impl Probe {
    /// When it is carried out. What is not said is as the API has it.
    pub(super) fn timing(&self) -> Timing {
        let usual = Timing::default();
        let seconds = |given: Option<u32>| given.map(|seconds| Duration::from_secs(seconds.max(1).into()));
        Timing {
            initial_delay: Duration::from_secs(self.initial_delay_seconds.into()),
            period: seconds(self.period_seconds).unwrap_or(usual.period),
            timeout: seconds(self.timeout_seconds).unwrap_or(usual.timeout),
            successes: self.success_threshold.map_or(usual.successes, |number| number.max(1)),
            failures: self.failure_threshold.map_or(usual.failures, |number| number.max(1)),
        }
    }

    /// How long the container has to end when this probe has failed, if it says so.
    pub(super) fn grace(&self) -> Option<Duration> {
        self.termination_grace_period_seconds.map(|seconds| Duration::from_secs(seconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_people_write() {
        let pod = json!({ "metadata": { "name": "p", "labels": null }, "spec": { "initContainers": null,
            "containers": [{ "name": "c", "args": null, "readinessProbe": { "httpGet": { "port": "web" } },
                "ports": [{ "name": "web", "containerPort": 8080 }] }] } });
        let pod = Object::read(&pod).expect("a pod");
        let container = &pod.spec.containers[0];
        let probe = container.readiness_probe.as_ref().expect("a probe");
        assert_eq!(probe.timing(), Timing::default());
        assert_eq!(pod.spec.grace().as_secs(), 30);
        for (port, expected) in [
            (json!("web"), Some(8080)),
            (json!(80), Some(80)),
            (json!("80"), Some(80)),
            (json!("x"), None),
            (json!(0), None),
            (json!(99_999), None),
        ] {
            assert_eq!(container.port(&port), expected, "{port}");
        }
        let wrong = json!({ "spec": { "containers": "none" } });
        assert!(Object::read(&wrong).is_err());
    }
}
