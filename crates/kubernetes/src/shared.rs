//! What the followers of all resources share with the delivery.

use std::cell::{Cell, RefCell};

use tokio::sync::Notify;

use crate::Followed;
use crate::collector::Collector;
use crate::resource::Resource;

/// What the followers of all resources share with the delivery. All of it lives on one thread.
pub(crate) struct Shared {
    pub(crate) collector: RefCell<Collector>,
    /// Told whenever there may be something to deliver.
    pub(crate) changed: Notify,
    /// How often something was heard.
    count: Cell<u64>,
    /// Which resources have been listed, or have failed to be.
    settled: Cell<[bool; Resource::ALL.len()]>,
}

impl Shared {
    /// For followers of what is `followed`.
    pub(crate) fn new(collector: Collector, followed: Followed) -> Shared {
        Shared {
            collector: RefCell::new(collector),
            changed: Notify::new(),
            count: Cell::new(0),
            settled: Cell::new(Resource::ALL.map(|resource| !resource.is_followed(followed))),
        }
    }

    /// Something was heard.
    pub(crate) fn heard(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        self.changed.notify_one();
    }

    /// How often something was heard.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// The first attempt to list `resource` is over, however it went.
    pub(crate) fn settle(&self, resource: Resource) {
        let mut settled = self.settled.get();
        settled[resource as usize] = true;
        self.settled.set(settled);
        self.changed.notify_one();
    }

    /// Whether the first attempts to list each resource are over.
    pub(crate) fn all_settled(&self) -> bool {
        self.settled.get().iter().all(|settled| *settled)
    }
}
