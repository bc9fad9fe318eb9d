//! How it goes: what is connected, when it was last heard from, what has been received.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::Followed;
use crate::resource::Resource;

/// At most this many observations are kept until somebody asks to see them.
const KEPT: usize = 200;

/// How it goes. Shared between threads; asking is cheap.
#[derive(Debug)]
pub struct Status(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    host: String,
    followed: Followed,
    resources: [Follower; Resource::ALL.len()],
    snapshot: Option<SystemTime>,
    /// What nobody has seen yet.
    observed: Vec<Observation>,
    observer: Option<Observer>,
    /// Since when the client certificate of a program is used.
    certificate_since: Option<SystemTime>,
}

/// Sees each observation.
struct Observer(Box<dyn Fn(&Observation) + Send>);

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

/// Something to count or to measure of what is sent to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A request waited for its turn.
    Limited {
        /// The HTTP method.
        method: &'static str,
        /// For how long.
        took: Duration,
    },
    /// A request was answered, or was not.
    Request {
        /// The HTTP method.
        method: &'static str,
        /// The status of the answer; `None` if there was none.
        code: Option<u16>,
        /// From sending it to the head of the answer.
        took: Duration,
        /// The bytes of its body.
        length: usize,
    },
    /// An answer was read to its end. Watches are not counted.
    Answer {
        /// The HTTP method.
        method: &'static str,
        /// The bytes of its body.
        length: usize,
    },
    /// A request is made again when the server has asked for it (`Retry-After`).
    Retried {
        /// The HTTP method.
        method: &'static str,
        /// The status of the answer.
        code: u16,
    },
    /// The server's name was looked up.
    Resolved {
        /// How long that took.
        took: Duration,
    },
    /// A program was asked for credentials.
    Plugin {
        /// How it ended; 0 only if it gave some.
        code: i32,
        /// `no_error`, or what went wrong, in client-go's words.
        outcome: &'static str,
    },
    /// A program gave a client certificate.
    Certificate {
        /// When it has to be replaced; `None`: never.
        until: Option<SystemTime>,
        /// How long the one before it was used.
        replaced_after: Option<Duration>,
    },
    /// Something to send requests through was made, as the configuration and the credentials now
    /// are.
    Transport,
}

#[derive(Debug, Default)]
struct Follower {
    connected: bool,
    heard: Option<(Instant, SystemTime)>,
    /// When it was last certain that what is known is current.
    proved: Option<Instant>,
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
    /// What is in force comes from a snapshot, last written to at this time, because the API server
    /// has not answered yet.
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
    /// Of a source that follows what is `followed` at `host`.
    pub(crate) fn new(host: String, followed: Followed) -> Status {
        Status(Mutex::new(State { host, followed, ..State::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How old the view of Services and endpoints may be: the time since the last proof that it is
    /// current, of the one of the two that has gone without for longer. `None` as long as the API
    /// server has not given both lists.
    ///
    /// A complete list is a proof, and so is an event or a bookmark of a watch, and an answer that
    /// shows that the server knows what we know. That a server accepts a watch is none: it may be
    /// one that knows less. On a quiet cluster the age rises to the time between two bookmarks,
    /// about a minute.
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
                .filter(|(resource, _)| resource.is_followed(state.followed))
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

    /// What is known of `resource` is certain to be current.
    pub(crate) fn proved(&self, resource: Resource) {
        self.state().resources[resource as usize].proved = Some(Instant::now());
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

    /// Whether something was heard of both Services and EndpointSlices, or all of them, within
    /// `span`.
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

    /// Shows `observer` each observation from the first one on. It is called in the source's
    /// threads and must not block.
    pub fn on_observation(&self, observer: impl Fn(&Observation) + Send + 'static) {
        let mut state = self.state();
        state.observed.drain(..).for_each(|observation| observer(&observation));
        state.observer = Some(Observer(Box::new(observer)));
    }

    pub(crate) fn observe(&self, observation: &Observation) {
        let mut state = self.state();
        match &state.observer {
            Some(observer) => (observer.0)(observation),
            None if state.observed.len() < KEPT => state.observed.push(observation.clone()),
            None => {}
        }
    }

    /// A client certificate is used from now on.
    pub(crate) fn certificate(&self, until: Option<SystemTime>) {
        let now = SystemTime::now();
        let before = self.state().certificate_since.replace(now);
        let replaced_after = before.and_then(|since| now.duration_since(since).ok());
        self.observe(&Observation::Certificate { until, replaced_after });
    }
}

impl State {
    fn age(&self, now: Instant) -> Option<Duration> {
        let followers = [Resource::Services, Resource::EndpointSlices].map(|r| &self.resources[r as usize]);
        let [a, b] = followers.map(|follower| follower.proved.filter(|_| follower.listed));
        Some(now.saturating_duration_since(a?.min(b?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_view_is_as_old_as_its_older_half() {
        let status = Status::new(String::new(), Followed::default());
        assert_eq!(status.age(), None, "nothing heard");
        for resource in [Resource::Services, Resource::EndpointSlices] {
            status.heard(resource);
            status.proved(resource);
        }
        status.listed(Resource::Services);
        assert_eq!(status.age(), None, "no complete list of slices");
        status.listed(Resource::EndpointSlices);
        let hour = Duration::from_hours(1);
        let mut state = status.state();
        let now = Instant::now();
        state.resources[Resource::EndpointSlices as usize].proved = Some(now + hour);
        state.resources[Resource::Services as usize].proved = Some(now);
        assert_eq!(state.age(now + 2 * hour), Some(2 * hour));
        drop(state);
        status.heard(Resource::Services);
        status.proved(Resource::Nodes);
        assert_eq!(
            status.state().age(now + 2 * hour),
            Some(2 * hour),
            "that something was heard proves nothing"
        );
    }

    #[test]
    fn no_observation_is_missed_by_whoever_asks_later() {
        let status = Status::new("host:6443".to_owned(), Followed::default());
        let seen = std::sync::Arc::new(Mutex::new(Vec::new()));
        status.observe(&Observation::Transport);
        let list = seen.clone();
        status.on_observation(move |observation| list.lock().unwrap().push(observation.clone()));
        let resolved = Observation::Resolved { took: Duration::from_millis(30) };
        status.observe(&resolved);
        assert_eq!(*seen.lock().unwrap(), [Observation::Transport, resolved]);
    }
}
