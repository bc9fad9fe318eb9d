//! Where a virtual server sends a new connection, as far as that follows from its scheduler (the
//! files ip_vs_*.c of net/netfilter/ipvs) and from what is known of its destinations.

use std::cmp::Ordering;

use super::{Connections, Destination, FALLBACK, HASH_PORT, Method, Serves, VirtualServer};
use crate::ruleset::{Balance, Target, Way};
use crate::value::address_value;

impl VirtualServer {
    pub(super) fn balance(&self, tracked: bool) -> Balance {
        let (ways, mut how) = self.ways();
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
            tracked,
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
    fn ways(&self) -> (Box<[Way]>, String) {
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
            "sh" | "dh" => self.by_table(&by),
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
    fn by_table(&self, by: &str) -> (Box<[Way]>, String) {
        let by_source = self.scheduler == "sh";
        let goes_on = by_source && self.flags & FALLBACK != 0 && self.destinations.iter().any(is_open);
        let ways = self.destinations.iter().filter(|to| is_open(to) || !goes_on).map(|to| Way {
            to: is_open(to).then(|| self.target(to)),
            share: if by_source { to.weight.max(1) } else { 1 },
        });
        let stays =
            if by_source { self.stays() } else { "all clients of the address go to the same".to_owned() };
        let ways: Box<[Way]> = ways.collect();
        let refuses = if ways.iter().any(|way| way.to.is_none()) {
            ", and those that fall to one of weight 0 are refused"
        } else {
            ""
        };
        (ways, format!("{by}: {stays}{refuses}; which one, is not listed"))
    }

    /// What a hash of the client means for it.
    fn stays(&self) -> String {
        let what = if self.flags & HASH_PORT == 0 { "address" } else { "address and port" };
        format!("the same {what} always leads to the same destination")
    }
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
