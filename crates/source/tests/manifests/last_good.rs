//! What is wrong changes nothing, over a start too.

use std::fs;
use std::time::Duration;

use portolan_source::manifests::{Manifests, Options};
use tempfile::TempDir;

use crate::state::{State, service};

/// A folder of manifests, and the state folder of a proxy.
struct Host {
    folder: TempDir,
    state: TempDir,
}

impl Host {
    fn new() -> Host {
        Host { folder: TempDir::new().unwrap(), state: TempDir::new().unwrap() }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    fn options(&self) -> Options {
        Options { last_good: Some(self.state.path().join("last-good")), ..Options::default() }
    }

    /// A start: the manifests as they are read then, and the Services.
    fn start(&self, options: Options) -> (Manifests, State) {
        let mut manifests = Manifests::open(self.folder.path(), options).unwrap();
        let mut state = State::default();
        state.apply(manifests.load().changes);
        (manifests, state)
    }

    /// A start, and all that is written before the first change is waited for.
    fn run(&self) -> Vec<(String, u16)> {
        let (mut manifests, state) = self.start(self.options());
        assert!(manifests.wait(Some(Duration::from_millis(1))).unwrap().is_none());
        owned(&state)
    }

    fn copies(&self) -> usize {
        fs::read_dir(self.state.path().join("last-good")).map_or(0, Iterator::count)
    }
}

fn owned(state: &State) -> Vec<(String, u16)> {
    state.ports().into_iter().map(|(name, port)| (name.to_owned(), port)).collect()
}

fn named(services: &[(&str, u16)]) -> Vec<(String, u16)> {
    services.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect()
}

#[test]
fn what_is_wrong_changes_nothing_while_it_is_followed_and_at_a_start() {
    let good = format!("{}---\n{}", service("a", 1), service("b", 2));
    let both = &[("default/a", 1), ("default/b", 2)][..];
    for (situation, text, expected) in [
        ("nothing is wrong", good.clone(), both),
        ("the end is no YAML", format!("{good}foo: [\n"), both),
        (
            "the beginning is no YAML",
            format!("kind: [\n---\n{}", service("b", 3)),
            &[("default/a", 1), ("default/b", 3)],
        ),
        ("a value that cannot be", good.replace("port: 2", "port: 2, protocol: tcp"), both),
        (
            "a value that cannot be, and one that changes",
            good.replace("port: 2", "port: 0").replace("port: 1", "port: 5"),
            &[("default/a", 5), ("default/b", 2)],
        ),
        ("a namespace that cannot be", good.replace("name: b", "name: b, namespace: X_Y"), both),
        ("a name that cannot be", good.replace("name: b", "name: B"), both),
        ("no name", good.replace("name: b", ""), both),
        ("a kind that nobody has", good.replacen("kind: Service", "kind: Servcie", 1), both),
        ("no kind", good.replacen("kind: Service", "", 1), both),
        ("another version", good.replacen("apiVersion: v1", "apiVersion: v2", 1), both),
        ("no text at all", "\u{1}".to_owned(), both),
        ("one is taken out", service("a", 1), &[("default/a", 1)]),
    ] {
        let host = Host::new();
        host.write("x.yaml", &good);
        assert_eq!(host.run(), named(both), "{situation}: before");

        let (mut manifests, mut state) = host.start(host.options());
        host.write("x.yaml", &text);
        while let Some(update) = manifests.wait(Some(Duration::from_millis(200))).unwrap() {
            state.apply(update.changes);
        }
        assert_eq!(owned(&state), named(expected), "{situation}: followed");
        let problems = manifests.problems().len();
        drop(manifests);

        for _ in 0..2 {
            assert_eq!(host.run(), named(expected), "{situation}: at a start");
        }
        let (manifests, _) = host.start(host.options());
        assert_eq!(manifests.problems().len(), problems, "{situation}: it is reported at a start, too");

        host.write("x.yaml", &service("c", 7));
        assert_eq!(host.run(), named(&[("default/c", 7)]), "{situation}: mended");
    }
}

#[test]
fn what_was_changed_while_nobody_looked_stands_as_it_last_was() {
    let host = Host::new();
    host.write("x.yaml", &service("a", 1));
    host.run();
    host.write("x.yaml", &format!("{}---\n{}foo: [\n", service("b", 2), service("a", 9)));
    // One that is new and can be read is in force; the other one is as it was.
    assert_eq!(host.run(), named(&[("default/a", 1), ("default/b", 2)]));
    // A typed list leaves out what its items are.
    let list = r#"{"kind": "ServiceList", "apiVersion": "v1", "items": [{"metadata": {"name": "l"}, "spec": {"ports": [{"port": 4}]}}]}"#;
    host.write("l.json", list);
    host.run();
    host.write("l.json", "{");
    assert_eq!(host.run(), named(&[("default/a", 1), ("default/b", 2), ("default/l", 4)]));
}

#[test]
fn a_file_that_cannot_be_read_at_a_start_is_as_it_was() {
    let host = Host::new();
    host.write("x.yaml", &service("a", 1));
    host.run();
    let path = host.folder.path().join("x.yaml");
    // Not UTF-8.
    fs::write(&path, b"\xff").unwrap();
    assert_eq!(host.run(), named(&[("default/a", 1)]));
    // Somebody is writing it.
    let mut writer = fs::File::create(&path).unwrap();
    let (mut manifests, state) = host.start(host.options());
    assert_eq!(owned(&state), named(&[("default/a", 1)]));
    assert!(manifests.problems().is_empty());
    std::io::Write::write_all(&mut writer, service("a", 2).as_bytes()).unwrap();
    drop(writer);
    let update = manifests.wait(Some(Duration::from_secs(10))).unwrap().unwrap();
    assert!(update.undecodable.is_empty(), "{update:?}");
    let mut state = state;
    state.apply(update.changes);
    assert_eq!(owned(&state), named(&[("default/a", 2)]));
}

#[test]
fn a_file_that_goes_is_forgotten() {
    let host = Host::new();
    let broken = format!("{}foo: [\n", service("a", 1));
    for (situation, while_running) in [("while it runs", true), ("while it does not", false)] {
        host.write("x.yaml", &service("a", 1));
        host.write("y.yaml", &service("b", 2));
        host.run();
        assert_eq!(host.copies(), 2, "{situation}");
        let (mut manifests, _) = host.start(host.options());
        let file = host.folder.path().join("x.yaml");
        if while_running {
            fs::remove_file(file).unwrap();
            while manifests.wait(Some(Duration::from_millis(200))).unwrap().is_some() {}
        } else {
            drop(manifests);
            fs::remove_file(file).unwrap();
        }
        assert_eq!(host.run(), named(&[("default/b", 2)]), "{situation}");
        assert_eq!(host.copies(), 1, "{situation}");
        host.write("x.yaml", &broken);
        assert_eq!(host.run(), named(&[("default/b", 2)]), "{situation}: another file of that name");
        fs::remove_file(host.folder.path().join("x.yaml")).unwrap();
    }
}

#[test]
fn copies_of_another_folder_are_nothing_to_us() {
    let host = Host::new();
    host.write("x.yaml", &service("a", 1));
    host.run();
    let other = Host { folder: TempDir::new().unwrap(), state: host.state };
    other.write("x.yaml", "foo: [\n");
    assert_eq!(other.run(), []);
}

#[test]
fn who_only_looks_reads_the_copies_and_writes_none() {
    let host = Host::new();
    host.write("x.yaml", &service("a", 1));
    let look = || host.start(Options { read_only: true, ..host.options() });
    assert_eq!(owned(&look().1), named(&[("default/a", 1)]));
    assert_eq!(host.copies(), 0);
    host.run();
    host.write("x.yaml", "foo: [\n");
    let (mut manifests, state) = look();
    assert_eq!(owned(&state), named(&[("default/a", 1)]));
    manifests.wait(Some(Duration::from_millis(1))).unwrap();
    fs::remove_file(host.folder.path().join("x.yaml")).unwrap();
    assert_eq!(owned(&look().1), []);
    assert_eq!(host.copies(), 1);
}

#[test]
fn a_place_that_cannot_be_used_is_reported() {
    let host = Host::new();
    host.write("x.yaml", &service("a", 1));
    fs::write(host.state.path().join("last-good"), "").unwrap();
    let (mut manifests, state) = host.start(host.options());
    assert_eq!(owned(&state), named(&[("default/a", 1)]));
    let update = manifests.wait(Some(Duration::from_secs(10))).unwrap().unwrap();
    let reported: Vec<String> = update.new_problems.iter().map(ToString::to_string).collect();
    assert_eq!(reported.len(), 1);
    assert!(
        reported[0].contains("/last-good: cannot keep the last good objects of manifests: "),
        "{reported:?}"
    );
    fs::remove_file(host.state.path().join("last-good")).unwrap();
    host.write("x.yaml", &service("a", 2));
    let mut solved = Vec::new();
    while let Some(update) = manifests.wait(Some(Duration::from_millis(200))).unwrap() {
        solved.extend(update.solved);
    }
    assert_eq!(solved.len(), 1, "{solved:?}");
}

#[test]
fn what_is_skipped_is_counted_by_its_kind() {
    let host = Host::new();
    host.write("a.yaml", &service("a", 0));
    host.write("b.yaml", "kind: [\n");
    host.write("c.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nstatus: {podIP: x}\n");
    host.write("d.yaml", &service("d", 1));
    let mut manifests = Manifests::open(host.folder.path(), host.options()).unwrap();
    assert_eq!(manifests.load().undecodable, ["Service", "unknown", "Pod"]);
    assert_eq!(manifests.load().undecodable.len(), 3, "each time that they are read");
}
