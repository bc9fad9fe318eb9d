//! Pods whose probes say whether they are ready.

use std::collections::HashMap;
use std::sync::Arc;

use portolan_controllers::Pod;
use portolan_probe::Target;
use portolan_service::ObjectName;

/// What probes in manifests are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Probing {
    /// Nothing: a Pod is ready if its condition `Ready` says so.
    Off,
    /// Nobody carries them out, and all of them are taken to pass.
    #[default]
    Assumed,
    /// The caller carries out those of [`super::Update::probes`], and reports what comes of them to
    /// [`super::Manifests::set_readiness`]. As long as a Pod's probes have said nothing, its
    /// condition counts.
    On,
}

/// A Pod, and what it is to be probed for.
#[derive(Debug)]
struct Declared {
    pod: Arc<Pod>,
    target: Arc<Target>,
    /// What the probes say.
    ready: Option<bool>,
}

/// The pods with probes.
#[derive(Debug, Default)]
pub(super) struct Probed {
    probing: Probing,
    pods: HashMap<ObjectName, Declared>,
    /// Those removed since the last [`Probed::take`]: they may only have moved to another file.
    gone: HashMap<ObjectName, Declared>,
    changes: HashMap<ObjectName, Option<Arc<Target>>>,
}

impl Probed {
    pub(super) fn new(probing: Probing) -> Probed {
        Probed { probing, ..Probed::default() }
    }

    /// A Pod is now declared like this. Returns it as it is to be used.
    pub(super) fn set(&mut self, name: &ObjectName, pod: Arc<Pod>, target: Option<Arc<Target>>) -> Arc<Pod> {
        let target = target.filter(|_| !pod.finished);
        match (self.probing, target) {
            (Probing::Assumed, Some(_)) => with_readiness(&pod, Some(true)),
            (Probing::On, Some(target)) => {
                let moved = self.gone.remove(name);
                let has_moved = moved.is_some();
                let before = self.pods.remove(name).or(moved);
                // At another address there is another server.
                let same = before.as_ref().filter(|before| before.target.address == target.address);
                let ready = same.and_then(|before| before.ready);
                if has_moved || before.is_none_or(|before| before.target != target) {
                    self.changes.insert(name.clone(), Some(Arc::clone(&target)));
                }
                let used = with_readiness(&pod, ready);
                self.pods.insert(name.clone(), Declared { pod, target, ready });
                used
            }
            _ => {
                self.remove(name);
                pod
            }
        }
    }

    /// A Pod is no longer declared.
    pub(super) fn remove(&mut self, name: &ObjectName) {
        if let Some(declared) = self.pods.remove(name) {
            self.gone.insert(name.clone(), declared);
            self.changes.insert(name.clone(), None);
        }
    }

    /// Its probes say this of a Pod. Returns it as it is to be used, if it is another one now.
    pub(super) fn set_ready(&mut self, name: &ObjectName, ready: bool) -> Option<Arc<Pod>> {
        let declared = self.pods.get_mut(name)?;
        let before = declared.ready.replace(ready);
        (before != Some(ready)).then(|| with_readiness(&declared.pod, Some(ready)))
    }

    /// What is to be probed otherwise than before, since the last call.
    pub(super) fn take(&mut self) -> Vec<(ObjectName, Option<Arc<Target>>)> {
        self.gone.clear();
        self.changes.drain().collect()
    }
}

fn with_readiness(pod: &Arc<Pod>, ready: Option<bool>) -> Arc<Pod> {
    match ready {
        Some(ready) if ready != pod.ready => Arc::new(Pod { ready, ..(**pod).clone() }),
        _ => Arc::clone(pod),
    }
}
