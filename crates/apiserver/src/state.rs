//! Everything the server knows, behind one lock, and who waits for it to change.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use portolan_store::Store;
use serde_json::Value;
use tokio::sync::watch;

use crate::allocation::{Claims, Ranges};
use crate::faults::{Corruption, Faults};
use crate::filled::filled;
use crate::invalid::Invalid;
use crate::resource::Resource;

/// What holds for everything that is written.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// What Services are given.
    pub(crate) ranges: Ranges,
    /// Whether namespaces must exist, and are emptied by somebody before they go.
    pub(crate) namespaces: bool,
    /// Whether requests are noted, for tests to look at.
    pub(crate) records: bool,
}

/// Who may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Everybody.
    Anonymous,
    /// Whoever shows one of these bearer tokens, or a certificate of the server's CA.
    TokensOrCertificate(Vec<String>),
    /// Whoever shows one of these bearer tokens.
    Tokens(Vec<String>),
    /// Whoever shows a certificate of the server's CA.
    ClientCertificate,
}

/// What a request showed to say who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Nothing.
    None,
    /// A bearer token.
    Token(String),
    /// A certificate of the server's CA.
    Certificate,
}

/// A request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// When its head had been read.
    pub at: Instant,
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query, decoded, in the order sent.
    pub query: Vec<(String, String)>,
    /// What it showed.
    pub credential: Credential,
    /// The header `Accept`.
    pub accept: String,
    /// The resource it is about, if it is about one.
    pub resource: Option<Resource>,
    /// The status code of the answer; none while the answer is held back.
    pub code: Option<u16>,
}

impl Request {
    /// A value of the query.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether it asks for a watch.
    pub fn is_watch(&self) -> bool {
        matches!(self.parameter("watch"), Some("1" | "true"))
    }
}

/// An open watch.
#[derive(Debug)]
pub(crate) struct Watcher {
    pub(crate) resource: Resource,
    /// Sends nothing more.
    pub(crate) muted: bool,
    /// Lines to send between events.
    pub(crate) inject: VecDeque<Bytes>,
    /// Ends once `inject` is sent.
    pub(crate) finish: bool,
}

/// What the server knows.
#[derive(Debug)]
pub struct State {
    pub(crate) store: Store,
    pub(crate) rules: Rules,
    /// What Services have.
    pub(crate) claims: Claims,
    pub(crate) authentication: Authentication,
    pub(crate) streaming_lists: bool,
    pub(crate) faults: Faults,
    pub(crate) requests: Vec<Request>,
    pub(crate) watchers: BTreeMap<u64, Watcher>,
    pub(crate) connections: usize,
    pub(crate) listening: bool,
    next_watcher: u64,
    /// Something was written of these since those who wait for it were woken.
    touched: Resources,
    /// Who waits for what, in this process.
    followers: Vec<(Resources, Weak<Waiter>)>,
}

/// A set of resources.
#[derive(Debug, Clone, Copy, Default)]
struct Resources(u64);

impl Resources {
    const ALL: Self = Self(u64::MAX);

    fn of(resource: Resource) -> Self {
        Self(1 << resource.index())
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// One who waits for changes, in this process.
#[derive(Debug, Default)]
pub(crate) struct Waiter {
    /// Something has changed since the last wait. Set under the lock of the state.
    changed: AtomicBool,
    condvar: Condvar,
}

impl State {
    /// Every request so far.
    pub fn requests(&self) -> &[Request] {
        &self.requests
    }

    /// How many watches of a resource are open.
    pub fn watchers(&self, resource: Resource) -> usize {
        self.watchers.values().filter(|watcher| watcher.resource == resource).count()
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// The newest resource version.
    pub fn version(&self) -> u64 {
        self.store.version()
    }

    /// How many objects of a resource there are.
    pub fn count(&self, resource: Resource) -> usize {
        self.store.count(resource.definition())
    }

    /// An object as it is sent, unless it is missing or corrupted beyond JSON.
    pub fn object(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.faults.sent(self.store.get(resource.definition(), namespace, name)?).value()
    }

    /// All objects of a resource as they are sent, without those corrupted beyond JSON.
    pub fn objects(&self, resource: Resource) -> Vec<Value> {
        let all = self.store.all(resource.definition());
        all.filter_map(|object| self.faults.sent(object).value()).collect()
    }

    /// Creates or updates an object, and gives its resource version.
    pub(crate) fn apply(&mut self, object: Value) -> Result<u64, Invalid> {
        let resource = Resource::of(&object)?;
        let object = filled(resource, object);
        let (namespace, name) = key(&object);
        let version = self.commit(resource, object)?;
        if !self.faults.corrupted.contains_key(&version) {
            return Ok(version);
        }
        // What is sent corrupted is repaired by applying the same.
        let repaired = self.store.rewrite(resource.definition(), &namespace, &name);
        Ok(repaired.unwrap_or(version))
    }

    /// An object as it is stored.
    pub(crate) fn stored(&self, resource: Resource, namespace: &str, name: &str) -> Option<Value> {
        self.store.get(resource.definition(), namespace, name).and_then(|object| object.value())
    }

    /// Stores an object, and gives its resource version.
    pub(crate) fn commit(
        &mut self,
        resource: Resource,
        object: Value,
    ) -> Result<u64, portolan_store::Invalid> {
        if resource == Resource::Services {
            self.claims.note(&key(&object), Some(&object));
        }
        self.touched = self.touched.and(Resources::of(resource));
        self.store.apply(resource.definition(), object)
    }

    /// Deletes an object, and reports whether it was there.
    pub(crate) fn delete(&mut self, resource: Resource, namespace: &str, name: &str) -> bool {
        if resource == Resource::Services {
            self.claims.note(&(namespace.to_owned(), name.to_owned()), None);
        }
        self.touched = self.touched.and(Resources::of(resource));
        self.store.delete(resource.definition(), namespace, name).is_some()
    }

    /// Sends an object corrupted from now on, and reports whether it was there.
    pub(crate) fn corrupt(
        &mut self,
        resource: Resource,
        namespace: &str,
        name: &str,
        how: Corruption,
    ) -> bool {
        let Some(version) = self.store.rewrite(resource.definition(), namespace, name) else { return false };
        self.faults.corrupted.insert(version, how);
        true
    }

    /// Comes back from an older backup; nothing is corrupted there.
    pub(crate) fn restore(&mut self, version: u64) {
        self.store.restore(version);
        self.faults.corrupted.clear();
    }

    pub(crate) fn stalled(&self, resource: Option<Resource>) -> bool {
        match resource {
            Some(resource) => self.faults.stalled[resource.index()],
            None => self.faults.stalled.iter().all(|stalled| *stalled),
        }
    }

    pub(crate) fn watchers_of(&mut self, resource: Option<Resource>) -> impl Iterator<Item = &mut Watcher> {
        self.watchers.values_mut().filter(move |watcher| resource.is_none_or(|only| watcher.resource == only))
    }

    pub(crate) fn add_watcher(&mut self, resource: Resource) -> u64 {
        let id = self.next_watcher;
        self.next_watcher += 1;
        let watcher = Watcher { resource, muted: false, inject: VecDeque::new(), finish: false };
        self.watchers.insert(id, watcher);
        id
    }
}

/// Namespace and name of an object, as it has them.
pub(crate) fn key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}

/// The state, shared between the test and the server.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    /// For the test.
    observed: Condvar,
    /// For watches, by resource: what they may send has changed.
    changed: [watch::Sender<()>; Resource::ALL.len()],
    /// For whoever behaves as faults say: they have changed.
    faults: watch::Sender<()>,
    /// Every connection open now is to be cut.
    cut: watch::Sender<()>,
}

impl Shared {
    pub(crate) fn new(
        store: Store,
        rules: Rules,
        authentication: Authentication,
        streaming_lists: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                store,
                rules,
                claims: Claims::default(),
                authentication,
                streaming_lists,
                faults: Faults::default(),
                requests: Vec::new(),
                watchers: BTreeMap::new(),
                connections: 0,
                listening: true,
                next_watcher: 0,
                touched: Resources::default(),
                followers: Vec::new(),
            }),
            observed: Condvar::new(),
            changed: std::array::from_fn(|_| watch::Sender::new(())),
            faults: watch::Sender::new(()),
            cut: watch::Sender::new(()),
        })
    }

    /// A test that panicked while it looked must not hide its message behind a poisoned lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes objects. Wakes those who follow their resources.
    pub(crate) fn write<R>(&self, write: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = write(&mut state);
        let touched = std::mem::take(&mut state.touched);
        self.wake(state, touched);
        result
    }

    /// Changes how the server behaves, and objects. Wakes everybody.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        self.wake(state, Resources::ALL);
        self.faults.send_replace(());
        result
    }

    fn wake(&self, mut state: MutexGuard<'_, State>, touched: Resources) {
        let mut waiters = Vec::new();
        state.followers.retain(|(wanted, waiter)| {
            let Some(waiter) = waiter.upgrade() else { return false };
            if wanted.meets(touched) {
                waiter.changed.store(true, Ordering::SeqCst);
                waiters.push(waiter);
            }
            true
        });
        drop(state);
        for waiter in waiters {
            waiter.condvar.notify_all();
        }
        for resource in Resource::ALL {
            if Resources::of(resource).meets(touched) {
                self.changed[resource.index()].send_replace(());
            }
        }
        self.observed.notify_all();
    }

    /// Changes what can be observed only.
    pub(crate) fn note<R>(&self, note: impl FnOnce(&mut State) -> R) -> R {
        let result = note(&mut self.lock());
        self.observed.notify_all();
        result
    }

    /// Sees every change of objects of a resource after this call, and of faults.
    pub(crate) fn subscribe(&self, resource: Resource) -> watch::Receiver<()> {
        self.changed[resource.index()].subscribe()
    }

    /// Sees every change of faults after this call.
    pub(crate) fn subscribe_faults(&self) -> watch::Receiver<()> {
        self.faults.subscribe()
    }

    /// One who waits for changes of these resources, and is to be kept as long.
    pub(crate) fn waiter(&self, resources: &[Resource]) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter::default());
        let wanted = resources.iter().fold(Resources::default(), |all, one| all.and(Resources::of(*one)));
        self.lock().followers.push((wanted, Arc::downgrade(&waiter)));
        waiter
    }

    /// Waits for a change since the last wait, no longer than `most`.
    pub(crate) fn wait(&self, waiter: &Waiter, most: Duration) {
        let state = self.lock();
        let unchanged = |_: &mut State| !waiter.changed.swap(false, Ordering::SeqCst);
        // Whether it waited too long shows in what the caller finds.
        let _waited = waiter.condvar.wait_timeout_while(state, most, unchanged);
    }

    /// Ends the wait of this one, or its next.
    pub(crate) fn wake_one(&self, waiter: &Waiter) {
        let state = self.lock();
        waiter.changed.store(true, Ordering::SeqCst);
        drop(state);
        waiter.condvar.notify_all();
    }

    pub(crate) fn subscribe_cut(&self) -> watch::Receiver<()> {
        self.cut.subscribe()
    }

    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }

    /// Waits until something is true of the state.
    pub(crate) fn wait_for(&self, mut holds: impl FnMut(&State) -> bool, timeout: Duration) -> bool {
        let guard = self.lock();
        let (_guard, result) = self
            .observed
            .wait_timeout_while(guard, timeout, |state| !holds(state))
            .unwrap_or_else(PoisonError::into_inner);
        !result.timed_out()
    }
}
