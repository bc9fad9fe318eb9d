//! Events: what people are to know of an object.
//!
//! As the recorder of client-go: an event that is like one before raises the count of that one.
//! From the tenth message of the same reason on, they are combined. An object that is the subject
//! of very many gets no more for a while.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use portolan_apiserver::{Objects, Resource};
use portolan_controllers::manager::Timestamp;
use serde_json::{Value, json};

use crate::clock;

/// So many messages of one reason stay apart.
const APART: usize = 10;
/// Messages further apart than this, in seconds, are not combined.
const WINDOW: i64 = 600;
/// So many events of an object are recorded at once...
const BURST: i64 = 25;
/// ... and then one in so many seconds.
const REFILL: i64 = 300;
/// No more objects, and no more events of one, are remembered than this.
const MOST_OBJECTS: usize = 4_096;
const MOST_EVENTS: usize = 64;

/// Writes events. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    objects: Objects,
    subjects: Arc<Mutex<HashMap<Source, Subject>>>,
}

/// Who speaks, and of which object: its uid, kind, namespace and name.
type Source = [String; 5];

/// An object, as one component speaks of it.
#[derive(Debug, Default)]
struct Subject {
    groups: HashMap<(bool, String), Group>,
    events: HashMap<(bool, String, String), Written>,
    /// How many of `BURST` are used, and since when.
    used: i64,
    since: i64,
    last: i64,
}

/// Messages of one reason.
#[derive(Debug, Default)]
struct Group {
    messages: BTreeSet<String>,
    last: i64,
}

/// An event that is there.
#[derive(Debug, Clone)]
struct Written {
    name: String,
    message: String,
    count: u64,
    first: i64,
    last: i64,
}

impl Recorder {
    pub(crate) fn new(objects: Objects) -> Recorder {
        Recorder { objects, subjects: Arc::default() }
    }

    /// Records an event of an object, which has at least its kind, namespace, name and uid.
    ///
    /// What the server refuses is left out, such as in a namespace that is going: an event is no
    /// reason for anybody to stop.
    pub(crate) fn record(
        &self,
        regarding: &Value,
        warning: bool,
        reason: &str,
        message: &str,
        component: &str,
    ) {
        let own = |field: &str| regarding["metadata"][field].as_str().unwrap_or_default().to_owned();
        let kind = regarding["kind"].as_str().unwrap_or_default().to_owned();
        let source = [component.to_owned(), own("uid"), kind, own("namespace"), own("name")];
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = clock::now().unix();
        let name = format!("{}.{:x}", own("name"), now.as_nanos());
        let mut subjects = self.subjects.lock().unwrap_or_else(PoisonError::into_inner);
        if subjects.len() >= MOST_OBJECTS && !subjects.contains_key(&source) {
            let oldest = subjects.iter().min_by_key(|(_, subject)| subject.last);
            let oldest = oldest.map(|(source, _)| source.clone());
            oldest.and_then(|source| subjects.remove(&source));
        }
        let subject = subjects.entry(source).or_default();
        let Some(written) = subject.said(warning, reason, message, name, seconds) else { return };
        // Written while nobody else can: the count goes up.
        if written.count > 1 {
            let patch = json!({ "note": written.message, "deprecatedCount": written.count,
                "deprecatedLastTimestamp": Timestamp::from_unix(written.last) });
            if self.objects.patch(Resource::Events, &namespace(regarding), &written.name, patch).is_ok() {
                return;
            }
        }
        let _refused = self.objects.create(event(regarding, warning, reason, component, &written));
    }
}

/// Events are where their objects are; those of what has no namespace are in `default`.
fn namespace(regarding: &Value) -> String {
    let own = regarding["metadata"]["namespace"].as_str().filter(|own| !own.is_empty());
    own.unwrap_or("default").to_owned()
}

fn event(regarding: &Value, warning: bool, reason: &str, component: &str, written: &Written) -> Value {
    let metadata = &regarding["metadata"];
    let mut source = json!({ "component": component });
    if component == "kubelet" {
        source["host"] = regarding["spec"]["nodeName"].clone();
    }
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "name": written.name, "namespace": namespace(regarding) },
        "regarding": {
            "apiVersion": regarding["apiVersion"],
            "kind": regarding["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "reason": reason,
        "note": written.message,
        "type": if warning { "Warning" } else { "Normal" },
        "reportingController": component,
        "reportingInstance": source["host"],
        "deprecatedSource": source,
        "deprecatedFirstTimestamp": Timestamp::from_unix(written.first),
        "deprecatedLastTimestamp": Timestamp::from_unix(written.last),
        "deprecatedCount": written.count,
    })
}

impl Subject {
    /// Something is said of it. Gives the event, if it is to be written; `name` is for a new one.
    fn said(
        &mut self,
        warning: bool,
        reason: &str,
        message: &str,
        name: String,
        now: i64,
    ) -> Option<Written> {
        let combined = self.combined(warning, reason, message, now);
        // Those that are combined are one event, whatever the last message is.
        let text = if combined.is_some() { "" } else { message };
        let key = (warning, reason.to_owned(), text.to_owned());
        if self.events.len() >= MOST_EVENTS && !self.events.contains_key(&key) {
            let oldest = self.events.iter().min_by_key(|(_, written)| written.last);
            let oldest = oldest.map(|(key, _)| key.clone());
            oldest.and_then(|key| self.events.remove(&key));
        }
        let new = Written { name, message: String::new(), count: 0, first: now, last: now };
        let written = self.events.entry(key).or_insert(new);
        written.message = combined.unwrap_or_else(|| message.to_owned());
        written.count += 1;
        written.last = now;
        let written = written.clone();
        self.last = now;
        self.may_write(now).then_some(written)
    }

    /// What stands for a message and others of its reason, if there are many.
    fn combined(&mut self, warning: bool, reason: &str, message: &str, now: i64) -> Option<String> {
        let group = self.groups.entry((warning, reason.to_owned())).or_default();
        if now - group.last > WINDOW {
            group.messages.clear();
        }
        group.last = now;
        group.messages.insert(message.to_owned());
        if group.messages.len() < APART {
            return None;
        }
        group.messages.pop_first();
        Some(format!("(combined from similar events): {message}"))
    }

    /// Whether there is room for another one.
    fn may_write(&mut self, now: i64) -> bool {
        if self.used == 0 {
            self.since = now;
        }
        let refilled = (now - self.since).max(0) / REFILL;
        self.used = (self.used - refilled).max(0);
        self.since += refilled * REFILL;
        let is_free = self.used < BURST;
        self.used += i64::from(is_free);
        is_free
    }
}

#[cfg(test)]
mod tests {
    use portolan_apiserver::{DeleteOptions, Options, Server};

    use super::*;

    fn said(subject: &mut Subject, message: &str, now: i64) -> Option<(String, u64)> {
        let written = subject.said(false, "Pulled", message, "web.1".to_owned(), now);
        written.map(|written| (written.message, written.count))
    }

    #[test]
    fn the_server_has_one_event_for_the_same() {
        let server = Server::start(Options::cluster()).expect("a server");
        let objects = server.objects();
        let recorder = Recorder::new(objects.clone());
        let say = |namespace: &str, message: &str| {
            let pod = json!({ "apiVersion": "v1", "kind": "Pod", "spec": { "nodeName": "n1" },
                "metadata": { "name": "web", "namespace": namespace, "uid": "u", "resourceVersion": "1" } });
            recorder.record(&pod, false, "Pulled", message, "kubelet");
        };
        for _ in 0..3 {
            say("default", "one");
        }
        say("", "two");
        say("nowhere", "three");
        let look = |objects: &Objects| {
            let events = objects.list(Resource::Events).into_iter();
            let mut events: Vec<(Value, Value)> =
                events.map(|event| (event["note"].clone(), event["deprecatedCount"].clone())).collect();
            events.sort_by_key(|(note, _)| note.to_string());
            events
        };
        assert_eq!(look(&objects), [(json!("one"), json!(3)), (json!("two"), json!(1))]);
        let event = &objects.list(Resource::Events)[0];
        assert_eq!((&event["regarding"]["name"], &event["type"]), (&json!("web"), &json!("Normal")));
        assert_eq!(event["deprecatedSource"], json!({ "component": "kubelet", "host": "n1" }));
        // One that has been deleted comes back, with its count.
        for event in objects.list(Resource::Events) {
            let name = event["metadata"]["name"].as_str().expect("a name");
            objects.delete(Resource::Events, "default", name, &DeleteOptions::default()).expect("deleted");
        }
        say("default", "one");
        assert_eq!(look(&objects), [(json!("one"), json!(4))]);
    }

    #[test]
    fn the_same_again_raises_the_count() {
        let mut subject = Subject::default();
        let mut count = |message| said(&mut subject, message, 100).map(|(_, count)| count);
        assert_eq!([count("a"), count("a"), count("b"), count("a")], [Some(1), Some(2), Some(1), Some(3)]);
    }

    #[test]
    fn many_of_a_reason_are_combined() {
        let mut subject = Subject::default();
        let mut say = |number: i64, now| said(&mut subject, &format!("pod {number}"), now).expect("written");
        let written: Vec<_> = (0..12).map(|number| say(number, 100)).collect();
        assert_eq!(written[8], ("pod 8".to_owned(), 1));
        assert_eq!(written[9], ("(combined from similar events): pod 9".to_owned(), 1));
        assert_eq!(written[11], ("(combined from similar events): pod 11".to_owned(), 3));
        assert_eq!(say(12, 100 + WINDOW + 1), ("pod 12".to_owned(), 1));
    }

    #[test]
    fn too_many_of_an_object_are_left_out() {
        let mut subject = Subject::default();
        let mut count = |now| said(&mut subject, "a", now).map(|(_, count)| count);
        let written: Vec<_> = (0..30).map(|_| count(100)).collect();
        assert_eq!((written[24], written[25], written[29]), (Some(25), None, None));
        assert_eq!((count(100 + REFILL), count(100 + REFILL)), (Some(31), None));
    }

    #[test]
    fn no_more_is_remembered_than_can_be() {
        let mut subject = Subject::default();
        for number in 0..1_000 {
            // Far enough apart that none are combined.
            said(&mut subject, &number.to_string(), number * (WINDOW + 1));
        }
        assert_eq!(subject.events.len(), MOST_EVENTS);
    }
}
