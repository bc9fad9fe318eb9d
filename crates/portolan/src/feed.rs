//! Hands batches to everybody who takes them: what is observed, and later what is in force.

use std::sync::Arc;

use crate::batch::Batch;

/// Takes batches.
///
/// It must return at once, since others wait for their turn. A consumer that needs time gives the
/// batch to a [`mailbox`](crate::mailbox) of its own, where batches merge for as long as it is
/// busy.
pub(crate) trait Consumer: Send + Sync {
    /// Takes `batch`. A clone of it is cheap and shares its objects with the other consumers.
    fn take(&self, batch: &Batch);
}

/// All consumers of the same batches. A clone hands to the same ones.
#[derive(Clone, Default)]
pub(crate) struct Feed(Arc<[Box<dyn Consumer>]>);

impl Feed {
    /// Hands each batch to `consumers`, in their order.
    pub(crate) fn new(consumers: impl IntoIterator<Item = Box<dyn Consumer>>) -> Feed {
        Feed(consumers.into_iter().collect())
    }

    /// Nobody takes anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Hands `batch` to each consumer. Batches of one thread come to each of them in the order in
    /// which they are published.
    pub(crate) fn publish(&self, batch: &Batch) {
        for consumer in &*self.0 {
            consumer.take(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use portolan_service::{Change, EndpointSlice, Family, ObjectName};

    use super::*;
    use crate::mailbox::{Mail, Receiver, mailbox};

    fn slice(name: &str) -> Batch {
        let slice = EndpointSlice {
            name: ObjectName::new("shop", name),
            service: ObjectName::new("shop", "web"),
            family: Family::V4,
            ports: Vec::new(),
            endpoints: Vec::new(),
        };
        Batch::of_changes(vec![Change::from(slice)], Instant::now())
    }

    fn batch(receiver: &Receiver<()>) -> Batch {
        let Some(Mail::Observed(batch)) = receiver.try_iter().next() else { panic!("nothing there") };
        batch
    }

    #[test]
    fn consumers_share_objects_and_do_not_wait_for_one_another() {
        let (quick, slow) = (mailbox::<()>(), mailbox::<()>());
        let feed = Feed::new([Box::new(quick.0) as Box<dyn Consumer>, Box::new(slow.0)]);
        feed.publish(&slice("a"));
        let first = batch(&quick.1);
        assert_eq!(first.changes.len(), 1);
        feed.publish(&slice("b"));
        assert_eq!(batch(&quick.1).changes.len(), 1);
        // What the other one has not taken yet is one batch.
        let both = batch(&slow.1);
        assert_eq!(both.changes.len(), 2);
        let [Change::Slice(one), Change::Slice(other)] = [&first.changes[0], &both.changes[0]] else {
            panic!("{both:?}")
        };
        assert!(Arc::ptr_eq(one, other), "no copy");
    }
}
