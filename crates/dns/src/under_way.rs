//! What must have ended before all is answered.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// How much is under way: threads that take questions, and questions that others are asked.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    count: Mutex<usize>,
    none: Condvar,
}

/// Something is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Token(Arc<UnderWay>);

impl UnderWay {
    /// One thing more is under way.
    pub(crate) fn begin(self: &Arc<UnderWay>) -> Token {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        Token(self.clone())
    }

    /// Waits until nothing is under way, or for so long. Returns how much is.
    pub(crate) fn wait(&self, patience: Duration) -> usize {
        let count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.none.wait_timeout_while(count, patience, |count| *count > 0);
        let (count, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *count
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut count = self.0.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count -= 1;
        if *count == 0 {
            self.0.none.notify_all();
        }
    }
}
