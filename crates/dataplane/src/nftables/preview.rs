//! What a sync would change, without changing it: the frontends in the kernel against those of the plans.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use portolan_netfilter::nft::{OwnedData, OwnedElement};
use portolan_service::{Family, ServicePlan};

use super::Nftables;
use super::element::{Data, Element, FrontendKey, Key, put_address, put_port, render, take_frontend};
use super::schema::{SetName, table_name};
use super::staging::verdict;
use crate::{Difference, Error};

/// All elements of one frontend, whatever set they are in.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frontend {
    /// The sum of the elements' hashes: does not depend on their order.
    hash: u64,
    name: String,
}

type Frontends = BTreeMap<FrontendKey, Frontend>;

impl Nftables {
    /// See [`crate::Dataplane::preview`].
    pub(super) fn differences(
        &mut self,
        plans: &mut dyn Iterator<Item = &ServicePlan>,
    ) -> Result<Vec<Difference>, Error> {
        let state = RandomState::new();
        let mut wanted = Frontends::new();
        for plan in plans {
            for family in &self.families {
                add_plan(&state, plan, *family, &mut wanted);
            }
        }
        let mut held = Frontends::new();
        let mut differences = Vec::new();
        for family in self.families.clone() {
            if self.kernel.contents(family)?.table.is_none() {
                differences.push(Difference::Added(table_name(family)));
                continue;
            }
            for set in SetName::filled() {
                self.kernel
                    .elements(family, set, |element| add_element(&state, family, set, element, &mut held))?;
            }
        }
        for (key, frontend) in &wanted {
            let what = format!("{} {key}", frontend.name);
            match held.remove(key) {
                None => differences.push(Difference::Added(what)),
                Some(present) if present.hash != frontend.hash => differences.push(Difference::Changed(what)),
                Some(_) => {}
            }
        }
        differences.extend(
            held.into_iter().map(|(key, frontend)| Difference::Removed(format!("{} {key}", frontend.name))),
        );
        Ok(differences)
    }
}

fn add_plan(state: &RandomState, plan: &ServicePlan, family: Family, to: &mut Frontends) {
    let mut elements: Vec<Element<'_>> = Vec::new();
    render(plan, family, &mut elements);
    for element in &elements {
        let (Key::Frontend(_, frontend) | Key::Endpoint(_, frontend, _) | Key::Allowed(frontend, _)) =
            element.key
        else {
            continue;
        };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        element.key.encode(&mut key);
        element.key.encode_end(&mut key);
        let data = match element.data {
            Data::None => None,
            Data::Endpoint(address, port) => {
                put_address(&mut value, address);
                put_port(&mut value, port);
                Some(OwnedData::Value(value))
            }
            Data::Target(target) => Some(OwnedData::Verdict(verdict(target))),
        };
        let entry = to.entry(frontend).or_default();
        entry.hash = entry.hash.wrapping_add(state.hash_one((element.key.set(), key, data)));
        if entry.name.is_empty() {
            entry.name = match element.port_name {
                Some(port) if !port.is_empty() => format!("{}:{port}", plan.name),
                _ => plan.name.to_string(),
            };
        }
    }
}

fn add_element(
    state: &RandomState,
    family: Family,
    set: SetName,
    element: &OwnedElement,
    to: &mut Frontends,
) {
    let mut rest = &element.key[..];
    match set {
        SetName::ClusterIps | SetName::Hairpin => return,
        SetName::Endpoints | SetName::EndpointsLocal => rest = rest.get(4..).unwrap_or_default(),
        _ => {}
    }
    let Some(frontend) = take_frontend(&mut rest, family) else { return };
    let mut key = element.key.clone();
    key.extend_from_slice(element.key_end.as_deref().unwrap_or_default());
    let entry = to.entry(frontend).or_default();
    entry.hash = entry.hash.wrapping_add(state.hash_one((set, key, &element.data)));
    if let Some(comment) = &element.comment
        && entry.name.is_empty()
    {
        entry.name.clone_from(comment);
    }
}
