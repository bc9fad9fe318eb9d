//! The objects, what happened to them lately, and the lists that are being read page by page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::Value;

use crate::definition::Definition;
use crate::object::{Invalid, Key, Object};
use crate::selector::Selector;

/// How many lists can be read page by page at a time; the oldest expires.
const PAGED_LISTS: usize = 64;

/// The objects of all resources.
#[derive(Debug)]
pub struct Store {
    /// The newest resource version.
    version: u64,
    collections: BTreeMap<Resource, Collection>,
    /// Of a resource that nothing happened to yet, watches can start here.
    compacted: u64,
    /// How many events are kept of each resource.
    history: usize,
    paged: VecDeque<Paged>,
    next_paged: u64,
}

/// Group and plural name.
type Resource = (&'static str, &'static str);

fn resource(definition: &Definition) -> Resource {
    (definition.group, definition.plural)
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
pub struct Page {
    /// The version at which the list is consistent.
    pub version: u64,
    /// In the order of namespace and name.
    pub objects: Vec<Arc<Object>>,
    /// The token that asks for the next page, and how many objects are left.
    pub next: Option<(String, usize)>,
}

/// The version asked for is no longer known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Expired;

impl Store {
    /// An empty store that keeps `history` events of each resource.
    pub fn new(history: usize) -> Self {
        // A real server has written its own objects before anybody comes, and forgotten how it did.
        let version = 100;
        Self {
            version,
            collections: BTreeMap::new(),
            compacted: version,
            history,
            paged: VecDeque::new(),
            next_paged: 1,
        }
    }

    /// The newest resource version.
    pub fn version(&self) -> u64 {
        self.version
    }

    fn collection(&self, definition: &Definition) -> Option<&Collection> {
        self.collections.get(&resource(definition))
    }

    fn collection_mut(&mut self, definition: &'static Definition) -> &mut Collection {
        let compacted = self.compacted;
        let empty = || Collection { compacted, ..Collection::default() };
        self.collections.entry(resource(definition)).or_insert_with(empty)
    }

    /// How many objects of a resource there are.
    pub fn count(&self, definition: &Definition) -> usize {
        self.collection(definition).map_or(0, |collection| collection.objects.len())
    }

    /// An object; `namespace` is empty for what has none.
    pub fn get(&self, definition: &Definition, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.collection(definition)?.objects.get(&(namespace.into(), name.into()))
    }

    /// All objects of a resource, in the order of namespace and name.
    pub fn all(&self, definition: &Definition) -> impl Iterator<Item = &Arc<Object>> {
        self.collection(definition).into_iter().flat_map(|collection| collection.objects.values())
    }

    /// The objects that are selected.
    pub fn select(&self, definition: &Definition, selector: &Selector) -> Vec<Arc<Object>> {
        self.all(definition).filter(|object| selector.matches(object)).cloned().collect()
    }

    /// Creates or replaces an object, and gives its resource version. What is the same already
    /// keeps its version, as in a real server. Kind and apiVersion are those of the definition,
    /// whatever the object says.
    pub fn apply(&mut self, definition: &'static Definition, object: Value) -> Result<u64, Invalid> {
        let object = Object::new(definition, object, self.version + 1)?;
        if let Some(previous) = self.collection_mut(definition).objects.get(object.key())
            && previous.json() == object.at_version(previous.version()).json()
        {
            return Ok(previous.version());
        }
        Ok(self.put(definition, object))
    }

    /// Stores an object again, under a new version, though nothing in it has changed: a migration
    /// of storage does so. Gives the version if the object is there.
    pub fn rewrite(&mut self, definition: &'static Definition, namespace: &str, name: &str) -> Option<u64> {
        let object = self.get(definition, namespace, name)?.at_version(self.version + 1);
        Some(self.put(definition, object))
    }

    /// Stores an object that carries the next version.
    fn put(&mut self, definition: &'static Definition, object: Object) -> u64 {
        self.version = object.version();
        let object = Arc::new(object);
        let objects = &mut self.collection_mut(definition).objects;
        let previous = objects.insert(object.key().clone(), Arc::clone(&object));
        self.record(definition, Event { version: self.version, object: Some(object), previous });
        self.version
    }

    /// Deletes an object, and gives it as it was.
    pub fn delete(
        &mut self,
        definition: &'static Definition,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        let objects = &mut self.collection_mut(definition).objects;
        let previous = objects.remove(&(namespace.into(), name.into()))?;
        self.version += 1;
        let event = Event { version: self.version, object: None, previous: Some(Arc::clone(&previous)) };
        self.record(definition, event);
        Some(previous)
    }

    fn record(&mut self, definition: &'static Definition, event: Event) {
        let history = self.history;
        let collection = self.collection_mut(definition);
        collection.events.push_back(event);
        while collection.events.len() > history {
            let dropped = collection.events.pop_front().expect("longer than nothing");
            collection.dropped = dropped.version;
            collection.compacted = collection.compacted.max(dropped.version);
        }
    }

    /// Whether a watch can start after a version.
    pub(crate) fn can_watch(&self, definition: &Definition, from: u64) -> Result<(), Expired> {
        let compacted = self.collection(definition).map_or(self.compacted, |collection| collection.compacted);
        if from < compacted { Err(Expired) } else { Ok(()) }
    }

    /// Up to `limit` events after a version, for a watch that runs.
    pub(crate) fn events(
        &self,
        definition: &Definition,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Event>, Expired> {
        let Some(collection) = self.collection(definition) else { return Ok(Vec::new()) };
        if after < collection.dropped {
            return Err(Expired);
        }
        let start = collection.events.partition_point(|event| event.version <= after);
        Ok(collection.events.iter().skip(start).take(limit).cloned().collect())
    }

    /// Makes every version that was ever given out too old to start from. Watches that run go on.
    pub fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
        for collection in self.collections.values_mut() {
            collection.compacted = self.version;
        }
        self.paged.clear();
    }

    /// Comes back from an older backup: the same objects, under versions that count from `version`.
    pub fn restore(&mut self, version: u64) {
        self.version = version;
        for collection in self.collections.values_mut() {
            for object in collection.objects.values_mut() {
                self.version += 1;
                *object = Arc::new(object.at_version(self.version));
            }
        }
        self.compacted = self.version;
        for collection in self.collections.values_mut() {
            collection.events.clear();
            collection.compacted = self.version;
            collection.dropped = self.version;
        }
        self.paged.clear();
    }

    /// The first page of what is selected, or all of it without a limit.
    pub(crate) fn first_page(&mut self, definition: &Definition, selector: &Selector, limit: usize) -> Page {
        let objects = self.select(definition, selector);
        if limit == 0 || objects.len() <= limit {
            return Page { version: self.version, objects, next: None };
        }
        let paged = Paged {
            id: self.next_paged,
            version: self.version,
            resource: resource(definition),
            objects: objects.into(),
        };
        self.next_paged += 1;
        let page = paged.page(0, limit).expect("it begins at 0");
        self.paged.push_back(paged);
        if self.paged.len() > PAGED_LISTS {
            self.paged.pop_front();
        }
        page
    }

    /// The page that a token of the page before asks for.
    pub(crate) fn next_page(
        &self,
        definition: &Definition,
        token: &str,
        limit: usize,
    ) -> Result<Page, Expired> {
        let (id, start) = token.split_once('-').ok_or(Expired)?;
        let (Ok(id), Ok(start)) = (id.parse::<u64>(), start.parse()) else { return Err(Expired) };
        let resource = resource(definition);
        let paged = self.paged.iter().find(|paged| paged.id == id && paged.resource == resource);
        paged.ok_or(Expired)?.page(start, limit)
    }
}

impl Paged {
    fn page(&self, start: usize, limit: usize) -> Result<Page, Expired> {
        let rest = self.objects.get(start..).ok_or(Expired)?;
        let count = if limit == 0 { rest.len() } else { limit.min(rest.len()) };
        let left = rest.len() - count;
        Ok(Page {
            version: self.version,
            objects: rest[..count].to_vec(),
            next: (left > 0).then(|| (format!("{}-{}", self.id, start + count), left)),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;

    pub(crate) static SERVICES: Definition = Definition {
        group: "",
        version: "v1",
        plural: "services",
        kind: "Service",
        namespaced: true,
        selectable: &["spec.clusterIP", "spec.type"],
        zero: r#"{"spec":{},"status":{"loadBalancer":{}}}"#,
    };

    fn service(name: &str, ip: &str) -> Value {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "shop", "name": name },
            "spec": { "clusterIP": ip } })
    }

    #[test]
    fn versions_grow_with_changes_only() {
        let mut store = Store::new(10);
        let first = store.apply(&SERVICES, service("a", "10.96.0.1")).expect("valid");
        assert_eq!(store.apply(&SERVICES, service("a", "10.96.0.1")), Ok(first));
        assert_eq!(store.apply(&SERVICES, service("a", "10.96.0.2")), Ok(first + 1));
        assert!(store.delete(&SERVICES, "shop", "a").is_some());
        assert_eq!(store.version(), first + 2);
        assert!(store.delete(&SERVICES, "shop", "a").is_none());
        assert_eq!(store.version(), first + 2);
    }

    #[test]
    fn history_is_bounded() {
        let mut store = Store::new(2);
        let first = store.apply(&SERVICES, service("a", "10.96.0.1")).expect("valid");
        assert_eq!(store.can_watch(&SERVICES, first), Ok(()));
        for last in 2..=4 {
            store.apply(&SERVICES, service("a", &format!("10.96.0.{last}"))).expect("valid");
        }
        assert_eq!(store.can_watch(&SERVICES, first), Err(Expired));
        assert_eq!(store.can_watch(&SERVICES, first + 1), Ok(()));
        assert_eq!(store.events(&SERVICES, first, 9).err(), Some(Expired));
        assert_eq!(store.events(&SERVICES, first + 1, 9).expect("kept").len(), 2);
    }

    #[test]
    fn pages_show_one_moment() {
        let mut store = Store::new(10);
        for name in ["a", "b", "c", "d", "e"] {
            store.apply(&SERVICES, service(name, "10.96.0.1")).expect("valid");
        }
        let all = Selector::default();
        let first = store.first_page(&SERVICES, &all, 2);
        let (token, left) = first.next.expect("more");
        assert_eq!(left, 3);
        store.delete(&SERVICES, "shop", "d");
        let second = store.next_page(&SERVICES, &token, 2).expect("known");
        let names: Vec<_> = second.objects.iter().map(|object| object.name().to_owned()).collect();
        assert_eq!((names.join(","), second.version), ("c,d".to_owned(), first.version));
        store.compact();
        assert_eq!(store.next_page(&SERVICES, &token, 2).err(), Some(Expired));
    }
}
