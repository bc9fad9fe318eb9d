//! NS and PTR records: names as data.

use std::cmp::Ordering;
use std::net::IpAddr;

use portolan_service::Service;

use super::{Asked, End};
use crate::reply::Reply;
use crate::services::{Place, ips};
use crate::settings::Zone;
use crate::state::Names;
use crate::wire::{HEADER_LEN, Name, Owner, Section, kind};

impl Names {
    /// NS records of a zone, with the addresses of the servers (spec §1).
    pub(super) fn ns(&self, asked: &Asked<'_, '_>, zone: &Zone, reply: &mut Reply) -> End {
        // No Service is below a reverse zone.
        let mut domain = self.options.primary.clone();
        if !zone.reverse {
            domain = Name::root();
            domain.push_wire(asked.query.spelled(0));
        }
        let (owner, ttl) = (Owner::At(HEADER_LEN), self.options.ttl());
        self.name_servers(&domain, &mut reply.servers);
        if reply.servers.is_empty() {
            let Some(name) = below(&["ns", "dns"], &domain) else { return End::NoData };
            return super::records(reply.writer.record(Section::Answer, owner, kind::NS, ttl, |writer| {
                writer.name(name.as_wire());
            }));
        }
        for (at, (name, _)) in reply.servers.iter().enumerate() {
            if reply.servers[..at].iter().any(|(known, _)| known == name) {
                continue;
            }
            let written = reply.writer.record(Section::Answer, owner, kind::NS, ttl, |writer| {
                writer.name(name.as_wire());
            });
            if !written {
                return End::Cut;
            }
        }
        for (name, address) in &reply.servers {
            reply.writer.address(Section::Additional, Owner::Name(name.as_wire()), ttl, *address);
        }
        End::Records
    }

    /// The servers of the zone `domain` with their addresses: the Services that the server itself
    /// is an endpoint of or answers for, or else itself.
    pub(super) fn name_servers(&self, domain: &Name, servers: &mut Vec<(Name, IpAddr)>) {
        servers.clear();
        let own = &self.options.settings.own_addresses;
        for &address in own {
            if let Some(service) = self.service_at(address)
                && let Some(name) = service_name(None, service, domain)
            {
                servers.extend(ips(service).map(|address| (name.clone(), address)));
            }
            for place in self.services.by_endpoint(address) {
                let Some((service, endpoint)) = self.endpoint_at(place) else { continue };
                let label = self.services.name_of(endpoint);
                let label = service.headless.then_some(label.as_str());
                let Some(name) = service_name(label, service, domain) else { continue };
                let addresses = std::iter::once(address).filter(|_| service.headless).chain(ips(service));
                servers.extend(addresses.map(|address| (name.clone(), address)));
            }
        }
        if servers.is_empty()
            && let Some(name) = below(&["ns", "dns"], domain)
        {
            servers.extend(own.iter().map(|address| (name.clone(), *address)));
        }
        servers.sort_unstable_by(|one, other| (one.0.as_wire(), one.1).cmp(&(other.0.as_wire(), other.1)));
        servers.dedup();
    }

    /// PTR records of an address: its Service, or else its endpoints (spec §5).
    pub(super) fn pointers(&self, address: IpAddr, owner: Owner<'_>, reply: &mut Reply) -> End {
        let (domain, ttl) = (&self.options.primary, self.options.ttl());
        if let Some(service) = self.service_at(address) {
            let Some(name) = service_name(None, service, domain) else { return End::NoData };
            return super::records(reply.writer.record(Section::Answer, owner, kind::PTR, ttl, |writer| {
                writer.name(name.as_wire());
            }));
        }
        reply.places.clear();
        let named = self.services.by_endpoint(address).filter(|place| self.endpoint_at(*place).is_some());
        reply.places.extend(named);
        // The same order, whatever came first.
        reply.places.sort_unstable_by(|one, other| self.by_name(*one, *other));
        let mut last: Option<Name> = None;
        for place in &reply.places {
            let Some((service, endpoint)) = self.endpoint_at(*place) else { continue };
            let label = self.services.name_of(endpoint);
            // What is too long for a name has none.
            let Some(name) = service_name(Some(label.as_str()), service, domain) else { continue };
            if last.as_ref() == Some(&name) {
                continue;
            }
            let written = reply.writer.record(Section::Answer, owner, kind::PTR, ttl, |writer| {
                writer.name(name.as_wire());
            });
            if !written {
                return End::Cut;
            }
            last = Some(name);
        }
        if last.is_some() { End::Records } else { End::NoData }
    }

    /// The order of two endpoints: by Service, then by name.
    fn by_name(&self, one: Place, other: Place) -> Ordering {
        match (self.endpoint_at(one), self.endpoint_at(other)) {
            (Some((service, endpoint)), Some((beside, also))) => {
                service.name.cmp(&beside.name).then_with(|| {
                    let (one, other) = (self.services.name_of(endpoint), self.services.name_of(also));
                    one.as_str().cmp(other.as_str())
                })
            }
            _ => Ordering::Equal,
        }
    }
}

/// `LABEL.SVC.NS.svc.DOMAIN`, if it can be a name.
fn service_name(label: Option<&str>, service: &Service, domain: &Name) -> Option<Name> {
    let mut name = Name::root();
    let fits = label.is_none_or(|label| name.push_text(label));
    let parts = [service.name.name(), service.name.namespace(), "svc"];
    let fits = fits && parts.iter().all(|label| name.push(label.as_bytes()));
    (fits && name.push_wire(domain.as_wire())).then_some(name)
}

fn below(labels: &[&str], domain: &Name) -> Option<Name> {
    let mut name = Name::root();
    let fits = labels.iter().all(|label| name.push(label.as_bytes()));
    (fits && name.push_wire(domain.as_wire())).then_some(name)
}
