//! Our side of the conversation with IPVS: what a refusal means, and its settings.

use std::collections::HashSet;
use std::fs;
use std::io;

use portolan_netfilter::ipvs::{
    DestinationState, Ipvs, Request, Scheduling, ServerKey, ServerState, Timeouts, is_missing,
};
use portolan_service::ObjectName;

use super::change::{Action, Step};
use super::wanted::{ROUND_ROBIN, scheduling, usable};
use crate::error::Error;
use crate::mode::Sysctl;

/// Settings of IPVS that the rules and the removal of endpoints rely on, below `/proc/sys`.
pub(super) const SYSCTLS: [Sysctl; 3] = [
    // Masquerading needs connection tracking.
    sysctl("net/ipv4/vs/conntrack"),
    // Connections to an endpoint that is gone are reset, and flows go elsewhere.
    sysctl("net/ipv4/vs/expire_nodest_conn"),
    // Clients with affinity leave an endpoint that gets no new connections.
    sysctl("net/ipv4/vs/expire_quiescent_template"),
];

const fn sysctl(path: &'static str) -> Sysctl {
    Sysctl { path, value: 1, leave: "another mode" }
}

/// Has the kernel load IPVS, if it can.
pub(super) fn load() {
    if let Err(error) = Ipvs::open() {
        tracing::warn!("IPVS cannot be loaded: {error}");
    }
}

/// IPVS in one network namespace.
#[derive(Debug)]
pub(super) struct Kernel {
    ipvs: Ipvs,
    /// The scheduler of Services that name none
    scheduler: String,
    /// Schedulers that this kernel turned out not to have
    unknown: HashSet<String>,
}

impl Kernel {
    pub(super) fn open(scheduler: String) -> Result<Kernel, Error> {
        match Ipvs::open() {
            Ok(ipvs) => Ok(Kernel { ipvs, scheduler, unknown: HashSet::new() }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Err(Error::Missing(
                "the kernel has no IPVS: load the module ip_vs, or choose another --proxy-mode".into(),
            )),
            Err(source) => Err(Error::Netlink { doing: "opening a socket for IPVS".into(), source }),
        }
    }

    /// Makes its settings, where they are not as they have to be.
    pub(super) fn prepare(&mut self, timeouts: Timeouts) -> Result<(), Error> {
        for Sysctl { path, value, .. } in SYSCTLS {
            let (path, value) = (format!("/proc/sys/{path}"), value.to_string());
            let held = fs::read_to_string(&path).unwrap_or_default();
            if held.trim() != value {
                fs::write(&path, &value).map_err(|error| {
                    Error::Unusable(format!(
                        "{path} has to be {value}, and cannot be written: {error}: set it, with sysctl"
                    ))
                })?;
            }
        }
        if timeouts != Timeouts::default() {
            self.ipvs.set_timeouts(timeouts).map_err(netlink("setting the timeouts of IPVS"))?;
        }
        Ok(())
    }

    /// The kernel has this scheduler, as far as is known.
    pub(super) fn knows(&self, scheduler: &str) -> bool {
        !self.unknown.contains(scheduler)
    }

    /// All virtual servers, of others too.
    pub(super) fn servers(&mut self) -> Result<Vec<ServerState>, Error> {
        self.ipvs.servers().map_err(netlink("listing virtual servers"))
    }

    /// What a virtual server leads to.
    pub(super) fn destinations(&mut self, server: &ServerKey) -> Result<Vec<DestinationState>, Error> {
        self.ipvs.destinations(server).map_err(netlink("listing the destinations of a virtual server"))
    }

    /// Deletes virtual servers, those that are there.
    pub(super) fn delete(&mut self, servers: &[ServerKey]) -> Result<(), Error> {
        let failed = |source| Error::Netlink { doing: "deleting virtual servers".into(), source };
        let requests: Vec<_> = servers.iter().map(Request::DeleteServer).collect();
        let mut errors = self.ipvs.request(&requests).map_err(failed)?.into_iter().map(|(_, error)| error);
        errors.find(|error| !is_missing(error)).map_or(Ok(()), |error| Err(failed(error)))
    }

    /// Takes all steps, in order. What is there is changed, and what is missing need not be
    /// deleted. Returns the Services with steps that the kernel refuses.
    pub(super) fn bring(&mut self, steps: &[Step]) -> Result<Vec<(ObjectName, String)>, Error> {
        let mut again = self.try_once(steps)?;
        // A scheduler may be missing, and so may the one in its place.
        for _ in 0..2 {
            let steps: Vec<Step> = again.into_iter().map(|(step, _)| step).collect();
            again = self.try_once(&steps)?;
        }
        let mut refused: Vec<_> =
            again.into_iter().map(|(step, error)| (step.owner, format!("IPVS: {error}"))).collect();
        refused.dedup_by(|one, other| one.0 == other.0);
        Ok(refused)
    }

    /// Takes all steps. Returns what to try in place of those that failed, and why each did.
    fn try_once(&mut self, steps: &[Step]) -> Result<Vec<(Step, io::Error)>, Error> {
        if steps.is_empty() {
            return Ok(Vec::new());
        }
        let failed = self.send(steps)?;
        let again = failed.into_iter().filter_map(|(index, error)| {
            let step = self.second_try(&steps[index], &error)?;
            Some((step, error))
        });
        Ok(again.collect())
    }

    fn send(&mut self, steps: &[Step]) -> Result<Vec<(usize, io::Error)>, Error> {
        let requests: Vec<_> = steps.iter().map(Step::request).collect();
        self.ipvs.request(&requests).map_err(netlink("changing virtual servers"))
    }

    /// What to ask for in place of a step that failed so, if anything.
    fn second_try(&mut self, step: &Step, error: &io::Error) -> Option<Step> {
        let code = error.raw_os_error();
        let missing = is_missing(error);
        let action = match &step.action {
            Action::NewServer(scheduling) if code == Some(libc::EEXIST) => {
                Action::SetServer(scheduling.clone())
            }
            Action::NewServer(scheduling) | Action::SetServer(scheduling)
                if code == Some(libc::ENOENT) && scheduling.scheduler != ROUND_ROBIN =>
            {
                let scheduling = self.replaced(scheduling);
                match &step.action {
                    Action::NewServer(_) => Action::NewServer(scheduling),
                    _ => Action::SetServer(scheduling),
                }
            }
            Action::SetServer(scheduling) if missing => Action::NewServer(scheduling.clone()),
            Action::NewDestination(destination) if code == Some(libc::EEXIST) => {
                Action::SetDestination(*destination)
            }
            Action::SetDestination(destination) if missing => Action::NewDestination(*destination),
            Action::Quiesce(_) | Action::DeleteDestination(_) | Action::DeleteServer if missing => {
                return None;
            }
            same => same.clone(),
        };
        Some(Step { action, ..step.clone() })
    }

    /// What stands in for a scheduler that the kernel turned out not to have.
    fn replaced(&mut self, missing: &Scheduling) -> Scheduling {
        let name = &missing.scheduler;
        let is_new = self.unknown.insert(name.clone());
        let instead = usable(name, &self.scheduler, |scheduler| self.knows(scheduler));
        if is_new {
            tracing::warn!(
                "the kernel has no IPVS scheduler {name:?}: {instead} is used; load the module ip_vs_{name}, or \
                 choose another in ipvs.scheduler or in the annotation of the Service"
            );
        }
        scheduling(instead, missing.persistence)
    }
}

pub(super) fn netlink(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Netlink { doing: doing.into(), source }
}
