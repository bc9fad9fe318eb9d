//! Who takes what is observed, and who takes what is in force. A new consumer is a line here.

use std::sync::Arc;

use portolan_observe::{Eligibility, Telemetry};
use portolan_service::Change;

use crate::batch::Batch;
use crate::event::Event;
use crate::feed::{Consumer, Feed};
use crate::mailbox::Sender;

/// Everybody who takes what the sources observe, as soon as it is observed.
pub(crate) fn of_observed(
    proxy: &Sender<Event>,
    node: &str,
    in_cluster: bool,
    telemetry: &Arc<Telemetry>,
) -> Feed {
    Feed::new([
        Box::new(proxy.clone()) as Box<dyn Consumer>,
        Box::new(ReceivedChanges(telemetry.clone())),
        Box::new(NodeEligibility::new(node, in_cluster, telemetry)),
    ])
}

/// Everybody who takes what is in force, each batch after the commit that has it: those who keep
/// `names` besides those who always do.
pub(crate) fn of_in_force(telemetry: &Arc<Telemetry>, names: Vec<Box<dyn Consumer>>) -> Feed {
    let measuring = Box::new(NetworkProgramming(telemetry.clone())) as Box<dyn Consumer>;
    Feed::new(std::iter::once(measuring).chain(names))
}

/// Counts changes for the metrics (spec §11.16).
pub(crate) struct ReceivedChanges(pub(crate) Arc<Telemetry>);

impl Consumer for ReceivedChanges {
    fn take(&self, batch: &Batch) {
        let (mut services, mut slices) = (0, 0);
        for change in &batch.changes {
            match change {
                Change::Service(_) | Change::ServiceRemoved(_) => services += 1,
                Change::Slice(_) | Change::SliceRemoved(_) => slices += 1,
                Change::Node(_) | Change::NodeRemoved(_) => {}
            }
        }
        self.0.metrics.service_changes(services);
        self.0.metrics.endpoint_changes(slices);
    }
}

/// Has health know whether load balancers should send traffic to this node (spec §11.5).
struct NodeEligibility {
    node: Box<str>,
    telemetry: Arc<Telemetry>,
}

impl NodeEligibility {
    /// For the node called `node`. In a cluster, load balancers do not use a node whose Node object
    /// has not been seen.
    fn new(node: &str, in_cluster: bool, telemetry: &Arc<Telemetry>) -> NodeEligibility {
        telemetry.health.set_node(if in_cluster { Eligibility::Unseen } else { Eligibility::NoNodes });
        NodeEligibility { node: node.into(), telemetry: telemetry.clone() }
    }
}

impl Consumer for NodeEligibility {
    fn take(&self, batch: &Batch) {
        for change in &batch.changes {
            if let Change::Node(node) = change
                && *node.name == *self.node
            {
                let state = if node.leaving { Eligibility::Leaving } else { Eligibility::Eligible };
                self.telemetry.health.set_node(state);
            }
        }
    }
}

/// Measures how long changes of endpoints took to come into force (spec §9.15).
struct NetworkProgramming(Arc<Telemetry>);

impl Consumer for NetworkProgramming {
    fn take(&self, batch: &Batch) {
        for trigger in &batch.triggers {
            if let Ok(took) = trigger.at.elapsed() {
                self.0.metrics.network_programming(trigger.family, took);
            }
        }
    }
}
