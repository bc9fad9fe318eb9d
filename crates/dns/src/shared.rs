//! What the threads of a server share.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

use crate::access::Access;
use crate::counters::{Count, ThreadCounters};
use crate::query_log::LogQueue;
use crate::swap::Swap;
use crate::under_way::UnderWay;
use crate::zones::Zones;

/// What the threads of a server share.
pub(crate) struct Shared {
    pub(crate) access: Swap<Access>,
    /// One for each listener.
    pub(crate) listeners: Vec<(SocketAddr, Swap<Zones>)>,
    /// One for each thread; the last is for answers that come later, from any thread.
    pub(crate) counters: Vec<ThreadCounters>,
    /// Held by whoever adds to the last counters.
    pub(crate) later: Mutex<()>,
    pub(crate) log: LogQueue,
    pub(crate) log_dropped: Count,
    pub(crate) connections: Count,
    pub(crate) connections_refused: Count,
    pub(crate) connections_open: AtomicU64,
    pub(crate) under_way: Arc<UnderWay>,
    /// All threads are to end once they have answered what has come.
    pub(crate) finishing: AtomicBool,
    /// All threads are to end.
    pub(crate) stopping: AtomicBool,
}

impl Shared {
    /// The number of the counters for answers that come later.
    pub(crate) fn later_counters(&self) -> usize {
        self.counters.len() - 1
    }
}
