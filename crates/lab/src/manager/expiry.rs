//! Events are kept for an hour, as kube-apiserver keeps them (`--event-ttl`).

use std::collections::{BTreeSet, HashMap};

use portolan_controllers::manager::Timestamp;

/// In seconds.
const KEPT: i64 = 3_600;

/// Namespace and name.
type Key = (String, String);

/// When which event is to go.
#[derive(Debug, Default)]
pub(super) struct Expiry {
    ends: HashMap<Key, Timestamp>,
    queue: BTreeSet<(Timestamp, Key)>,
}

impl Expiry {
    /// An event was written now: its time begins anew.
    pub(super) fn renew(&mut self, namespace: &str, name: &str, now: Timestamp) {
        let key = self.forget(namespace, name);
        let end = now.plus(KEPT);
        self.queue.insert((end, key.clone()));
        self.ends.insert(key, end);
    }

    /// An event is gone.
    pub(super) fn forget(&mut self, namespace: &str, name: &str) -> Key {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(end) = self.ends.remove(&key) {
            self.queue.remove(&(end, key.clone()));
        }
        key
    }

    /// When the first one is to go.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(end, _)| *end)
    }

    /// Those that are to go by now; they are forgotten.
    pub(super) fn due(&mut self, now: Timestamp) -> Vec<Key> {
        let mut due = Vec::new();
        while let Some((end, _)) = self.queue.first()
            && *end <= now
        {
            if let Some((_, key)) = self.queue.pop_first() {
                self.ends.remove(&key);
                due.push(key);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_goes_an_hour_after_its_last_time() {
        let at = Timestamp::from_unix;
        let key = |name: &str| ("shop".to_owned(), name.to_owned());
        let mut expiry = Expiry::default();
        for (name, time) in [("a", 0), ("b", 10), ("c", 20), ("a", 30)] {
            expiry.renew("shop", name, at(time));
        }
        expiry.forget("shop", "c");
        assert_eq!(expiry.next(), Some(at(10 + KEPT)));
        assert_eq!(expiry.due(at(9 + KEPT)), []);
        assert_eq!(expiry.due(at(29 + KEPT)), [key("b")]);
        assert_eq!(expiry.due(at(30 + KEPT)), [key("a")]);
        assert_eq!((expiry.next(), expiry.ends.len()), (None, 0));
    }
}
