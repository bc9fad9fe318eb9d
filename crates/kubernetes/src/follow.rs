//! Follows one resource: lists it, then watches what changes, for ever.

mod failing;
mod listing;
mod proof;
mod watching;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use kube::client::Body;
use tracing::info;

use crate::Status;
use crate::client::{Client, Failure};
use crate::pace::{Backoff, random};
use crate::resource::Resource;
use crate::shared::Shared;
use crate::timing::Timing;

use failing::Next;

/// A watch that ends sooner than this without having brought anything has not gone well.
const SHORT: Duration = Duration::from_secs(1);

/// Follows one resource.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and all are used together")]
pub(crate) struct Follower {
    resource: Resource,
    client: Rc<Client>,
    shared: Rc<Shared>,
    status: Arc<Status>,
    timing: Rc<Timing>,
    selectors: String,
    backoff: Backoff,
    /// Pauses between lists that are due at once: the first of them is made without a pause.
    due_lists: Backoff,
    /// Pauses until a resource is asked for again that this cluster does not have or does not show
    /// us.
    lacking: Backoff,
    /// Since when the server has been answering, and refusing.
    refused_since: Option<Instant>,
    /// The last request was answered with success.
    answered: bool,
    /// Where a watch can go on; `None` before the first list, and when only another list can help.
    version: Option<String>,
    /// The last version seen: one that is lower comes from another history.
    newest: Option<String>,
    /// The known versions of objects are of another history.
    distrust: bool,
    /// The last watch did not end as it should have: what answers now may know less than we do.
    doubt: bool,
    /// How many watches in a row have been quiet from their beginning.
    quiet_watches: u32,
    /// Lists are not streamed before then.
    paged_until: Option<Instant>,
    /// Pages expired before the last of them was read: the next list is read whole.
    whole: bool,
    /// Whether the failures so far were reported, and are over when something is heard.
    down: bool,
}

impl Follower {
    pub(crate) fn new(
        resource: Resource,
        client: Rc<Client>,
        shared: Rc<Shared>,
        timing: Rc<Timing>,
        selectors: String,
    ) -> Follower {
        Follower {
            resource,
            status: client.status(),
            client,
            shared,
            selectors,
            backoff: Backoff::new(timing.pause, timing.pause_at_most),
            due_lists: Backoff::new(timing.pause, timing.pause_at_most),
            lacking: Backoff::new(timing.pause_at_most, timing.rarely),
            refused_since: None,
            answered: false,
            timing,
            version: None,
            newest: None,
            distrust: false,
            doubt: false,
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
            self.answered = false;
            let result = match &before {
                Some(version) => self.watch(Some(version)).await,
                None if streaming => self.watch(None).await,
                None => self.list().await,
            };
            if self.answered && begun.elapsed() >= SHORT {
                self.is_over();
            }
            let next = match result {
                Ok(()) => {
                    if self.shared.collector.borrow().uncertain(self.resource) && before.is_some() {
                        info!(resource = %self.resource, "listing again: something came whose name could not be read");
                        self.version = None;
                    }
                    // A server that closes each watch at once must not be asked without pause.
                    let idle = self.version == before && begun.elapsed() < SHORT;
                    Next::After(if idle { self.backoff.pause(random()) } else { Duration::ZERO })
                }
                Err(failure) => self.failed(&failure, streaming),
            };
            self.shared.heard();
            match next {
                Next::After(pause) => tokio::time::sleep(pause).await,
                Next::WhenBack(patience) => self.client.reach().back(patience).await,
            }
        }
    }

    fn may_stream(&self) -> bool {
        self.paged_until.is_none_or(|until| until <= Instant::now())
    }

    /// Sends a request for this resource with `query`; returns the answer's body.
    async fn ask(&mut self, query: &str) -> Result<Body, Failure> {
        let answer = self.client.send("GET", &self.target(query), None, self.timing.answer).await?;
        self.was_answered();
        Ok(answer.into_body())
    }

    fn was_answered(&mut self) {
        self.answered = true;
        self.refused_since = None;
        self.heard();
    }

    /// Something has come.
    fn heard(&mut self) {
        self.status.heard(self.resource);
        self.shared.heard();
    }

    /// Whatever has failed before, it is over.
    fn is_over(&mut self) {
        self.backoff.reset();
        self.due_lists.reset();
        self.lacking.reset();
    }

    fn report_recovery(&mut self) {
        if std::mem::replace(&mut self.down, false) {
            info!(resource = %self.resource, "the API server is followed again");
        }
    }

    fn target(&self, query: &str) -> String {
        let and = if self.selectors.is_empty() { "" } else { "&" };
        format!("{}?{query}{and}{}", self.resource.path(), self.selectors)
    }

    /// The server has said what is current as of `version`, after everything that we know.
    fn advance(&mut self, version: String) -> Result<(), Failure> {
        if version.is_empty() {
            return Ok(());
        }
        if let Some(from) = self.newest.clone().filter(|newest| is_before(&version, newest)) {
            return Err(Failure::WentBack { from, to: version });
        }
        self.newest = Some(version.clone());
        self.version = Some(version);
        self.is_current();
        Ok(())
    }

    /// It is certain that what we know is current, or on its way.
    fn is_current(&mut self) {
        self.doubt = false;
        self.status.proved(self.resource);
    }
}

/// The next bytes of an answer; `None` at the end.
pub(crate) async fn next(body: &mut Body, patience: Duration) -> Result<Option<bytes::Bytes>, Failure> {
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

/// Whether version `a` is from before version `b`: versions of one history are numbers that grow.
fn is_before(a: &str, b: &str) -> bool {
    matches!((a.parse::<u64>(), b.parse::<u64>()), (Ok(a), Ok(b)) if a < b)
}
