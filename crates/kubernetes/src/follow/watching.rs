//! A watch: what changes, as it comes, and at its beginning all that there is, if that is asked
//! for.

use std::time::{Duration, Instant};

use crate::client::Failure;
use crate::decode::{self, WatchEvent};
use crate::pace::random;
use crate::resource::escaped;
use crate::split::Lines;

use super::failing::failure;
use super::{Follower, next};

/// A watch that ends so much earlier than it was asked for was ended by something else than its
/// time.
const EARLY: Duration = Duration::from_secs(5);

impl Follower {
    /// Watches from `version`, or everything from the beginning, until the server ends it.
    pub(super) async fn watch(&mut self, version: Option<&str>) -> Result<(), Failure> {
        let range = &self.timing.watch;
        let span = range.start + (range.end.saturating_sub(range.start)).mul_f64(random());
        let from = match version {
            Some(version) => format!("resourceVersion={}", escaped(version)),
            None => "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
        };
        let seconds = span.as_secs().max(1);
        let begun = Instant::now();
        let mut listing = version.is_none();
        if listing {
            self.begin_list();
        }
        let query = format!("watch=1&allowWatchBookmarks=true&timeoutSeconds={seconds}&{from}");
        let mut body = self.ask(&query).await?;
        if !listing {
            self.report_recovery();
        }
        let mut lines = Lines::default();
        let mut partial_since = None;
        let mut proof =
            (!listing).then(|| self.question()).flatten().map(|question| Box::pin(question.ask()));
        loop {
            let patience = if listing { self.timing.list } else { self.timing.quiet };
            let read = tokio::select! {
                read = next(&mut body, patience) => read?,
                current = async { proof.as_mut().expect("checked").await }, if proof.is_some() => {
                    proof = self.compare(current)?.map(|question| Box::pin(question.ask()));
                    continue;
                }
            };
            let Some(bytes) = read else {
                let whole = !listing && !lines.within_a_line();
                self.doubt |= begun.elapsed() + EARLY < span;
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
            if !self.doubt {
                proof = None;
            }
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
            WatchEvent::Added(_) => received.added += 1,
            WatchEvent::Modified(_) => received.modified += 1,
            WatchEvent::Deleted(_) => received.deleted += 1,
            WatchEvent::Bookmark { .. } => received.bookmarks += 1,
            WatchEvent::Error { .. } => {}
        });
        let collector = &self.shared.collector;
        let version = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                collector.borrow_mut().put(resource, &object, received);
                object.identity().resource_version.to_owned()
            }
            WatchEvent::Deleted(object) => {
                collector.borrow_mut().remove(resource, &object, received);
                object.identity().resource_version.to_owned()
            }
            WatchEvent::Bookmark { resource_version, initial_end } => {
                if *listing && initial_end {
                    *listing = false;
                    return self.finish_list(resource_version, received, begun);
                }
                resource_version
            }
            WatchEvent::Error { code, message } => return Err(failure(code, message)),
        };
        if *listing {
            return Ok(());
        }
        self.is_over();
        self.report_recovery();
        self.advance(version)
    }
}
