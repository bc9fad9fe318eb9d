//! Slices that follow from Endpoints which somebody has made by hand, for a Service that selects no
//! pods.

use serde_json::{Value, json};

use super::address;
use super::{
    EndpointSlice, MANAGED_BY, New, SERVICE_NAME, Service, SliceContent, is_by_controller, reconcile,
};
use crate::manager::circumstances::Circumstances;
use crate::manager::object::{Nothing, Object};
use crate::manager::write::{Propagation, Step};

/// Who is responsible for such slices.
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// With the value `true`, this label says that somebody else makes the slices.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints with this annotation are a lock of an old kind, and lead nowhere.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// These annotations are about the Endpoints object alone.
const NOT_MIRRORED: [&str; 2] =
    ["kubectl.kubernetes.io/last-applied-configuration", "endpoints.kubernetes.io/last-change-trigger-time"];
/// So many addresses of a subset are mirrored (`--mirroring-max-endpoints-per-subset`).
const MOST: usize = 1_000;

/// What becomes of the slices that mirror Endpoints.
///
/// `service` is the Service of the name, `None` if there is none; `endpoints` the object of the
/// name. `slices` are those of the Service; others do no harm.
pub(crate) fn mirror<'a>(
    service: Option<&Service>,
    endpoints: Option<&Value>,
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    circumstances: &mut Circumstances<'_>,
) -> Step {
    let mut step = Step::default();
    let is_mirror = |slice: &&EndpointSlice| slice.is_of(MANAGER);
    let held: Vec<&EndpointSlice> = slices.into_iter().filter(is_mirror).collect();
    let object = endpoints.and_then(|endpoints| Object::<Nothing, Nothing>::read(endpoints).ok());
    let source = service.zip(endpoints).zip(object).filter(|((service, _), object)| {
        service.spec.selector.is_empty()
            && !service.is_deleting()
            && !object.is_deleting()
            && is_mirrored(object)
    });
    let Some(((service, endpoints), object)) = source else {
        for slice in held {
            step.delete(slice.object.target(), Propagation::Background);
        }
        return step;
    };
    let mut labels = object.labels().clone();
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels.insert(SERVICE_NAME.to_owned(), service.name().to_owned());
    let mut annotations = object.metadata.annotations.clone();
    annotations.retain(|key, _| !NOT_MIRRORED.contains(&key.as_str()));
    let owner = object.as_controller();
    let new = New { service, labels, annotations, owner };
    reconcile(held, &contents(endpoints), &new, || None, circumstances, &mut step);
    step
}

fn is_mirrored(endpoints: &Object<Nothing, Nothing>) -> bool {
    let skipped = endpoints.labels().get(SKIP).is_some_and(|value| value == "true");
    !skipped && !endpoints.metadata.annotations.contains_key(LEADER) && !is_by_controller(endpoints)
}

/// For each subset and family one that says the same.
fn contents(endpoints: &Value) -> Vec<SliceContent> {
    let mut contents = Vec::new();
    for subset in items(&endpoints["subsets"]) {
        let ports: Vec<Value> = items(&subset["ports"]).map(port).collect();
        for family in ["IPv4", "IPv6"] {
            let entries = |field: &str, ready: bool| {
                let of_family =
                    move |entry: &&Value| entry["ip"].as_str().and_then(address::family) == Some(family);
                let entries: Vec<Value> = items(&subset[field]).filter(of_family).cloned().collect();
                entries.into_iter().map(move |entry| endpoint(&entry, ready))
            };
            let all = entries("addresses", true).chain(entries("notReadyAddresses", false));
            let all: Vec<Value> = all.take(MOST).collect();
            contents.extend(all.chunks(super::LARGEST).map(|endpoints| SliceContent {
                address_type: family.to_owned(),
                endpoints: endpoints.to_vec(),
                ports: ports.clone(),
            }));
        }
    }
    contents
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A port of a subset, as slices have it.
fn port(port: &Value) -> Value {
    let mut entry = json!({ "name": port["name"].as_str().unwrap_or_default(),
        "protocol": port["protocol"].as_str().unwrap_or("TCP"), "port": port["port"] });
    if port["appProtocol"].is_string() {
        entry["appProtocol"] = port["appProtocol"].clone();
    }
    entry
}

/// An address of a subset, as slices have it.
fn endpoint(entry: &Value, ready: bool) -> Value {
    let mut endpoint = json!({ "addresses": [entry["ip"]], "conditions": { "ready": ready } });
    for field in ["hostname", "nodeName"] {
        if entry[field].as_str().is_some_and(|value| !value.is_empty()) {
            endpoint[field] = entry[field].clone();
        }
    }
    if entry["targetRef"].is_object() {
        endpoint["targetRef"] = entry["targetRef"].clone();
    }
    endpoint
}
