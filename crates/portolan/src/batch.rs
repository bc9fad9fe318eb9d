//! What was observed and waits for the next commit.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use ipnet::IpNet;
use portolan_service::{Change, ObjectName};

/// Everything that was observed since the last commit, in order. All of it goes into the next one.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Changes of objects.
    pub(crate) changes: Vec<Change>,
    /// With them, all objects are known that there are.
    pub(crate) complete: bool,
    /// All networks that ClusterIPs are allocated from, where they changed.
    pub(crate) service_networks: Option<Vec<IpNet>>,
    /// All addresses on the node's interfaces, where they changed.
    pub(crate) addresses: Option<Vec<IpAddr>>,
    /// When the endpoints of a Service were changed in the cluster (spec §9.15).
    pub(crate) triggers: Vec<(ObjectName, SystemTime)>,
    /// When the oldest of all this was noticed.
    received: Option<Instant>,
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
        }
        self.complete |= other.complete;
        self.triggers.extend(other.triggers);
        self.service_networks = other.service_networks.or(self.service_networks.take());
        self.addresses = other.addresses.or(self.addresses.take());
        self.received = self.received.into_iter().chain(other.received).min();
    }

    /// Changes of objects, from a source that knows them all; the first was noticed at `received`.
    pub(crate) fn of_changes(changes: Vec<Change>, received: Instant) -> Batch {
        Batch { changes, complete: true, received: Some(received), ..Batch::default() }
    }

    /// All addresses on the node's interfaces, as noticed now.
    pub(crate) fn of_addresses(addresses: Vec<IpAddr>) -> Batch {
        Batch { addresses: Some(addresses), received: Some(Instant::now()), ..Batch::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
}
