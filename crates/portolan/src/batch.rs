//! What was observed and waits for the next commit.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use ipnet::IpNet;
use portolan_service::{Change, EndpointsTrigger, NamesChange, ObjectName};

/// Fewer changes than this are not worth merging.
const MERGE_AT_LEAST: usize = 4096;
/// The times of at most this many changes of endpoints are kept. If more wait at once, the others
/// are not measured.
const TRIGGERS_AT_MOST: usize = 16_384;

/// Everything that was observed since the last commit, in order. All of it goes into the next one.
///
/// It takes no more memory than the cluster itself, however long it waits: of each object only the
/// last change counts. A clone shares the objects.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    /// Changes of objects.
    pub(crate) changes: Vec<Change>,
    /// Changes of what only names for Services come from.
    pub(crate) names: Vec<NamesChange>,
    /// With them, all objects are known that there are.
    pub(crate) complete: bool,
    /// And all that names come from.
    pub(crate) names_complete: bool,
    /// All Services whose rules the kernel refuses, where that has changed. Only a commit says so.
    pub(crate) refused: Option<Arc<BTreeSet<ObjectName>>>,
    /// All networks that ClusterIPs are allocated from, where they changed.
    pub(crate) service_networks: Option<Vec<IpNet>>,
    /// All addresses on the node's interfaces, where they changed.
    pub(crate) addresses: Option<Vec<IpAddr>>,
    /// When endpoints were changed in the cluster (spec §9.15).
    pub(crate) triggers: Vec<EndpointsTrigger>,
    /// When the oldest of all this was noticed.
    received: Option<Instant>,
    /// At this number of changes, those that later ones make pointless are dropped.
    merge_at: usize,
    merge_names_at: usize,
}

impl Batch {
    /// Nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.received.is_none()
    }

    /// When the oldest part was noticed; now, if there is none.
    pub(crate) fn received(&self) -> Instant {
        self.received.unwrap_or_else(Instant::now)
    }

    /// Adds what `other` holds, which was observed later, if not noticed later.
    pub(crate) fn extend(&mut self, other: Batch) {
        if self.changes.is_empty() {
            // The first state can be big: moved, not copied.
            self.changes = other.changes;
        } else {
            self.changes.extend(other.changes);
            if self.changes.len() >= self.merge_at.max(MERGE_AT_LEAST) {
                Change::keep_last(&mut self.changes);
                self.merge_at = self.changes.len() * 2;
            }
        }
        if self.names.is_empty() {
            self.names = other.names;
        } else {
            self.names.extend(other.names);
            if self.names.len() >= self.merge_names_at.max(MERGE_AT_LEAST) {
                NamesChange::keep_last(&mut self.names);
                self.merge_names_at = self.names.len() * 2;
            }
        }
        self.complete |= other.complete;
        self.names_complete |= other.names_complete;
        self.refused = other.refused.or(self.refused.take());
        let room = TRIGGERS_AT_MOST.saturating_sub(self.triggers.len());
        self.triggers.extend(other.triggers.into_iter().take(room));
        self.service_networks = other.service_networks.or(self.service_networks.take());
        self.addresses = other.addresses.or(self.addresses.take());
        self.received = self.received.into_iter().chain(other.received).min();
    }

    /// Changes of objects, from a source that knows them all; the first was noticed at `received`.
    pub(crate) fn of_changes(changes: Vec<Change>, received: Instant) -> Batch {
        Batch { changes, complete: true, received: Some(received), ..Batch::default() }
    }

    /// The Services whose rules the kernel refuses as of now are these.
    pub(crate) fn of_refused(refused: Arc<BTreeSet<ObjectName>>) -> Batch {
        Batch { refused: Some(refused), received: Some(Instant::now()), ..Batch::default() }
    }

    /// All addresses on the node's interfaces, as noticed now.
    pub(crate) fn of_addresses(addresses: Vec<IpAddr>) -> Batch {
        Batch { addresses: Some(addresses), received: Some(Instant::now()), ..Batch::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use portolan_service::{Family, ObjectName};

    use super::*;

    #[test]
    fn later_values_replace_earlier_ones_and_the_oldest_time_counts() {
        let (early, late) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let removed = |name| Change::ServiceRemoved(ObjectName::new("shop", name));
        let networks = |text: &str| Some(vec![text.parse().unwrap()]);
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        batch.extend(Batch {
            service_networks: networks("10.96.0.0/16"),
            ..Batch::of_changes(vec![removed("a")], late)
        });
        batch.extend(Batch {
            service_networks: networks("10.97.0.0/16"),
            ..Batch::of_changes(vec![removed("b")], early)
        });
        batch.extend(Batch::of_addresses(vec!["192.0.2.1".parse().unwrap()]));
        assert_eq!(batch.changes, [removed("a"), removed("b")]);
        assert_eq!(batch.service_networks, networks("10.97.0.0/16"));
        assert_eq!(batch.addresses.as_ref().map(Vec::len), Some(1));
        assert_eq!(batch.received(), early);
        assert!(!batch.is_empty());
    }

    #[test]
    fn what_waits_for_long_is_merged() {
        let mut batch = Batch::default();
        let removed = |number: usize| Change::ServiceRemoved(ObjectName::new("shop", &format!("s{number}")));
        let pod = |number: usize| NamesChange::PodRemoved(ObjectName::new("shop", &format!("p{number}")));
        let trigger = EndpointsTrigger {
            service: ObjectName::new("shop", "s0"),
            family: Family::V4,
            at: SystemTime::now(),
        };
        for round in 0..100 {
            let changes = (0..1000).map(|number| removed((number + round) % 1000)).collect();
            let names = (0..1000).map(|number| pod((number + round) % 1000)).collect();
            let triggers = vec![trigger.clone(); 1000];
            batch.extend(Batch { names, triggers, ..Batch::of_changes(changes, Instant::now()) });
            assert!(
                batch.changes.len() < 2 * MERGE_AT_LEAST,
                "{} changes of 1000 objects",
                batch.changes.len()
            );
        }
        assert!(batch.names.len() < 2 * MERGE_AT_LEAST, "{} changes of 1000 pods", batch.names.len());
        assert_eq!(batch.changes.last(), Some(&removed(98)), "the last one is last");
        assert_eq!(batch.names.last(), Some(&pod(98)));
        assert_eq!(batch.triggers.len(), TRIGGERS_AT_MOST);
    }
}
