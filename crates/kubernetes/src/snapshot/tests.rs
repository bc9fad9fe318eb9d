use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;

type Objects = BTreeMap<(String, String, String), Vec<u8>>;

fn collect(into: &mut Objects) -> impl FnMut(&Entry<'_>) {
    |entry| {
        let key = (entry.kind.to_owned(), entry.namespace.to_owned(), entry.name.to_owned());
        into.insert(key, entry.json.to_vec());
    }
}

fn objects(path: &Path) -> Objects {
    let mut objects = Objects::new();
    let loaded = read(path, collect(&mut objects)).expect("readable");
    assert_eq!(loaded.map_or(0, |loaded| loaded.objects), objects.len());
    assert_eq!(loaded.and_then(|loaded| loaded.damage), None);
    objects
}

fn expected(objects: &[(&str, &str, &str, &str)]) -> Objects {
    let key =
        |kind: &str, namespace: &str, name: &str| (kind.to_owned(), namespace.to_owned(), name.to_owned());
    objects
        .iter()
        .map(|(kind, namespace, name, json)| (key(kind, namespace, name), json.as_bytes().to_vec()))
        .collect()
}

#[test]
fn keeps_what_was_put_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("new/state");
    let journal = Journal::open(&path);
    assert_eq!(journal.load(|_| true), None);
    journal.put("Service", "shop", "web", b"{\"a\":1}");
    journal.put("Service", "shop", "db", b"{}");
    journal.sync();
    assert!(!path.exists(), "an incomplete list is not in force");
    journal.finish_base();
    journal.put("Service", "shop", "web", b"{\"a\":2}");
    journal.put("Node", "", "n1", b"{\"n\":1}");
    journal.delete("Service", "shop", "db");
    drop(journal);
    assert_eq!(
        objects(&path),
        expected(&[("Service", "shop", "web", "{\"a\":2}"), ("Node", "", "n1", "{\"n\":1}")])
    );
    let mode = fs::metadata(&path).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn carries_over_what_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let journal = Journal::open(&path);
    for name in ["a", "b", "c"] {
        journal.put("Service", "shop", name, name.as_bytes());
    }
    journal.finish_base();
    drop(journal);

    let journal = Journal::open(&path);
    let loaded = journal.load(|entry| entry.name != "b").expect("there is one");
    assert_eq!((loaded.objects, loaded.damage), (3, None));
    assert!(loaded.taken.elapsed().expect("in the past") < Duration::from_mins(1));
    journal.delete("Service", "shop", "c");
    journal.sync();
    let before = expected(&[
        ("Service", "shop", "a", "a"),
        ("Service", "shop", "b", "b"),
        ("Service", "shop", "c", "c"),
    ]);
    assert_eq!(objects(&path), before, "in force until the lists are complete");
    journal.finish_base();
    journal.sync();
    assert_eq!(objects(&path), expected(&[("Service", "shop", "a", "a")]));
}

#[test]
fn loses_its_history_when_that_is_most_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let journal = Journal::open(&path);
    journal.finish_base();
    let large = vec![b'x'; 1 << 20];
    for turn in 0..12_u8 {
        journal.put("Service", "shop", "web", &large);
        journal.put("Service", "shop", "turn", &[turn]);
        journal.sync();
    }
    let size = fs::metadata(&path).expect("there").len();
    assert!(size < 8 << 20, "{size} bytes");
    journal.put("Service", "shop", "db", b"db");
    drop(journal);
    let after = objects(&path);
    assert_eq!(after.len(), 3);
    assert_eq!(after[&("Service".to_owned(), "shop".to_owned(), "turn".to_owned())], [11]);
}

#[test]
fn replaces_what_it_cannot_read() {
    let other_version = [&record::MAGIC[..], &7_u32.to_le_bytes()].concat();
    let table: [(&str, &[u8], &str); 4] = [
        ("something else", b"apiVersion: v1\nkind: List\n", "this is not a snapshot of portolan"),
        ("too short", b"porto", "this is not a snapshot of portolan"),
        ("empty", b"", "this is not a snapshot of portolan"),
        ("another version", &other_version, "its format is 7, this program reads 1 to 2"),
    ];
    for (name, content, message) in table {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("state");
        fs::write(&path, content).expect("written");
        let error = read(&path, |_| ()).expect_err(name);
        assert_eq!(error.to_string(), message, "{name}");
        let journal = Journal::open(&path);
        assert_eq!(journal.load(|_| true), None, "{name}");
        journal.put("Node", "", "n1", b"{}");
        journal.finish_base();
        drop(journal);
        assert_eq!(objects(&path), expected(&[("Node", "", "n1", "{}")]), "{name}");
    }
}

#[test]
fn goes_on_without_a_disk() {
    // Nobody, not even root, can make a folder here.
    let journal = Journal::open(Path::new("/proc/self/fdinfo/none/state"));
    journal.put("Node", "", "n1", b"{}");
    journal.finish_base();
    journal.sync();
    assert_eq!(journal.load(|_| true), None);
}

#[test]
fn goes_on_when_the_disk_is_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    // What is written to this device never fits.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("state.new")).expect("a link");
    let journal = Journal::open(&path);
    journal.put("Node", "", "n1", b"{}");
    journal.finish_base();
    journal.sync();
    drop(journal);
    assert!(!path.exists());
}

#[test]
fn leaves_the_file_to_another_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state");
    let first = Journal::open(&path);
    first.put("Node", "", "n1", b"first");
    let second = Journal::open(&path);
    second.put("Node", "", "n1", b"second");
    second.finish_base();
    drop(second);
    assert!(!path.exists());
    first.finish_base();
    drop(first);
    assert_eq!(objects(&path), expected(&[("Node", "", "n1", "first")]));
}

#[test]
fn refuses_what_does_not_fit() {
    let mut out = Vec::new();
    let kind = "k".repeat(256);
    let entry = Entry { kind: &kind, namespace: "", name: "", json: b"" };
    assert!(!record::write(&mut out, Operation::Put, UNIX_EPOCH, &entry));
    assert!(out.is_empty());
}

/// A put with what, or a delete, of one of a few names.
fn step() -> impl Strategy<Value = (usize, Option<Vec<u8>>)> {
    (0_usize..6, prop::option::of(prop::collection::vec(any::<u8>(), 0..40)))
}

proptest! {
    /// Whatever happens to the end or to any bit of a journal: what is read is the state after some
    /// of its records, in order.
    #[test]
    fn damage_leaves_an_earlier_state(
        steps in prop::collection::vec(step(), 0..30),
        cut in any::<prop::sample::Index>(),
        flip in prop::option::of((any::<prop::sample::Index>(), 0_u32..8)),
    ) {
        let mut bytes = record::header().to_vec();
        let mut states = vec![Objects::new()];
        for (number, json) in steps {
            let name = format!("n{number}");
            let entry = Entry { kind: "Service", namespace: "shop", name: &name, json: json.as_deref().unwrap_or_default() };
            let operation = if json.is_some() { Operation::Put } else { Operation::Delete };
            prop_assert!(record::write(&mut bytes, operation, UNIX_EPOCH, &entry));
            let mut state = states.last().expect("one at least").clone();
            let key = ("Service".to_owned(), "shop".to_owned(), name.clone());
            match json {
                Some(json) => drop(state.insert(key, json)),
                None => drop(state.remove(&key)),
            }
            states.push(state);
        }
        let whole = bytes.len();
        bytes.truncate(record::HEADER + cut.index(whole - record::HEADER + 1));
        let untouched = bytes.len() == whole && flip.is_none();
        if let Some((index, bit)) = flip {
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;
        }
        let mut state = Objects::new();
        match read::read_from(Cursor::new(&bytes), collect(&mut state)) {
            Ok(_) => prop_assert!(states.contains(&state), "{state:?}"),
            // A flip in the header.
            Err(error) => prop_assert!(!matches!(error, LoadError::Read(_)), "{error}"),
        }
        if untouched {
            prop_assert_eq!(Some(&state), states.last());
        }
    }

    /// No bytes make it panic.
    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let with_header = [&record::header()[..], &bytes].concat();
        let _result = read::read_from(Cursor::new(&with_header), |_| ());
        let _result = read::read_from(Cursor::new(&bytes), |_| ());
    }
}
