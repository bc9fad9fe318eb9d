//! A and AAAA records, in random order.

use std::net::IpAddr;

use portolan_service::{Family, Service};

use super::{Asked, End, Step};
use crate::lookup::Endpoints;
use crate::reply::Reply;
use crate::services::ips;
use crate::state::Names;
use crate::wire::{Owner, Section, Writer, kind};

impl Names {
    /// What the name of endpoints says: their addresses, SRV records, or another name.
    pub(super) fn endpoints<'s>(
        &'s self,
        asked: &mut Asked<'_, '_>,
        found: &Endpoints<'s, '_>,
        owner: Owner<'_>,
        family: Option<Family>,
        reply: &mut Reply,
    ) -> Step<'s> {
        let exists = self.collect(found, family, &mut reply.places);
        if reply.places.is_empty() {
            let count = self.targets(found).count();
            let drawn = asked.random.below(count);
            return match self.targets(found).nth(drawn) {
                Some(target) if !exists => super::alias::step(asked.query.kind, target),
                None if !exists => Step::End(End::NoName),
                _ => Step::End(End::NoData),
            };
        }
        Step::End(match (family, asked.query.kind) {
            (Some(_), _) => self.endpoint_addresses(asked, found, owner, reply),
            (None, kind::SRV) => self.endpoint_srv(asked, found, reply),
            _ => End::NoData,
        })
    }

    fn endpoint_addresses(
        &self,
        asked: &mut Asked<'_, '_>,
        found: &Endpoints<'_, '_>,
        owner: Owner<'_>,
        reply: &mut Reply,
    ) -> End {
        let ttl = asked.ttl;
        let address = |place| self.services.endpoint(place).map(|(_, endpoint)| endpoint.address);
        if found.entry.has_duplicates() {
            reply.places.sort_unstable_by_key(|place| address(*place));
            reply.places.dedup_by_key(|place| address(*place));
        }
        for at in 0..reply.places.len() {
            asked.random.draw(&mut reply.places, at);
            let Some(address) = address(reply.places[at]) else { continue };
            if !reply.writer.address(Section::Answer, owner, ttl, address) {
                return End::Cut;
            }
        }
        End::Records
    }
}

/// The ClusterIPs of a Service.
pub(super) fn of_cluster(
    asked: &mut Asked<'_, '_>,
    service: &Service,
    owner: Owner<'_>,
    family: Option<Family>,
    reply: &mut Reply,
) -> End {
    // There is one of a family, by the API's rules: turning the list is as good as shuffling.
    let count = ips(service).count();
    let first = asked.random.below(count);
    let turned = ips(service).cycle().skip(first).take(count);
    write(&mut reply.writer, owner, asked.ttl, family, turned)
}

/// Appends the addresses of the family that is asked for, if any is.
pub(super) fn write(
    writer: &mut Writer,
    owner: Owner<'_>,
    ttl: u32,
    family: Option<Family>,
    addresses: impl Iterator<Item = IpAddr>,
) -> End {
    let mut end = End::NoData;
    for address in addresses.filter(|address| family == Some(Family::of(*address))) {
        if !writer.address(Section::Answer, owner, ttl, address) {
            return End::Cut;
        }
        end = End::Records;
    }
    end
}
