//! Threads that wait for things to happen.

use std::thread;

use anyhow::Context;

use crate::event::Event;
use crate::mailbox::Sender;

/// Starts a thread called `name`. If `body` fails, the program ends.
pub(crate) fn spawn(
    name: &str,
    events: &Sender<Event>,
    body: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let events = events.clone();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Err(error) = body() {
                // The loop may have ended.
                let _ = events.send(Event::Lost(error));
            }
        })
        .map(drop)
        .with_context(|| format!("starting the {name} thread"))
}
