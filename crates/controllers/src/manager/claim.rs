//! Which objects are a controller's: those that it selects and nobody else manages.

use serde_json::json;

use super::object::Object;
use super::selector::Selects;
use super::write::Step;

/// The objects that `owner` manages. One that it selects and that nobody manages is adopted; one
/// that it manages and no longer selects is released (`ControllerRefManager`).
pub(crate) fn claim<'a, S, T, A, B>(
    owner: &Object<S, T>,
    selector: &impl Selects,
    objects: impl IntoIterator<Item = &'a Object<A, B>>,
    step: &mut Step,
) -> Vec<&'a Object<A, B>> {
    let mut claimed = Vec::new();
    for object in objects {
        let selected = selector.selects(object.labels());
        if owner.controls(object) {
            if selected {
                claimed.push(object);
            } else if !owner.is_deleting() {
                let owners = object.metadata.owner_references.iter();
                let others: Vec<_> = owners.filter(|other| other.uid != owner.metadata.uid).collect();
                step.update(object.target(), json!({ "metadata": { "ownerReferences": others } }));
            }
        } else if object.controller().is_none()
            && selected
            && !owner.is_deleting()
            && !object.is_deleting()
            && object.metadata.namespace == owner.metadata.namespace
        {
            let others =
                object.metadata.owner_references.iter().filter(|other| other.uid != owner.metadata.uid);
            let mut owners: Vec<_> = others.cloned().collect();
            owners.push(owner.as_controller());
            step.update(object.target(), json!({ "metadata": { "ownerReferences": owners } }));
            claimed.push(object);
        }
    }
    claimed
}
