//! What the planner finds wrong with Services: reported once when it appears and once when it is
//! solved.

use std::collections::BTreeMap;

use portolan_observe::Metrics;
use portolan_service::{ObjectName, Planner};

use crate::problems;

/// What was last reported of each Service.
#[derive(Debug, Default)]
pub(super) struct Findings(BTreeMap<ObjectName, Vec<String>>);

impl Findings {
    /// Reports what has changed since the last time.
    pub(super) fn report(&mut self, planner: &mut Planner, metrics: &Metrics) {
        let (mut new, mut solved) = (Vec::new(), Vec::new());
        for (service, now) in planner.take_changed_findings() {
            let before = self.0.remove(&service).unwrap_or_default();
            let of_service = |message: &String| format!("Service {service}: {message}");
            new.extend(now.iter().filter(|message| !before.contains(message)).map(of_service));
            solved.extend(before.iter().filter(|message| !now.contains(message)).map(of_service));
            if !now.is_empty() {
                self.0.insert(service, now);
            }
        }
        problems::report(&new, &solved, "");
        metrics.problems(planner.problem_count());
        metrics.oversized_services(planner.oversized());
    }
}
