//! Service ports that this mode cannot serve, each said once.

use std::collections::{BTreeMap, BTreeSet};

use portolan_service::{ChangeSet, ObjectName, Protocol, ServicePlan};
use tracing::{info, warn};

use super::settings::UserspaceSettings;

/// This many of one call are named.
const NAMED: usize = 20;

/// What cannot be served, as it was last said.
#[derive(Debug, Default)]
pub(super) struct Unserved(BTreeMap<ObjectName, BTreeSet<String>>);

impl Unserved {
    /// All plans that there are.
    pub(super) fn all(&mut self, plans: &[&ServicePlan], settings: &UserspaceSettings) {
        let found = plans.iter().map(|plan| (plan.name.clone(), reasons(plan, settings)));
        let found: BTreeMap<_, _> = found.filter(|(_, reasons)| !reasons.is_empty()).collect();
        let gone: Vec<ObjectName> = self.0.keys().filter(|name| !found.contains_key(name)).cloned().collect();
        let gone = gone.into_iter().map(|name| (name, BTreeSet::new()));
        self.note(found.into_iter().chain(gone).collect());
    }

    /// Some plans have changed.
    pub(super) fn changed(&mut self, changes: &ChangeSet, settings: &UserspaceSettings) {
        let of = |plan: Option<&ServicePlan>| plan.map(|plan| reasons(plan, settings)).unwrap_or_default();
        let found = changes.services.iter().map(|change| (change.name.clone(), of(change.after.as_deref())));
        self.note(found.collect());
    }

    /// All of it.
    pub(super) fn list(&self) -> Vec<String> {
        let of_service = |(name, reasons): (&ObjectName, &BTreeSet<String>)| {
            reasons.iter().map(|reason| format!("Service {name}: {reason}")).collect::<Vec<_>>()
        };
        self.0.iter().flat_map(of_service).collect()
    }

    fn note(&mut self, found: Vec<(ObjectName, BTreeSet<String>)>) {
        let mut new = Vec::new();
        for (name, reasons) in found {
            let known = self.0.get(&name).cloned().unwrap_or_default();
            new.extend(reasons.difference(&known).map(|reason| format!("Service {name}: {reason}")));
            for reason in known.difference(&reasons) {
                info!("solved: Service {name}: {reason}");
            }
            if reasons.is_empty() {
                self.0.remove(&name);
            } else {
                self.0.insert(name, reasons);
            }
        }
        for line in new.iter().take(NAMED) {
            warn!("{line}");
        }
        if new.len() > NAMED {
            warn!("{} more Service ports are not served in mode userspace", new.len() - NAMED);
        }
    }
}

/// Why ports of `plan` are refused, for people.
pub(super) fn reasons(plan: &ServicePlan, settings: &UserspaceSettings) -> BTreeSet<String> {
    let mut reasons = BTreeSet::new();
    for port in &plan.ports {
        let name = if port.name.is_empty() { String::new() } else { format!(" {:?}", &*port.name) };
        if port.protocol == Protocol::Sctp {
            reasons.insert(format!(
                "port{name}: SCTP is not served in mode userspace, connections are refused; use mode nftables"
            ));
        } else if settings.addresses.get(port.family).is_none() {
            reasons.insert(format!(
                "port{name}: the node has no {} address to listen on, connections are refused; give it one, or set \
                 --bind-address",
                port.family
            ));
        } else if let (Some(node_port), Some(range)) = (port.node_port, &settings.ports)
            && range.contains(&node_port)
        {
            // What is sent to a socket's port directly is dropped.
            reasons.insert(format!(
                "port{name}: NodePort {node_port} is in --proxy-port-range {}-{}, and connections to it are dropped \
                 while a socket of the proxy has that port: give a range without NodePorts, or another NodePort",
                range.start(),
                range.end()
            ));
        }
    }
    reasons
}
