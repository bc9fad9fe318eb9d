//! Settings that are replaced while threads use them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// A value that is replaced as a whole.
#[derive(Debug)]
pub(crate) struct Swap<T> {
    generation: AtomicU64,
    current: Mutex<Arc<T>>,
}

/// What one thread has of a [`Swap`]. Whether it is still current costs one read of a number.
#[derive(Debug)]
pub(crate) struct Follower<T> {
    generation: u64,
    value: Arc<T>,
}

impl<T> Swap<T> {
    pub(crate) fn new(value: T) -> Swap<T> {
        Swap { generation: AtomicU64::new(0), current: Mutex::new(Arc::new(value)) }
    }

    /// Replaces the value.
    pub(crate) fn set(&self, value: T) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(value);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The value.
    pub(crate) fn get(&self) -> Arc<T> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The value, for a thread that comes back for it often.
    pub(crate) fn follow(&self) -> Follower<T> {
        // The generation first: a value that comes between the two is taken again.
        let generation = self.generation.load(Ordering::Acquire);
        Follower { generation, value: self.get() }
    }
}

impl<T> Follower<T> {
    /// The current value of `swap`.
    pub(crate) fn current(&mut self, swap: &Swap<T>) -> &Arc<T> {
        if swap.generation.load(Ordering::Acquire) != self.generation {
            *self = swap.follow();
        }
        &self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_have_what_is_current() {
        let swap = Swap::new(1);
        let mut follower = swap.follow();
        assert_eq!(**follower.current(&swap), 1);
        swap.set(2);
        assert_eq!((**follower.current(&swap), *swap.get()), (2, 2));
    }
}
