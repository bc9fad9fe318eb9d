//! What threads say to the main one, beside what they observe.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use portolan_service::ServicePlan;

use crate::announcing::Addresses;
use crate::node_lock::NodeLock;

/// Something that the main thread must know.
pub(crate) enum Event {
    /// Somebody wants to know all plans.
    Asked(Sender<Vec<Arc<ServicePlan>>>),
    /// Somebody wants to know the load-balancer addresses in force.
    AddressesAsked(Sender<Addresses>),
    /// No other proxy works on this node any more.
    Alone(NodeLock),
    /// A thread cannot go on, or the process must not.
    Lost(anyhow::Error),
    /// Somebody wants the process to end.
    End,
}
