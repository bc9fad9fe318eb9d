//! How many questions are under way. When there are as many as may be, a new one takes the place of
//! the oldest, if that has had its chance: most answers come within milliseconds, and questions
//! that are never answered shall not keep others out.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

/// A question that has waited for as long may lose its place.
const CHANCE: Duration = Duration::from_millis(200);

/// Places for questions.
#[derive(Debug)]
pub(super) struct Room {
    limit: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// The oldest first.
    places: BTreeMap<u64, (Instant, oneshot::Sender<()>)>,
    next: u64,
}

/// A place. It is free when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    number: u64,
    lost: Option<oneshot::Receiver<()>>,
}

impl Room {
    pub(super) fn new(limit: usize) -> Room {
        Room { limit, taken: Mutex::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place; `None` if all are taken by questions that are still new.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let now = Instant::now();
        let mut taken = self.taken();
        if taken.places.len() >= self.limit {
            let oldest = taken.places.first_entry()?;
            if now.saturating_duration_since(oldest.get().0) < CHANCE {
                return None;
            }
            let (_, lose) = oldest.remove();
            // Whoever has it may just have ended.
            let _ = lose.send(());
        }
        let number = taken.next;
        taken.next += 1;
        let (lose, lost) = oneshot::channel();
        taken.places.insert(number, (now, lose));
        Some(Place { room: Arc::clone(self), number, lost: Some(lost) })
    }
}

impl Place {
    /// Does `work`, unless the place is lost before it ends: then `None`.
    pub(crate) async fn hold<T>(mut self, work: impl Future<Output = T>) -> Option<T> {
        let lost = self.lost.take()?;
        tokio::select! {
            result = work => Some(result),
            Ok(()) = lost => None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.taken().places.remove(&self.number);
    }
}
