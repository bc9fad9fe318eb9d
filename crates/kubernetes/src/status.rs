//! How it goes: what is connected, when it was last heard from, what has been received.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::resource::Resource;

/// So many requests are kept until somebody asks to be told of them.
const KEPT_REQUESTS: usize = 100;

/// How it goes. Shared between threads; asking is cheap.
#[derive(Debug)]
pub struct Status(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    host: String,
    resources: [Follower; Resource::ALL.len()],
    snapshot: Option<SystemTime>,
    /// Those that nobody has been told of.
    requests: Vec<Request>,
    observer: Option<Observer>,
}

/// Is told of each request.
struct Observer(Box<dyn Fn(&Request) + Send>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// A request to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The HTTP method.
    pub method: &'static str,
    /// The status of the answer; `None` if there was none.
    pub code: Option<u16>,
    /// From sending it to the head of the answer.
    pub took: Duration,
}

#[derive(Debug, Default)]
struct Follower {
    connected: bool,
    heard: Option<(Instant, SystemTime)>,
    listed: bool,
    relists: u64,
    watch_errors: BTreeMap<&'static str, u64>,
    undecodable: u64,
    received: Received,
}

/// Events received, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// `ADDED`, and objects of lists.
    pub added: u64,
    /// `MODIFIED`
    pub modified: u64,
    /// `DELETED`
    pub deleted: u64,
    /// `BOOKMARK`
    pub bookmarks: u64,
}

/// Everything of a [`Status`] at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Host and port of the API server, as configured.
    pub host: String,
    /// One for each resource that is followed.
    pub resources: Vec<ResourceReport>,
    /// See [`Status::age`].
    pub age: Option<Duration>,
    /// What is in force comes from a snapshot, last written to at this time, because the API server has not answered yet.
    pub snapshot: Option<SystemTime>,
}

/// How one resource is followed.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourceReport {
    /// The plural name, such as `endpointslices`.
    pub name: &'static str,
    /// A list or watch is under way.
    pub connected: bool,
    /// A complete list has been read since the start.
    pub listed: bool,
    /// When anything was last heard: an object, an event, a bookmark.
    pub last_heard: Option<SystemTime>,
    /// Lists begun after the first complete one.
    pub relists: u64,
    /// Failures of lists and watches, by reason.
    pub watch_errors: BTreeMap<&'static str, u64>,
    /// Objects that at present cannot be decoded.
    pub undecodable: u64,
    /// Events received since the start.
    pub received: Received,
}

impl Status {
    pub(crate) fn new(host: String) -> Status {
        Status(Mutex::new(State { host, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old the view of Services and endpoints may be: the time since the one of the two was heard from that was not heard from for
    /// longer. `None` as long as the API server has not given both lists.
    ///
    /// On a quiet cluster it rises to the time between two bookmarks, about a minute.
    pub fn age(&self) -> Option<Duration> {
        self.state().age(Instant::now())
    }

    /// All of it.
    pub fn report(&self) -> Report {
        let state = self.state();
        let resources = Resource::ALL.iter().zip(&state.resources);
        Report {
            host: state.host.clone(),
            resources: resources
                .map(|(resource, follower)| ResourceReport {
                    name: resource.plural(),
                    connected: follower.connected,
                    listed: follower.listed,
                    last_heard: follower.heard.map(|(_, time)| time),
                    relists: follower.relists,
                    watch_errors: follower.watch_errors.clone(),
                    undecodable: follower.undecodable,
                    received: follower.received,
                })
                .collect(),
            age: state.age(Instant::now()),
            snapshot: state.snapshot,
        }
    }

    pub(crate) fn heard(&self, resource: Resource) {
        let follower = &mut self.state().resources[resource as usize];
        follower.connected = true;
        follower.heard = Some((Instant::now(), SystemTime::now()));
    }

    pub(crate) fn received(&self, resource: Resource, count: impl FnOnce(&mut Received)) {
        count(&mut self.state().resources[resource as usize].received);
    }

    pub(crate) fn listing(&self, resource: Resource) {
        let follower = &mut self.state().resources[resource as usize];
        follower.relists += u64::from(follower.listed);
    }

    pub(crate) fn listed(&self, resource: Resource) {
        self.state().resources[resource as usize].listed = true;
    }

    pub(crate) fn undecodable(&self, resource: Resource, now: u64) {
        self.state().resources[resource as usize].undecodable = now;
    }

    /// Records that a list or watch failed, and returns whether it was connected before.
    pub(crate) fn lost(&self, resource: Resource, reason: &'static str) -> bool {
        let follower = &mut self.state().resources[resource as usize];
        *follower.watch_errors.entry(reason).or_default() += 1;
        std::mem::replace(&mut follower.connected, false)
    }

    /// Whether something was heard of both Services and EndpointSlices, or all of them, within `span`.
    pub(crate) fn answering(&self, span: Duration) -> bool {
        let state = self.state();
        let mut followers = Resource::ALL.into_iter().filter(|resource| resource.required());
        followers.all(|resource| {
            let follower = &state.resources[resource as usize];
            follower.listed || follower.heard.is_some_and(|(at, _)| follower.connected && at.elapsed() < span)
        })
    }

    pub(crate) fn snapshot(&self, taken: Option<SystemTime>) {
        self.state().snapshot = taken;
    }

    /// Tells `observer` of each request from the first one on. It is called in the source's thread and must not block.
    pub fn on_request(&self, observer: impl Fn(&Request) + Send + 'static) {
        let mut state = self.state();
        state.requests.drain(..).for_each(|request| observer(&request));
        state.observer = Some(Observer(Box::new(observer)));
    }

    pub(crate) fn request(&self, method: &'static str, code: Option<u16>, took: Duration) {
        let mut state = self.state();
        let request = Request { method, code, took };
        match &state.observer {
            Some(observer) => (observer.0)(&request),
            None if state.requests.len() < KEPT_REQUESTS => state.requests.push(request),
            None => {}
        }
    }
}

impl State {
    fn age(&self, now: Instant) -> Option<Duration> {
        let followers = [Resource::Services, Resource::EndpointSlices].map(|r| &self.resources[r as usize]);
        let heard = followers.map(|follower| follower.heard.filter(|_| follower.listed).map(|(at, _)| at));
        let [a, b] = heard;
        Some(now.saturating_duration_since(a?.min(b?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_is_as_old_as_its_older_half() {
        let status = Status::new(String::new());
        assert_eq!(status.age(), None, "nothing heard");
        status.heard(Resource::Services);
        status.listed(Resource::Services);
        status.heard(Resource::EndpointSlices);
        assert_eq!(status.age(), None, "no complete list of slices");
        status.listed(Resource::EndpointSlices);
        status.heard(Resource::Nodes);
        let hour = Duration::from_hours(1);
        let mut state = status.state();
        let now = Instant::now();
        state.resources[Resource::EndpointSlices as usize].heard = Some((now + hour, SystemTime::now()));
        state.resources[Resource::Services as usize].heard = Some((now, SystemTime::now()));
        assert_eq!(state.age(now + 2 * hour), Some(2 * hour));
    }

    #[test]
    fn no_request_is_missed_by_whoever_asks_later() {
        let status = Status::new("host:6443".to_owned());
        let told = std::sync::Arc::new(Mutex::new(Vec::new()));
        status.request("GET", Some(200), Duration::from_millis(30));
        let list = told.clone();
        status.on_request(move |request| list.lock().unwrap().push((request.method, request.code)));
        status.request("POST", None, Duration::ZERO);
        assert_eq!(*told.lock().unwrap(), [("GET", Some(200)), ("POST", None)]);
    }
}
