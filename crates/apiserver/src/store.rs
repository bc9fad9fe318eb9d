//! The objects, what happened to them lately, and the lists that are being read page by page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::object::{Invalid, Key, Object, resource_of};
use crate::resource::Resource;
use crate::selector::Selector;

/// How many lists can be read page by page at a time; the oldest expires.
const PAGED_LISTS: usize = 64;

#[derive(Debug)]
pub(crate) struct Store {
    /// The newest resource version.
    version: u64,
    collections: [Collection; Resource::ALL.len()],
    /// How many events are kept of each resource.
    history: usize,
    paged: VecDeque<Paged>,
    next_paged: u64,
}

#[derive(Debug, Default)]
struct Collection {
    objects: BTreeMap<Key, Arc<Object>>,
    events: VecDeque<Event>,
    /// A watch can start at this version or a later one.
    compacted: u64,
    /// The newest event that is no longer in `events`; a watch that has not sent it cannot go on.
    dropped: u64,
}

/// Something that happened to an object: at least one of the two is there.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) version: u64,
    pub(crate) object: Option<Arc<Object>>,
    pub(crate) previous: Option<Arc<Object>>,
}

/// A consistent list that is read page by page.
#[derive(Debug)]
struct Paged {
    id: u64,
    version: u64,
    resource: Resource,
    objects: Arc<[Arc<Object>]>,
}

/// One page.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) version: u64,
    pub(crate) objects: Vec<Arc<Object>>,
    /// What asks for the next page, and how many objects are left.
    pub(crate) next: Option<(String, usize)>,
}

/// The version asked for is no longer known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired;

impl Store {
    pub(crate) fn new(history: usize) -> Self {
        // A real server has written its own objects before anybody comes, and forgotten how it did.
        let version = 100;
        Self {
            version,
            collections: std::array::from_fn(|_| Collection { compacted: version, ..Collection::default() }),
            history,
            paged: VecDeque::new(),
            next_paged: 1,
        }
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn collection(&self, resource: Resource) -> &Collection {
        &self.collections[resource.index()]
    }

    pub(crate) fn len(&self, resource: Resource) -> usize {
        self.collection(resource).objects.len()
    }

    pub(crate) fn get(&self, resource: Resource, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.collection(resource).objects.get(&(namespace.into(), name.into()))
    }

    pub(crate) fn all(&self, resource: Resource) -> impl Iterator<Item = &Arc<Object>> {
        self.collection(resource).objects.values()
    }

    pub(crate) fn select(&self, resource: Resource, selector: &Selector) -> Vec<Arc<Object>> {
        self.all(resource).filter(|object| selector.matches(object)).cloned().collect()
    }

    /// Creates or updates. What is already there and the same keeps its version, as in a real server.
    pub(crate) fn apply(&mut self, object: Value) -> Result<u64, Invalid> {
        let resource = resource_of(&object)?;
        let version = self.version + 1;
        let object = Object::new(resource, object, version)?;
        if let Some(previous) = self.collection(resource).objects.get(&object.key)
            && previous.json == object.at_version(previous.version).json
        {
            return Ok(previous.version);
        }
        self.put(resource, object);
        Ok(version)
    }

    /// Stores an object that carries the next version.
    pub(crate) fn put(&mut self, resource: Resource, object: Object) {
        self.version = object.version;
        let object = Arc::new(object);
        let previous =
            self.collections[resource.index()].objects.insert(object.key.clone(), Arc::clone(&object));
        self.record(resource, Event { version: self.version, object: Some(object), previous });
    }

    pub(crate) fn delete(&mut self, resource: Resource, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let objects = &mut self.collections[resource.index()].objects;
        let previous = objects.remove(&(namespace.into(), name.into()))?;
        self.version += 1;
        let event = Event { version: self.version, object: None, previous: Some(Arc::clone(&previous)) };
        self.record(resource, event);
        Some(previous)
    }

    fn record(&mut self, resource: Resource, event: Event) {
        let collection = &mut self.collections[resource.index()];
        collection.events.push_back(event);
        while collection.events.len() > self.history {
            let dropped = collection.events.pop_front().expect("longer than nothing");
            collection.dropped = dropped.version;
            collection.compacted = collection.compacted.max(dropped.version);
        }
    }

    /// Whether a watch can start after a version.
    pub(crate) fn can_watch(&self, resource: Resource, from: u64) -> Result<(), Expired> {
        if from < self.collection(resource).compacted { Err(Expired) } else { Ok(()) }
    }

    /// Up to `limit` events after a version, for a watch that runs.
    pub(crate) fn events(&self, resource: Resource, after: u64, limit: usize) -> Result<Vec<Event>, Expired> {
        let collection = self.collection(resource);
        if after < collection.dropped {
            return Err(Expired);
        }
        let start = collection.events.partition_point(|event| event.version <= after);
        Ok(collection.events.iter().skip(start).take(limit).cloned().collect())
    }

    /// Makes every version that was ever given out too old to start from; watches that run go on.
    pub(crate) fn forget(&mut self) {
        self.version += 1;
        for collection in &mut self.collections {
            collection.compacted = self.version;
        }
        self.paged.clear();
    }

    /// As after a restore from an older backup: the same objects, under versions that count from `version`.
    pub(crate) fn restore(&mut self, version: u64) {
        self.version = version;
        for resource in Resource::ALL {
            let keys: Vec<Key> = self.collection(resource).objects.keys().cloned().collect();
            for key in keys {
                self.version += 1;
                let collection = &mut self.collections[resource.index()];
                let object = collection.objects.get_mut(&key).expect("just listed");
                *object = Arc::new(object.at_version(self.version));
            }
        }
        for collection in &mut self.collections {
            collection.events.clear();
            collection.compacted = self.version;
            collection.dropped = self.version;
        }
        self.paged.clear();
    }

    /// The first page of what is selected, or all of it without a limit.
    pub(crate) fn first_page(&mut self, resource: Resource, selector: &Selector, limit: usize) -> Page {
        let objects = self.select(resource, selector);
        if limit == 0 || objects.len() <= limit {
            return Page { version: self.version, objects, next: None };
        }
        let id = self.next_paged;
        self.next_paged += 1;
        self.paged.push_back(Paged { id, version: self.version, resource, objects: objects.into() });
        if self.paged.len() > PAGED_LISTS {
            self.paged.pop_front();
        }
        self.page(resource, id, 0, limit).expect("just made")
    }

    /// The page that a token of the page before asks for.
    pub(crate) fn next_page(&self, resource: Resource, token: &str, limit: usize) -> Result<Page, Expired> {
        let (id, start) = token.split_once('-').ok_or(Expired)?;
        match (id.parse(), start.parse()) {
            (Ok(id), Ok(start)) => self.page(resource, id, start, limit),
            _ => Err(Expired),
        }
    }

    fn page(&self, resource: Resource, id: u64, start: usize, limit: usize) -> Result<Page, Expired> {
        let paged = self.paged.iter().find(|paged| paged.id == id && paged.resource == resource);
        let paged = paged.ok_or(Expired)?;
        let rest = paged.objects.get(start..).ok_or(Expired)?;
        let count = if limit == 0 { rest.len() } else { limit.min(rest.len()) };
        let left = rest.len() - count;
        Ok(Page {
            version: paged.version,
            objects: rest[..count].to_vec(),
            next: (left > 0).then(|| (format!("{id}-{}", start + count), left)),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, ip: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": name },
            "spec": { "clusterIP": ip } })
    }

    #[test]
    fn versions_grow_with_changes_only() {
        let mut store = Store::new(10);
        let first = store.apply(service("a", "10.96.0.1")).expect("valid");
        assert_eq!(store.apply(service("a", "10.96.0.1")), Ok(first));
        assert_eq!(store.apply(service("a", "10.96.0.2")), Ok(first + 1));
        assert!(store.delete(Resource::Services, "shop", "a").is_some());
        assert_eq!(store.version(), first + 2);
        assert!(store.delete(Resource::Services, "shop", "a").is_none());
        assert_eq!(store.version(), first + 2);
    }

    #[test]
    fn history_is_bounded() {
        let mut store = Store::new(2);
        let first = store.apply(service("a", "10.96.0.1")).expect("valid");
        assert_eq!(store.can_watch(Resource::Services, first), Ok(()));
        for last in 2..=4 {
            store.apply(service("a", &format!("10.96.0.{last}"))).expect("valid");
        }
        assert_eq!(store.can_watch(Resource::Services, first), Err(Expired));
        assert_eq!(store.can_watch(Resource::Services, first + 1), Ok(()));
        assert_eq!(store.events(Resource::Services, first, 9).err(), Some(Expired));
        assert_eq!(store.events(Resource::Services, first + 1, 9).expect("kept").len(), 2);
    }

    #[test]
    fn pages_show_one_moment() {
        let mut store = Store::new(10);
        for name in ["a", "b", "c", "d", "e"] {
            store.apply(service(name, "10.96.0.1")).expect("valid");
        }
        let all = Selector::default();
        let first = store.first_page(Resource::Services, &all, 2);
        let (token, left) = first.next.expect("more");
        assert_eq!(left, 3);
        store.delete(Resource::Services, "shop", "d");
        let second = store.next_page(Resource::Services, &token, 2).expect("known");
        let names: Vec<_> = second.objects.iter().map(|object| object.key.1.to_string()).collect();
        assert_eq!((names.join(","), second.version), ("c,d".to_owned(), first.version));
        store.forget();
        assert_eq!(store.next_page(Resource::Services, &token, 2).err(), Some(Expired));
    }
}
