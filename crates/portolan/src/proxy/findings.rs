//! What the planner finds wrong with Services: reported once when it appears and once when it is
//! solved.

use std::collections::BTreeMap;

use portolan_observe::Telemetry;
use portolan_service::{ObjectName, Planner};
use tracing::{info, warn};

use crate::problems;

/// What was last reported.
#[derive(Debug, Default)]
pub(super) struct Findings {
    services: BTreeMap<ObjectName, Vec<String>>,
    /// Services ask for NodePorts, and this node has no address for them.
    no_node_ports: bool,
}

impl Findings {
    /// Reports what has changed since the last time.
    pub(super) fn report(&mut self, planner: &mut Planner, telemetry: &Telemetry) {
        let (mut new, mut solved) = (Vec::new(), Vec::new());
        for (service, now) in planner.take_changed_findings() {
            let before = self.services.remove(&service).unwrap_or_default();
            let of_service = |message: &String| format!("Service {service}: {message}");
            new.extend(now.iter().filter(|message| !before.contains(message)).map(of_service));
            solved.extend(before.iter().filter(|message| !now.contains(message)).map(of_service));
            if !now.is_empty() {
                self.services.insert(service, now);
            }
        }
        problems::report(&new, &solved, "");
        telemetry.health.set_plan_problems(planner.problem_count());
        telemetry.metrics.oversized_services(planner.oversized());
    }

    /// Reports whether this node serves the NodePorts that are asked for, where that has changed.
    pub(super) fn report_node_ports(&mut self, planner: &Planner) {
        let asked = || planner.plans().any(|plan| plan.ports.iter().any(|port| port.node_port.is_some()));
        let none = planner.node().nodeport_addresses.is_empty() && asked();
        match (self.no_node_ports, none) {
            (false, true) => warn!(
                "no NodePort is served: this node has no address that nodePortAddresses selects; give an interface of it one"
            ),
            (true, false) => info!("solved: no NodePort is served"),
            _ => {}
        }
        self.no_node_ports = none;
    }
}
