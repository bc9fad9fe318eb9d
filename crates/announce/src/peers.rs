//! The other nodes that are heard on a link, and which of them can take addresses.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use portolan_netlink::rtnetlink::HardwareAddress;

use crate::heartbeat::Heartbeat;

/// Between two heartbeats of a node.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);
/// Who has not been heard for so long is taken for dead: five heartbeats in a row are lost of one
/// in 10^10, if one in a hundred is.
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(1);
/// Who has lost the API server for so long gives its addresses to those that hear from it. When the
/// server is away for all, some notice a minute before others: on a quiet cluster it says something
/// once a minute.
const STALE_AFTER: Duration = Duration::from_mins(2);
/// Who has heard from it for so long can take them. When the API server comes back, nodes notice at
/// different times, and none shall take the addresses of all others meanwhile.
const FRESH_AFTER: Duration = Duration::from_secs(10);
/// The most nodes that are remembered on a link.
const MOST: usize = 10_000;

/// How well a node knows the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct View {
    pub(crate) stale: Duration,
    pub(crate) fresh: Duration,
}

#[derive(Debug)]
struct Peer {
    incarnation: u64,
    sequence: u64,
    heard: Instant,
    willing: bool,
    view: View,
    hardware: HardwareAddress,
}

/// What a heartbeat meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// A node that was not there before.
    New,
    /// One that is there, as before.
    Known,
    /// One that is there, and can take addresses now, or no more.
    Changed,
    /// An old one: late, or repeated by somebody.
    Old,
}

/// The other nodes on a link.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_name: HashMap<Arc<str>, Peer>,
    /// Incarnation and sequence of those that are no longer heard: what was recorded of them brings
    /// nobody back to life.
    past: HashMap<Arc<str>, (u64, u64)>,
}

impl Peers {
    /// Takes a heartbeat that was sent from `hardware`.
    pub(crate) fn hear(&mut self, heartbeat: &Heartbeat, hardware: HardwareAddress, now: Instant) -> Heard {
        let peer = Peer {
            incarnation: heartbeat.incarnation,
            sequence: heartbeat.sequence,
            heard: now,
            willing: heartbeat.willing,
            view: View { stale: heartbeat.stale, fresh: heartbeat.fresh },
            hardware,
        };
        let full = self.by_name.len() >= MOST;
        let past = self.past.get(&heartbeat.node);
        if past.is_some_and(|past| *past >= (peer.incarnation, peer.sequence)) {
            return Heard::Old;
        }
        match self.by_name.get_mut(&heartbeat.node) {
            Some(known) if (known.incarnation, known.sequence) >= (peer.incarnation, peer.sequence) => {
                Heard::Old
            }
            Some(known) => {
                let changed = known.willing != peer.willing;
                *known = peer;
                if changed { Heard::Changed } else { Heard::Known }
            }
            None if full => Heard::Old,
            None => {
                self.past.remove(&heartbeat.node);
                self.by_name.insert(heartbeat.node.clone(), peer);
                Heard::New
            }
        }
    }

    /// Forgets those that are silent, and returns their names.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut lost = Vec::new();
        self.by_name.retain(|name, peer| {
            let alive = now.saturating_duration_since(peer.heard) < DEAD_AFTER;
            if !alive {
                if self.past.len() >= MOST {
                    self.past.clear();
                }
                self.past.insert(name.clone(), (peer.incarnation, peer.sequence));
                lost.push(name.clone());
            }
            alive
        });
        lost.sort_unstable();
        lost
    }

    /// Who can take addresses, of these and this node itself, if `own` is given: then it can, and
    /// knows the cluster so well.
    pub(crate) fn candidates(&self, own: Option<(&Arc<str>, View)>) -> BTreeSet<Arc<str>> {
        let peers = self.by_name.iter().filter(|(_, peer)| peer.willing);
        let all = || peers.clone().map(|(name, peer)| (name, peer.view)).chain(own);
        let knows = all().any(|(_, view)| view.stale.is_zero() && view.fresh >= FRESH_AFTER);
        let up_to_date = |view: View| !knows || view.stale < STALE_AFTER;
        all().filter(|(_, view)| up_to_date(*view)).map(|(name, _)| name.clone()).collect()
    }

    /// Whether a node that is heard has this hardware address.
    pub(crate) fn have(&self, hardware: HardwareAddress) -> bool {
        self.by_name.values().any(|peer| peer.hardware == hardware)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: HardwareAddress = [2, 0, 0, 0, 0, 9];

    fn heartbeat(node: &str, incarnation: u64, sequence: u64) -> Heartbeat {
        Heartbeat {
            node: node.into(),
            willing: true,
            incarnation,
            sequence,
            stale: Duration::ZERO,
            fresh: Duration::from_mins(1),
        }
    }

    fn names(candidates: &BTreeSet<Arc<str>>) -> Vec<&str> {
        candidates.iter().map(|name| &**name).collect()
    }

    #[test]
    fn old_heartbeats_are_ignored() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let mut hear =
            |incarnation, sequence| peers.hear(&heartbeat("a", incarnation, sequence), HARDWARE, now);
        assert_eq!(hear(1, 5), Heard::New);
        assert_eq!(hear(1, 5), Heard::Old, "repeated");
        assert_eq!(hear(1, 4), Heard::Old, "overtaken");
        assert_eq!(hear(1, 6), Heard::Known);
        assert_eq!(hear(2, 1), Heard::Known, "started anew");
        assert_eq!(hear(1, 7), Heard::Old, "of its life before");
    }

    #[test]
    fn silence_is_death() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        peers.hear(&heartbeat("a", 1, 1), HARDWARE, now);
        peers.hear(&heartbeat("b", 1, 1), HARDWARE, now + INTERVAL);
        assert!(peers.expire(now + Duration::from_millis(800)).is_empty());
        assert_eq!(peers.expire(now + DEAD_AFTER), ["a".into()]);
        assert_eq!(peers.hear(&heartbeat("a", 1, 1), HARDWARE, now + DEAD_AFTER), Heard::Old, "recorded");
        assert_eq!(names(&peers.candidates(None)), ["b"]);
        assert_eq!(peers.hear(&heartbeat("a", 2, 1), HARDWARE, now + DEAD_AFTER), Heard::New);
    }

    #[test]
    fn who_knows_the_cluster_takes_precedence() {
        let seconds = Duration::from_secs;
        let stale = |time| View { stale: seconds(time), fresh: Duration::ZERO };
        let fresh = |time| View { stale: Duration::ZERO, fresh: seconds(time) };
        // The view of nodes a and b, and of this one; who can take addresses.
        for (a, b, own, expected) in [
            (fresh(60), fresh(60), fresh(60), &["a", "b", "own"][..]),
            (stale(130), fresh(60), fresh(60), &["b", "own"]),
            (fresh(60), fresh(60), stale(130), &["a", "b"]),
            (stale(60), fresh(60), fresh(60), &["a", "b", "own"]), // not yet
            (stale(130), stale(130), stale(130), &["a", "b", "own"]), // the API server is away
            (stale(130), stale(130), fresh(2), &["a", "b", "own"]), // and comes back
            (stale(130), fresh(12), fresh(12), &["b", "own"]),
            (stale(70), stale(10), fresh(60), &["a", "b", "own"]), // it goes away: not all notice at once
        ] {
            let (mut peers, now) = (Peers::default(), Instant::now());
            for (name, view) in [("a", a), ("b", b)] {
                let View { stale, fresh } = view;
                peers.hear(&Heartbeat { stale, fresh, ..heartbeat(name, 1, 1) }, HARDWARE, now);
            }
            let found = peers.candidates(Some((&"own".into(), own)));
            assert_eq!(names(&found), expected, "{a:?} {b:?} {own:?}");
        }
    }

    #[test]
    fn who_does_not_want_addresses_gets_none() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        peers.hear(&Heartbeat { willing: false, ..heartbeat("a", 1, 1) }, HARDWARE, now);
        assert!(peers.candidates(None).is_empty());
        assert_eq!(peers.hear(&heartbeat("a", 1, 2), HARDWARE, now), Heard::Changed);
        assert_eq!(names(&peers.candidates(None)), ["a"]);
        assert!(peers.have(HARDWARE));
    }
}
