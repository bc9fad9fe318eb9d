//! The Services of a lab, and what is wrong with its manifests, as `lab status` shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portolan_service::{Change, ObjectName, Service, ServiceType};
use portolan_source::manifests::{Manifests, Options, Problem, Severity, Workloads};
use serde::{Deserialize, Serialize};

use super::folder::Taken;
use crate::Error;

/// A Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name, with its namespace before it unless that is `default`.
    pub name: String,
    /// Its ClusterIPs.
    pub cluster_ips: Vec<IpAddr>,
    /// Its external addresses, those of load balancers among them.
    pub external_ips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<PortStatus>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Its name; empty for none.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Its number.
    pub port: u16,
    /// The port on every node, if it has one.
    pub node_port: Option<u16>,
}

/// Something wrong with a manifest, or ignored in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// The user's file; none for what is in no file.
    pub file: Option<PathBuf>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// Object, field, what is wrong and what to do.
    pub message: String,
    /// Nothing that was asked for is missing because of it, but something is ignored.
    pub is_warning: bool,
}

/// What can be said of the manifests that the proxies follow: it reads them as the proxies do.
#[derive(Debug)]
pub(super) struct Observed {
    manifests: Manifests,
    services: BTreeMap<ObjectName, Service>,
    taken: Taken,
    /// Why the user's files, as they are now, were not taken over.
    refused: Option<Finding>,
}

impl Observed {
    /// Begins to follow the folder of manifests, with the addresses and ports that are allocated in
    /// `state_dir`.
    pub(super) fn start(manifests: &Path, state_dir: &Path, taken: Taken) -> Result<Observed, Error> {
        // As a proxy would: whoever is first to see a new Service allocates for all.
        let options = Options { ledger: Some(state_dir.join("allocations.json")), ..Options::default() };
        let manifests = Manifests::open(manifests, options).map_err(|error| Error::Io {
            what: "following the lab's manifests".to_owned(),
            source: std::io::Error::other(error.to_string()),
        })?;
        Ok(Observed { manifests, services: BTreeMap::new(), taken, refused: None })
    }

    /// The user's files have changed, and were taken over or not.
    pub(super) fn update(&mut self, taken: Result<Taken, Error>) -> Result<(), Error> {
        match taken {
            Ok(taken) => {
                self.taken = taken;
                self.refused = None;
                Ok(())
            }
            Err(error) => {
                self.refused = Some(Finding::of_error(&error));
                Err(error)
            }
        }
    }

    /// The Services and findings now, sorted.
    pub(super) fn look(&mut self) -> (Vec<ServiceStatus>, Vec<Finding>) {
        self.read();
        (self.services.values().map(status).collect(), self.findings())
    }

    /// A Service as it is now.
    pub(super) fn service(&mut self, namespace: &str, name: &str) -> Option<ServiceStatus> {
        self.read();
        self.services.get(&ObjectName::new(namespace, name)).map(status)
    }

    fn read(&mut self) {
        for change in self.manifests.load().changes {
            match change {
                Change::Service(service) => {
                    self.services.insert(service.name.clone(), Arc::unwrap_or_clone(service));
                }
                Change::ServiceRemoved(name) => {
                    self.services.remove(&name);
                }
                _ => {}
            }
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let of_folder = self.manifests.problems().into_iter().cloned();
        let unmatched = self.manifests.unmatched(Workloads::Run);
        let all = of_folder.chain(unmatched).map(|problem| Problem {
            file: self.taken.files.get(&problem.file).cloned().unwrap_or(problem.file),
            ..problem
        });
        let mut findings: BTreeSet<Finding> =
            all.chain(self.taken.warnings.iter().cloned()).map(|problem| Finding::of(&problem)).collect();
        // The proxies may have found the same, in other words.
        let same_place = |one: &Finding, other: &Finding| {
            (&one.file, one.line) == (&other.file, other.line) && !other.is_warning
        };
        if let Some(refused) = &self.refused
            && !findings.iter().any(|other| same_place(refused, other))
        {
            findings.insert(refused.clone());
        }
        findings.into_iter().collect()
    }
}

impl Finding {
    fn of(problem: &Problem) -> Finding {
        let parts = [problem.object.as_deref(), problem.field.as_deref(), Some(&problem.message)];
        Finding {
            file: Some(problem.file.clone()),
            line: problem.line,
            message: parts.into_iter().flatten().collect::<Vec<_>>().join(": "),
            is_warning: problem.severity == Severity::Warning,
        }
    }

    fn of_error(error: &Error) -> Finding {
        match error {
            Error::Manifest(problem) => Finding::of(problem),
            other => Finding { file: None, line: None, message: other.to_string(), is_warning: false },
        }
    }
}

fn status(service: &Service) -> ServiceStatus {
    let name = &service.name;
    let with_node_ports = matches!(service.kind, ServiceType::NodePort | ServiceType::LoadBalancer);
    ServiceStatus {
        name: if name.namespace() == "default" { name.name().to_owned() } else { name.as_str().to_owned() },
        cluster_ips: service.cluster_ips.clone(),
        external_ips: service
            .external_ips
            .iter()
            .copied()
            .chain(service.load_balancer.iter().map(|ingress| ingress.ip))
            .collect(),
        ports: service
            .ports
            .iter()
            .map(|port| PortStatus {
                name: port.name.to_string(),
                protocol: port.protocol.to_string().to_uppercase(),
                port: port.port,
                node_port: port.node_port.filter(|_| with_node_ports),
            })
            .collect(),
    }
}
