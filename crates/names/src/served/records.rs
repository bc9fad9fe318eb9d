//! Names and their records, as they would be answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use portolan_service::{Endpoint, EndpointSlice, Family, ServiceType};

use super::{Absent, Served, Waiting};
use crate::endpoint_name::{EndpointName, given};
use crate::lookup::{alias, protocol_name, target_name};
use crate::services::ips;
use crate::wire::kind;

/// A name with its records of one type, or with the reason why it has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name, without a dot at the end.
    pub name: String,
    /// The type of the records; 0 if there are none.
    pub kind: u16,
    /// How long they may be kept, seconds.
    pub ttl: u32,
    /// Addresses, the target of an alias, or `TARGET:PORT` for SRV.
    pub data: Vec<String>,
    /// Why there are none.
    pub absent: Option<Absent>,
}

/// Endpoints of one name.
#[derive(Default)]
struct Named {
    ready: Vec<IpAddr>,
    waiting: Vec<Waiting>,
}

impl Listed {
    pub(super) fn absent(name: String, absent: Absent) -> Listed {
        Listed { name, kind: 0, ttl: 0, data: Vec::new(), absent: Some(absent) }
    }
}

impl Served {
    /// `SVC.NS.svc.DOMAIN`
    pub(super) fn own_name(&self, domain: &str) -> String {
        let name = &self.service.name;
        format!("{}.{}.svc.{domain}", name.name(), name.namespace())
    }

    pub(super) fn alias(&self, domain: &str, listed: &mut Vec<Listed>) {
        let target = alias(&self.service).map(|target| target.trim_end_matches('.').to_owned());
        self.push(listed, self.own_name(domain), kind::CNAME, target.into_iter().collect());
    }

    /// The addresses of the Service's own name: ClusterIPs, or those of its endpoints.
    pub(super) fn addresses(&self, domain: &str, listed: &mut Vec<Listed>) {
        let mut addresses: Vec<IpAddr> = if self.service.headless {
            self.ready().map(|(_, endpoint)| endpoint.address).collect()
        } else {
            ips(&self.service).collect()
        };
        if addresses.is_empty() {
            let targets = self.targets.iter().flat_map(|slice| &slice.endpoints);
            let targets: BTreeSet<String> = targets.filter_map(target_name).map(str::to_owned).collect();
            // One of them is drawn for each answer.
            self.push(listed, self.own_name(domain), kind::CNAME, targets.into_iter().collect());
            return;
        }
        self.push_addresses(listed, &self.own_name(domain), &mut addresses);
    }

    /// SRV records: of the Service's own name for all ports, then of each port with a name.
    pub(super) fn ports(&self, domain: &str, listed: &mut Vec<Listed>) {
        let own = self.own_name(domain);
        let mut named: BTreeMap<String, BTreeSet<(String, u16)>> = BTreeMap::new();
        let mut port = |name: &str, protocol, target: &str, number: u16| {
            let mut owners = vec![own.clone()];
            if !name.is_empty() {
                owners.push(format!("_{name}._{}.{own}", protocol_name(protocol)));
            }
            for owner in owners {
                named.entry(owner).or_default().insert((target.to_owned(), number));
            }
        };
        if self.service.headless {
            for (slice, endpoint) in self.ready() {
                let target = format!("{}.{own}", self.called(endpoint));
                for listed in &slice.ports {
                    if let Some(number) = listed.port {
                        port(&listed.name, listed.protocol, &target, number);
                    }
                }
            }
        } else if ips(&self.service).next().is_some() {
            for listed in &self.service.ports {
                port(&listed.name, listed.protocol, &own, listed.port);
            }
        }
        for (name, targets) in named {
            let data = targets.into_iter().map(|(target, number)| format!("{target}:{number}")).collect();
            self.push(listed, name, kind::SRV, data);
        }
    }

    /// Names of endpoints, and those that endpoints would have if they were ready.
    pub(super) fn endpoints(&self, domain: &str, listed: &mut Vec<Listed>) {
        if self.service.kind == ServiceType::ExternalName {
            return;
        }
        let own = self.own_name(domain);
        let mut named: BTreeMap<String, Named> = BTreeMap::new();
        for endpoint in self.slices.iter().flat_map(|slice| &slice.endpoints) {
            let mut name = self.called(endpoint);
            name.make_ascii_lowercase();
            let of = named.entry(name).or_default();
            if endpoint.ready {
                of.ready.push(endpoint.address);
            } else {
                of.waiting.push(Waiting::of(endpoint, self.options.settings.endpoint_pod_names));
            }
        }
        for (name, Named { mut ready, waiting }) in named {
            let name = format!("{name}.{own}");
            if ready.is_empty() {
                listed.push(Listed::absent(name, Absent::Unready(waiting)));
            } else {
                self.push_addresses(listed, &name, &mut ready);
            }
        }
        let pod_names = self.options.settings.endpoint_pod_names;
        for target in self.targets.iter().flat_map(|slice| &slice.endpoints) {
            let Some(text) = target_name(target) else { continue };
            let name = given(&target.names, pod_names).map_or_else(|| text.replace('.', "-"), str::to_owned);
            self.push(listed, format!("{name}.{own}"), kind::CNAME, vec![text.to_owned()]);
        }
    }

    /// Ready endpoints with their slices.
    fn ready(&self) -> impl Iterator<Item = (&EndpointSlice, &Endpoint)> {
        let all = self.slices.iter().flat_map(|slice| slice.endpoints.iter().map(move |one| (&**slice, one)));
        all.filter(|(_, endpoint)| endpoint.ready)
    }

    fn called(&self, endpoint: &Endpoint) -> String {
        let pod_names = self.options.settings.endpoint_pod_names;
        EndpointName::of(&endpoint.names, endpoint.address, pod_names).as_str().to_owned()
    }

    /// Adds a row for each family.
    fn push_addresses(&self, listed: &mut Vec<Listed>, name: &str, addresses: &mut Vec<IpAddr>) {
        addresses.sort_unstable();
        addresses.dedup();
        for (family, kind) in [(Family::V4, kind::A), (Family::V6, kind::AAAA)] {
            let of_family = addresses.iter().filter(|address| Family::of(**address) == family);
            self.push(listed, name.to_owned(), kind, of_family.map(IpAddr::to_string).collect());
        }
    }

    fn push(&self, listed: &mut Vec<Listed>, name: String, kind: u16, data: Vec<String>) {
        if !data.is_empty() {
            listed.push(Listed { name, kind, ttl: self.options.ttl(), data, absent: None });
        }
    }
}
