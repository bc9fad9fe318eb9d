//! What a sync would change, without changing it: the frontends in the kernel against those of the
//! plans.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;

use portolan_netfilter::nft::{OwnedData, OwnedElement};
use portolan_service::{Family, Protocol, ServicePlan};

use super::Nftables;
use super::element::{Data, Element, Key, render};
use super::encoding::{FrontendKey, take_address, take_frontend};
use super::layout::Layout;
use super::set::SetName;
use super::staging::verdict;
use super::table::table_name;
use crate::dataplane::Difference;
use crate::error::Error;

/// All elements of one frontend, whatever set they are in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frontend {
    /// The sum of the elements' hashes: does not depend on their order.
    hash: u64,
    name: String,
    /// It has an endpoint.
    forwards: bool,
}

/// What clients can meet.
#[derive(Debug, Default)]
struct Seen {
    frontends: BTreeMap<FrontendKey, Frontend>,
    /// With the name of a Service where it is known: in the kernel, the address has none.
    cluster_ips: BTreeMap<IpAddr, String>,
}

impl Nftables {
    /// See [`crate::Dataplane::preview`].
    pub(super) fn differences(
        &mut self,
        plans: &mut dyn Iterator<Item = &ServicePlan>,
    ) -> Result<Vec<Difference>, Error> {
        let state = RandomState::new();
        let mut wanted = Seen::default();
        for plan in plans {
            for family in &self.families {
                add_plan(&state, &self.layout, plan, *family, &mut wanted);
            }
        }
        let mut held = Seen::default();
        let mut differences = Vec::new();
        for family in self.families.clone() {
            if self.kernel.contents(family)?.table.is_none() {
                differences.push(Difference::Added(table_name(family)));
                continue;
            }
            for set in self.layout.sets().iter().copied() {
                self.kernel
                    .elements(family, set, |element| add_element(&state, family, set, element, &mut held))?;
            }
        }
        for (key, frontend) in &wanted.frontends {
            let without = if frontend.forwards { "" } else { ", without endpoints" };
            let what = format!("{} {key}{without}", frontend.name);
            match held.frontends.remove(key) {
                None => differences.push(Difference::Added(what)),
                Some(present) if present.hash != frontend.hash => differences.push(Difference::Changed(what)),
                Some(_) => {}
            }
        }
        differences.extend(
            held.frontends
                .into_iter()
                .map(|(key, frontend)| Difference::Removed(format!("{} {key}", frontend.name))),
        );
        // Most come and go with a frontend and need no line of their own.
        for (address, name) in &wanted.cluster_ips {
            let held = held.cluster_ips.remove(address).is_some();
            let first = FrontendKey { address: *address, protocol: Protocol::Tcp, port: 0 };
            let has_frontend =
                wanted.frontends.range(first..).next().is_some_and(|(key, _)| key.address == *address);
            if !held && !has_frontend {
                differences.push(Difference::Added(format!("{name} {address}, without endpoints")));
            }
        }
        differences.extend(
            held.cluster_ips.into_keys().map(|address| Difference::Removed(format!("ClusterIP {address}"))),
        );
        Ok(differences)
    }
}

fn add_plan(state: &RandomState, layout: &Layout, plan: &ServicePlan, family: Family, to: &mut Seen) {
    let mut elements: Vec<Element<'_>> = Vec::new();
    render(layout, plan, family, &mut elements);
    for element in &elements {
        let frontend = match element.key {
            Key::Frontend(_, frontend) | Key::Endpoint(_, frontend, _) | Key::Allowed(frontend, _) => {
                frontend
            }
            Key::ClusterIp(address) => {
                to.cluster_ips.insert(address, plan.name.to_string());
                continue;
            }
            Key::Hairpin(_) => continue,
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        element.key.encode(&mut key);
        element.key.encode_end(&mut key);
        let data = match &element.data {
            Data::None => None,
            Data::Target(target) => Some(OwnedData::Verdict(verdict(target))),
            data @ (Data::Endpoint(..) | Data::Mark(_)) => {
                data.encode(&mut value);
                Some(OwnedData::Value(value))
            }
        };
        let entry = to.frontends.entry(frontend).or_default();
        entry.forwards |= matches!(element.key, Key::Endpoint(..) | Key::Frontend(SetName::Frontends, _));
        entry.hash = entry.hash.wrapping_add(state.hash_one((element.key.set(), key, data)));
        if entry.name.is_empty() {
            entry.name = match element.port_name {
                Some(port) if !port.is_empty() => format!("{}:{port}", plan.name),
                _ => plan.name.to_string(),
            };
        }
    }
}

fn add_element(state: &RandomState, family: Family, set: SetName, element: &OwnedElement, to: &mut Seen) {
    let mut rest = &element.key[..];
    match set {
        SetName::ClusterIps => {
            to.cluster_ips.extend(take_address(&mut rest, family).map(|address| (address, String::new())));
            return;
        }
        SetName::Hairpin => return,
        SetName::Endpoints | SetName::EndpointsLocal => rest = rest.get(4..).unwrap_or_default(),
        _ => {}
    }
    let Some(frontend) = take_frontend(&mut rest, family) else { return };
    let mut key = element.key.clone();
    key.extend_from_slice(element.key_end.as_deref().unwrap_or_default());
    let entry = to.frontends.entry(frontend).or_default();
    entry.hash = entry.hash.wrapping_add(state.hash_one((set, key, &element.data)));
    if let Some(comment) = &element.comment
        && entry.name.is_empty()
    {
        entry.name.clone_from(comment);
    }
}
