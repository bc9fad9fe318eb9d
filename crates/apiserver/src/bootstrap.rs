//! What a cluster has before anybody comes.

use serde_json::{Value, json};

use crate::document::Document;
use crate::resource::Resource;
use crate::state::{Shared, State};
use crate::view::View;
use crate::write::{Options, Place, create};

/// Creates the namespaces of every cluster, its networks for Services, and Service `kubernetes`.
pub(crate) fn bootstrap(shared: &Shared, port: u16) {
    shared.change(|state| {
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            put(state, Resource::Namespaces, "", json!({ "metadata": { "name": name } }));
        }
        let networks: Vec<String> = state.rules.ranges.networks.iter().map(ToString::to_string).collect();
        put(
            state,
            Resource::ServiceCidrs,
            "",
            json!({ "metadata": { "name": "kubernetes" }, "spec": { "cidrs": networks } }),
        );
        let first = state.rules.ranges.networks.first().and_then(|network| network.hosts().next());
        if let Some(address) = first {
            let spec = json!({ "clusterIP": address.to_string(),
                "ports": [{ "name": "https", "port": 443, "protocol": "TCP", "targetPort": port }] });
            let metadata = json!({ "name": "kubernetes", "namespace": "default",
                "labels": { "component": "apiserver", "provider": "kubernetes" } });
            put(state, Resource::Services, "default", json!({ "metadata": metadata, "spec": spec }));
        }
    });
}

fn put(state: &mut State, resource: Resource, namespace: &str, object: Value) {
    let place = Place { view: View::stored(resource), namespace, name: "", part: None };
    let document = Document { value: object, repeated: Vec::new() };
    // What a store that is not empty has already stays as it is.
    let _exists = create(state, place, document, Options::default());
}
