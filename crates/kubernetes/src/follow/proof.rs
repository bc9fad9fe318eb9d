//! Whether what answers now knows at least what we know.
//!
//! A server that was restored from a backup accepts a watch from a version that it has not come to
//! yet, and is silent until it has. So after a watch that ended before its time its successor must
//! prove itself: by an event, by a bookmark, or, where neither comes, by the version of a list of
//! one object, which is the current one of the server's storage.

use std::rc::Rc;
use std::time::Duration;

use crate::client::{Client, Failure};
use crate::pace::random;
use crate::split::{List, Part};
use crate::wire;

use super::{Follower, is_before, next};

/// How long to wait until the current version is asked for again if it could not be had.
const AGAIN: Duration = Duration::from_secs(5);

/// What is needed to ask for the current version while a watch is open.
pub(super) struct Question {
    client: Rc<Client>,
    target: String,
    timeout: Duration,
    /// How long to wait before asking.
    wait: Duration,
}

impl Question {
    /// The current version of the server's storage.
    pub(super) async fn ask(self) -> Result<String, Failure> {
        tokio::time::sleep(self.wait).await;
        let answer = self.client.send("GET", &self.target, None, self.timeout).await?;
        let (mut body, mut list, mut version) = (answer.into_body(), List::new(), String::new());
        while let Some(bytes) = next(&mut body, self.timeout).await? {
            let read = list.push(&bytes, |part| {
                if let Part::Metadata(text) = part
                    && let Ok(metadata) = serde_json::from_slice::<wire::ListMetadata<'_>>(text)
                {
                    version = metadata.resource_version.to_string();
                }
            });
            read.map_err(|error| Failure::Unintelligible(error.to_string()))?;
        }
        Ok(version)
    }
}

impl Follower {
    /// The question to ask beside a watch that has just begun, unless there is no doubt.
    pub(super) fn question(&self) -> Option<Question> {
        self.doubt.then(|| self.question_after(self.timing.proof.mul_f64(0.5 + random())))
    }

    fn question_after(&self, wait: Duration) -> Question {
        Question {
            client: self.client.clone(),
            target: self.target("limit=1"),
            timeout: self.timing.answer,
            wait,
        }
    }

    /// Compares the current version with ours. Returns what to ask further, if that is to be done.
    pub(super) fn compare(&mut self, current: Result<String, Failure>) -> Result<Option<Question>, Failure> {
        match (current, &self.newest) {
            (Ok(current), Some(newest)) if is_before(&current, newest) => {
                Err(Failure::WentBack { from: newest.clone(), to: current })
            }
            (Ok(_), _) => {
                self.is_current();
                Ok(None)
            }
            // It cannot be asked; what it sends must do.
            (Err(Failure::Refused { code: 400..=499, .. }), _) => Ok(None),
            (Err(_), _) => Ok(Some(self.question_after(AGAIN.mul_f64(0.5 + random())))),
        }
    }
}
