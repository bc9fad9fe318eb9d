//! Endpoints of Services that select pods: EndpointSlices, and the older Endpoints; and slices that
//! follow from Endpoints of others.

mod address;
mod endpoints;
mod mirror;

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::circumstances::Circumstances;
use super::object::{Nothing, Object, OwnerReference, difference, without_nulls};
use super::placement::Node;
use super::pod::Pod;
use super::selector::Selects as _;
use super::time::Timestamp;
use super::write::{Propagation, Step, Write};
use crate::Labels;
use address::{is_ready, slice_endpoint, slice_ports};
pub(crate) use mirror::mirror;

/// A Service.
pub type Service = Object<ServiceSpec, Nothing>;

/// `spec` of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "clusterIP")]
    cluster_ip: String,
    ip_families: Vec<String>,
    selector: Labels,
    ports: Vec<ServicePort>,
    publish_not_ready_addresses: bool,
}

/// A port of a Service.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePort {
    name: String,
    protocol: String,
    port: u16,
    target_port: Value,
    app_protocol: Option<String>,
}

/// An EndpointSlice.
#[derive(Debug, Clone)]
pub struct EndpointSlice {
    object: Object<Nothing, Nothing>,
    content: SliceContent,
}

/// What an EndpointSlice says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct SliceContent {
    address_type: String,
    endpoints: Vec<Value>,
    ports: Vec<Value>,
}

/// Who is responsible for a slice.
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// Who is responsible for an Endpoints object.
const ENDPOINTS_MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// The Service that a slice belongs to.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// When that which the endpoints follow from changed: with it a proxy says how long it all took.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// A slice has no more endpoints than this (`--max-endpoints-per-slice`).
const LARGEST: usize = 100;

impl EndpointSlice {
    /// Reads one.
    pub fn read(object: &Value) -> Result<Self, super::Unreadable> {
        let content = SliceContent::deserialize(without_nulls(object)).unwrap_or_default();
        Ok(Self { object: Object::read(object)?, content })
    }

    /// The Service that it belongs to, in its namespace.
    pub fn service(&self) -> Option<&str> {
        self.object.labels().get(SERVICE_NAME).map(String::as_str)
    }

    fn is_ours(&self, service: &Service) -> bool {
        self.object.namespace() == service.namespace()
            && self.service() == Some(service.name())
            && self.is_of(MANAGER)
    }

    /// Whether that one is responsible for it.
    fn is_of(&self, manager: &str) -> bool {
        self.object.labels().get(MANAGED_BY).map(String::as_str) == Some(manager)
            && !self.object.is_deleting()
    }
}

impl Service {
    /// Whether a pod is one of its endpoints, ready or not.
    pub fn selects(&self, pod: &Pod) -> bool {
        self.makes_endpoints()
            && pod.namespace() == self.namespace()
            && self.spec.selector.selects(pod.labels())
    }

    fn makes_endpoints(&self) -> bool {
        !self.spec.selector.is_empty() && self.spec.kind != "ExternalName"
    }

    fn is_headless(&self) -> bool {
        self.spec.cluster_ip == "None"
    }

    /// The families of its endpoints: `IPv4` and `IPv6`.
    fn families(&self) -> Vec<&str> {
        match &self.spec.ip_families[..] {
            [] if self.spec.cluster_ip.contains(':') => vec!["IPv6"],
            [] => vec!["IPv4"],
            families => families.iter().map(String::as_str).collect(),
        }
    }

    /// Its labels, with one that says whether it has no address.
    fn labels_for_endpoints(&self) -> Labels {
        let mut labels = self.labels().clone();
        labels.remove("service.kubernetes.io/headless");
        if self.is_headless() {
            labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
        }
        labels
    }

    fn owner_reference(&self) -> OwnerReference {
        OwnerReference { api_version: "v1".to_owned(), kind: "Service".to_owned(), ..self.as_controller() }
    }
}

/// What a Service makes of pods: its EndpointSlices.
///
/// `pods` are those that it selects, `slices` those of its name; others do no harm. `nodes` are
/// those of the pods, for their zones. Slices that somebody else is responsible for are left
/// alone, and a Service without a selector is.
pub fn endpoint_slices<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    nodes: impl IntoIterator<Item = &'a Node>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    circumstances: &mut Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    if !service.makes_endpoints() || service.is_deleting() {
        return step;
    }
    let zones: BTreeMap<&str, &str> = nodes
        .into_iter()
        .filter_map(|node| Some((node.name(), node.labels().get("topology.kubernetes.io/zone")?.as_str())))
        .collect();
    let pods: Vec<&Pod> = pods.into_iter().collect();
    let mut held: Vec<&EndpointSlice> = slices.into_iter().filter(|slice| slice.is_ours(service)).collect();
    held.sort_by_key(|slice| slice.object.name());
    let mut labels = service.labels_for_endpoints();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    let (wanted, before) = (wanted(service, &pods, &zones), held.clone());
    let triggered = LazyCell::new(|| trigger_time(service, &pods, &before, &wanted));
    let new = New { service, labels, annotations: Labels::new(), owner: service.owner_reference() };
    reconcile(held, &wanted, &new, || *triggered, circumstances, &mut step);
    step
}

/// What new slices have besides their content.
struct New<'a> {
    service: &'a Service,
    labels: Labels,
    annotations: Labels,
    owner: OwnerReference,
}

/// Makes `wanted` of `held`, with as few changes as that takes. `triggered` gives when that which
/// they follow from changed, if that is known.
fn reconcile(
    mut held: Vec<&EndpointSlice>,
    wanted: &[SliceContent],
    new: &New<'_>,
    triggered: impl Fn() -> Option<Timestamp>,
    circumstances: &mut Circumstances<'_>,
    step: &mut Step,
) {
    for content in wanted {
        let is_alike = |slice: &&EndpointSlice| slice.content.address_type == content.address_type;
        let same_ports =
            held.iter().position(|slice| is_alike(slice) && slice.content.ports == content.ports);
        let Some(index) = same_ports.or_else(|| held.iter().position(is_alike)) else {
            step.writes.push(Write::Create(new_slice(new, content, triggered(), circumstances)));
            continue;
        };
        let slice = held.remove(index);
        let relabel = difference(slice.object.labels(), &new.labels);
        if slice.content != *content || relabel.is_some() {
            let (endpoints, ports) = (&content.endpoints, &content.ports);
            let mut patch = json!({ "endpoints": endpoints, "ports": ports });
            if let Some(labels) = relabel {
                patch["metadata"] = json!({ "labels": labels });
            }
            let triggered = triggered();
            if triggered.is_some() || slice.object.metadata.annotations.contains_key(TRIGGER_TIME) {
                patch["metadata"]["annotations"] = json!({ TRIGGER_TIME: triggered });
            }
            step.update(slice.object.target(), patch);
        }
    }
    for slice in held {
        step.delete(slice.object.target(), Propagation::Background);
    }
}

/// For a Service without slices, when it was created. Otherwise, when the first of those pods
/// became ready or unready whose endpoints are not in slices as they are to be.
fn trigger_time(
    service: &Service,
    pods: &[&Pod],
    held: &[&EndpointSlice],
    wanted: &[SliceContent],
) -> Option<Timestamp> {
    if held.is_empty() {
        return service.metadata.creation_timestamp;
    }
    let known: BTreeSet<String> =
        held.iter().flat_map(|slice| &slice.content.endpoints).map(Value::to_string).collect();
    let endpoints = wanted.iter().flat_map(|content| &content.endpoints);
    let changed: BTreeSet<&str> = endpoints
        .filter(|endpoint| !known.contains(&endpoint.to_string()))
        .filter_map(|endpoint| endpoint["targetRef"]["name"].as_str())
        .collect();
    pods.iter().filter(|pod| changed.contains(pod.name())).filter_map(|pod| pod.ready_changed()).min()
}

fn new_slice(
    new: &New<'_>,
    content: &SliceContent,
    triggered: Option<Timestamp>,
    circumstances: &mut Circumstances<'_>,
) -> Value {
    let base = format!("{}-", new.service.name());
    let mut object = json!(content);
    object["apiVersion"] = json!("discovery.k8s.io/v1");
    object["kind"] = json!("EndpointSlice");
    object["metadata"] = json!({
        "name": circumstances.name(&base),
        "generateName": base,
        "namespace": new.service.namespace(),
        "labels": new.labels,
        "ownerReferences": [new.owner],
    });
    if !new.annotations.is_empty() {
        object["metadata"]["annotations"] = json!(new.annotations);
    }
    if triggered.is_some() {
        object["metadata"]["annotations"][TRIGGER_TIME] = json!(triggered);
    }
    object
}

/// The slices that a Service is to have: for each family and each set of port numbers, because a
/// named target port may have another number in each pod. A family without endpoints has an empty
/// one, which says that there are none.
fn wanted(service: &Service, pods: &[&Pod], zones: &BTreeMap<&str, &str>) -> Vec<SliceContent> {
    let mut wanted = Vec::new();
    for family in service.families() {
        let mut groups: BTreeMap<String, SliceContent> = BTreeMap::new();
        let mut pods = pods.to_vec();
        pods.sort_by_key(|pod| pod.name());
        for pod in pods.into_iter().filter(|pod| service.selects(pod) && !pod.is_finished()) {
            let Some(address) = address::of(pod, family) else { continue };
            let ports = slice_ports(&service.spec.ports, pod);
            let group = groups.entry(json!(ports).to_string()).or_insert_with(|| SliceContent {
                address_type: family.to_owned(),
                endpoints: Vec::new(),
                ports,
            });
            let zone = zones.get(pod.spec.node_name.as_str()).copied();
            group.endpoints.push(slice_endpoint(service, pod, address, zone));
        }
        if groups.is_empty() {
            wanted.push(SliceContent { address_type: family.to_owned(), ..SliceContent::default() });
        }
        for group in groups.into_values() {
            wanted.extend(group.endpoints.chunks(LARGEST).map(|endpoints| SliceContent {
                address_type: group.address_type.clone(),
                endpoints: endpoints.to_vec(),
                ports: group.ports.clone(),
            }));
        }
    }
    wanted
}

/// Whether the pods of a Service are what an Endpoints object follows from.
fn is_by_controller(endpoints: &Object<Nothing, Nothing>) -> bool {
    endpoints.labels().contains_key(ENDPOINTS_MANAGED_BY)
}

/// What becomes of the Endpoints object of a Service that is gone. One that somebody else has made
/// stays.
pub(crate) fn end_of_endpoints(held: &Value) -> Step {
    let mut step = Step::default();
    if let Ok(object) = Object::<Nothing, Nothing>::read(held)
        && is_by_controller(&object)
        && !object.is_deleting()
    {
        step.delete(object.target(), Propagation::Background);
    }
    step
}

/// What a Service makes of pods: its Endpoints object, which is of its first family only.
///
/// `pods` are as in [`endpoint_slices`], `held` is the object of the Service's name.
pub fn endpoints<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    held: Option<&Value>,
) -> Result<Step, super::Unreadable> {
    let mut step = Step::default();
    if !service.makes_endpoints() || service.is_deleting() {
        return Ok(step);
    }
    let pods: Vec<&Pod> = pods.into_iter().filter(|pod| service.selects(pod) && !pod.is_finished()).collect();
    let family = service.families().first().copied().unwrap_or("IPv4").to_owned();
    let considered =
        pods.into_iter().filter(|pod| service.spec.publish_not_ready_addresses || !pod.is_deleting());
    let sorted = considered.filter_map(|pod| Some((pod, address::of(pod, &family)?)));
    let subsets = endpoints::subsets(
        service.name(),
        &service.spec.ports,
        sorted.map(|(pod, address)| {
            (pod, address, service.spec.publish_not_ready_addresses || is_ready(service, pod))
        }),
    );
    let mut labels = service.labels_for_endpoints();
    labels.insert(ENDPOINTS_MANAGED_BY.to_owned(), "endpoint-controller".to_owned());
    match held {
        None => step.writes.push(Write::Create(json!({
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": { "name": service.name(), "namespace": service.namespace(), "labels": labels },
            "subsets": subsets,
        }))),
        Some(held) => {
            let object: Object<Nothing, Nothing> = Object::read(held)?;
            let before = held.get("subsets").cloned().filter(|subsets| !subsets.is_null());
            let relabel = difference(object.labels(), &labels);
            if before.unwrap_or_else(|| json!([])) != json!(subsets) || relabel.is_some() {
                let mut patch = json!({ "subsets": subsets });
                if let Some(labels) = relabel {
                    patch["metadata"] = json!({ "labels": labels });
                }
                step.update(object.target(), patch);
            }
        }
    }
    Ok(step)
}
