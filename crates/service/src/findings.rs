//! What is to be said about one Service: what of it cannot be served, and what is served though
//! hardly meant.
//!
//! There is an end to the list, so that one Service cannot fill the log, nor the memory.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::claims::{Claims, Key};
use crate::{FrontendKind, Protocol};

/// This many are listed for one Service; of others it is said how many there are.
const LISTED: usize = 20;

/// One thing that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// In words.
    Said(String),
    /// Another claimant has what the Service asks for. Who it is may change while this does not.
    Taken(Taken),
}

/// A frontend or a health-check port that another claimant has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) key: Key,
    /// Of a frontend: its kind and the name of its Service port.
    pub(crate) frontend: Option<(FrontendKind, Arc<str>)>,
}

/// A list that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Capped<T> {
    listed: Vec<T>,
    more: usize,
}

impl<T> Default for Capped<T> {
    fn default() -> Capped<T> {
        Capped { listed: Vec::new(), more: 0 }
    }
}

impl<T: PartialEq> Capped<T> {
    /// Adds an item, unless it is the same as the last one listed.
    fn push(&mut self, item: T) {
        if self.listed.last() == Some(&item) {
            return;
        }
        if self.listed.len() < LISTED {
            self.listed.push(item);
        } else {
            self.more += 1;
        }
    }

    fn len(&self) -> usize {
        self.listed.len() + self.more
    }
}

/// All of one Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    problems: Capped<Finding>,
    warnings: Capped<String>,
}

impl Findings {
    /// Adds something that cannot be served.
    pub(crate) fn problem(&mut self, finding: Finding) {
        self.problems.push(finding);
    }

    /// Adds something that is served though hardly meant.
    pub(crate) fn warning(&mut self, message: String) {
        self.warnings.push(message);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.problems.listed.is_empty() && self.warnings.listed.is_empty()
    }

    /// How many things cannot be served, those not listed included.
    pub(crate) fn count(&self) -> usize {
        self.problems.len()
    }

    /// What cannot be served, for people.
    pub(crate) fn problems(&self, claims: &Claims) -> Vec<String> {
        let listed = self.problems.listed.iter().map(|finding| finding.text(claims)).collect();
        ended(listed, self.problems.more, "problems")
    }

    /// What is served though hardly meant, for people.
    pub(crate) fn warnings(&self) -> Vec<String> {
        ended(self.warnings.listed.clone(), self.warnings.more, "warnings")
    }
}

fn ended(mut listed: Vec<String>, more: usize, what: &str) -> Vec<String> {
    if more > 0 {
        listed.push(format!("{more} more {what}, which are not listed"));
    }
    listed
}

impl Finding {
    fn text(&self, claims: &Claims) -> String {
        match self {
            Finding::Said(message) => message.clone(),
            Finding::Taken(taken) => taken.text(claims),
        }
    }
}

impl Taken {
    fn text(&self, claims: &Claims) -> String {
        let Some(winner) = claims.winner(self.key) else { return String::new() };
        let owner = &winner.service;
        let whose =
            if winner.port.is_empty() { owner.to_string() } else { format!("{owner}:{}", winner.port) };
        match (self.key, &self.frontend) {
            (Key::ClusterIp(address), _) => {
                format!(
                    "spec.clusterIPs: {address} is the ClusterIP of Service {owner}; choose another address"
                )
            }
            (Key::HealthCheck(port), _) => format!(
                "spec.healthCheckNodePort: {port} is already used by Service {owner}; choose another port"
            ),
            (Key::Frontend(address, protocol, port), frontend) => {
                taken_frontend(frontend.as_ref(), (address, protocol, port), &whose)
            }
        }
    }
}

fn taken_frontend(
    frontend: Option<&(FrontendKind, Arc<str>)>,
    (address, protocol, port): (IpAddr, Protocol, u16),
    whose: &str,
) -> String {
    let (field, remedy) = match frontend.map(|(kind, _)| *kind) {
        Some(FrontendKind::ExternalIp) => ("spec.externalIPs", "address or port"),
        Some(FrontendKind::LoadBalancer) => ("status.loadBalancer.ingress", "address or port"),
        Some(FrontendKind::NodePort) => ("spec.ports[].nodePort", "port"),
        Some(FrontendKind::ClusterIp) | None => ("spec.clusterIPs", "address or port"),
    };
    let port_name = match frontend {
        Some((_, name)) if !name.is_empty() => format!("port \"{name}\": "),
        _ => String::new(),
    };
    let socket = SocketAddr::new(address, port);
    format!(
        "{port_name}{field}: {socket}/{protocol} is already used by Service {whose}; choose another {remedy}"
    )
}
