//! What can be due.

/// Namespace and name.
pub(super) type Name = (String, String);

/// Kind, namespace (empty for none) and name.
pub(super) type Key = (String, String, String);

/// A controller, and the object that it looks after. They come in this order when several are due:
/// what is garbage goes first, and pods are given to nodes when all are there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Job {
    /// [`garbage`](super::super::garbage) for an object.
    Garbage((String, String, String)),
    /// [`namespace`](super::super::namespace), by name.
    Namespace(String),
    /// [`deployment`](super::super::deployment), by namespace and name.
    Deployment((String, String)),
    /// [`replica_set`](super::super::replica_set)
    ReplicaSet((String, String)),
    /// [`replication_controller`](super::super::replication_controller)
    ReplicationController((String, String)),
    /// [`stateful_set`](super::super::stateful_set)
    StatefulSet((String, String)),
    /// [`daemon_set`](super::super::daemon_set)
    DaemonSet((String, String)),
    /// [`batch_job`](super::super::batch_job)
    BatchJob((String, String)),
    /// [`schedule`](super::super::schedule)
    Schedule,
    /// [`node_lifecycle`](super::super::node_lifecycle), by the node's name.
    NodeLifecycle(String),
    /// [`lost_pods`](super::super::lost_pods)
    LostPods,
    /// [`endpoint_slices`](super::super::endpoint_slices) and
    /// [`endpoints`](super::super::endpoints) of a Service.
    Endpoints((String, String)),
}
