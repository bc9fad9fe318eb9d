//! Follows one resource: lists it, then watches what changes, for ever.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use kube::client::Body;
use tracing::{debug, info, warn};

use crate::Status;
use crate::client::{Client, Failure};
use crate::decode::{self, Event};
use crate::pace::{Backoff, random};
use crate::resource::{Resource, escaped};
use crate::shared::Shared;
use crate::split::{Lines, List, Part};
use crate::timing::Timing;
use crate::wire;

/// Objects in a page of a list.
const PAGE: u32 = 500;
/// A watch that ends sooner than this without having brought anything has not gone well.
const SHORT: Duration = Duration::from_secs(1);

/// Follows one resource.
pub(crate) struct Follower {
    resource: Resource,
    client: Rc<Client>,
    shared: Rc<Shared>,
    status: Arc<Status>,
    timing: Rc<Timing>,
    selectors: String,
    backoff: Backoff,
    /// Where a watch can go on; `None` before the first list, and when only another list can help.
    version: Option<String>,
    /// The last version seen: one that is lower tells of another history.
    newest: Option<String>,
    /// The known versions of objects are of another history.
    distrust: bool,
    /// How many watches in a row have been quiet from their beginning.
    quiet_watches: u32,
    /// Streaming lists are not to be had until then.
    paged_until: Option<Instant>,
    /// Pages expired before the last of them was read: the next list is read whole.
    whole: bool,
    /// Whether the failures so far were told of, and are over when something is heard.
    down: bool,
}

impl Follower {
    pub(crate) fn new(
        resource: Resource,
        client: Rc<Client>,
        shared: Rc<Shared>,
        timing: Rc<Timing>,
        node_name: &str,
    ) -> Follower {
        Follower {
            resource,
            status: client.status(),
            client,
            shared,
            selectors: resource.selectors(node_name),
            backoff: Backoff::new(timing.pause, timing.pause_at_most),
            timing,
            version: None,
            newest: None,
            distrust: false,
            quiet_watches: 0,
            paged_until: None,
            whole: false,
            down: false,
        }
    }

    /// Follows the resource for ever.
    pub(crate) async fn run(mut self) {
        loop {
            let begun = Instant::now();
            let before = self.version.clone();
            let streaming = before.is_none() && self.may_stream();
            let result = match &before {
                Some(version) => self.watch(Some(version)).await,
                None if streaming => self.watch(None).await,
                None => self.list().await,
            };
            if begun.elapsed() > self.timing.pause_at_most {
                // It went well for long.
                self.backoff.reset();
            }
            let pause = match result {
                Ok(()) => {
                    if self.shared.collector.borrow().uncertain(self.resource) && before.is_some() {
                        info!(resource = %self.resource, "listing again: something came whose name could not be read");
                        self.version = None;
                    }
                    // A server that closes each watch at once must not be asked without pause.
                    let idle = self.version == before && begun.elapsed() < SHORT;
                    if idle { self.backoff.pause(random()) } else { Duration::ZERO }
                }
                Err(failure) => self.failed(&failure, streaming),
            };
            self.shared.heard();
            tokio::time::sleep(pause).await;
        }
    }

    fn may_stream(&self) -> bool {
        self.paged_until.is_none_or(|until| until <= Instant::now())
    }

    /// Takes note of a failure, and returns how long to wait.
    fn failed(&mut self, failure: &Failure, streaming: bool) -> Duration {
        let still_listing = streaming && self.version.is_none();
        match failure {
            Failure::Refused { code: 400 | 405 | 422, message, .. } if still_listing => {
                debug!(resource = %self.resource, message, "the API server offers no streaming list; reading pages");
                self.paged_until = Some(Instant::now() + self.timing.streaming_again);
                return Duration::ZERO;
            }
            // Whatever the reason: perhaps pages fare better.
            Failure::Quiet(_) if still_listing => {
                self.paged_until = Some(Instant::now() + self.timing.streaming_again);
            }
            // One is a connection that is half open. Two are a server that has nothing to say of our version, not even a
            // bookmark: restored from a backup, it is silent until its own versions have come as far.
            Failure::Quiet(_) => {
                self.quiet_watches += 1;
                if self.quiet_watches > 1 {
                    self.quiet_watches = 0;
                    self.version = None;
                }
            }
            Failure::Expired(_) => {
                self.whole = self.version.is_none() && !streaming;
                self.version = None;
            }
            Failure::WentBack { .. } => {
                self.version = None;
                self.distrust = true;
            }
            // Our version is from the future: that of a server restored from a backup, unless the server is just behind others.
            Failure::Refused { message, .. } if message.contains("Too large resource version") => {
                self.version = None;
                self.distrust = true;
            }
            _ => {}
        }
        self.shared.settle(self.resource);
        let was_connected = self.status.lost(self.resource, failure.reason());
        let absent = !self.resource.required() && matches!(failure, Failure::Refused { code: 403 | 404, .. });
        let first = self.backoff.attempts() == 0;
        let pause = match failure {
            _ if absent && self.resource == Resource::ServiceCidrs => {
                self.timing.rarely.mul_f64(1.0 + random() / 10.0)
            }
            Failure::Refused { retry_after: Some(after), .. } => (*after)
                .max(self.timing.pause)
                .mul_f64(1.0 + random() / 10.0)
                .max(self.backoff.pause(random())),
            _ => self.backoff.pause(random()),
        };
        let attempts = self.backoff.attempts();
        match failure {
            _ if absent && self.resource == Resource::ServiceCidrs => {
                info!(resource = %self.resource, reason = %failure, "not to be had here; asking again now and then");
            }
            Failure::Expired(_) | Failure::WentBack { .. } => {
                info!(resource = %self.resource, reason = %failure, "listing again");
            }
            // Each failure in a row is told of half as often as the one before.
            _ if was_connected || first || attempts.is_power_of_two() => {
                self.down = true;
                warn!(resource = %self.resource, reason = %failure, attempts, retry_in = ?pause,
                    "the API server cannot be followed; what is known stays in force");
            }
            _ => {
                debug!(resource = %self.resource, reason = %failure, attempts, retry_in = ?pause, "failed again");
            }
        }
        pause
    }

    /// Something has come.
    fn heard(&mut self) {
        self.status.heard(self.resource);
        self.shared.heard();
    }

    /// What has come makes sense: the failures before it are over.
    fn went_well(&mut self) {
        self.backoff.reset();
        self.tell_of_recovery();
    }

    fn tell_of_recovery(&mut self) {
        if std::mem::replace(&mut self.down, false) {
            info!(resource = %self.resource, "the API server is followed again");
        }
    }

    fn target(&self, query: &str) -> String {
        let and = if self.selectors.is_empty() { "" } else { "&" };
        format!("{}?{query}{and}{}", self.resource.path(), self.selectors)
    }

    /// Watches from `version`, or everything from the beginning, until the server ends it.
    async fn watch(&mut self, version: Option<&str>) -> Result<(), Failure> {
        let range = &self.timing.watch;
        let span = range.start + (range.end.saturating_sub(range.start)).mul_f64(random());
        let from = match version {
            Some(version) => format!("resourceVersion={}", escaped(version)),
            None => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
        };
        let seconds = span.as_secs().max(1);
        let target =
            self.target(&format!("watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&{from}"));
        let begun = Instant::now();
        let mut listing = version.is_none();
        if listing {
            self.begin_list();
        }
        let mut body = self.client.send("GET", &target, None, self.timing.answer).await?.into_body();
        self.heard();
        if !listing {
            self.tell_of_recovery();
        }
        let mut lines = Lines::default();
        let mut partial_since = None;
        loop {
            let patience = if listing { self.timing.list } else { self.timing.quiet };
            let Some(bytes) = next(&mut body, patience).await? else {
                let whole = !listing && !lines.within_a_line();
                return if whole { Ok(()) } else { Err(Failure::Cut("it ended too early".to_owned())) };
            };
            let now = Instant::now();
            let mut received = partial_since.unwrap_or(now);
            self.heard();
            lines.push(&bytes, |line| {
                let result = self.line(line, received, &mut listing, begun);
                received = now;
                result
            })?;
            partial_since = lines.within_a_line().then_some(received);
        }
    }

    /// Takes one event.
    fn line(
        &mut self,
        line: &[u8],
        received: Instant,
        listing: &mut bool,
        begun: Instant,
    ) -> Result<(), Failure> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        self.quiet_watches = 0;
        let resource = self.resource;
        let event = match decode::event(resource, line) {
            Ok(event) => event,
            Err(undecodable) => {
                let version = undecodable.resource_version.clone();
                self.shared.collector.borrow_mut().undecodable(resource, undecodable, received);
                return version.filter(|_| !*listing).map_or(Ok(()), |version| self.advance(version));
            }
        };
        self.status.received(resource, |received| match &event {
            Event::Added(_) => received.added += 1,
            Event::Modified(_) => received.modified += 1,
            Event::Deleted(_) => received.deleted += 1,
            Event::Bookmark { .. } => received.bookmarks += 1,
            Event::Error { .. } => {}
        });
        let collector = &self.shared.collector;
        let version = match event {
            Event::Added(object) | Event::Modified(object) => {
                collector.borrow_mut().put(resource, &object, received);
                object.metadata().resource_version.to_string()
            }
            Event::Deleted(object) => {
                collector.borrow_mut().remove(resource, &object, received);
                object.metadata().resource_version.to_string()
            }
            Event::Bookmark { resource_version, initial_end } => {
                if *listing && initial_end {
                    *listing = false;
                    return self.finish_list(resource_version, received, begun);
                }
                resource_version
            }
            Event::Error { code, message } => return Err(failure(code, message)),
        };
        if *listing {
            return Ok(());
        }
        self.went_well();
        self.advance(version)
    }

    /// The watch has come to `version`.
    fn advance(&mut self, version: String) -> Result<(), Failure> {
        if version.is_empty() {
            return Ok(());
        }
        if let Some(from) = self.newest.clone().filter(|newest| is_before(&version, newest)) {
            return Err(Failure::WentBack { from, to: version });
        }
        self.newest = Some(version.clone());
        self.version = Some(version);
        Ok(())
    }

    fn begin_list(&mut self) {
        self.status.listing(self.resource);
        self.shared.collector.borrow_mut().begin_list(self.resource, self.distrust);
    }

    /// The list is complete, as of `version`.
    fn finish_list(&mut self, version: String, received: Instant, begun: Instant) -> Result<(), Failure> {
        if version.is_empty() {
            return Err(Failure::Unintelligible("the list has no resourceVersion".to_owned()));
        }
        let mut collector = self.shared.collector.borrow_mut();
        collector.finish_list(self.resource, received);
        let objects = collector.count(self.resource);
        drop(collector);
        self.shared.settle(self.resource);
        info!(resource = %self.resource, objects, version, took = ?begun.elapsed(), "listed");
        self.down = false;
        self.backoff.reset();
        self.whole = false;
        let trusted = !std::mem::replace(&mut self.distrust, false);
        let newest = self.newest.replace(version.clone());
        if let Some(from) = newest.filter(|newest| trusted && is_before(&version, newest)) {
            return Err(Failure::WentBack { from, to: version });
        }
        self.version = Some(version);
        Ok(())
    }

    /// Reads a list, page by page.
    async fn list(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        self.begin_list();
        let mut next_page = String::new();
        let mut version = None;
        loop {
            let query = if self.whole {
                "resourceVersion=0".to_owned()
            } else if next_page.is_empty() {
                format!("limit={PAGE}")
            } else {
                format!("limit={PAGE}&continue={}", escaped(&next_page))
            };
            let target = self.target(&query);
            // Pages are asked for one after the other: that is limit enough.
            let send = if next_page.is_empty() {
                self.client.send("GET", &target, None, self.timing.answer).await
            } else {
                self.client.send_now("GET", &target, None, self.timing.answer).await
            };
            let metadata = self.page(send?.into_body()).await?;
            // If later pages are newer than the first, the watch repeats what is in them.
            version.get_or_insert(metadata.0);
            next_page = metadata.1;
            if next_page.is_empty() {
                return self.finish_list(version.unwrap_or_default(), Instant::now(), begun);
            }
        }
    }

    /// Reads one page; returns its version and the token of the next page.
    async fn page(&mut self, mut body: Body) -> Result<(String, String), Failure> {
        let mut list = List::new();
        let mut metadata = (String::new(), String::new());
        let mut partial_since = None;
        while let Some(bytes) = next(&mut body, self.timing.list).await? {
            let now = Instant::now();
            let mut received = partial_since.unwrap_or(now);
            self.heard();
            let (resource, shared, status) = (self.resource, &self.shared, &self.status);
            let cut = list.push(&bytes, |part| match part {
                Part::Metadata(text) => {
                    if let Ok(read) = serde_json::from_slice::<wire::ListMetadata<'_>>(text) {
                        metadata = (read.resource_version.to_string(), read.next.to_string());
                    }
                }
                Part::Item(text) => {
                    let mut collector = shared.collector.borrow_mut();
                    match decode::object(resource, text) {
                        Ok(object) => {
                            status.received(resource, |received| received.added += 1);
                            collector.put(resource, &object, received);
                        }
                        Err(undecodable) => collector.undecodable(resource, undecodable, received),
                    }
                    received = now;
                }
            });
            cut.map_err(|error| Failure::Unintelligible(error.to_string()))?;
            partial_since = list.within_an_item().then_some(received);
        }
        if list.complete() { Ok(metadata) } else { Err(Failure::Cut("it ended within the list".to_owned())) }
    }
}

/// The next bytes; `None` at the end.
async fn next(body: &mut Body, patience: Duration) -> Result<Option<bytes::Bytes>, Failure> {
    loop {
        let frame =
            tokio::time::timeout(patience, body.frame()).await.map_err(|_| Failure::Quiet(patience))?;
        let Some(frame) = frame else { return Ok(None) };
        let frame = frame.map_err(|error| Failure::Cut(error.to_string()))?;
        if let Ok(bytes) = frame.into_data() {
            return Ok(Some(bytes));
        }
    }
}

/// What an ERROR event means.
fn failure(code: i64, message: String) -> Failure {
    match u16::try_from(code) {
        Ok(410) => Failure::Expired(message),
        Ok(code) => Failure::Refused { code, message, retry_after: None },
        Err(_) => Failure::Unintelligible(message),
    }
}

/// Whether version `a` is from before version `b`: versions of one history are numbers that grow.
fn is_before(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}
