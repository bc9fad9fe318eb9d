//! SRV records (RFC 2782) with the addresses of their targets.

use portolan_service::{EndpointSlice, Service};

use super::{Asked, End};
use crate::lookup::{Endpoints, Ports};
use crate::reply::{Glue, Reply, SrvRecord};
use crate::services::{Place, ips};
use crate::state::Names;
use crate::wire::{LABEL_MAX, Name, Owner, Section, Writer, kind};

impl Names {
    /// SRV records of a Service that has ClusterIPs.
    pub(super) fn cluster_srv(
        &self,
        asked: &mut Asked<'_, '_>,
        service: &Service,
        ports: Ports<'_>,
        reply: &mut Reply,
    ) -> End {
        let matching = || service.ports.iter().filter(|port| ports.matches(&port.name, port.protocol));
        let addresses = ips(service).count();
        let weight = weight(matching().count() * addresses);
        let Some(target) = service_name(asked, service).filter(|_| addresses > 0) else {
            return End::NoData;
        };
        let mut place = None;
        for (at, port) in matching().enumerate() {
            if matching().take(at).any(|earlier| earlier.port == port.port) {
                continue;
            }
            match self.srv(&mut reply.writer, asked.owner, (weight, port.port), &target) {
                Some(written) => place = place.or(Some(written)),
                None => return End::Cut,
            }
        }
        let Some(place) = place else { return End::NoData };
        let first = asked.random.below(addresses);
        for address in ips(service).cycle().skip(first).take(addresses) {
            let owner = owner_at(place, &target);
            reply.writer.address(Section::Additional, owner, self.options.ttl(), address);
        }
        End::Records
    }

    /// SRV records of the endpoints in `reply.places`.
    pub(super) fn endpoint_srv(
        &self,
        asked: &mut Asked<'_, '_>,
        found: &Endpoints<'_, '_>,
        reply: &mut Reply,
    ) -> End {
        let Some(service) = service_name(asked, found.service) else { return End::NoData };
        let weight = weight(self.list_srv(found, reply));
        drop_repeated(&mut reply.srv, |one, other| self.called_alike(one, other));
        for record in &mut reply.srv {
            let Some(target) = self.endpoint_name(record.place, &service) else { continue };
            let Some(place) = self.srv(&mut reply.writer, asked.owner, (weight, record.port), &target) else {
                return End::Cut;
            };
            record.target = place;
        }
        if reply.writer.count(Section::Answer) == 0 {
            return End::NoData;
        }
        self.glue(asked, found, &service, reply);
        End::Records
    }

    /// Lists what is asked for in `reply.srv` and `reply.glue`. Returns how many pairs of address
    /// and port there are.
    fn list_srv(&self, found: &Endpoints<'_, '_>, reply: &mut Reply) -> usize {
        reply.srv.clear();
        reply.glue.clear();
        let mut pairs = 0;
        for &place in &reply.places {
            let Some((slice, endpoint)) = self.services.endpoint(place) else { continue };
            let before = reply.srv.len();
            let hash = self.hash_of_name(place);
            let (ports, numbers) = matching(slice, found.ports);
            for port in numbers {
                let order = u32::try_from(reply.srv.len()).unwrap_or(u32::MAX);
                reply.srv.push(SrvRecord { hash, port, place, order, target: 0 });
            }
            if reply.srv.len() > before {
                reply.glue.push(Glue { hash, address: endpoint.address, place });
            }
            // Without numbers, or ports at all, it counts all the same.
            pairs += ports.max(1);
        }
        pairs
    }

    /// Appends the addresses of all targets, as far as there is room.
    fn glue(&self, asked: &mut Asked<'_, '_>, found: &Endpoints<'_, '_>, service: &Name, reply: &mut Reply) {
        if found.entry.has_duplicates() {
            reply.glue.sort_unstable_by_key(|glue| (glue.address, glue.hash));
            reply.glue.dedup_by(|one, other| {
                one.address == other.address && self.called_alike(one.place, other.place)
            });
        }
        reply.srv.sort_unstable_by_key(|record| (record.hash, record.order));
        let ttl = self.options.ttl();
        for at in 0..reply.glue.len() {
            asked.random.draw(&mut reply.glue, at);
            let glue = reply.glue[at];
            let from = reply.srv.partition_point(|record| record.hash < glue.hash);
            let mut same = reply.srv[from..].iter().take_while(|record| record.hash == glue.hash);
            let target = same.find(|record| record.target > 0 && self.called_alike(record.place, glue.place));
            let Some(target) = target.map(|record| record.target) else { continue };
            let written = if Writer::can_point_to(target) {
                reply.writer.address(Section::Additional, Owner::At(target), ttl, glue.address)
            } else {
                let Some(name) = self.endpoint_name(glue.place, service) else { continue };
                reply.writer.address(Section::Additional, Owner::Name(name.as_wire()), ttl, glue.address)
            };
            // An IPv4 address may have room where an IPv6 address has none.
            if !written && glue.address.is_ipv4() {
                break;
            }
        }
    }

    /// Appends a SRV record, and returns the place of its target.
    fn srv(
        &self,
        writer: &mut Writer,
        owner: usize,
        (weight, port): (u16, u16),
        target: &Name,
    ) -> Option<usize> {
        let mut place = 0;
        let ttl = self.options.ttl();
        let written = writer.record(Section::Answer, Owner::At(owner), kind::SRV, ttl, |writer| {
            for number in [0, weight, port] {
                writer.raw(&number.to_be_bytes());
            }
            place = writer.whole_name(target.as_wire());
        });
        written.then_some(place)
    }

    /// The name of the endpoint at `place`, if it can be one.
    fn endpoint_name(&self, place: Place, service: &Name) -> Option<Name> {
        let (_, endpoint) = self.services.endpoint(place)?;
        let mut name = Name::root();
        let fits = name.push_text(self.services.name_of(endpoint).as_str());
        (fits && name.push_wire(service.as_wire())).then_some(name)
    }

    fn hash_of_name(&self, place: Place) -> u32 {
        let Some((_, endpoint)) = self.services.endpoint(place) else { return 0 };
        let name = self.services.name_of(endpoint);
        let name = name.as_str().as_bytes();
        let mut label = [0; LABEL_MAX];
        let length = name.len().min(LABEL_MAX);
        label[..length].copy_from_slice(&name[..length]);
        label.make_ascii_lowercase();
        self.hasher.of(&label[..length])
    }

    fn called_alike(&self, one: Place, other: Place) -> bool {
        let name = |place| self.services.endpoint(place).map(|(_, endpoint)| self.services.name_of(endpoint));
        match (name(one), name(other)) {
            (Some(one), Some(other)) => one.as_str().eq_ignore_ascii_case(other.as_str()),
            _ => false,
        }
    }
}

/// ⌊100/n⌋, at least 1 (spec §3).
fn weight(pairs: usize) -> u16 {
    u16::try_from(100 / pairs.max(1)).unwrap_or(1).max(1)
}

/// How many ports of a slice match, and their numbers, of those that have one.
fn matching<'a>(slice: &'a EndpointSlice, ports: Ports<'a>) -> (usize, impl Iterator<Item = u16> + 'a) {
    let matching = slice.ports.iter().filter(move |port| ports.matches(&port.name, port.protocol));
    (matching.clone().count(), matching.filter_map(|port| port.port))
}

/// `SVC.NS.svc.Z`, with the zone's labels as the question spells them.
fn service_name(asked: &Asked<'_, '_>, service: &Service) -> Option<Name> {
    let name = &asked.query.name;
    let mut target = Name::root();
    let fits = target.push(service.name.name().as_bytes())
        && target.push(service.name.namespace().as_bytes())
        && target.push(b"svc")
        && target.push_wire(asked.query.spelled(name.labels() - asked.zone_labels));
    fits.then_some(target)
}

fn owner_at(place: usize, name: &Name) -> Owner<'_> {
    if Writer::can_point_to(place) { Owner::At(place) } else { Owner::Name(name.as_wire()) }
}

/// Of records with the same target and port leaves the first (spec §3).
fn drop_repeated(records: &mut Vec<SrvRecord>, alike: impl Fn(Place, Place) -> bool) {
    records.sort_unstable_by_key(|record| (record.hash, record.port, record.order));
    records.dedup_by(|later, first| {
        (later.hash, later.port) == (first.hash, first.port) && alike(later.place, first.place)
    });
    records.sort_unstable_by_key(|record| record.order);
}
