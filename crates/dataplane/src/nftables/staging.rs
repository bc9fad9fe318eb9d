//! Elements on their way into a transaction: encoded and sorted by set, in buffers that are used
//! again.

use std::collections::{HashMap, HashSet};

use portolan_netfilter::nft::{self, Batch, COMMENT_MAX, ElementData, OwnedData, Rule};
use portolan_service::{Family, ServicePlan};

use super::affinity::{self, AffinityStep, fingerprint_of};
use super::chain::Chain;
use super::element::{Data, Element, ElementStep, Key, Target, difference, render};
use super::inventory::{Inventory, Tally};
use super::layout::Layout;
use super::owners::{NOBODY, Owners};
use super::present::{Presence, Present};
use super::schema::{Features, Schema};
use super::set::{SetName, declare_affinity_set};
use super::table::table;
use crate::owner::Owner;
use crate::settings::Settings;

/// An element buffer longer than this is written out before it grows on, where order allows.
const SPILL_BYTES: usize = 1 << 18;

#[derive(Debug, Default)]
struct Buffer {
    /// For each item: key, end of range, data, comment.
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone)]
struct Item {
    at: usize,
    key: u8,
    end: u8,
    data: u8,
    comment: u8,
    target: Option<Target>,
    owner: Owner,
}

/// What becomes of the chains and sets that keep one Service's clients at their endpoints.
#[derive(Debug)]
enum AffinityChange {
    AddSet { name: String, size: Option<u32> },
    Rewrite { chain: Chain, rules: Vec<Rule> },
    DeleteSet { name: String },
}

/// The changes of one family.
#[derive(Debug)]
pub(crate) struct Staging {
    family: Family,
    removed: [Buffer; SetName::COUNT],
    added: [Buffer; SetName::COUNT],
    verdicts: HashMap<Target, nft::Verdict>,
    affinity: Vec<(Owner, AffinityChange)>,
    /// Sets of remembered clients that are there already, whatever the plans before say.
    pub(crate) kept_sets: HashSet<String>,
    /// What the changes amount to.
    pub(crate) tally: Tally,
    /// How many elements come or go.
    pub(crate) operations: usize,
}

impl Staging {
    /// Nothing staged.
    pub(crate) fn new(family: Family) -> Staging {
        Staging {
            family,
            removed: Default::default(),
            added: Default::default(),
            verdicts: HashMap::new(),
            affinity: Vec::new(),
            kept_sets: HashSet::new(),
            tally: Tally::default(),
            operations: 0,
        }
    }

    /// Starts over; keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.write_nothing();
        self.tally.clear();
        self.operations = 0;
    }

    /// What is staged is in the kernel already: only what it amounts to is kept.
    pub(crate) fn write_nothing(&mut self) {
        for buffer in self.removed.iter_mut().chain(&mut self.added) {
            buffer.clear();
        }
        self.affinity.clear();
    }

    /// Stages what leads from one plan of a Service to another.
    pub(crate) fn change(
        &mut self,
        layout: &Layout,
        before: Option<&ServicePlan>,
        after: Option<&ServicePlan>,
        owner: Owner,
    ) {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        if let Some(plan) = before {
            render(layout, plan, self.family, &mut old);
        }
        if let Some(plan) = after {
            render(layout, plan, self.family, &mut new);
        }
        let service = before.or(after).map_or("", |plan| plan.name.as_str());
        difference(&old, &new, |step| match step {
            ElementStep::Remove(element) => {
                if self.tally.count(element, -1) {
                    self.remove(&element.key, owner);
                }
            }
            ElementStep::Add(element) => {
                if self.tally.count(element, 1) {
                    self.add(service, element, owner);
                }
            }
        });
        if layout.chooses_endpoints() {
            self.change_affinity(before, after, owner);
        }
    }

    fn change_affinity(&mut self, before: Option<&ServicePlan>, after: Option<&ServicePlan>, owner: Owner) {
        // Rules of a Service port depend on the family alone.
        let settings = Settings::default();
        let schema = Schema {
            family: self.family,
            settings: &settings,
            layout: &Layout::Translate,
            features: Features::default(),
        };
        let family = self.family;
        affinity::difference(before, after, family, |step| match step {
            AffinityStep::AddSet(name, size) => {
                self.tally.count_use(affinity::chain_of_set(&name), 1);
                self.tally.affinity_set(name.clone(), true);
                if !self.kept_sets.contains(&name) {
                    self.operations += 1;
                    self.affinity.push((owner, AffinityChange::AddSet { name, size }));
                }
            }
            AffinityStep::Rewrite(chain, content) => {
                let rules = schema.affinity_rules(&content);
                self.tally.rewrite(chain.clone(), (!rules.is_empty()).then(|| fingerprint_of(&rules)));
                self.operations += rules.len();
                self.affinity.push((owner, AffinityChange::Rewrite { chain, rules }));
            }
            AffinityStep::DeleteSet(name) => {
                self.operations += 1;
                self.tally.count_use(affinity::chain_of_set(&name), -1);
                self.tally.affinity_set(name.clone(), false);
                self.affinity.push((owner, AffinityChange::DeleteSet { name }));
            }
        });
    }

    /// Stages the shared elements that come or go by all the changes together. Call once, last.
    pub(crate) fn settle(&mut self, inventory: &Inventory) {
        let mut tally = std::mem::take(&mut self.tally);
        tally.shared(inventory, |key, comes| {
            if comes {
                self.add("", &Element { key, data: Data::None, port_name: None }, NOBODY);
            } else {
                self.remove(&key, NOBODY);
            }
        });
        self.tally = tally;
    }

    /// Takes back what is there already; what is there differently is removed first.
    pub(super) fn subtract(&mut self, layout: &Layout, present: &mut Present) {
        for set in layout.sets().iter().copied() {
            let (added, removed) = (&mut self.added[set as usize], &mut self.removed[set as usize]);
            added.items.retain(|item| {
                let element = item.element(&added.bytes, &self.verdicts);
                let presence = present.want(set, element.key, |held| match (element.data, held) {
                    (None, None) => true,
                    (Some(ElementData::Value(wanted)), Some(OwnedData::Value(held))) => wanted == held,
                    (Some(ElementData::Verdict(wanted)), Some(OwnedData::Verdict(held))) => wanted == held,
                    _ => false,
                });
                if presence == Presence::Other {
                    removed.push_raw(element.key, element.key_end, item.owner);
                }
                presence != Presence::Same
            });
        }
        self.operations = self.removed.iter().chain(&self.added).map(|buffer| buffer.items.len()).sum();
    }

    fn remove(&mut self, key: &Key, owner: Owner) {
        self.operations += 1;
        self.removed[key.set() as usize].push(key, &Data::None, "", "", owner);
    }

    fn add(&mut self, service: &str, element: &Element<'_>, owner: Owner) {
        self.operations += 1;
        if let Data::Target(target) = &element.data
            && !self.verdicts.contains_key(target)
        {
            self.verdicts.insert(target.clone(), verdict(target));
        }
        let (service, port) = element.port_name.map_or(("", ""), |port| (service, port));
        self.added[element.key.set() as usize].push(&element.key, &element.data, service, port, owner);
    }

    /// Writes all removals. With `owners`, each message carries elements of one Service only.
    pub(crate) fn write_removed(
        &mut self,
        layout: &Layout,
        batch: &mut Batch,
        mut owners: Option<&mut Owners>,
    ) {
        // The reverse of the order of creation: what leads to others goes first.
        for set in layout.sets().iter().copied().rev() {
            let buffer = &mut self.removed[set as usize];
            buffer.write(&self.verdicts, owners.as_deref_mut(), batch, |batch, items| {
                batch.delete_elements(table(self.family), set.name(), items);
            });
        }
    }

    /// Writes what becomes of session affinity: to be called when the chains that it leads to are
    /// there, after what is removed and before what is added. With `owners`, each message is about
    /// one Service only.
    pub(crate) fn write_affinity(&mut self, batch: &mut Batch, mut owners: Option<&mut Owners>) {
        let table = table(self.family);
        let mut note = |batch: &Batch, owner| {
            if let Some(owners) = owners.as_deref_mut() {
                owners.0.push((batch.messages(), owner));
            }
        };
        // Rules of any Service go before the sets that they look into, and come after them.
        for (owner, change) in &self.affinity {
            note(batch, *owner);
            match change {
                AffinityChange::AddSet { name, size } => {
                    let id = set_id(batch);
                    batch.add_set(table, &declare_affinity_set(name, *size, id));
                }
                AffinityChange::Rewrite { chain, rules } => {
                    let chain = chain.name();
                    batch.flush_chain(table, &chain);
                    for rule in rules {
                        batch.add_rule(table, &chain, rule);
                    }
                }
                AffinityChange::DeleteSet { name } => batch.delete_set(table, name),
            }
        }
        note(batch, NOBODY);
        self.affinity.clear();
    }

    /// Writes all additions. With `owners`, each message carries elements of one Service only.
    pub(crate) fn write_added(
        &mut self,
        layout: &Layout,
        batch: &mut Batch,
        mut owners: Option<&mut Owners>,
    ) {
        for set in layout.sets().iter().copied() {
            self.write_set(set, batch, owners.as_deref_mut());
        }
    }

    /// Writes the additions that have become many, where there are no removals to be written first.
    pub(crate) fn spill(&mut self, layout: &Layout, batch: &mut Batch, mut owners: Option<&mut Owners>) {
        self.write_affinity(batch, owners.as_deref_mut());
        for set in layout.sets().iter().copied() {
            if self.added[set as usize].bytes.len() > SPILL_BYTES {
                self.write_set(set, batch, owners.as_deref_mut());
            }
        }
    }

    fn write_set(&mut self, set: SetName, batch: &mut Batch, owners: Option<&mut Owners>) {
        self.added[set as usize].write(&self.verdicts, owners, batch, |batch, items| {
            batch.add_elements(table(self.family), set.name(), items);
        });
    }
}

impl Buffer {
    fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }

    fn push(&mut self, key: &Key, data: &Data, service: &str, port: &str, owner: Owner) {
        let at = self.bytes.len();
        key.encode(&mut self.bytes);
        let key_end = self.bytes.len();
        key.encode_end(&mut self.bytes);
        let end_end = self.bytes.len();
        data.encode(&mut self.bytes);
        let target = match data {
            Data::Target(to) => Some(to.clone()),
            Data::None | Data::Endpoint(..) | Data::Mark(_) => None,
        };
        let data_end = self.bytes.len();
        put_comment(&mut self.bytes, service, port);
        // Comments have at most 127 bytes (port names are short), all else less.
        #[allow(clippy::cast_possible_truncation)]
        self.items.push(Item {
            at,
            key: (key_end - at) as u8,
            end: (end_end - key_end) as u8,
            data: (data_end - end_end) as u8,
            comment: (self.bytes.len() - data_end) as u8,
            target,
            owner,
        });
    }

    /// A key to be removed, as the kernel holds it.
    fn push_raw(&mut self, key: &[u8], end: Option<&[u8]>, owner: Owner) {
        let (at, end) = (self.bytes.len(), end.unwrap_or_default());
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(end);
        // Keys have at most 40 bytes.
        #[allow(clippy::cast_possible_truncation)]
        let (key, end) = (key.len() as u8, end.len() as u8);
        self.items.push(Item { at, key, end, data: 0, comment: 0, target: None, owner });
    }

    /// Hands the items over, those of one Service at a time if `owners` is to know, and is empty
    /// then.
    fn write<'s>(
        &'s mut self,
        verdicts: &'s HashMap<Target, nft::Verdict>,
        owners: Option<&mut Owners>,
        batch: &mut Batch,
        mut emit: impl for<'i> FnMut(&mut Batch, &mut dyn Iterator<Item = nft::Element<'i>>),
    ) {
        let bytes = &self.bytes;
        match owners {
            None if self.items.is_empty() => {}
            None => emit(batch, &mut self.items.iter().map(|item| item.element(bytes, verdicts))),
            Some(owners) => {
                for items in self.items.chunk_by(|left, right| left.owner == right.owner) {
                    owners.0.push((batch.messages(), items[0].owner));
                    emit(batch, &mut items.iter().map(|item| item.element(bytes, verdicts)));
                }
                owners.0.push((batch.messages(), NOBODY));
            }
        }
        self.clear();
    }
}

impl Item {
    fn element<'b>(&self, bytes: &'b [u8], verdicts: &'b HashMap<Target, nft::Verdict>) -> nft::Element<'b> {
        let (key, rest) = bytes[self.at..].split_at(self.key.into());
        let (end, rest) = rest.split_at(self.end.into());
        let (data, rest) = rest.split_at(self.data.into());
        let comment = &rest[..self.comment.into()];
        nft::Element {
            key,
            key_end: (!end.is_empty()).then_some(end),
            data: match &self.target {
                Some(target) => verdicts.get(target).map(ElementData::Verdict),
                None => (!data.is_empty()).then_some(ElementData::Value(data)),
            },
            timeout: None,
            comment: std::str::from_utf8(comment).ok().filter(|comment| !comment.is_empty()),
        }
    }
}

/// What stands in a comment for the end of a name that is too long.
const CUT: &str = "...";

/// Appends `namespace/name:port`. nft reads comments of 127 bytes at most back from its own
/// listing, and names of full length have 143: then the end of the Service's name is cut visibly,
/// and the port still follows.
pub(super) fn put_comment(to: &mut Vec<u8>, service: &str, port: &str) {
    if service.is_empty() {
        return;
    }
    let colon = if port.is_empty() { "" } else { ":" };
    let mut end = service.len();
    let mut cut = "";
    if service.len() + colon.len() + port.len() > COMMENT_MAX {
        cut = CUT;
        end = COMMENT_MAX.saturating_sub(CUT.len() + colon.len() + port.len()).min(end);
        while !service.is_char_boundary(end) {
            end -= 1;
        }
    }
    for part in [&service[..end], cut, colon, port] {
        to.extend_from_slice(part.as_bytes());
    }
}

/// A number for a set that no other has that the same batch creates.
pub(crate) fn set_id(batch: &Batch) -> u32 {
    u32::try_from(batch.messages()).unwrap_or(u32::MAX)
}

/// As the kernel takes it.
pub(crate) fn verdict(target: &Target) -> nft::Verdict {
    match target {
        Target::Drop => nft::Verdict::Drop,
        Target::Jump(chain) => nft::Verdict::Jump(chain.name()),
        Target::Goto(chain) => nft::Verdict::Goto(chain.name()),
    }
}
