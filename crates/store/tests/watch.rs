//! Watches over a store, as a server uses them.

use portolan_store::{
    Change, ChangeKind, Definition, Failure, Selector, Store, Watch, WatchOptions, bookmark_line,
};
use serde_json::{Value, json};

static PODS: Definition = Definition {
    group: "",
    version: "v1",
    plural: "pods",
    kind: "Pod",
    namespaced: true,
    selectable: &["spec.nodeName"],
    zero: r#"{"spec":{},"status":{}}"#,
};

static NODES: Definition =
    Definition { plural: "nodes", kind: "Node", namespaced: false, selectable: &[], ..PODS };

fn pod(name: &str, node: &str) -> Value {
    json!({ "metadata": { "namespace": "shop", "name": name }, "spec": { "nodeName": node } })
}

fn apply(store: &mut Store, name: &str, node: &str) -> u64 {
    store.apply(&PODS, pod(name, node)).expect("a pod")
}

fn from(version: u64) -> WatchOptions {
    WatchOptions { from: Some(version), bookmarks: true, ..WatchOptions::default() }
}

fn start(store: &Store, options: &WatchOptions) -> Result<(Watch, Vec<Change>), Failure> {
    Watch::start(store, &PODS, Selector::default(), options)
}

/// What a watch has to send, in short: `+a@101`, `~a@102`, `-a@103`.
fn short(changes: &[Change]) -> Vec<String> {
    let sign = |kind| match kind {
        ChangeKind::Added => '+',
        ChangeKind::Modified => '~',
        ChangeKind::Deleted => '-',
    };
    changes
        .iter()
        .map(|change| format!("{}{}@{}", sign(change.kind), change.object.name(), change.object.version()))
        .collect()
}

#[test]
fn goes_on_from_a_version() {
    let mut store = Store::new(10);
    let first = apply(&mut store, "a", "n1");
    let (mut watch, initial) = start(&store, &from(first)).expect("a version that is known");
    assert!(initial.is_empty());
    apply(&mut store, "a", "n2");
    apply(&mut store, "b", "n1");
    store.delete(&PODS, "shop", "a").expect("it is there");
    let changes = watch.changes(&store, 2).expect("kept");
    assert_eq!(short(&changes), [format!("~a@{}", first + 1), format!("+b@{}", first + 2)]);
    assert!(watch.is_behind(&store));
    let changes = watch.changes(&store, 2).expect("kept");
    assert_eq!(short(&changes), [format!("-a@{}", first + 3)]);
    assert_eq!(changes[0].stored, first + 1, "what is deleted was stored earlier");
    assert!(!watch.is_behind(&store));
    let line = String::from_utf8(changes[0].line().to_vec()).expect("text");
    assert!(
        line.starts_with(r#"{"type":"DELETED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"#),
        "{line}"
    );
}

/// What enters a selection is added, and what leaves it is deleted.
#[test]
fn sees_its_selection() {
    let mut store = Store::new(10);
    let selector = Selector::parse(&PODS, Some("shop"), "", "spec.nodeName=n1").expect("a selector");
    let version = store.version();
    let (mut watch, _) = Watch::start(&store, &PODS, selector, &from(version)).expect("the newest version");
    for (node, seen) in [("n1", "+"), ("n2", "-"), ("n3", ""), ("n1", "+")] {
        let version = apply(&mut store, "a", node);
        let expected = if seen.is_empty() { vec![] } else { vec![format!("{seen}a@{version}")] };
        assert_eq!(short(&watch.changes(&store, 10).expect("kept")), expected, "{node}");
    }
}

#[test]
fn bookmarks_move_with_other_resources() {
    let mut store = Store::new(10);
    let version = apply(&mut store, "a", "n1");
    let (mut watch, _) = start(&store, &from(version)).expect("the newest version");
    store.apply(&NODES, json!({ "metadata": { "name": "n1" } })).expect("a node");
    assert!(watch.changes(&store, 10).expect("kept").is_empty());
    let bookmark = watch.bookmark().expect("it asked for bookmarks");
    let expected = format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"Pod\",\"apiVersion\":\"v1\",\"metadata\":\
         {{\"resourceVersion\":\"{}\"}},\"spec\":{{}},\"status\":{{}}}}}}\n",
        version + 1
    );
    assert_eq!(bookmark_line(&PODS, "v1", bookmark), expected);
}

#[test]
fn streams_a_list() {
    let mut store = Store::new(10);
    apply(&mut store, "a", "n1");
    let last = apply(&mut store, "b", "n1");
    let options = WatchOptions { initial_events: true, ..WatchOptions::default() };
    let (mut watch, initial) = start(&store, &options).expect("a streaming list");
    assert_eq!(short(&initial), [format!("+a@{}", last - 1), format!("+b@{last}")]);
    let end = watch.end_of_initial_events().metadata();
    assert_eq!(end["annotations"]["k8s.io/initial-events-end"], "true");
    assert!(watch.bookmark().is_none(), "it did not ask for bookmarks");
    let next = apply(&mut store, "c", "n1");
    assert_eq!(short(&watch.changes(&store, 10).expect("kept")), [format!("+c@{next}")]);
    let ahead = WatchOptions { from: Some(next + 1), ..options };
    assert_eq!(start(&store, &ahead).err().map(|failure| failure.code), Some(504));
}

#[test]
fn versions_grow_too_old() {
    let mut store = Store::new(2);
    let first = apply(&mut store, "a", "n1");
    let (mut behind, _) = start(&store, &from(first)).expect("the newest version");
    for node in ["n2", "n3", "n4"] {
        apply(&mut store, "a", node);
    }
    assert_eq!(behind.changes(&store, 10).err().map(|failure| failure.code), Some(410));
    assert_eq!(start(&store, &from(first)).err().map(|failure| failure.code), Some(410));
    // Compaction hinders new watches only.
    let current = store.version();
    let (mut open, _) = start(&store, &from(current)).expect("the newest version");
    store.compact();
    assert_eq!(start(&store, &from(current)).err().map(|failure| failure.code), Some(410));
    let version = apply(&mut store, "a", "n5");
    assert_eq!(short(&open.changes(&store, 10).expect("it goes on")), [format!("~a@{version}")]);
}

/// After a restore, a client may know versions that are yet to come: it hears nothing until then.
#[test]
fn waits_for_the_version_it_knows() {
    let mut store = Store::new(10);
    let known = apply(&mut store, "a", "n1") + 2;
    let (mut watch, _) = start(&store, &from(known)).expect("a version that is yet to come");
    apply(&mut store, "a", "n2");
    assert!(watch.changes(&store, 10).expect("kept").is_empty());
    assert!(watch.bookmark().is_none());
    apply(&mut store, "a", "n3");
    let next = apply(&mut store, "a", "n4");
    assert_eq!(short(&watch.changes(&store, 10).expect("kept")), [format!("~a@{next}")]);
    assert!(watch.bookmark().is_some());
}

#[test]
fn refuses_options_that_contradict() {
    let all = [
        (vec![("sendInitialEvents", "true")], true, Some(422)),
        (vec![("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")], true, None),
        (vec![("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")], false, Some(422)),
        (vec![("resourceVersionMatch", "NotOlderThan")], true, Some(422)),
        (vec![("resourceVersion", "x")], true, Some(422)),
        (vec![("resourceVersion", "0"), ("timeoutSeconds", "9")], true, None),
        (vec![("timeoutSeconds", "soon")], true, Some(400)),
    ];
    for (query, streaming_lists, code) in all {
        let parameter = |name: &str| query.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let read = WatchOptions::read(parameter, streaming_lists);
        assert_eq!(read.err().map(|failure| failure.code), code, "{query:?} {streaming_lists}");
    }
}
