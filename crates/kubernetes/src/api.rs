//! What a controller needs of the API server: single requests, and collections that it follows as
//! documents, since it reads other fields than a service proxy, and writes.
//!
//! Nothing is kept of a collection here. Whatever goes wrong with a watch, everything is listed
//! anew: there are one or two controllers in a cluster, not one on each node.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use serde_json::Value;
use tracing::{debug, info, warn};

use crate::client::{Client, Failure};
use crate::follow::next;
use crate::outbox::Outbox;
use crate::pace::{Backoff, random};
use crate::publish::{Publisher, Reporter};
use crate::resource::escaped;
use crate::split::Lines;
use crate::timing::Timing;
use crate::{Error, Event, Options};

/// Objects in a page of a list.
const PAGE: u32 = 500;
/// A watch that ends sooner than this without having brought anything has not gone well.
const SHORT: Duration = Duration::from_secs(1);

/// Requests to the API server, from one thread: that of a Tokio runtime.
#[derive(Clone)]
pub struct Api {
    client: Rc<Client>,
    timing: Rc<Timing>,
}

/// What a request carries.
#[derive(Debug, Clone, Copy)]
pub enum Send<'a> {
    /// `POST`: an object that is new.
    Create(&'a Value),
    /// `PUT`: an object in place of the one that is there.
    Replace(&'a Value),
    /// `PATCH`: a JSON merge patch (RFC 7396).
    Merge(&'a Value),
}

/// Sends Events for as long as this is there.
#[derive(Debug)]
pub struct Events(Rc<Outbox>);

impl Events {
    /// Sends `event`, best effort: never waits, and one that repeats is sent as a series.
    pub fn publish(&self, event: Event) {
        if !self.0.put(event) {
            debug!("an Event was dropped: too many are waiting");
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What is heard of a collection.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// These objects are all that there are.
    Listed(Vec<Value>),
    /// This is an object as it is now.
    Is(Value),
    /// This object is gone.
    Gone(Value),
    /// The server knows no such collection (404).
    NotServed,
}

impl Api {
    /// Fails if the configuration is unusable, not if the server or credentials cannot be had at
    /// the moment.
    pub async fn connect(options: &Options, timing: Timing) -> Result<Api, Error> {
        let client = Client::new(options, timing.connect).await?;
        Ok(Api { client: Rc::new(client), timing: Rc::new(timing) })
    }

    /// The object at `path`. The whole answer must be there within `timeout`.
    pub async fn get(&self, path: &str, timeout: Duration) -> Result<Value, Failure> {
        self.request("GET", path, None, timeout).await
    }

    /// Writes to `path`, at once, and returns the object as it is then. After a failure without an
    /// answer, it may be written or not.
    pub async fn send(&self, path: &str, what: Send<'_>, timeout: Duration) -> Result<Value, Failure> {
        let (method, media_type, body) = match what {
            Send::Create(object) => ("POST", "application/json", object),
            Send::Replace(object) => ("PUT", "application/json", object),
            Send::Merge(patch) => ("PATCH", "application/merge-patch+json", patch),
        };
        let body = Some((media_type, body.to_string().into_bytes()));
        self.request(method, path, body, timeout).await
    }

    /// What sends Events as `reporter`, beside what else runs in the caller's `LocalSet`.
    pub fn events(&self, reporter: Reporter) -> Events {
        let outbox = Rc::new(Outbox::default());
        let publisher = Publisher::new(self.client.clone(), reporter, self.timing.answer);
        let waiting = outbox.clone();
        tokio::task::spawn_local(async move { publisher.run(&waiting).await });
        Events(outbox)
    }

    async fn request(
        &self,
        method: &'static str,
        path: &str,
        body: Option<(&'static str, Vec<u8>)>,
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let answer = async {
            let answer = self.client.send_now(method, path, body, timeout).await?;
            let text = answer.into_body().collect().await;
            let text = text.map_err(|error| Failure::Cut(error.to_string()))?.to_bytes();
            serde_json::from_slice(&text).map_err(|error| Failure::Unintelligible(error.to_string()))
        };
        tokio::time::timeout(timeout, answer).await.unwrap_or(Err(Failure::NoAnswer(timeout)))
    }

    /// Follows the collection at `path` for ever. What is heard first is a list, or that it is not
    /// served, which is asked again now and then. A list is of all that the server's storage has at
    /// that moment, and no older copy of it.
    pub async fn follow(&self, path: &str, mut heard: impl FnMut(Heard)) {
        let timing = &self.timing;
        let mut absent = Backoff::new(timing.pause, timing.pause_at_most);
        let mut refused = Backoff::new(timing.pause, timing.refused_at_most);
        let mut down = false;
        loop {
            let begun = Instant::now();
            let failure = match self.list(path).await {
                Ok((objects, version)) => {
                    debug!(path, objects = objects.len(), version, "listed");
                    if std::mem::replace(&mut down, false) {
                        info!(path, "the API server is followed again");
                    }
                    heard(Heard::Listed(objects));
                    let failure = self.watch_from(path, version, &mut heard).await;
                    if begun.elapsed() >= SHORT {
                        absent.reset();
                        refused.reset();
                    }
                    failure
                }
                Err(failure) => failure,
            };
            let pause = match &failure {
                Failure::Refused { code: 404, .. } => {
                    heard(Heard::NotServed);
                    timing.refused_at_most
                }
                Failure::Refused { code: ..500, .. } | Failure::Credentials(_) => refused.pause(random()),
                _ => absent.pause(random()),
            };
            let pause = pause.max(failure.retry_after().unwrap_or_default());
            if matches!(failure, Failure::Expired(_) | Failure::Refused { code: 404, .. }) {
                debug!(path, reason = %failure, "listing again");
            } else if !std::mem::replace(&mut down, true) {
                warn!(path, reason = %failure, "cannot be followed; what is known stays");
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// All that there is, and as of which version.
    async fn list(&self, path: &str) -> Result<(Vec<Value>, String), Failure> {
        let (mut objects, mut version, mut next_page) = (Vec::new(), None, String::new());
        loop {
            let page = if next_page.is_empty() {
                format!("{path}?limit={PAGE}")
            } else {
                format!("{path}?limit={PAGE}&continue={}", escaped(&next_page))
            };
            let mut list = self.request("GET", &page, None, self.timing.list).await?;
            if let Value::Array(items) = list["items"].take() {
                objects.extend(items);
            }
            let text = |field: &str| list["metadata"][field].as_str().unwrap_or_default().to_owned();
            // If later pages are newer than the first, the watch repeats what is in them.
            version.get_or_insert_with(|| text("resourceVersion"));
            next_page = text("continue");
            if next_page.is_empty() {
                return Ok((objects, version.unwrap_or_default()));
            }
        }
    }

    /// Watches from `version`, one watch after the other, until one fails.
    async fn watch_from(&self, path: &str, mut version: String, heard: &mut impl FnMut(Heard)) -> Failure {
        loop {
            let (begun, before) = (Instant::now(), version.clone());
            if let Err(failure) = self.watch(path, &mut version, heard).await {
                return failure;
            }
            // A server that closes each watch at once must not be asked without pause.
            if version == before && begun.elapsed() < SHORT {
                return Failure::Cut("the watch ended at once".to_owned());
            }
        }
    }

    async fn watch(
        &self,
        path: &str,
        version: &mut String,
        heard: &mut impl FnMut(Heard),
    ) -> Result<(), Failure> {
        let range = &self.timing.watch;
        let span = range.start + (range.end.saturating_sub(range.start)).mul_f64(random());
        let target = format!(
            "{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
            span.as_secs().max(1),
            escaped(version)
        );
        let answer = self.client.send_now("GET", &target, None, self.timing.answer).await?;
        let (mut body, mut lines) = (answer.into_body(), Lines::default());
        while let Some(bytes) = next(&mut body, self.timing.quiet).await? {
            lines.push(&bytes, |line| {
                if line.trim_ascii().is_empty() {
                    return Ok(());
                }
                let mut event: Value = serde_json::from_slice(line)
                    .map_err(|error| Failure::Unintelligible(error.to_string()))?;
                let object = event["object"].take();
                if event["type"] == "ERROR" {
                    return Err(failure_of(&object));
                }
                if let Some(newer) = object["metadata"]["resourceVersion"].as_str() {
                    newer.clone_into(version);
                }
                match event["type"].as_str() {
                    Some("ADDED" | "MODIFIED") => heard(Heard::Is(object)),
                    Some("DELETED") => heard(Heard::Gone(object)),
                    _ => {}
                }
                Ok(())
            })?;
        }
        if lines.within_a_line() { Err(Failure::Cut("it ended too early".to_owned())) } else { Ok(()) }
    }
}

/// What a Status in an `ERROR` event means.
fn failure_of(status: &Value) -> Failure {
    let message = status["message"].as_str().unwrap_or_default().to_owned();
    match status["code"].as_u64().and_then(|code| u16::try_from(code).ok()) {
        Some(410) => Failure::Expired(message),
        Some(code) => Failure::Refused { code, message, retry_after: None },
        None => Failure::Unintelligible(message),
    }
}
