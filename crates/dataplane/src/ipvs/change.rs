//! What leads from the virtual servers of one plan of a Service to those of the next.

use std::collections::{HashMap, HashSet};

use portolan_netfilter::ipvs::{Destination, Request, Scheduling, ServerKey, VirtualServer};
use portolan_service::{ObjectName, Protocol};

use super::wanted::Server;

/// A change of IPVS for a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) owner: ObjectName,
    pub(super) server: ServerKey,
    pub(super) action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    NewServer(Scheduling),
    SetServer(Scheduling),
    DeleteServer,
    NewDestination(Destination),
    SetDestination(Destination),
    /// It gets no new connections, and goes when those that it has have ended.
    Quiesce(Destination),
    DeleteDestination(Destination),
}

impl Step {
    pub(super) fn request(&self) -> Request<'_> {
        let server = &self.server;
        match &self.action {
            Action::NewServer(scheduling) => Request::NewServer(server, scheduling),
            Action::SetServer(scheduling) => Request::SetServer(server, scheduling),
            Action::DeleteServer => Request::DeleteServer(server),
            Action::NewDestination(destination) => Request::NewDestination(server, *destination),
            Action::SetDestination(destination) => Request::SetDestination(server, *destination),
            Action::Quiesce(destination) => {
                Request::SetDestination(server, Destination { weight: 0, ..*destination })
            }
            Action::DeleteDestination(destination) => Request::DeleteDestination(server, *destination),
        }
    }
}

/// Steps in two parts: before the commit of the rules that go with them, and after it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) first: Vec<Step>,
    pub(super) last: Vec<Step>,
}

impl Changes {
    /// The virtual servers that come, apart from those for marks.
    pub(super) fn new_servers(&self) -> Vec<VirtualServer> {
        let new = self.first.iter().filter(|step| matches!(step.action, Action::NewServer(_)));
        new.filter_map(|step| step.server.address()).collect()
    }

    /// The virtual servers that go, apart from those for marks.
    pub(super) fn gone_servers(&self) -> Vec<VirtualServer> {
        let gone = self.last.iter().filter(|step| step.action == Action::DeleteServer);
        gone.filter_map(|step| step.server.address()).collect()
    }
}

/// Appends what leads from the virtual servers `before` of a Service to those `after`. What comes
/// is first, so that no list is empty on the way.
pub(super) fn changes(owner: &ObjectName, before: &[Server], after: &[Server], to: &mut Changes) {
    let known: HashMap<&ServerKey, &Server> = before.iter().map(|server| (&server.key, server)).collect();
    let mut kept = 0;
    for server in after {
        let step = |action| Step { owner: owner.clone(), server: server.key, action };
        let Some(old) = known.get(&server.key) else {
            to.first.push(step(Action::NewServer(server.scheduling.clone())));
            to.first.extend(server.destinations.iter().map(|new| step(Action::NewDestination(*new))));
            continue;
        };
        kept += 1;
        if old.scheduling != server.scheduling {
            to.first.push(step(Action::SetServer(server.scheduling.clone())));
        }
        let held = [&old.destinations[..], &old.lingering[..]].concat();
        destination_changes(owner, server, &held, to);
    }
    if kept == before.len() {
        return;
    }
    for old in before.iter().filter(|old| after.iter().all(|server| server.key != old.key)) {
        to.last.push(Step { owner: owner.clone(), server: old.key, action: Action::DeleteServer });
    }
}

/// Appends what leads from the destinations `held` of a virtual server to those that it should
/// have.
pub(super) fn destination_changes(
    owner: &ObjectName,
    server: &Server,
    held: &[Destination],
    to: &mut Changes,
) {
    let step = |action| Step { owner: owner.clone(), server: server.key, action };
    let place = |destination: &Destination| (destination.address, destination.port);
    let known: HashMap<_, u32> = held.iter().map(|old| (place(old), old.weight)).collect();
    for wanted in &server.destinations {
        match known.get(&place(wanted)) {
            None => to.first.push(step(Action::NewDestination(*wanted))),
            Some(weight) if *weight != wanted.weight => {
                to.first.push(step(Action::SetDestination(*wanted)));
            }
            Some(_) => {}
        }
    }
    let wanted: HashSet<_> = server.destinations.iter().map(place).collect();
    for old in held.iter().filter(|old| !wanted.contains(&place(old))) {
        let lingers = server.lingering.iter().any(|lingering| place(lingering) == place(old));
        match server.protocol {
            Protocol::Udp if lingers && old.weight == 0 => {}
            Protocol::Udp if lingers => to.last.push(step(Action::Quiesce(*old))),
            // Flows of UDP have no end: they would hold to it for as long as they send.
            Protocol::Udp => to.last.push(step(Action::DeleteDestination(*old))),
            Protocol::Tcp | Protocol::Sctp => to.last.push(step(Action::Quiesce(*old))),
        }
    }
}
