//! What is filled in where an object leaves it open.

mod pod;
mod service;
mod workload;
pub(crate) use workload::select_by_uid;

use serde_json::{Value, json};

use crate::resource::Resource;
use crate::value::{fill, items_mut, map, remove, text};
use crate::view::View;

/// Fills in all that can be filled in without knowing other objects.
pub(crate) fn fill_in(view: View, object: &mut Value) {
    match view.resource {
        Resource::Services => service::fill_in(object),
        Resource::Pods => pod::fill_in(object),
        Resource::Deployments => workload::deployment(object, view.is_old_deployment()),
        Resource::ReplicaSets => workload::replica_set(object),
        Resource::ReplicationControllers => workload::replication_controller(object),
        Resource::DaemonSets => workload::daemon_set(object),
        Resource::StatefulSets => workload::stateful_set(object),
        Resource::Jobs => workload::job(object),
        Resource::Namespaces => {
            let name = text(object, "/metadata/name").to_owned();
            let labels = map(&mut object["metadata"], "labels");
            labels.insert("kubernetes.io/metadata.name".to_owned(), json!(name));
        }
        Resource::Secrets => {
            fill(object, "type", "Opaque");
            if let Some(Value::Object(texts)) = remove(object, "", "stringData") {
                let data = map(object, "data");
                for (name, value) in texts {
                    data.insert(name, json!(encode(value.as_str().unwrap_or_default())));
                }
            }
        }
        Resource::Endpoints => {
            for subset in items_mut(object, "/subsets") {
                items_mut(subset, "/ports").for_each(|port| fill(port, "protocol", "TCP"));
            }
        }
        Resource::EndpointSlices => {
            for port in items_mut(object, "/ports") {
                fill(port, "name", "");
                fill(port, "protocol", "TCP");
            }
        }
        _ => {}
    }
}

fn encode(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
