//! What a request would do, without a network: for fuzzing.

use portolan_store::{Failure, Store};
use serde_json::{Value, json};

use crate::allocation::Ranges;
use crate::document::{self, Document};
use crate::patch::PatchKind;
use crate::resource::Resource;
use crate::state::{Authentication, Rules, Shared};
use crate::streams::frames;
use crate::view::View;
use crate::write::{self, Options, Place, Validation};

/// Sends a body of some type to a server that has one object of the resource, `web`. What is no
/// patch is created. Gives the object as it is afterwards.
pub fn send(resource: Resource, content_type: &str, body: &[u8]) -> Result<Value, Failure> {
    let ranges = Ranges { networks: Vec::new(), node_ports: 30_000..=32_767 };
    let rules = Rules { ranges, namespaces: false, records: false };
    let shared = Shared::new(Store::new(16), rules, Authentication::Anonymous, true);
    let mut state = shared.lock();
    let base = json!({ "apiVersion": resource.api_version(), "kind": resource.kind(),
        "metadata": { "name": "web", "namespace": "default", "labels": { "app": "web" } } });
    // It is stored as it is, and so are others before it.
    state.apply(base).map_err(|error| Failure::new(500, error.to_string()))?;
    let options = Options { manager: Some("fuzzer"), validation: Validation::Warn, ..Options::default() };
    let namespace = if resource.namespaced() { "default" } else { "" };
    let place = Place { view: View::stored(resource), namespace, name: "web", part: None };
    let document: Document = document::read(content_type, body)?;
    let kind = match content_type {
        "application/json-patch+json" => PatchKind::Json,
        "application/merge-patch+json" => PatchKind::Merge,
        "application/strategic-merge-patch+json" => PatchKind::Strategic,
        "application/apply-patch+yaml" => {
            return write::apply(&mut state, place, document, options).map(|written| written.object);
        }
        _ => {
            let place = Place { name: "", ..place };
            return write::create(&mut state, place, document, options).map(|written| written.object);
        }
    };
    write::patch_object(&mut state, place, kind, document, options).map(|written| written.object)
}

/// Reads frames of SPDY out of pieces; gives how many there were before the end or an error.
pub fn spdy<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> usize {
    frames(pieces)
}
