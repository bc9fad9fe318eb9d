//! Watches: what follows from where the client stands, as it happens.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use portolan_store::{Bookmark, Change, Failure, Selector, Watch, WatchOptions, error_line};
use tokio::task::yield_now;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until};

use crate::body::{Body, Gone, Sender};
use crate::shape::Shape;
use crate::state::{Request, Shared, State};

/// How long a watch lasts when the client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_hours(1);

/// Events taken under one lock, and sent together.
const BURST: usize = 64;

/// What there is at the beginning goes out in pieces of about this size, in bytes.
const PIECE: usize = 32 * 1024;

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

/// Answers a watch.
pub(crate) fn watch(
    shared: &Arc<Shared>,
    shape: Shape,
    selector: Selector,
    request: &Request,
    bookmark_interval: Duration,
) -> Result<Body, Failure> {
    let resource = shape.view.resource;
    let (stream, timeout) = shared.note(|state| {
        let options = WatchOptions::read(|name| request.parameter(name), state.streaming_lists)?;
        let opening = match Watch::start(&state.store, resource.definition(), selector, &options) {
            Ok((watch, initial)) => {
                let initial = initial.into_iter().map(|change| state.faults.sent_change(change)).collect();
                let end = options.initial_events.then(|| watch.end_of_initial_events());
                Opening::Follow { watch, initial, end }
            }
            Err(failure) if failure.code == 410 && !state.faults.gone_as_status => {
                Opening::Gone(error_line(&failure))
            }
            Err(failure) => return Err(failure),
        };
        let id = state.add_watcher(resource);
        let registration = Registration { shared: Arc::clone(shared), id };
        let stream = Stream { registration, shape, opening };
        Ok((stream, options.timeout.unwrap_or(DEFAULT_TIMEOUT)))
    })?;
    let (sender, body) = Body::stream();
    tokio::spawn(stream.run(sender, timeout, bookmark_interval));
    Ok(body)
}

/// How a watch begins.
enum Opening {
    /// With the objects that there are, and the line that ends them; then what follows.
    Follow { watch: Watch, initial: Vec<Change>, end: Option<Bookmark> },
    /// With the error that ends it.
    Gone(Bytes),
}

/// The answer to a watch while it is sent.
struct Stream {
    registration: Registration,
    shape: Shape,
    opening: Opening,
}

impl Stream {
    async fn run(self, sender: Sender, timeout: Duration, bookmark_interval: Duration) {
        let Self { registration, shape, opening } = self;
        let Registration { shared, id } = &registration;
        let end = sleep_until(Instant::now() + timeout);
        let send = async {
            match opening {
                Opening::Follow { watch, initial, end } => {
                    let opening = initial.iter().map(|change| shape.event(change));
                    let opening = opening.chain(end.map(|bookmark| shape.bookmark(bookmark)));
                    let follower = Follower { shape, shared, id: *id, sender: &sender };
                    follower.follow(watch, opening, bookmark_interval).await
                }
                Opening::Gone(line) => {
                    unstalled(shared, *id).await;
                    sender.send(Ok(line)).await.map_err(|_| Gone)
                }
            }
        };
        tokio::select! {
            _gone = send => {}
            () = async { end.await; unstalled(shared, *id).await } => {}
            () = sender.closed() => {}
        }
    }
}

/// What sends the events of a watch.
struct Follower<'a> {
    shape: Shape,
    shared: &'a Shared,
    id: u64,
    sender: &'a Sender,
}

impl Follower<'_> {
    async fn follow(
        &self,
        mut watch: Watch,
        opening: impl Iterator<Item = Bytes>,
        bookmark_interval: Duration,
    ) -> Result<(), Gone> {
        let Self { shape, shared, id, sender } = *self;
        let send = async |line| sender.send(Ok(line)).await.map_err(|_| Gone);
        let mut changed = shared.subscribe(shape.view.resource);
        let mut ticks = ticks(bookmark_interval);
        let mut piece = Vec::new();
        for line in opening {
            piece.extend_from_slice(&line);
            if piece.len() >= PIECE {
                unstalled(shared, id).await;
                send(std::mem::take(&mut piece).into()).await?;
            }
        }
        if !piece.is_empty() {
            unstalled(shared, id).await;
            send(piece.into()).await?;
        }
        loop {
            changed.mark_unchanged();
            match self.step(&mut watch) {
                Step::Send(lines) => send(lines.into()).await?,
                Step::Finish(lines) if lines.is_empty() => return Ok(()),
                Step::Finish(lines) => return send(lines.into()).await,
                Step::Again => yield_now().await,
                Step::Wait => tokio::select! {
                    // What other connections write in the same turn goes out together.
                    _ = changed.changed() => yield_now().await,
                    _ = ticks.tick() => {
                        let due = watch.bookmark().filter(|_| !held_back(&shared.lock(), id));
                        if let Some(bookmark) = due {
                            send(shape.bookmark(bookmark)).await?;
                        }
                    }
                },
            }
        }
    }

    fn step(&self, watch: &mut Watch) -> Step {
        let mut state = self.shared.lock();
        if held_back(&state, self.id) {
            return Step::Wait;
        }
        let watcher = state.watchers.get_mut(&self.id).expect("registered while it runs");
        let mut lines: Vec<u8> = watcher.inject.drain(..).flatten().collect();
        if watcher.finish {
            return Step::Finish(lines);
        }
        let changes: Vec<Change> = match watch.changes(&state.store, BURST) {
            Ok(changes) => changes.into_iter().map(|change| state.faults.sent_change(change)).collect(),
            Err(failure) => {
                lines.extend_from_slice(&error_line(&failure));
                return Step::Finish(lines);
            }
        };
        let behind = watch.is_behind(&state.store);
        drop(state);
        for change in &changes {
            lines.extend_from_slice(&self.shape.event(change));
        }
        match (lines.is_empty(), behind) {
            (false, _) => Step::Send(lines),
            (true, true) => Step::Again,
            (true, false) => Step::Wait,
        }
    }
}

/// What a watch does next.
enum Step {
    Send(Vec<u8>),
    Finish(Vec<u8>),
    /// Nothing of what was looked at is for this watch, and there is more.
    Again,
    Wait,
}

/// Whether a watch may send nothing, not even its end.
fn held_back(state: &State, id: u64) -> bool {
    state.watchers.get(&id).is_some_and(|watcher| watcher.muted || state.stalled(Some(watcher.resource)))
}

async fn unstalled(shared: &Shared, id: u64) {
    let mut changed = shared.subscribe_faults();
    while held_back(&shared.lock(), id) && changed.changed().await.is_ok() {}
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval_at(Instant::now() + period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
