//! What becomes of objects when their owners go: `ownerReferences`.

use serde_json::json;

use super::object::{Anything, OwnerReference};
use super::write::{Propagation, Step};

/// The finalizer of an object that goes after what it owns.
const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer of an object that lets go of what it owns.
const ORPHAN: &str = "orphan";

/// Looks after one object.
///
/// `owner` finds the object that a reference means, in the namespace of the object or without one;
/// it may have another uid, and then is not meant. `owned` are the objects with a reference to
/// this one's uid.
///
/// An object all of whose owners are gone is deleted; a reference to one that is gone is taken out
/// while another one stays. One that is deleted in the foreground goes when nothing is left that
/// it owns and that blocks it; one that orphans, when nothing refers to it any more.
pub fn garbage<'a>(
    object: &Anything,
    owner: impl Fn(&OwnerReference) -> Option<&'a Anything>,
    owned: impl IntoIterator<Item = &'a Anything>,
) -> Step {
    let mut step = Step::default();
    let owned: Vec<&Anything> = owned.into_iter().filter(|other| refers(other, object.uid())).collect();
    if object.is_deleting() {
        finish(object, &owned, &mut step);
        return step;
    }
    if object.owners().is_empty() {
        return step;
    }
    let state = |reference: &OwnerReference| match owner(reference) {
        Some(owner) if owner.uid() == reference.uid => {
            if owner.is_deleting() && has(owner, FOREGROUND) {
                Owner::Waits
            } else {
                Owner::Stays
            }
        }
        _ => Owner::Gone,
    };
    let states: Vec<(&OwnerReference, Owner)> =
        object.owners().iter().map(|reference| (reference, state(reference))).collect();
    let staying: Vec<&OwnerReference> = of(&states, Owner::Stays);
    let is_awaited = !of(&states, Owner::Waits).is_empty();
    if !staying.is_empty() {
        if staying.len() < states.len() {
            step.update(object.target(), json!({ "metadata": { "ownerReferences": staying } }));
        }
        return step;
    }
    // Whoever waits for this one is to wait for what it owns, too.
    let blocks = owned.iter().any(|other| blocks(other, object.uid()));
    let propagation = if has(object, ORPHAN) {
        Propagation::Orphan
    } else if has(object, FOREGROUND) || (is_awaited && blocks) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    step.delete(object.target(), propagation);
    step
}

/// What an owner is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Stays,
    /// It goes when its own are gone.
    Waits,
    Gone,
}

fn of<'a>(states: &[(&'a OwnerReference, Owner)], wanted: Owner) -> Vec<&'a OwnerReference> {
    states.iter().filter(|(_, state)| *state == wanted).map(|(reference, _)| *reference).collect()
}

fn has(object: &Anything, finalizer: &str) -> bool {
    object.metadata.finalizers.iter().any(|held| held == finalizer)
}

fn refers(object: &Anything, uid: &str) -> bool {
    object.owners().iter().any(|owner| owner.uid == uid)
}

fn blocks(object: &Anything, uid: &str) -> bool {
    object.owners().iter().any(|owner| owner.uid == uid && owner.block_owner_deletion)
}

/// Takes the finalizers off an object that has been deleted, as far as it is time.
fn finish(object: &Anything, owned: &[&Anything], step: &mut Step) {
    let finalizer = if has(object, ORPHAN) {
        for other in owned {
            let kept: Vec<&OwnerReference> =
                other.owners().iter().filter(|owner| owner.uid != object.uid()).collect();
            step.update(other.target(), json!({ "metadata": { "ownerReferences": kept } }));
        }
        ORPHAN
    } else if has(object, FOREGROUND) {
        if owned.iter().any(|other| blocks(other, object.uid())) {
            return;
        }
        FOREGROUND
    } else {
        return;
    };
    let kept: Vec<&String> = object.metadata.finalizers.iter().filter(|held| *held != finalizer).collect();
    step.update(object.target(), json!({ "metadata": { "finalizers": kept } }));
}
