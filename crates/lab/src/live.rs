//! The pods that live now, for whoever asks about one of them, and the logs of those that have
//! ended.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::netns::Namespace;
use crate::pod::{Logs, Pod};

/// The logs of so many pods are kept that have ended.
const KEPT: usize = 64;

/// A pod that lives.
#[derive(Debug)]
pub struct Live {
    /// `metadata.uid`
    pub uid: String,
    /// Its processes.
    pub pod: Pod,
    /// Its network; its node's on the host network.
    pub network: Namespace,
}

/// Namespace and name.
type Key = (String, String);

/// Pods by namespace and name. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct LivePods(Arc<Mutex<Pods>>);

#[derive(Debug, Default)]
struct Pods {
    live: BTreeMap<Key, Arc<Live>>,
    /// By `metadata.uid`, the oldest first.
    ended: VecDeque<(String, Logs)>,
}

impl LivePods {
    /// The pod of this name, if it lives.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Live>> {
        self.pods().live.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// A pod has begun to live.
    pub fn insert(&self, namespace: &str, name: &str, live: Arc<Live>) {
        self.pods().live.insert((namespace.to_owned(), name.to_owned()), live);
    }

    /// A pod has ended. It is dropped when the last one who works with it lets go of it; its logs
    /// are kept for a while.
    pub fn remove(&self, namespace: &str, name: &str) -> Option<Arc<Live>> {
        let mut pods = self.pods();
        let live = pods.live.remove(&(namespace.to_owned(), name.to_owned()))?;
        pods.ended.push_back((live.uid.clone(), live.pod.logs()));
        if pods.ended.len() > KEPT {
            pods.ended.pop_front();
        }
        Some(live)
    }

    /// The logs of a pod that has ended, by its `metadata.uid`.
    pub fn ended(&self, uid: &str) -> Option<Logs> {
        let pods = self.pods();
        pods.ended.iter().rev().find(|(ended, _)| ended == uid).map(|(_, logs)| logs.clone())
    }

    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
