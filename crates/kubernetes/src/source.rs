//! The thread that follows the API server.

use std::rc::Rc;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::{LocalSet, yield_now};

use crate::client::Client;
use crate::collector::Collector;
use crate::follow::Follower;
use crate::outbox::Outbox;
use crate::publish::{Publisher, Reporter};
use crate::record::Recorder;
use crate::resource::Resource;
use crate::shared::Shared;
use crate::timing::Timing;
use crate::{Error, Event, Options, Status, Update};

/// Events without a pause between them are one update, for at most this long.
const BURST_AT_MOST: Duration = Duration::from_millis(5);
/// As often as this without anything new, a burst is over: what the kernel had was read.
const QUIET_TURNS: u32 = 2;
/// How long an API server that is sending a list may be silent and still count as answering.
const ANSWERING: Duration = Duration::from_secs(2);

/// How often the thread shows that it still works.
const TURN: Duration = Duration::from_secs(5);

/// A running source. Dropping it ends its thread.
#[derive(Debug)]
pub struct Source {
    status: Arc<Status>,
    events: Arc<Outbox>,
    last_turn: Arc<Mutex<Instant>>,
}

impl Source {
    /// How it goes.
    pub fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// When its thread last showed that it still works, which it does every few seconds, whatever
    /// the API server does.
    pub fn last_turn(&self) -> Instant {
        *self.last_turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `event` to the API server, best effort: never waits, and one that repeats is sent as a
    /// series.
    pub fn publish(&self, event: Event) {
        if !self.events.put(event) {
            tracing::debug!("an Event was dropped: too many are waiting");
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.events.close();
    }
}

/// Reads the client configuration and starts the thread that follows the API server. `deliver` is
/// called on that thread.
///
/// Fails only if the configuration is unusable. An API server that does not answer is asked again
/// for ever.
pub fn start(options: Options, deliver: impl FnMut(Update) + Send + 'static) -> Result<Source, Error> {
    start_with(options, Timing::default(), deliver)
}

/// [`start`], with other times to wait.
pub fn start_with(
    options: Options,
    timing: Timing,
    deliver: impl FnMut(Update) + Send + 'static,
) -> Result<Source, Error> {
    let events = Arc::new(Outbox::default());
    let waiting = events.clone();
    let (started, result) = std_mpsc::sync_channel(1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(Error::Thread)?;
    let last_turn = Arc::new(Mutex::new(Instant::now()));
    let turns = last_turn.clone();
    let body = move || {
        let local = LocalSet::new();
        local.spawn_local(async move {
            loop {
                *turns.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                tokio::time::sleep(TURN).await;
            }
        });
        local.block_on(&runtime, async move {
            match Client::new(&options, timing.connect).await {
                Ok(client) => {
                    let _ = started.send(Ok(client.status()));
                    follow_all(client, options, timing, waiting, deliver).await;
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            }
        });
    };
    thread::Builder::new().name("kubernetes".to_owned()).spawn(body).map_err(Error::Thread)?;
    let ended = |_| Error::Thread(std::io::Error::other("it has ended"));
    let status = result.recv().map_err(ended)??;
    Ok(Source { status, events, last_turn })
}

/// Follows all resources until nobody can send Events any more: until the [`Source`] is dropped.
async fn follow_all(
    client: Client,
    options: Options,
    timing: Timing,
    events: Arc<Outbox>,
    deliver: impl FnMut(Update) + 'static,
) {
    let has_snapshot = options.snapshot.is_some();
    let recorder = Recorder::open(options.snapshot.as_deref());
    let followed = options.followed;
    let collector = Collector::new(client.status(), recorder, followed, SystemTime::now());
    let (client, shared) = (Rc::new(client), Rc::new(Shared::new(collector, followed)));
    let timing = Rc::new(timing);
    for resource in Resource::ALL.into_iter().filter(|resource| resource.is_followed(followed)) {
        let selectors = resource.selectors(&options.node_name, followed);
        let follower = Follower::new(resource, client.clone(), shared.clone(), timing.clone(), selectors);
        tokio::task::spawn_local(follower.run());
    }
    let delivery = Delivery { status: client.status(), shared, timing: timing.clone() };
    tokio::task::spawn_local(delivery.run(has_snapshot, deliver));
    // The name that people know.
    let reporter = Reporter { controller: "kube-proxy", host: options.node_name.to_string() };
    Publisher::new(client, reporter, timing.answer).run(&events).await;
}

/// Delivers what the followers bring.
struct Delivery {
    status: Arc<Status>,
    shared: Rc<Shared>,
    timing: Rc<Timing>,
}

impl Delivery {
    async fn run(self, has_snapshot: bool, mut deliver: impl FnMut(Update)) {
        let began = Instant::now();
        if has_snapshot {
            self.first_lists_or_snapshot(began, &mut deliver).await;
        }
        while !self.all_listed() {
            self.shared.changed.notified().await;
        }
        let settled = async {
            while !self.shared.all_settled() {
                self.shared.changed.notified().await;
            }
        };
        // What is not there by then comes as a change.
        let _ = tokio::time::timeout(self.timing.grace, settled).await;
        loop {
            self.end_of_burst().await;
            let update = self.shared.collector.borrow_mut().take();
            if let Some(update) = update {
                deliver(update);
            }
            self.shared.changed.notified().await;
        }
    }

    fn all_listed(&self) -> bool {
        self.shared.collector.borrow().all_listed()
    }

    /// Waits until the first lists are complete, or delivers the snapshot if the API server does
    /// not answer.
    async fn first_lists_or_snapshot(&self, began: Instant, deliver: &mut impl FnMut(Update)) {
        let mut deadline = began + self.timing.snapshot;
        while !self.all_listed() {
            if tokio::time::timeout_at(deadline.into(), self.shared.changed.notified()).await.is_ok() {
                continue;
            }
            if self.status.answering(ANSWERING) {
                // The lists are on their way; what they say is better.
                deadline = Instant::now() + ANSWERING;
                continue;
            }
            let update = self.shared.collector.borrow_mut().take_snapshot();
            if let Some(update) = update {
                deliver(update);
            }
            return;
        }
    }

    /// Waits until all that can be read at once has been read.
    async fn end_of_burst(&self) {
        let began = Instant::now();
        let (mut count, mut quiet) = (self.shared.count(), 0);
        while quiet < QUIET_TURNS && began.elapsed() < BURST_AT_MOST {
            // Lets the others run, and what has arrived be read.
            yield_now().await;
            let now = self.shared.count();
            quiet = if now == count { quiet + 1 } else { 0 };
            count = now;
        }
    }
}
