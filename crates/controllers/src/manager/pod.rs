//! Pods, as controllers look at them.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::object::{Condition, Object, OwnerReference, condition};
use super::placement::{Affinity, Toleration};
use super::time::Timestamp;
use crate::Labels;

/// A Pod.
pub type Pod = Object<PodSpec, PodStatus>;

/// `spec` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    pub(crate) node_name: String,
    pub(crate) scheduler_name: String,
    pub(crate) scheduling_gates: Vec<Value>,
    pub(crate) node_selector: Labels,
    pub(crate) affinity: Affinity,
    pub(crate) tolerations: Vec<Toleration>,
    pub(crate) host_network: bool,
    pub(crate) hostname: String,
    pub(crate) subdomain: String,
    pub(crate) containers: Vec<Container>,
    pub(crate) init_containers: Vec<Container>,
}

/// What is of interest of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Container {
    pub(crate) restart_policy: String,
    pub(crate) ports: Vec<Port>,
}

/// A port of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Port {
    pub(crate) name: String,
    /// `containerPort`
    #[serde(rename = "containerPort")]
    pub(crate) number: u16,
    /// `hostPort`; 0 for none.
    #[serde(rename = "hostPort")]
    pub(crate) on_host: u16,
    #[serde(rename = "hostIP")]
    pub(crate) address: String,
    pub(crate) protocol: String,
}

/// `status` of a Pod.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    pub(crate) phase: String,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) container_statuses: Vec<ContainerStatus>,
    #[serde(rename = "podIP")]
    pub(crate) pod_ip: String,
    #[serde(rename = "podIPs")]
    pub(crate) pod_ips: Vec<PodIp>,
}

/// An entry of `status.podIPs`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PodIp {
    pub(crate) ip: String,
}

/// What is of interest of the state of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ContainerStatus {
    pub(crate) restart_count: i64,
    pub(crate) state: ContainerState,
}

/// `state` of a container.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ContainerState {
    pub(crate) terminated: Option<Terminated>,
}

/// How a container has ended.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Terminated {
    pub(crate) finished_at: Option<Timestamp>,
}

impl Pod {
    /// Whether it has run to its end.
    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.status.phase.as_str(), "Succeeded" | "Failed")
    }

    /// When the last of its containers ended, if it has run to its end. One that never ran ended
    /// when it was made.
    pub(crate) fn ended_at(&self) -> Option<Timestamp> {
        let ends =
            self.status.container_statuses.iter().filter_map(|status| status.state.terminated.as_ref());
        let last = ends.filter_map(|end| end.finished_at).max();
        last.or(self.metadata.creation_timestamp).filter(|_| self.is_finished())
    }

    /// Whether it counts as a replica: neither at its end nor on its way there.
    pub(crate) fn is_active(&self) -> bool {
        !self.is_finished() && !self.is_deleting()
    }

    /// Whether its condition Ready is true.
    pub(crate) fn is_ready(&self) -> bool {
        condition(&self.status.conditions, "Ready").is_some_and(|ready| ready.status == "True")
    }

    /// When its condition Ready changed last.
    pub(crate) fn ready_changed(&self) -> Option<Timestamp> {
        condition(&self.status.conditions, "Ready")?.last_transition_time
    }

    /// Since when it has been ready.
    pub(crate) fn ready_since(&self) -> Option<Timestamp> {
        let ready = condition(&self.status.conditions, "Ready")?;
        if ready.status == "True" { ready.last_transition_time } else { None }
    }

    /// Whether it has been ready for so long.
    pub(crate) fn is_available(&self, min_ready_seconds: i64, now: Timestamp) -> bool {
        self.is_ready()
            && (min_ready_seconds <= 0
                || self.ready_since().is_some_and(|since| since.plus(min_ready_seconds) <= now))
    }

    /// When it will be available, if it stays ready.
    pub(crate) fn available_at(&self, min_ready_seconds: i64, now: Timestamp) -> Option<Timestamp> {
        self.ready_since().map(|since| since.plus(min_ready_seconds)).filter(|time| *time > now)
    }

    /// How often the container that was restarted most often was.
    pub(crate) fn restarts(&self) -> i64 {
        self.status.container_statuses.iter().map(|status| status.restart_count).max().unwrap_or_default()
    }
}

/// A pod as `template` describes it, managed by `owner`.
pub(crate) fn from_template(
    template: &Value,
    owner: &OwnerReference,
    namespace: &str,
    name: &str,
    generate_name: Option<&str>,
) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field).filter(|value| !value.is_null()) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    metadata.insert("namespace".to_owned(), json!(namespace));
    metadata.insert("name".to_owned(), json!(name));
    if let Some(generate_name) = generate_name {
        metadata.insert("generateName".to_owned(), json!(generate_name));
    }
    metadata.insert("ownerReferences".to_owned(), json!([owner]));
    let spec = template.get("spec").cloned().unwrap_or_default();
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec })
}

/// The map in `value` at the end of a path of maps. What is no map on the way becomes one.
pub(crate) fn map_at<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut place = value;
    for key in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[*key];
    }
    if !place.is_object() {
        *place = Value::Object(Map::new());
    }
    match place {
        Value::Object(map) => map,
        _ => unreachable!("it was made a map"),
    }
}
