//! Tasks that end with who has begun them.

use std::future::Future;

use tokio::task::JoinHandle;

/// A task. It is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Begins `work`, in the Tokio runtime that this is called in.
    pub(crate) fn begin(work: impl Future<Output = ()> + Send + 'static) -> Task {
        Task(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
