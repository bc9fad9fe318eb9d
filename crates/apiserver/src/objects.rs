//! The objects, for controllers in the same process: the same operations as over HTTP, without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use portolan_store::{Change, ChangeKind, Failure, Selector, Watch, WatchOptions};
use serde_json::{Value, json};

use crate::delete::{self, DeleteOptions, Deleted};
use crate::document::Document;
use crate::invalid::Invalid;
use crate::patch::PatchKind;
use crate::refusal;
use crate::resource::{Resource, Subresource};
use crate::state::{Shared, State, Waiter};
use crate::value::text;
use crate::view::View;
use crate::write::{self, Options, Place, Validation, Written};

/// Reads, writes and follows objects. Cloning it is cheap; all clones see the same objects.
///
/// Objects are JSON values with kind and apiVersion as they are stored (`apps/v1`, and
/// `events.k8s.io/v1` for events). Failures are those that clients of the API get.
#[derive(Debug, Clone)]
pub struct Objects {
    shared: Arc<Shared>,
}

impl Objects {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// An object; `namespace` is empty for what has none.
    pub fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.shared.lock().stored(resource, namespace, name)
    }

    /// All objects of a resource, in the order of namespace and name.
    pub fn list(&self, resource: Resource) -> Vec<Value> {
        self.shared.lock().store.all(resource.definition()).filter_map(|object| object.value()).collect()
    }

    /// The objects of a resource that are selected: by namespace, labels (`app=web,!old`) and
    /// fields (`spec.nodeName=n1`).
    pub fn select(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        labels: &str,
        fields: &str,
    ) -> Result<Vec<Value>, Failure> {
        let selector = Selector::parse(resource.definition(), namespace, labels, fields)?;
        let found = self.shared.lock().store.select(resource.definition(), &selector);
        Ok(found.iter().filter_map(|object| object.value()).collect())
    }

    /// Creates an object, and gives it with its defaults. As over HTTP, `status` is not taken:
    /// [`Self::update_status`] sets it.
    pub fn create(&self, object: Value) -> Result<Value, Failure> {
        self.write(object, None, |state, place, document, options| {
            let place = Place { name: "", ..place };
            write::create(state, place, document, options)
        })
    }

    /// The resource that an object belongs to, under any version that is served, such as
    /// `extensions/v1beta1`.
    pub fn resource_of(object: &Value) -> Result<Resource, Invalid> {
        View::of(object).map(|view| view.resource)
    }

    /// Applies an object, as `kubectl apply --server-side` does: its fields are those of `manager`
    /// from now on, and what `manager` has set before and no longer sets goes. It may be of any
    /// version that is served; what is given back is as it is stored. With `force`, fields are
    /// taken over that others have set to something else; without it, that fails with 409.
    pub fn apply(&self, object: Value, manager: &str, force: bool) -> Result<Value, Failure> {
        let view = View::of(&object).map_err(|error| refusal::bad_request(error.to_string()))?;
        let own = |field: &str| text(&object, &format!("/metadata/{field}")).to_owned();
        let (mut namespace, name) = (own("namespace"), own("name"));
        if name.is_empty() {
            return Err(refusal::bad_request("metadata.name: Required value: give the object a name"));
        }
        if !view.resource.namespaced() {
            namespace.clear();
        } else if namespace.is_empty() {
            "default".clone_into(&mut namespace);
        }
        let place = Place { view, namespace: &namespace, name: &name, part: None };
        let document = Document { value: object, repeated: Vec::new() };
        let options = Options { manager: Some(manager), force, ..options() };
        let written = self.shared.write(|state| write::apply(state, place, document, options))?;
        Ok(written.object)
    }

    /// Replaces an object. With `metadata.resourceVersion` it must still be at that version, or
    /// fails with 409. `status` is not changed.
    pub fn update(&self, object: Value) -> Result<Value, Failure> {
        self.write(object, None, write::replace)
    }

    /// Replaces the `status` of an object; the same holds for the version.
    pub fn update_status(&self, object: Value) -> Result<Value, Failure> {
        self.write(object, Some(Subresource::Status), write::replace)
    }

    /// Replaces `spec.finalizers` of a Namespace: the last one that goes lets it go.
    pub fn finalize(&self, namespace: Value) -> Result<Value, Failure> {
        self.write(namespace, Some(Subresource::Finalize), write::replace)
    }

    /// Changes an object by a merge patch (RFC 7396).
    pub fn patch(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<Value, Failure> {
        self.merge(Place { view: View::stored(resource), namespace, name, part: None }, patch)
    }

    /// Changes the `status` of an object by a merge patch, as `{"status": {...}}`.
    pub fn patch_status(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        patch: Value,
    ) -> Result<Value, Failure> {
        let part = Some(Subresource::Status);
        self.merge(Place { view: View::stored(resource), namespace, name, part }, patch)
    }

    fn merge(&self, place: Place, patch: Value) -> Result<Value, Failure> {
        let document = Document { value: patch, repeated: Vec::new() };
        let written = self
            .shared
            .write(|state| write::patch_object(state, place, PatchKind::Merge, document, options()))?;
        Ok(written.object)
    }

    /// Binds a pod to a node, as a scheduler does.
    pub fn bind(&self, namespace: &str, pod: &str, node: &str) -> Result<(), Failure> {
        let place = Place { view: View::stored(Resource::Pods), namespace, name: pod, part: None };
        let binding = json!({ "target": { "kind": "Node", "name": node } });
        self.shared.write(|state| write::bind(state, place, &binding, options())).map(drop)
    }

    /// Deletes an object. Gives it as it is now if it lingers: because of its finalizers, or
    /// because it is a pod that has time to end. A pod that has ended is deleted with a `grace` of
    /// 0.
    pub fn delete(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Option<Value>, Failure> {
        let place = Place { view: View::stored(resource), namespace, name, part: None };
        let deleted = self.shared.write(|state| delete::delete(state, place, options))?;
        Ok(match deleted {
            Deleted::Gone(_) => None,
            Deleted::Lingers(object) => Some(object),
        })
    }

    /// Follows resources: first what there is, as [`Update::Put`], then every change.
    pub fn follow(&self, resources: &[Resource]) -> Follow {
        let watches = resources.iter().map(|resource| (*resource, None)).collect();
        let waiter = self.shared.waiter(resources);
        Follow { shared: Arc::clone(&self.shared), watches, waiter, woken: Arc::default() }
    }

    fn write(
        &self,
        object: Value,
        part: Option<Subresource>,
        write: impl FnOnce(&mut State, Place, Document, Options) -> Result<Written, Failure>,
    ) -> Result<Value, Failure> {
        let resource = Resource::of(&object).map_err(|error| refusal::bad_request(error.to_string()))?;
        let own = |field: &str| text(&object, &format!("/metadata/{field}")).to_owned();
        let (mut namespace, name) = (own("namespace"), own("name"));
        if !resource.namespaced() {
            namespace.clear();
        } else if namespace.is_empty() {
            "default".clone_into(&mut namespace);
        }
        let place = Place { view: View::stored(resource), namespace: &namespace, name: &name, part };
        let document = Document { value: object, repeated: Vec::new() };
        let written = self.shared.write(|state| write(state, place, document, options()))?;
        Ok(written.object)
    }
}

/// Whoever is in the process knows the fields.
fn options() -> Options<'static> {
    Options { validation: Validation::Strict, ..Options::default() }
}

/// What happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// It is there, as it is now.
    Put(Resource, Value),
    /// It is gone; this is how it was.
    Gone(Resource, Value),
    /// More has happened to a resource than is kept: what follows is all that there is, and
    /// whatever does not come is gone.
    Again(Resource),
}

impl Update {
    /// The resource.
    pub fn resource(&self) -> Resource {
        match self {
            Self::Put(resource, _) | Self::Gone(resource, _) | Self::Again(resource) => *resource,
        }
    }

    /// The object, if it is about one.
    pub fn object(&self) -> Option<&Value> {
        match self {
            Self::Put(_, object) | Self::Gone(_, object) => Some(object),
            Self::Again(_) => None,
        }
    }

    /// The name of the object; empty if it is about none.
    pub fn name(&self) -> &str {
        self.object().map_or("", |object| text(object, "/metadata/name"))
    }
}

/// Changes of resources, in the order in which they happened to each.
#[derive(Debug)]
pub struct Follow {
    shared: Arc<Shared>,
    watches: Vec<(Resource, Option<Watch>)>,
    waiter: Arc<Waiter>,
    woken: Arc<AtomicBool>,
}

/// Ends the waiting of a [`Follow`] that another thread has.
#[derive(Debug, Clone)]
pub struct Waker {
    shared: Arc<Shared>,
    waiter: Arc<Waiter>,
    woken: Arc<AtomicBool>,
}

impl Waker {
    /// Has [`Follow::next`] return now, or at once when it is called next.
    pub fn wake(&self) {
        self.woken.store(true, Ordering::SeqCst);
        self.shared.wake_one(&self.waiter);
    }
}

/// At most so many changes of a resource come at once.
const BURST: usize = 256;

impl Follow {
    /// What has happened since the last call; waits for it if nothing has, no longer than `most`,
    /// and until a [`Waker`] ends that.
    pub fn next(&mut self, most: Duration) -> Vec<Update> {
        let end = Instant::now() + most;
        loop {
            let was_woken = self.woken.swap(false, Ordering::SeqCst);
            let updates = self.take();
            let left = end.saturating_duration_since(Instant::now());
            if !updates.is_empty() || was_woken || left.is_zero() {
                return updates;
            }
            // What came since the last wait ends this one at once.
            self.shared.wait(&self.waiter, left);
        }
    }

    /// Begins again, with what there is. The [`Waker`]s stay.
    pub fn restart(&mut self) {
        for (_, watch) in &mut self.watches {
            *watch = None;
        }
    }

    /// What ends the waiting of [`Self::next`].
    pub fn waker(&self) -> Waker {
        let Self { shared, waiter, woken, .. } = self;
        Waker { shared: Arc::clone(shared), waiter: Arc::clone(waiter), woken: Arc::clone(woken) }
    }

    /// What has happened since the last call, without waiting.
    pub fn take(&mut self) -> Vec<Update> {
        let mut updates = Vec::new();
        for (resource, watch) in &mut self.watches {
            let state = self.shared.lock();
            let known = watch.as_mut().map(|watch| watch.changes(&state.store, BURST));
            let changes = match known {
                Some(Ok(changes)) => changes,
                failed => {
                    if failed.is_some() {
                        updates.push(Update::Again(*resource));
                    }
                    let everything = Selector::default();
                    let options = WatchOptions::default();
                    match Watch::start(&state.store, resource.definition(), everything, &options) {
                        Ok((started, initial)) => {
                            *watch = Some(started);
                            initial
                        }
                        // A watch from nowhere in particular is never refused.
                        Err(_) => Vec::new(),
                    }
                }
            };
            drop(state);
            updates.extend(changes.iter().filter_map(|change| update(*resource, change)));
        }
        updates
    }
}

fn update(resource: Resource, change: &Change) -> Option<Update> {
    let object = change.object.value()?;
    Some(match change.kind {
        ChangeKind::Added | ChangeKind::Modified => Update::Put(resource, object),
        ChangeKind::Deleted => Update::Gone(resource, object),
    })
}
