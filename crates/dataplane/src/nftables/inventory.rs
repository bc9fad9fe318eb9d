//! What the kernel holds of one family, in numbers: the only thing remembered between two calls.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::affinity;
use super::chain::Chain;
use super::element::{Data, Element, Key};
use super::schema::Features;
use super::set::SetName;

/// Counts of what is in force in one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Inventory {
    elements: [usize; SetName::COUNT],
    /// Elements that several Services can have in common, with how many have each.
    cluster_ips: HashMap<IpAddr, u32>,
    hairpin: HashMap<IpAddr, u32>,
    /// The numbered chains that exist, with how many elements lead to each.
    chains: BTreeMap<Chain, usize>,
    /// The rules of chains of Service ports, each by its [`affinity::fingerprint`]; without those
    /// that are empty.
    port_rules: HashMap<Chain, u64>,
    /// The sets of clients that are remembered.
    affinity_sets: HashSet<String>,
    /// The rules that exist.
    pub(crate) features: Features,
}

impl Inventory {
    /// How many elements `set` has.
    pub(crate) fn len(&self, set: SetName) -> usize {
        self.elements[set as usize]
    }

    /// How many elements the largest of the sets that we fill has.
    pub(crate) fn largest(&self) -> usize {
        self.elements.iter().copied().max().unwrap_or_default()
    }

    /// How many elements all sets that we fill have.
    pub(crate) fn total(&self) -> usize {
        self.elements.iter().sum()
    }

    /// What the elements need.
    pub(crate) fn needs(&self) -> Features {
        features(|set| self.len(set) > 0)
    }

    /// The numbered chains that exist.
    pub(crate) fn chains(&self) -> impl Iterator<Item = &Chain> {
        self.chains.keys()
    }

    /// A chain that comes and goes exists.
    pub(crate) fn has_chain(&self, chain: &Chain) -> bool {
        self.chains.contains_key(chain)
    }

    /// Chains that come and go, exist, and that nothing leads to.
    pub(crate) fn idle_chains(&self) -> impl Iterator<Item = &Chain> {
        self.chains.iter().filter(|(_, uses)| **uses == 0).map(|(chain, _)| chain)
    }

    /// A chain that comes and goes was created.
    pub(crate) fn chain_created(&mut self, chain: Chain) {
        self.chains.entry(chain).or_default();
    }

    /// A chain that comes and goes was deleted.
    pub(crate) fn chain_deleted(&mut self, chain: &Chain) {
        self.chains.remove(chain);
        self.port_rules.remove(chain);
    }

    /// A chain of a Service port has rules.
    pub(crate) fn has_rules(&self, chain: &Chain) -> bool {
        self.port_rules.contains_key(chain)
    }

    /// What the rules of a chain of a Service port are known by.
    pub(crate) fn port_rules(&self, chain: &Chain) -> u64 {
        self.port_rules.get(chain).copied().unwrap_or_else(|| affinity::fingerprint_of(&[]))
    }

    /// The sets of remembered clients.
    pub(crate) fn affinity_sets(&self) -> &HashSet<String> {
        &self.affinity_sets
    }

    /// The Services that have a shared element, if `key` is of that kind.
    fn sharers(&self, key: &Key) -> Option<u32> {
        let (map, address) = match key {
            Key::ClusterIp(address) => (&self.cluster_ips, address),
            Key::Hairpin(address) => (&self.hairpin, address),
            _ => return None,
        };
        Some(map.get(address).copied().unwrap_or(0))
    }

    /// Takes over what was committed.
    pub(crate) fn merge(&mut self, tally: &Tally) {
        for (count, change) in self.elements.iter_mut().zip(tally.elements) {
            *count = count.saturating_add_signed(change);
        }
        for (key, change) in &tally.shared {
            let (map, address) = match key {
                Key::ClusterIp(address) => (&mut self.cluster_ips, *address),
                Key::Hairpin(address) => (&mut self.hairpin, *address),
                _ => continue,
            };
            let sharers = map.get(&address).copied().unwrap_or(0).saturating_add_signed(*change);
            if sharers == 0 {
                map.remove(&address);
            } else {
                map.insert(address, sharers);
            }
        }
        for (chain, change) in &tally.chains {
            let uses = self.chains.entry(chain.clone()).or_default();
            *uses = uses.saturating_add_signed(*change);
        }
        for (chain, rules) in &tally.port_rules {
            match rules {
                Some(rules) => self.port_rules.insert(chain.clone(), *rules),
                None => self.port_rules.remove(chain),
            };
        }
        for (set, exists) in &tally.affinity_sets {
            if *exists {
                self.affinity_sets.insert(set.clone());
            } else {
                self.affinity_sets.remove(set);
            }
        }
    }
}

/// The features that sets with elements need.
fn features(filled: impl Fn(SetName) -> bool) -> Features {
    Features {
        services: filled(SetName::Services),
        services_local: filled(SetName::ServicesLocal) || filled(SetName::LocalMarks),
        masq_external: filled(SetName::MasqExternal),
        firewall: filled(SetName::Firewalled),
        no_endpoints: filled(SetName::NoEndpoints),
    }
}

/// How one transaction changes an [`Inventory`]; merged when it is in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    elements: [isize; SetName::COUNT],
    shared: BTreeMap<Key, i32>,
    chains: BTreeMap<Chain, isize>,
    /// Chains of Service ports whose rules are replaced, with what the new ones are known by;
    /// `None`: by none.
    port_rules: Vec<(Chain, Option<u64>)>,
    /// Sets of remembered clients that come (true) or go.
    affinity_sets: Vec<(String, bool)>,
}

impl Tally {
    /// Starts over.
    pub(crate) fn clear(&mut self) {
        *self = Tally::default();
    }

    /// Counts one more (`by` 1) or one less (-1) of an element of one Service. Returns whether it
    /// is for the kernel at once; of shared elements only the sum over all Services is: see
    /// [`Tally::shared`].
    pub(crate) fn count(&mut self, element: &Element<'_>, by: i8) -> bool {
        if matches!(element.key, Key::ClusterIp(_) | Key::Hairpin(_)) {
            *self.shared.entry(element.key).or_default() += i32::from(by);
            return false;
        }
        self.elements[element.key.set() as usize] += isize::from(by);
        if let Data::Target(target) = &element.data
            && let Some(chain) = target.chain().filter(|chain| chain.comes_and_goes())
        {
            self.count_use(chain.clone(), by);
        }
        true
    }

    /// Counts one more (`by` 1) or one less (-1) that leads to a chain that comes and goes.
    pub(crate) fn count_use(&mut self, chain: Chain, by: i8) {
        *self.chains.entry(chain).or_default() += isize::from(by);
    }

    /// The rules of a chain of a Service port are replaced.
    pub(crate) fn rewrite(&mut self, chain: Chain, rules: Option<u64>) {
        self.port_rules.push((chain, rules));
    }

    /// A set of remembered clients comes or goes.
    pub(crate) fn affinity_set(&mut self, name: String, comes: bool) {
        self.affinity_sets.push((name, comes));
    }

    /// Settles the shared elements against what is in force: calls `change` with each that comes
    /// (true) or goes.
    pub(crate) fn shared(&mut self, inventory: &Inventory, mut change: impl FnMut(Key, bool)) {
        for (key, difference) in &self.shared {
            let before = inventory.sharers(key).unwrap_or(0);
            let after = before.saturating_add_signed(*difference);
            if (before == 0) != (after == 0) {
                change(*key, after > 0);
                self.elements[key.set() as usize] += if after > 0 { 1 } else { -1 };
            }
        }
    }

    /// Numbered chains that elements lead to and that do not exist yet.
    pub(crate) fn missing_chains(&self, inventory: &Inventory) -> impl Iterator<Item = &Chain> {
        self.chains
            .iter()
            .filter(|(chain, change)| **change > 0 && !inventory.has_chain(chain))
            .map(|(chain, _)| chain)
    }

    /// What the elements will need once this is merged.
    pub(crate) fn needs(&self, inventory: &Inventory) -> Features {
        features(|set| inventory.len(set).saturating_add_signed(self.elements[set as usize]) > 0)
    }
}
