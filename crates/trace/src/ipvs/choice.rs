//! Where a virtual server sends a new connection, as far as that follows from its scheduler (the
//! files ip_vs_*.c of net/netfilter/ipvs) and from what is known of its destinations.

use std::cmp::Ordering;

use super::{Connections, Destination, FALLBACK, HASH_PORT, Method, Serves, VirtualServer, VirtualServers};
use crate::ruleset::{Balance, Target, Way};
use crate::value::address_value;

/// `IP_VS_SH_TAB_SIZE`, `IP_VS_DH_TAB_SIZE`
const PLACES: u32 = 256;

impl VirtualServer {
    /// What it does with packets, being one of `all`.
    pub(super) fn balance(&self, all: &VirtualServers) -> Balance {
        let (ways, mut how) = self.ways(all.in_kernel_order);
        if let Some(seconds) = self.persistence {
            let who = match &self.mask {
                Some(mask) => format!("a client (of mask {mask})"),
                None => "a client".to_owned(),
            };
            how = format!("{how}; {who} that was here within {seconds} s stays where it was");
        }
        Balance {
            ways,
            held: self.destinations.iter().map(|to| Way { to: Some(self.target(to)), share: 1 }).collect(),
            how: how.into(),
            persistence: self.persistence,
            tracked: all.tracked,
        }
    }

    /// With persistence, a virtual server for a mark or for all ports leaves the port as it is
    /// (`ip_vs_sched_persist`).
    fn target(&self, to: &Destination) -> Target {
        let keeps = match self.serves {
            Serves::Mark(..) => self.persistence.is_some(),
            Serves::Address(_, address) => address.port() == 0,
        };
        let translated = to.method == Method::Translated;
        Target {
            address: address_value(to.address.ip()),
            port: (translated && !keeps).then(|| to.address.port()),
            translated,
        }
    }

    /// The ways, and in words how one of them is chosen.
    fn ways(&self, in_kernel_order: bool) -> (Box<[Way]>, String) {
        let open: Vec<&Destination> = self.destinations.iter().filter(|to| is_open(to)).collect();
        let by = format!("{} ({})", chooser(&self.scheduler), self.scheduler);
        if !matches!(&*self.scheduler, "sh" | "dh") && open.len() < 2 {
            let how = match (&open[..], self.destinations.len()) {
                ([], 0) => "it has no destination".to_owned(),
                ([], _) => "none of its destinations gets new connections (weight 0, or full)".to_owned(),
                (_, 1) => "its only destination".to_owned(),
                _ => "the only one of its destinations that gets new connections".to_owned(),
            };
            return (self.shares(&open, |_| 1), how);
        }
        let count = open.len();
        match &*self.scheduler {
            "rr" => (
                self.shares(&open, |_| 1),
                format!(
                    "{by}: each of {count} gets one of {count} new connections; whose turn it is, is not listed"
                ),
            ),
            "wrr" => (
                self.shares(&open, |to| to.weight),
                format!("{by}, as often as its weight says; whose turn it is, is not listed"),
            ),
            "lc" | "wlc" | "sed" | "nq" => self.by_connections(&open, &by),
            "sh" | "dh" => self.by_table(in_kernel_order, &by),
            "mh" => (self.shares(&open, |to| to.weight), format!("{by}: {}", self.stays())),
            "lblc" | "lblcr" => (
                self.shares(&open, |_| 1),
                format!("{by}: which one, is not listed; all clients go to the same until it is overloaded"),
            ),
            "fo" => (self.shares(&heaviest(&open), |_| 1), by),
            "ovf" => {
                let room = |to: &&&Destination| to.connections.is_none_or(|has| has.active <= to.weight);
                let open: Vec<&Destination> = open.iter().filter(room).copied().collect();
                (self.shares(&heaviest(&open), |_| 1), by)
            }
            "twos" => (self.shares(&open, |to| to.weight), format!("{by}, drawn by their weights")),
            _ => (
                self.shares(&open, |_| 1),
                format!("scheduler {}, which is not known: any of them", self.scheduler),
            ),
        }
    }

    fn shares(&self, open: &[&Destination], share: impl Fn(&Destination) -> u32) -> Box<[Way]> {
        open.iter().map(|to| Way { to: Some(self.target(to)), share: share(to).max(1) }).collect()
    }

    /// Those with the least to do, if their connections are known.
    fn by_connections(&self, open: &[&Destination], by: &str) -> (Box<[Way]>, String) {
        let by_weight = self.scheduler != "lc";
        let known: Option<Vec<(u64, &Destination)>> =
            open.iter().map(|to| Some((self.load(to.connections?), *to))).collect();
        let Some(known) = known else {
            let how = format!(
                "{by}: connections are not known, and shares are those of connections that last alike"
            );
            return (self.shares(open, |to| if by_weight { to.weight } else { 1 }), how);
        };
        // load / weight, compared without dividing.
        let weight = |to: &Destination| if by_weight { u64::from(to.weight) } else { 1 };
        let compare = |(load, to): &(u64, &Destination), (other, than): &(u64, &Destination)| -> Ordering {
            let scaled = u128::from(*load) * u128::from(weight(than));
            scaled.cmp(&(u128::from(*other) * u128::from(weight(to))))
        };
        let idle = |(_, to): &&(u64, &Destination)| to.connections.is_some_and(|has| has.active == 0);
        let least: Vec<&Destination> = match known.iter().find(idle) {
            Some(_) if self.scheduler == "nq" => known.iter().filter(idle).map(|(_, to)| *to).collect(),
            _ => {
                let least = known.iter().min_by(|one, other| compare(one, other));
                let is_least =
                    |one: &&(u64, &Destination)| least.is_some_and(|least| compare(one, least).is_eq());
                known.iter().filter(is_least).map(|(_, to)| *to).collect()
            }
        };
        let among = if least.len() == 1 { "" } else { "; several have as few" };
        (self.shares(&least, |_| 1), format!("{by}, as of now{among}"))
    }

    /// `ip_vs_dest_conn_overhead`, `ip_vs_sed_dest_overhead`.
    fn load(&self, has: Connections) -> u64 {
        match &*self.scheduler {
            "sed" | "nq" => u64::from(has.active) + 1,
            _ => (u64::from(has.active) << 8) + u64::from(has.inactive),
        }
    }

    /// Schedulers whose table has destinations that get no new connections, and refuse those that
    /// fall to them.
    fn by_table(&self, in_kernel_order: bool, by: &str) -> (Box<[Way]>, String) {
        let by_source = self.scheduler == "sh";
        let weight = |to: &Destination| if by_source { to.weight.max(1) } else { 1 };
        let weights: Vec<u32> = self.destinations.iter().map(weight).collect();
        let (shares, doubt) = shares_of_table(weights, in_kernel_order);
        let placed: Vec<(&Destination, u32)> =
            self.destinations.iter().zip(shares).filter(|(_, share)| *share > 0).collect();
        let goes_on = by_source && self.flags & FALLBACK != 0 && placed.iter().any(|(to, _)| is_open(to));
        let ways = placed
            .into_iter()
            .filter(|(to, _)| is_open(to) || !goes_on)
            .map(|(to, share)| Way { to: is_open(to).then(|| self.target(to)), share });
        let stays =
            if by_source { self.stays() } else { "all clients of the address go to the same".to_owned() };
        let ways: Box<[Way]> = ways.collect();
        let refuses = if ways.iter().any(|way| way.to.is_none()) {
            ", and those that fall to one of weight 0 are refused"
        } else {
            ""
        };
        (ways, format!("{by}: {stays}{refuses}; which one, is not listed{doubt}"))
    }

    /// What a hash of the client means for it.
    fn stays(&self) -> String {
        let what = if self.flags & HASH_PORT == 0 { "address" } else { "address and port" };
        format!("the same {what} always leads to the same destination")
    }
}

/// How many places of a table of [`PLACES`] each destination gets, and what is in doubt about that.
///
/// The kernel goes round its list and gives each as many places in turn as `weights` says, until
/// the table is full (`ip_vs_sh_reassign`, `ip_vs_dh_reassign`). Where its order is not known, each
/// gets what it would on average, which is about its weight.
fn shares_of_table(weights: Vec<u32>, in_kernel_order: bool) -> (Vec<u32>, &'static str) {
    let all: u64 = weights.iter().copied().map(u64::from).sum();
    if weights.len() < 2 || u64::from(PLACES) % all == 0 {
        return (weights, "");
    }
    if !in_kernel_order {
        let doubt = if all > u64::from(PLACES) {
            "; shares are not known: the table has 256 places, and who gets any of them depends on the \
             kernel's order of destinations, which is not listed"
        } else {
            "; shares are about right: they depend on the kernel's order of destinations, which is not \
             listed"
        };
        return (weights, doubt);
    }
    let mut places = vec![0; weights.len()];
    let mut left = PLACES;
    while left > 0 {
        for (place, weight) in places.iter_mut().zip(&weights) {
            let taken = left.min(*weight);
            *place += taken;
            left -= taken;
        }
    }
    let all_placed = places.iter().all(|place| *place > 0);
    (places, if all_placed { "" } else { "; for some there is no place in the table of 256" })
}

/// Whether it gets new connections.
fn is_open(to: &Destination) -> bool {
    let full = |has: Connections| to.limit != 0 && has.active.saturating_add(has.inactive) >= to.limit;
    to.weight != 0 && !to.connections.is_some_and(full)
}

fn heaviest<'a>(open: &[&'a Destination]) -> Vec<&'a Destination> {
    let most = open.iter().map(|to| to.weight).max();
    open.iter().filter(|to| Some(to.weight) == most).copied().collect()
}

/// Which destination a scheduler chooses.
fn chooser(scheduler: &str) -> &'static str {
    match scheduler {
        "rr" | "wrr" => "in turn",
        "lc" => "the one with the fewest connections",
        "wlc" => "the one with the fewest connections for its weight",
        "sed" => "the one that would have the fewest connections for its weight",
        "nq" => "one without connections, or else the one that would have the fewest for its weight",
        "sh" | "mh" => "by a hash of the client",
        "dh" => "by a hash of the destination",
        "lblc" | "lblcr" => "the one that serves this address already",
        "fo" => "the one with the highest weight",
        "ovf" => "the one with the highest weight that has at most as many active connections",
        "twos" => "the less busy of two",
        _ => "one of them",
    }
}
