//! What Services need of which there is one each: addresses and ports.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use portolan_service::{Family, Protocol, parse_address};

use super::{Assignment, Ranges};
use crate::{FamilyPolicy, Issue, ServiceSpec};

/// Something only one Service can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Claim {
    Address(IpAddr),
    Port(Protocol, u16),
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Address(address) => write!(f, "{address}"),
            Claim::Port(_, port) => write!(f, "{port}"),
        }
    }
}

/// What a claim of a Service is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Purpose {
    Address(Family),
    NodePort { index: usize, name: Arc<str>, protocol: Protocol },
    HealthCheck,
}

impl Purpose {
    /// How the record calls it.
    pub(super) fn key(&self) -> String {
        match self {
            Purpose::Address(family) => family.to_string(),
            Purpose::NodePort { name, protocol, .. } => format!("nodePort {name}/{protocol}"),
            Purpose::HealthCheck => "healthCheckNodePort".to_owned(),
        }
    }

    pub(super) fn field(&self) -> String {
        match self {
            Purpose::Address(_) => "spec.clusterIP".to_owned(),
            Purpose::NodePort { index, .. } => format!("spec.ports[{index}].nodePort"),
            Purpose::HealthCheck => "spec.healthCheckNodePort".to_owned(),
        }
    }

    pub(super) fn is_address(&self) -> bool {
        matches!(self, Purpose::Address(_))
    }

    /// The claim for `value` as the record has it.
    pub(super) fn claim(&self, value: &str) -> Option<Claim> {
        match self {
            Purpose::Address(family) => {
                parse_address(value).filter(|address| Family::of(*address) == *family).map(Claim::Address)
            }
            Purpose::NodePort { protocol, .. } => value.parse().ok().map(|port| Claim::Port(*protocol, port)),
            Purpose::HealthCheck => value.parse().ok().map(|port| Claim::Port(Protocol::Tcp, port)),
        }
    }
}

/// One thing that a Service needs.
#[derive(Debug, Clone)]
pub(super) struct Need {
    pub(super) purpose: Purpose,
    /// Which one it asks for; any if `None`.
    pub(super) asked: Option<Claim>,
    /// Which one it has.
    pub(super) has: Option<Claim>,
}

/// The needs of a Service.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    pub(super) families: Vec<Family>,
    pub(super) list: Vec<Need>,
    pub(super) issues: Vec<Issue>,
    pub(super) refused: bool,
}

impl Needs {
    /// What `service` needs.
    pub(super) fn of(service: &ServiceSpec, ranges: &[IpNet]) -> Needs {
        let mut needs = Needs::default();
        needs.choose_families(service, ranges);
        if service.wants_addresses() {
            for family in &needs.families {
                let asked = service.cluster_ips.iter().find(|ip| Family::of(**ip) == *family);
                let asked = asked.map(|ip| Claim::Address(*ip));
                needs.list.push(Need { purpose: Purpose::Address(*family), asked, has: None });
            }
        }
        for (index, port) in service.ports.iter().enumerate() {
            if port.node_port.is_some() || service.wants_node_ports() {
                let purpose = Purpose::NodePort { index, name: port.name.clone(), protocol: port.protocol };
                let asked = port.node_port.map(|number| Claim::Port(port.protocol, number));
                needs.list.push(Need { purpose, asked, has: None });
            }
        }
        if service.wants_health_check() {
            let asked = service.health_check_node_port.map(|number| Claim::Port(Protocol::Tcp, number));
            needs.list.push(Need { purpose: Purpose::HealthCheck, asked, has: None });
        }
        needs
    }

    fn choose_families(&mut self, service: &ServiceSpec, ranges: &[IpNet]) {
        self.families.clone_from(&service.families);
        let wanted = if service.family_policy == FamilyPolicy::Single { 1 } else { 2 };
        for range in ranges {
            let family = Family::of(range.addr());
            if self.families.len() < wanted && !self.families.contains(&family) {
                self.families.push(family);
            }
        }
        if self.families.len() < wanted && service.family_policy == FamilyPolicy::Require {
            self.issues.push(Issue::new(
                "spec.ipFamilyPolicy",
                "RequireDualStack needs Service ranges of both families; \
                 add one with --service-cluster-ip-range",
            ));
        }
    }

    /// What `service`, whose needs these are, has of them.
    pub(super) fn assignment(&self, service: &ServiceSpec, ranges: &Ranges) -> Assignment {
        let mut result = Assignment {
            families: self.families.clone(),
            node_ports: vec![None; service.ports.len()],
            refused: self.refused,
            issues: self.issues.clone(),
            ..Assignment::default()
        };
        for need in &self.list {
            if let Some(Claim::Port(_, port)) = need.asked
                && !ranges.node_ports.contains(&port)
            {
                let (first, last) = (ranges.node_ports.start(), ranges.node_ports.end());
                result.issues.push(Issue::new(
                    need.purpose.field(),
                    format!(
                        "{port} is used as asked, but is not in --service-node-port-range {first}-{last}"
                    ),
                ));
            }
            match (&need.purpose, need.has) {
                (Purpose::Address(_), Some(Claim::Address(address))) => result.addresses.push(address),
                (Purpose::NodePort { index, .. }, Some(Claim::Port(_, port))) => {
                    result.node_ports[*index] = Some(port);
                }
                (Purpose::HealthCheck, Some(Claim::Port(_, port))) => result.health_check = Some(port),
                _ => {}
            }
        }
        // A family for which no address could be had does not exist for the Service.
        if service.wants_addresses() {
            result
                .families
                .retain(|family| result.addresses.iter().any(|address| Family::of(*address) == *family));
        }
        result
    }
}
