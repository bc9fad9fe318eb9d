//! Why a name has no records.

use std::fmt;
use std::net::IpAddr;

use portolan_service::{Endpoint, ServiceType};

use super::Served;
use crate::endpoint_name::EndpointName;
use crate::services::ips;

/// As many endpoints are named; the others are counted.
const NAMED: usize = 5;

/// Why a name has no records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Absent {
    /// The settings leave its namespace out.
    Namespace,
    /// `noendpoints`: no headless Service exists.
    EndpointsOff,
    /// No endpoint is ready: these are not. Without any there are none.
    Unready(Vec<Waiting>),
    /// The Service is yet to get a ClusterIP. The name exists.
    NoClusterIp,
    /// `externalName` is not there, or no name: an address is none.
    NoTarget(String),
}

/// An endpoint that is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// What it is called below its Service.
    pub name: String,
    /// The pod in its Service's namespace, if it is one.
    pub pod: Option<String>,
    /// Its address.
    pub address: IpAddr,
}

impl Absent {
    /// Whether a question for the name is answered with NXDOMAIN. Else the name exists.
    pub fn is_no_name(&self) -> bool {
        *self != Absent::NoClusterIp
    }
}

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Absent::Namespace => f.write_str("its namespace has no names: namespaces leaves it out"),
            Absent::EndpointsOff => f.write_str("noendpoints: no headless Service has a name"),
            Absent::NoClusterIp => f.write_str("it has no ClusterIP yet"),
            Absent::NoTarget(text) => {
                write!(f, "externalName {text:?} is no name: give a domain name, and no address")
            }
            Absent::Unready(waiting) if waiting.is_empty() => f.write_str("it has no endpoints"),
            Absent::Unready(waiting) => {
                f.write_str("no endpoint is ready: ")?;
                for (at, endpoint) in waiting.iter().take(NAMED).enumerate() {
                    write!(f, "{}{endpoint}", if at > 0 { ", " } else { "" })?;
                }
                match waiting.len().saturating_sub(NAMED) {
                    0 => Ok(()),
                    others => write!(f, " and {others} more"),
                }
            }
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pod {
            Some(pod) => write!(f, "{pod} ({})", self.address),
            None => write!(f, "{}", self.address),
        }
    }
}

impl Waiting {
    pub(super) fn of(endpoint: &Endpoint, pod_names: bool) -> Waiting {
        Waiting {
            name: EndpointName::of(&endpoint.names, endpoint.address, pod_names).as_str().to_owned(),
            pod: endpoint.names.pod().map(str::to_owned),
            address: endpoint.address,
        }
    }
}

impl Served {
    /// Why the Service's own name has no records of addresses and no alias; `None` if it has.
    pub(super) fn absent(&self) -> Option<Absent> {
        let service = &*self.service;
        if !self.shown {
            return Some(Absent::Namespace);
        }
        if service.kind == ServiceType::ExternalName {
            let unusable = crate::lookup::alias(service).is_none();
            return unusable
                .then(|| Absent::NoTarget(service.external_name.as_deref().unwrap_or_default().to_owned()));
        }
        if service.headless && !self.options.settings.endpoints {
            return Some(Absent::EndpointsOff);
        }
        if !self.exists {
            return Some(Absent::Unready(self.waiting()));
        }
        (!service.headless && ips(service).next().is_none()).then_some(Absent::NoClusterIp)
    }

    /// The endpoints that are not ready.
    fn waiting(&self) -> Vec<Waiting> {
        let pod_names = self.options.settings.endpoint_pod_names;
        let all = self.slices.iter().flat_map(|slice| &slice.endpoints);
        all.filter(|endpoint| !endpoint.ready).map(|endpoint| Waiting::of(endpoint, pod_names)).collect()
    }
}
