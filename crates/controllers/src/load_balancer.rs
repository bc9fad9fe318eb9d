//! Addresses for Services of type LoadBalancer, out of pools.
//!
//! Who has an address keeps it for as long as it fits what the Service asks for, so that what
//! Services have is all that is to be remembered: after a restart, everybody has what was recorded.
//! What a change costs follows from the Services that it is about and from those who wait for what
//! it frees, and not from how many there are, or how large a pool is.

mod holdings;
mod pools;
mod request;
mod runs;
mod waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{AddressPool, Family, ObjectName};

use holdings::{Conflict, Holdings};
use pools::Pools;
use request::SharingKey;
pub use request::{Request, Wishes};
use waiting::{Waiting, WaitsFor};

use crate::{Issue, Labels};

/// What a Service has been given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// At most one of each family, in the order of the Service's families.
    pub addresses: Vec<IpAddr>,
    /// The pool that they are of.
    pub pool: Option<Arc<str>>,
    /// Why it has none, or not all.
    pub issues: Vec<Issue>,
}

/// Who has which load-balancer addresses.
#[derive(Debug, Default)]
pub struct LoadBalancers {
    pools: Pools,
    services: BTreeMap<ObjectName, State>,
    holdings: Holdings,
    waiting: Waiting,
    /// Services whose grant must be looked at.
    touched: BTreeSet<ObjectName>,
    /// Services whose grant may be another one.
    settled: BTreeSet<ObjectName>,
    /// What may help those who wait.
    news: VecDeque<News>,
}

/// A Service.
#[derive(Debug, Default)]
struct State {
    /// `None` if it needs no address.
    request: Option<Arc<Request>>,
    /// Addresses that it has without asking us.
    fixed: Vec<IpAddr>,
    now: Grant,
    /// What was last returned.
    returned: Grant,
}

/// What may help those who wait.
#[derive(Debug)]
enum News {
    /// An address has other users, or none.
    Address(IpAddr),
    /// An address that is shared by this key has other ports in use.
    Sharing(SharingKey),
}

impl LoadBalancers {
    /// Puts `pools` in the place of those before. Of two with the same name or an address in
    /// common, the first is used; what is wrong with the others is returned. Services whose
    /// addresses are in no pool any more are given others.
    pub fn set_pools(&mut self, pools: Vec<AddressPool>) -> Vec<String> {
        self.touched.extend(self.services.keys().cloned());
        self.pools.replace(pools)
    }

    /// Whether there is any pool.
    pub fn has_pools(&self) -> bool {
        !self.pools.is_empty()
    }

    /// Whether the Service called `name` has addresses, or asks for some.
    pub fn knows(&self, name: &ObjectName) -> bool {
        self.services.contains_key(name)
    }

    /// What the Service called `name` has since [`LoadBalancers::settle`], if it is known.
    pub fn grant(&self, name: &ObjectName) -> Option<&Grant> {
        self.services.get(name).map(|state| &state.now)
    }

    /// Whether [`LoadBalancers::settle`] has anything to do.
    pub fn has_work(&self) -> bool {
        !self.touched.is_empty() || !self.news.is_empty()
    }

    /// The labels of a namespace are now these; `None` if it is gone.
    pub fn set_namespace(&mut self, namespace: &str, labels: Option<Labels>) {
        if self.pools.set_namespace(namespace, labels) {
            let from = ObjectName::new(namespace, "");
            let names = self.services.range(from..).map(|(name, _)| name);
            self.touched.extend(names.take_while(|name| name.namespace() == namespace).cloned());
        }
    }

    /// The Service called `name` now needs this; `None` if it needs no address, or is gone. `fixed`
    /// are addresses that it has in any case, and that nobody else is given.
    pub fn set_service(&mut self, name: &ObjectName, request: Option<Request>, fixed: Vec<IpAddr>) {
        if request.is_none() && fixed.is_empty() && !self.services.contains_key(name) {
            return;
        }
        let state = self.services.entry(name.clone()).or_default();
        if state.fixed != fixed {
            for address in mem::replace(&mut state.fixed, fixed) {
                let key = self.holdings.fix(address, name, false);
                self.news.push_back(News::Address(address));
                self.news.extend(key.map(News::Sharing));
            }
            for address in &state.fixed {
                self.holdings.fix(*address, name, true);
            }
        }
        // Its own status comes back after each grant, and says nothing new.
        let has = !state.now.addresses.is_empty();
        let same = match (state.request.as_deref(), &request) {
            (Some(old), Some(new)) if has => {
                *old == Request { recorded: old.recorded.clone(), ..new.clone() }
            }
            (old, new) => old == new.as_ref(),
        };
        if !same {
            state.request = request.map(Arc::new);
        }
        if !same || state.request.is_none() {
            self.touched.insert(name.clone());
        }
    }

    /// Gives addresses to the Services that need other ones since the last call, and to those who
    /// have waited for what is free now. Addresses to `avoid` are given when nothing else is left.
    /// Returns the grants that are different now; those of Services that are gone are empty.
    ///
    /// Who has an address comes first, then who is recorded to have one, then who asks for one,
    /// then who has waited, then all others; the first by name before others of its kind.
    pub fn settle(&mut self, avoid: &dyn Fn(IpAddr) -> bool) -> Vec<(ObjectName, Grant)> {
        let batch = mem::take(&mut self.touched);
        // All let go before anyone takes, so that Services can exchange ports of a shared address.
        let held: Vec<(&ObjectName, Vec<IpAddr>)> =
            batch.iter().map(|name| (name, self.release(name))).collect();
        for (name, addresses) in &held {
            self.keep(name, addresses);
        }
        for name in &batch {
            if let Some(request) = self.request(name) {
                self.keep(name, &request.recorded);
            }
        }
        for asks in [true, false] {
            for name in &batch {
                if self.request(name).is_some_and(|request| request.wishes.addresses.is_empty() != asks) {
                    self.place(name, avoid);
                }
            }
            self.serve_waiting(avoid);
        }
        self.settled.extend(batch);
        let mut grants = Vec::new();
        for name in mem::take(&mut self.settled) {
            let Some(state) = self.services.get_mut(&name) else { continue };
            if state.now != state.returned {
                state.returned.clone_from(&state.now);
                grants.push((name.clone(), state.now.clone()));
            }
            if state.request.is_none() && state.fixed.is_empty() {
                self.services.remove(&name);
            }
        }
        grants
    }

    fn request(&self, name: &ObjectName) -> Option<Arc<Request>> {
        self.services.get(name)?.request.clone()
    }

    /// Has `name` let go of all that it has.
    fn release(&mut self, name: &ObjectName) -> Vec<IpAddr> {
        self.waiting.remove(name);
        let Some(state) = self.services.get_mut(name) else { return Vec::new() };
        let had = mem::take(&mut state.now).addresses;
        for address in &had {
            let key = self.holdings.take(*address, name);
            self.news.push_back(News::Address(*address));
            self.news.extend(key.map(News::Sharing));
        }
        had
    }

    /// Gives `addresses`, which `name` had, to it again, if it has none and they are what it may
    /// have.
    fn keep(&mut self, name: &ObjectName, addresses: &[IpAddr]) {
        let Some(request) = self.request(name) else { return };
        if !self.services.get(name).is_some_and(|state| state.now.addresses.is_empty()) {
            return;
        }
        let fit = |address: &IpAddr| self.holdings.fits(*address, name, &request, true).is_ok();
        let of = |family: &Family| addresses.iter().copied().find(|address| Family::of(*address) == *family);
        let mut addresses: Vec<IpAddr> = request.families.iter().filter_map(of).filter(fit).collect();
        let Some(pool) = addresses.iter().find_map(|address| self.pools.of(*address)).cloned() else {
            return;
        };
        addresses.retain(|address| pool.contains(*address));
        let asked = &request.wishes.addresses;
        let as_asked = asked.is_empty()
            || addresses.len() == asked.len() && asked.iter().all(|asked| addresses.contains(asked));
        if as_asked
            && request.wishes.pool.as_ref().is_none_or(|asked| *asked == pool.name)
            && self.pools.serves(&pool, name.namespace(), &request.labels)
        {
            self.give(name, &request, &pool, &addresses);
        }
    }

    /// Gives `addresses` of `pool` to `name`, for which they fit.
    fn give(&mut self, name: &ObjectName, request: &Request, pool: &AddressPool, addresses: &[IpAddr]) {
        let Some(state) = self.services.get_mut(name) else { return };
        state.now.pool = Some(pool.name.clone());
        state.now.addresses.extend_from_slice(addresses);
        let place = |address: &IpAddr| request.families.iter().position(|f| *f == Family::of(*address));
        state.now.addresses.sort_by_key(place);
        for address in addresses {
            self.holdings.give(*address, name, request);
            if let Some(key) = request.sharing() {
                self.news.push_back(News::Address(*address));
                self.news.push_back(News::Sharing(key));
            }
        }
    }

    /// Gives `name` what it still needs, as far as possible. It says why not, and waits, otherwise.
    fn place(&mut self, name: &ObjectName, avoid: &dyn Fn(IpAddr) -> bool) {
        let Some(request) = self.request(name) else { return };
        self.waiting.remove(name);
        self.settled.insert(name.clone());
        let issues = match &request.wishes.wrong {
            Some(issue) => vec![issue.clone()],
            None if request.wishes.addresses.is_empty() => {
                self.place_any(name, &request, avoid).err().into_iter().collect()
            }
            None => self.place_asked(name, &request),
        };
        if let Some(state) = self.services.get_mut(name) {
            state.now.issues = issues;
        }
    }

    /// Gives `name` the addresses that it asks for. Returns why not.
    fn place_asked(&mut self, name: &ObjectName, request: &Request) -> Vec<Issue> {
        let wishes = &request.wishes;
        let issue = |message: String| vec![Issue::new(wishes.addresses_field, message)];
        let asked = &wishes.addresses;
        for address in asked {
            let family = Family::of(*address);
            if !request.families.contains(&family) {
                return issue(format!(
                    "{address} cannot be had by a Service without {family}; add it to spec.ipFamilies, or ask \
                     for another address"
                ));
            }
        }
        if request.every_family
            && let Some(family) = request.missing(asked).first()
        {
            return issue(format!("no {family} address is asked for, which RequireDualStack needs; add one"));
        }
        if self.services.get(name).is_none_or(|state| !state.now.addresses.is_empty()) {
            return Vec::new();
        }
        let Some(pool) = self.pools.of(asked[0]).cloned() else {
            return issue(format!("{} is in no pool; ask for one of {}", asked[0], self.pools.names()));
        };
        if let Some(other) = asked.iter().find(|address| !pool.contains(**address)) {
            let pool = &pool.name;
            return issue(format!(
                "{other} is not in pool {pool} as {} is; ask for two of one pool",
                asked[0]
            ));
        }
        if let Some(other) = wishes.pool.as_ref().filter(|other| **other != pool.name) {
            let message =
                format!("{} is in pool {}, and not in {other}; ask for one of the two", asked[0], pool.name);
            return vec![Issue::new(Wishes::POOL_FIELD, message)];
        }
        if !self.pools.serves(&pool, name.namespace(), &request.labels) {
            return issue(not_for_it(&pool.name));
        }
        let conflicts = asked.iter().filter_map(|address| {
            let conflict = self.holdings.fits(*address, name, request, false).err()?;
            Some((*address, conflict))
        });
        let conflicts: Vec<(IpAddr, Conflict)> = conflicts.collect();
        for (address, _) in &conflicts {
            self.waiting.add(name, WaitsFor::Address(*address));
        }
        if conflicts.is_empty() {
            self.give(name, request, &pool, asked);
        }
        let issues = conflicts.iter().map(|(address, conflict)| in_the_way(*address, conflict, wishes));
        issues.collect()
    }

    /// Gives `name` what it needs of any pool that it may have addresses of.
    fn place_any(
        &mut self,
        name: &ObjectName,
        request: &Request,
        avoid: &dyn Fn(IpAddr) -> bool,
    ) -> Result<(), Issue> {
        let Some(state) = self.services.get(name) else { return Ok(()) };
        let missing = request.missing(&state.now.addresses);
        if missing.is_empty() {
            return Ok(());
        }
        let has_some = !state.now.addresses.is_empty();
        let of_one_pool = state.now.pool.clone();
        let pools = self.pools_for(name, request, of_one_pool.as_deref())?;
        let mut waits = Vec::new();
        let mut part: Option<(Arc<AddressPool>, Vec<IpAddr>)> = None;
        for pool in &pools {
            let choose = |family: &Family| self.holdings.choose(pool, *family, name, request, avoid);
            let found: Vec<IpAddr> = missing.iter().filter_map(choose).collect();
            let lacks = request.missing(&found).into_iter().filter(|family| missing.contains(family));
            let lacks: Vec<Family> = lacks.collect();
            if lacks.is_empty() {
                self.give(name, request, pool, &found);
                return Ok(());
            }
            // Who needs all comes no further before the first that is missing is there.
            let first = if request.every_family { 1 } else { lacks.len() };
            let of_pool = lacks[..first].iter().map(|family| WaitsFor::Pool(pool.name.clone(), *family));
            waits.push((pool.name.clone(), of_pool.collect::<Vec<_>>()));
            let better = match &part {
                None => !found.is_empty(),
                Some((_, other)) => {
                    !lacks.contains(&missing[0]) && request.missing(other).contains(&missing[0])
                }
            };
            if better && !request.every_family {
                part = Some((pool.clone(), found));
            }
        }
        if let Some((pool, found)) = &part {
            self.give(name, request, pool, found);
            waits.retain(|(name, _)| *name == pool.name);
        }
        for what in waits.into_iter().flat_map(|(_, waits)| waits) {
            self.waiting.add(name, what);
        }
        if let Some(key) = request.sharing() {
            self.waiting.add(name, WaitsFor::Sharing(key));
        }
        let content = part.is_some() || has_some && !request.every_family;
        if content { Ok(()) } else { Err(nothing_left(&pools, &missing)) }
    }

    /// The pools that `name` may be given addresses of, the best first. There is one.
    fn pools_for(
        &self,
        name: &ObjectName,
        request: &Request,
        of_one_pool: Option<&str>,
    ) -> Result<Vec<Arc<AddressPool>>, Issue> {
        if let Some(pool) = of_one_pool.and_then(|pool| self.pools.get(pool)) {
            return Ok(vec![pool.clone()]);
        }
        let Some(asked) = &request.wishes.pool else {
            let pools = self.pools.automatic(name.namespace(), &request.labels);
            return if pools.is_empty() { Err(self.no_pool()) } else { Ok(pools) };
        };
        let issue = |message| Err(Issue::new(Wishes::POOL_FIELD, message));
        match self.pools.get(asked) {
            None => issue(format!("there is no pool {asked}; the pools are {}", self.pools.names())),
            Some(pool) if !self.pools.serves(pool, name.namespace(), &request.labels) => {
                issue(not_for_it(asked))
            }
            Some(pool) => Ok(vec![pool.clone()]),
        }
    }

    /// Serves those who have waited for what is free now.
    fn serve_waiting(&mut self, avoid: &dyn Fn(IpAddr) -> bool) {
        while let Some(news) = self.news.pop_front() {
            let (what, address) = match news {
                News::Sharing(key) => (WaitsFor::Sharing(key), None),
                News::Address(address) => (WaitsFor::Address(address), Some(address)),
            };
            for name in self.waiting.all(&what) {
                self.place(&name, avoid);
            }
            let Some(address) = address.filter(|address| self.holdings.is_free(*address)) else { continue };
            let Some(pool) = self.pools.of(address).cloned() else { continue };
            let family = Family::of(address);
            let what = WaitsFor::Pool(pool.name.clone(), family);
            let mut last = None;
            while self.holdings.first_free(&pool, family, &|_| true).is_some()
                && let Some(name) = self.waiting.after(&what, last.as_ref())
            {
                self.place(&name, avoid);
                last = Some(name);
            }
        }
    }

    fn no_pool(&self) -> Issue {
        let message = format!(
            "none of the pools ({}) is for this Service by itself; ask for one with metallb.io/address-pool, or \
             add one that is",
            self.pools.names()
        );
        Issue::new(FIELD, message)
    }
}

/// The field for what is wrong with no single wish.
const FIELD: &str = "spec.type";

fn not_for_it(pool: &str) -> String {
    format!("pool {pool} is for other namespaces or for Services with other labels; ask for another")
}

fn in_the_way(address: IpAddr, conflict: &Conflict, wishes: &Wishes) -> Issue {
    match conflict {
        Conflict::Port(other, protocol, port) => Issue::new(
            wishes.addresses_field,
            format!("{address} has port {port}/{protocol} for Service {other}; change one of the two ports"),
        ),
        Conflict::Taken(other) if wishes.sharing.is_some() => Issue::new(
            Wishes::SHARING_FIELD,
            format!(
                "{address} belongs to Service {other}, which does not share it with this one; both need the same \
                 key and, with externalTrafficPolicy: Local, the same selector"
            ),
        ),
        Conflict::Taken(other) => Issue::new(
            wishes.addresses_field,
            format!(
                "{address} belongs to Service {other}; ask for another or for none, or have both share it with \
                 metallb.io/allow-shared-ip"
            ),
        ),
    }
}

/// More pools than this are not listed in a message.
const LISTED: usize = 5;

fn nothing_left(pools: &[Arc<AddressPool>], missing: &[Family]) -> Issue {
    let families: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let ranges = |pool: &AddressPool| {
        let ranges = pool.ranges.iter().filter(|range| missing.contains(&range.family()));
        let ranges: Vec<String> = ranges.take(LISTED).map(ToString::to_string).collect();
        let ranges = if ranges.is_empty() { "no range".to_owned() } else { ranges.join(", ") };
        format!("{} ({ranges})", pool.name)
    };
    let listed: Vec<String> = pools.iter().take(LISTED).map(|pool| ranges(pool)).collect();
    let message = format!(
        "no {} address is left in pool {}; add a range to it, or delete a Service that has one",
        families.join(" and "),
        listed.join(" or in pool ")
    );
    Issue::new(FIELD, message)
}
