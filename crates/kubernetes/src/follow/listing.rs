//! Lists: all that there is, read page by page.

use std::time::Instant;

use kube::client::Body;
use tracing::info;

use crate::client::Failure;
use crate::decode;
use crate::resource::escaped;
use crate::split::{List, Part};
use crate::{Observation, wire};

use super::{Follower, is_before, next};

/// Objects in a page of a list.
const PAGE: u32 = 500;

impl Follower {
    pub(super) fn begin_list(&mut self) {
        self.status.listing(self.resource);
        self.shared.collector.borrow_mut().begin_list(self.resource, self.distrust);
    }

    /// The list is complete, as of `version`.
    pub(super) fn finish_list(
        &mut self,
        version: String,
        received: Instant,
        begun: Instant,
    ) -> Result<(), Failure> {
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
        self.is_current();
        Ok(())
    }

    /// Reads a list, page by page.
    pub(super) async fn list(&mut self) -> Result<(), Failure> {
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
            let body = if next_page.is_empty() {
                self.ask(&query).await?
            } else {
                // Pages are asked for one after the other: that is limit enough.
                let target = self.target(&query);
                self.client.send_now("GET", &target, None, self.timing.answer).await?.into_body()
            };
            let metadata = self.page(body).await?;
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
        let (mut partial_since, mut length) = (None, 0);
        while let Some(bytes) = next(&mut body, self.timing.list).await? {
            length += bytes.len();
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
        self.status.observe(&Observation::Answer { method: "GET", length });
        if list.complete() { Ok(metadata) } else { Err(Failure::Cut("it ended within the list".to_owned())) }
    }
}
