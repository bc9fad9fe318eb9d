//! Questions that are under way. Who asks the same waits for the same answer.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::answer::Answer;
use crate::question::Key;

/// So many clients wait at most.
const WAITING_MAX: usize = 16_384;

/// What has come of a question; `None`: no server has answered.
pub(crate) type Landed = Option<Arc<Answer>>;

type Running = HashMap<Key, watch::Receiver<Option<Landed>>>;

/// Questions that are under way.
#[derive(Debug, Default)]
pub(crate) struct Flights {
    running: Mutex<Running>,
    waiting: AtomicUsize,
}

/// A question that is under way.
#[derive(Debug)]
pub(crate) struct Flight {
    landed: watch::Receiver<Option<Landed>>,
}

/// Takes a question out of the table when it is over, however it ends.
struct Entry {
    flights: Arc<Flights>,
    key: Key,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.flights.running().remove(&self.key);
    }
}

impl Flights {
    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The question `key`, under way: as it is, or with the task that `start` gives. `None` if it
    /// gives none: then there is no room.
    pub(crate) fn join<F>(self: &Arc<Self>, key: Key, start: impl FnOnce() -> Option<F>) -> Option<Flight>
    where
        F: Future<Output = Landed> + Send + 'static,
    {
        let mut running = self.running();
        if let Some(landed) = running.get(&key) {
            return Some(Flight { landed: landed.clone() });
        }
        let task = start()?;
        let (sender, landed) = watch::channel(None);
        running.insert(key.clone(), landed.clone());
        drop(running);
        let entry = Entry { flights: Arc::clone(self), key };
        tokio::spawn(async move {
            let answer = task.await;
            // Whoever comes from now on asks anew, or finds it in the cache.
            drop(entry);
            sender.send_replace(Some(answer));
        });
        Some(Flight { landed })
    }

    /// Waits for the end of `flight`. `None` if too many wait already.
    pub(crate) async fn wait(&self, mut flight: Flight) -> Option<Landed> {
        let _waiting = Waiting::begin(&self.waiting)?;
        let landed = flight.landed.wait_for(Option::is_some).await;
        Some(landed.ok().and_then(|landed| landed.clone()).flatten())
    }
}

/// Counts one that waits, for as long as it does.
struct Waiting<'f>(&'f AtomicUsize);

impl<'f> Waiting<'f> {
    fn begin(count: &'f AtomicUsize) -> Option<Waiting<'f>> {
        let waiting = Waiting(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
