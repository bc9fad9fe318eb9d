//! Watches: what follows from where the client stands, as it happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::body::{Body, Sender};
use crate::object::Object;
use crate::resource::Resource;
use crate::selector::Selector;
use crate::state::{Request, Shared, State};
use crate::status::Failure;
use crate::store::{Event, Expired};

/// How long a watch lasts when the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_hours(1);

/// Events taken under one lock.
const BURST: usize = 64;

/// A watch that was accepted.
#[derive(Debug)]
struct Watch {
    id: u64,
    resource: Resource,
    selector: Selector,
    /// Everything up to this version has been sent.
    sent: u64,
    /// Events up to this version are not wanted: a client may start from a version that is yet to come.
    skip: u64,
    bookmarks: bool,
    initial_events: bool,
}

/// Takes a watch off the list of open ones when its stream ends, however it ends.
struct Registration {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.shared.note(|state| state.watchers.remove(&self.id));
    }
}

/// The versions and options of a watch request, checked as a real server does.
struct Terms {
    from: Option<u64>,
    bookmarks: bool,
    initial_events: bool,
    timeout: Duration,
}

impl Terms {
    fn read(request: &Request, streaming_lists: bool) -> Result<Self, Failure> {
        let truth = |name: &str| matches!(request.parameter(name), Some("true" | "1"));
        let invalid = |message: String| {
            Failure::new(422, format!("ListOptions.meta.k8s.io \"\" is invalid: {message}"))
        };
        let initial_events = truth("sendInitialEvents");
        if request.parameter("sendInitialEvents").is_some() && !streaming_lists {
            return Err(invalid(
                "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList \
                 feature gate is enabled"
                    .to_owned(),
            ));
        }
        match (request.parameter("sendInitialEvents"), request.parameter("resourceVersionMatch")) {
            (Some(_), Some("NotOlderThan")) | (None, None) => {}
            (Some(_), _) => {
                return Err(invalid(
                    "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to \
                     NotOlderThan"
                        .to_owned(),
                ));
            }
            (None, Some(_)) => {
                return Err(invalid(
                    "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless \
                     sendInitialEvents is provided"
                        .to_owned(),
                ));
            }
        }
        let from = match request.parameter("resourceVersion") {
            None | Some("" | "0") => None,
            Some(text) => Some(text.parse().map_err(|_| {
                invalid(format!("resourceVersion: Invalid value: {text:?}: resourceVersion must be a number"))
            })?),
        };
        let timeout = match request.parameter("timeoutSeconds") {
            None | Some("" | "0") => DEFAULT_TIMEOUT,
            Some(text) => Duration::from_secs(
                text.parse()
                    .map_err(|_| Failure::new(400, format!("timeoutSeconds: invalid value: {text:?}")))?,
            ),
        };
        Ok(Self { from, bookmarks: truth("allowWatchBookmarks"), initial_events, timeout })
    }
}

/// Answers a watch.
pub(crate) fn watch(
    shared: &Arc<Shared>,
    resource: Resource,
    selector: Selector,
    request: &Request,
    bookmark_interval: Duration,
) -> Result<Body, Failure> {
    let (watch, initial, registration, timeout) = shared.change(|state| {
        let terms = Terms::read(request, state.streaming_lists)?;
        let current = state.store.version();
        let mut initial: Vec<Arc<Object>> = Vec::new();
        let mut gone = None;
        match terms.from {
            Some(from) if terms.initial_events && from > current => {
                return Err(Failure::too_new(from, current));
            }
            Some(from) if !terms.initial_events => {
                if state.store.can_watch(resource, from) == Err(Expired) {
                    let failure = Failure::too_old(from, current);
                    if state.faults.gone_as_status {
                        return Err(failure);
                    }
                    gone = Some(failure);
                }
            }
            _ => initial = state.store.select(resource, &selector),
        }
        let id = state.add_watcher(resource);
        if let Some(failure) = gone {
            let watcher = state.watchers.get_mut(&id).expect("just added");
            watcher.inject.push_back(error_line(&failure));
            watcher.finish = true;
        }
        let sent = if terms.initial_events { current } else { terms.from.unwrap_or(current).min(current) };
        let watch = Watch {
            id,
            resource,
            selector,
            sent,
            skip: if terms.initial_events { 0 } else { terms.from.unwrap_or(0) },
            bookmarks: terms.bookmarks,
            initial_events: terms.initial_events,
        };
        Ok((watch, initial, Registration { shared: Arc::clone(shared), id }, terms.timeout))
    })?;
    let (sender, body) = Body::stream();
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        let _registration = registration;
        let id = watch.id;
        let end = sleep_until(Instant::now() + timeout);
        tokio::select! {
            () = watch.run(&shared, initial, &sender, bookmark_interval) => {}
            () = async { end.await; unstalled(&shared, id).await } => {}
            () = sender.closed() => {}
        }
    });
    Ok(body)
}

/// What a watch does next.
enum Step {
    Send(Vec<Bytes>),
    Finish(Vec<Bytes>),
    Wait,
}

impl Watch {
    async fn run(
        mut self,
        shared: &Shared,
        initial: Vec<Arc<Object>>,
        sender: &Sender,
        bookmark_interval: Duration,
    ) {
        let mut changed = shared.subscribe();
        let mut ticks = ticks(bookmark_interval);
        for object in initial {
            unstalled(shared, self.id).await;
            if sender.send(Ok(event_line("ADDED", &object))).await.is_err() {
                return;
            }
        }
        if self.initial_events {
            unstalled(shared, self.id).await;
            if sender.send(Ok(self.bookmark(true))).await.is_err() {
                return;
            }
        }
        loop {
            changed.mark_unchanged();
            let (lines, finish) = match self.step(shared) {
                Step::Send(lines) => (lines, false),
                Step::Finish(lines) => (lines, true),
                Step::Wait => {
                    tokio::select! {
                        _ = changed.changed() => {}
                        _ = ticks.tick() => {
                            if let Some(line) = self.due_bookmark(shared)
                                && sender.send(Ok(line)).await.is_err()
                            {
                                return;
                            }
                        }
                    }
                    continue;
                }
            };
            for line in lines {
                if sender.send(Ok(line)).await.is_err() {
                    return;
                }
            }
            if finish {
                return;
            }
        }
    }

    fn step(&mut self, shared: &Shared) -> Step {
        let mut state = shared.lock();
        if held_back(&state, self.id) {
            return Step::Wait;
        }
        let watcher = state.watchers.get_mut(&self.id).expect("registered while it runs");
        let mut lines: Vec<Bytes> = watcher.inject.drain(..).collect();
        if watcher.finish {
            return Step::Finish(lines);
        }
        let Ok(events) = state.store.events(self.resource, self.sent, BURST) else {
            lines.push(error_line(&Failure::too_old(self.sent, state.store.version())));
            return Step::Finish(lines);
        };
        // Whatever happened to other resources has been seen as well.
        self.sent = match events.last() {
            Some(last) if events.len() == BURST => last.version,
            _ => state.store.version(),
        };
        drop(state);
        let any = !events.is_empty();
        let wanted = events.iter().filter(|event| event.version > self.skip);
        lines.extend(wanted.filter_map(|event| self.line(event)));
        if any || !lines.is_empty() { Step::Send(lines) } else { Step::Wait }
    }

    /// The event as this selection sees it: what leaves it is deleted, what enters it is added.
    fn line(&self, event: &Event) -> Option<Bytes> {
        let selected = |object: &&Arc<Object>| self.selector.matches(object);
        let object = event.object.as_ref().filter(selected);
        let previous = event.previous.as_ref().filter(selected);
        match (object, previous) {
            (Some(object), None) => Some(event_line("ADDED", object)),
            (Some(object), Some(_)) => Some(event_line("MODIFIED", object)),
            (None, Some(previous)) => Some(event_line("DELETED", &previous.at_version(event.version))),
            (None, None) => None,
        }
    }

    fn due_bookmark(&self, shared: &Shared) -> Option<Bytes> {
        let held_back = held_back(&shared.lock(), self.id);
        // A client that is ahead hears nothing, not even a bookmark.
        (self.bookmarks && !held_back && self.sent >= self.skip).then(|| self.bookmark(false))
    }

    fn bookmark(&self, ends_initial_events: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": self.sent.to_string() });
        if ends_initial_events {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let zero = self.resource.zero().to_string();
        // Kind first, as real servers write it.
        line(
            "BOOKMARK",
            &format!(
                "{{\"kind\":\"{}\",\"apiVersion\":\"{}\",\"metadata\":{metadata},{}",
                self.resource.kind(),
                self.resource.api_version(),
                zero.trim_start_matches('{'),
            ),
        )
    }
}

/// Whether a watch may send nothing, not even its end.
fn held_back(state: &State, id: u64) -> bool {
    state.watchers.get(&id).is_some_and(|watcher| watcher.muted || state.stalled(Some(watcher.resource)))
}

async fn unstalled(shared: &Shared, id: u64) {
    let mut changed = shared.subscribe();
    while held_back(&shared.lock(), id) && changed.changed().await.is_ok() {}
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn event_line(kind: &str, object: &Object) -> Bytes {
    let mut line = Vec::with_capacity(object.json.len() + 96);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    object.write(&mut line);
    line.extend_from_slice(b"}\n");
    line.into()
}

/// An `ERROR` event.
pub(crate) fn error_line(failure: &Failure) -> Bytes {
    line("ERROR", &failure.to_json().to_string())
}

fn line(kind: &str, object: &str) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}
