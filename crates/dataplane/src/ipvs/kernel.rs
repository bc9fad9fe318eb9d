//! Our side of the conversation with IPVS: what a refusal means, and its settings.

use std::collections::HashMap;
use std::fs;
use std::io;

use portolan_netfilter::ipvs::{
    DestinationState, Ipvs, Request, ServerKey, ServerState, Timeouts, is_missing,
};
use portolan_service::ObjectName;

use super::change::{Action, Step};
use super::wanted::ROUND_ROBIN;
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
    /// Whether this kernel has a scheduler, once that is known
    schedulers: HashMap<String, bool>,
}

impl Kernel {
    pub(super) fn open() -> Result<Kernel, Error> {
        match Ipvs::open() {
            Ok(ipvs) => Ok(Kernel { ipvs, schedulers: HashMap::new() }),
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
        self.schedulers.get(scheduler) != Some(&false)
    }

    /// Takes, of the steps that give virtual servers a scheduler, the first one for each scheduler
    /// that no virtual server has had yet. Returns whether the kernel turned out not to have one:
    /// then other steps follow from the plans.
    pub(super) fn lacks_a_scheduler(&mut self, steps: &[Step]) -> Result<bool, Error> {
        let mut first: HashMap<&str, Step> = HashMap::new();
        for step in steps {
            let (Action::NewServer(scheduling) | Action::SetServer(scheduling)) = &step.action else {
                continue;
            };
            if !self.schedulers.contains_key(&scheduling.scheduler) {
                first.entry(&scheduling.scheduler).or_insert_with(|| step.clone());
            }
        }
        let (names, steps): (Vec<&str>, Vec<Step>) = first.into_iter().unzip();
        if steps.is_empty() {
            return Ok(false);
        }
        let failed: HashMap<usize, io::Error> = self.send(&steps)?.into_iter().collect();
        let mut lacking = false;
        for (index, name) in names.iter().enumerate() {
            let has = match failed.get(&index).map(io::Error::raw_os_error) {
                None => true,
                Some(Some(libc::ENOENT)) if *name != ROUND_ROBIN => false,
                // It is not known yet.
                Some(_) => continue,
            };
            if !has {
                lacking = true;
                tracing::warn!(
                    "the kernel has no IPVS scheduler {name:?}: another is used in its place; load the module \
                     ip_vs_{name}, or choose another in ipvs.scheduler or in the annotation of the Service"
                );
            }
            self.schedulers.insert((*name).to_owned(), has);
        }
        Ok(lacking)
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
        let again = self.try_once(steps)?;
        let steps: Vec<Step> = again.into_iter().map(|(step, _)| step).collect();
        let again = self.try_once(&steps)?;
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
            let step = Kernel::second_try(&steps[index], &error)?;
            Some((step, error))
        });
        Ok(again.collect())
    }

    fn send(&mut self, steps: &[Step]) -> Result<Vec<(usize, io::Error)>, Error> {
        let requests: Vec<_> = steps.iter().map(Step::request).collect();
        self.ipvs.request(&requests).map_err(netlink("changing virtual servers"))
    }

    /// What to ask for in place of a step that failed so, if anything.
    fn second_try(step: &Step, error: &io::Error) -> Option<Step> {
        let code = error.raw_os_error();
        let missing = is_missing(error);
        let action = match &step.action {
            Action::NewServer(scheduling) if code == Some(libc::EEXIST) => {
                Action::SetServer(scheduling.clone())
            }
            Action::SetServer(scheduling) if code == Some(libc::ESRCH) => {
                Action::NewServer(scheduling.clone())
            }
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
}

pub(super) fn netlink(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Netlink { doing: doing.into(), source }
}
