//! Changes to real files are seen, completely written ones only.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use crate::state::{State, service};
use portolan_source::manifests::{Manifests, Options};

struct Followed {
    folder: tempfile::TempDir,
    manifests: Manifests,
    state: State,
}

impl Followed {
    fn new(prepare: impl FnOnce(&Path)) -> Followed {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("manifests");
        fs::create_dir(&root).unwrap();
        prepare(&root);
        let mut manifests = Manifests::open(&root, Options::default()).unwrap();
        let mut state = State::default();
        state.apply(manifests.load().changes);
        Followed { folder, manifests, state }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("manifests").join(name)
    }

    /// Waits until the Services are those of `expected`, each with its port.
    fn becomes(&mut self, expected: &[(&str, u16)]) {
        while self.state.ports() != expected {
            let update = self.manifests.wait(Some(Duration::from_secs(10))).unwrap();
            let update = update.unwrap_or_else(|| {
                panic!(
                    "{:?} did not become {expected:?}: {:?}",
                    self.state.ports(),
                    self.manifests.problems()
                )
            });
            self.state.apply(update.changes);
        }
    }

    /// Takes all events so far; nothing may have changed.
    fn stays(&mut self) {
        let update = self.manifests.wait(Some(Duration::ZERO)).unwrap();
        assert!(update.as_ref().is_none_or(|update| update.changes.is_empty()), "{update:?}");
    }
}

#[test]
fn files_that_come_change_and_go() {
    let mut followed = Followed::new(|root| fs::write(root.join("a.yaml"), service("a", 1)).unwrap());
    followed.becomes(&[("default/a", 1)]);
    fs::write(followed.path("a.yaml"), service("a", 2)).unwrap();
    followed.becomes(&[("default/a", 2)]);
    fs::write(
        followed.path("b.json"),
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},"spec":{"ports":[{"port":3}]}}"#,
    )
    .unwrap();
    followed.becomes(&[("default/a", 2), ("default/b", 3)]);
    fs::write(followed.path("a.yaml"), service("c", 4)).unwrap();
    followed.becomes(&[("default/b", 3), ("default/c", 4)]);
    fs::remove_file(followed.path("b.json")).unwrap();
    followed.becomes(&[("default/c", 4)]);
    fs::write(followed.path(".hidden.yaml"), service("h", 5)).unwrap();
    fs::write(followed.path("notes.txt"), service("t", 5)).unwrap();
    followed.stays();
}

#[test]
fn atomic_renames() {
    let mut followed = Followed::new(|root| fs::write(root.join("a.yaml"), service("a", 1)).unwrap());
    fs::write(followed.path(".a.yaml.tmp"), service("a", 2)).unwrap();
    followed.stays();
    fs::rename(followed.path(".a.yaml.tmp"), followed.path("a.yaml")).unwrap();
    followed.becomes(&[("default/a", 2)]);
    fs::rename(followed.path("a.yaml"), followed.path("a.yaml.bak")).unwrap();
    followed.becomes(&[]);
    fs::hard_link(followed.path("a.yaml.bak"), followed.path("b.yaml")).unwrap();
    followed.becomes(&[("default/a", 2)]);
}

#[test]
fn a_file_that_is_looked_at_while_its_writer_closes_it_is_not_missed() {
    // The kernel reports the close before it counts the writer as gone: about 1 of 300 times,
    // where reader and writer have a processor each.
    let mut followed = Followed::new(|_| {});
    for port in 1..=2000 {
        let (path, text) = (followed.path("a.yaml"), service("a", port));
        let writer = std::thread::spawn(move || fs::write(path, text).unwrap());
        followed.becomes(&[("default/a", port)]);
        writer.join().unwrap();
    }
}

#[test]
fn a_half_written_file_changes_nothing() {
    let mut followed = Followed::new(|root| {
        fs::write(root.join("a.yaml"), format!("{}---\n{}", service("a", 1), service("b", 2))).unwrap();
    });
    followed.becomes(&[("default/a", 1), ("default/b", 2)]);
    let mut writer = fs::File::create(followed.path("a.yaml")).unwrap();
    writer.write_all(service("a", 3).as_bytes()).unwrap();
    writer.sync_all().unwrap();
    followed.stays();
    // Another look at everything does not read it either.
    assert!(followed.manifests.load().changes.is_empty());
    writer.write_all(format!("---\n{}", service("b", 4)).as_bytes()).unwrap();
    drop(writer);
    followed.becomes(&[("default/a", 3), ("default/b", 4)]);

    // A new file that is open while the folder is first read.
    let folder = tempfile::tempdir().unwrap();
    let mut writer = fs::File::create(folder.path().join("a.yaml")).unwrap();
    writer.write_all(service("a", 1).as_bytes()).unwrap();
    let mut manifests = Manifests::open(folder.path(), Options::default()).unwrap();
    assert!(manifests.load().changes.is_empty());
    drop(writer);
    let update = manifests.wait(Some(Duration::from_secs(10))).unwrap().unwrap();
    assert!(!update.changes.is_empty());
}

#[test]
fn what_is_wrong_keeps_what_was_right() {
    let two = |a: &str, b: &str| format!("{a}---\n{b}");
    let mut followed = Followed::new(|root| {
        fs::write(root.join("a.yaml"), two(&service("a", 1), &service("b", 2))).unwrap();
    });
    // The first document is no YAML: its object stays, the other one changes.
    fs::write(followed.path("a.yaml"), two("kind: [\n", &service("b", 3))).unwrap();
    followed.becomes(&[("default/a", 1), ("default/b", 3)]);
    assert_eq!(followed.manifests.problems().len(), 1);
    // An invalid object stays as it was.
    fs::write(followed.path("a.yaml"), two(&service("a", 4), &service("b", 0))).unwrap();
    followed.becomes(&[("default/a", 4), ("default/b", 3)]);
    let reported: Vec<String> = followed.manifests.problems().iter().map(ToString::to_string).collect();
    assert_eq!(reported, ["a.yaml:9: Service default/b: spec.ports[0].port: 0 is not in 1-65535"]);
    // An object that is taken out goes.
    fs::write(followed.path("a.yaml"), service("a", 4)).unwrap();
    let update = followed.manifests.wait(Some(Duration::from_secs(10))).unwrap().unwrap();
    assert_eq!(update.solved.len(), 1, "{update:?}");
    followed.state.apply(update.changes);
    assert_eq!(followed.state.ports(), [("default/a", 4)]);
    assert!(followed.manifests.problems().is_empty());
}

#[test]
fn the_second_file_takes_over() {
    let mut followed = Followed::new(|root| {
        fs::write(root.join("1.yaml"), service("a", 1)).unwrap();
        fs::write(root.join("2.yaml"), service("a", 2)).unwrap();
    });
    followed.becomes(&[("default/a", 1)]);
    assert_eq!(followed.manifests.problems().len(), 1);
    fs::remove_file(followed.path("1.yaml")).unwrap();
    followed.becomes(&[("default/a", 2)]);
    assert!(followed.manifests.problems().is_empty());
    fs::write(followed.path("0.yaml"), service("a", 3)).unwrap();
    followed.becomes(&[("default/a", 3)]);
    assert_eq!(followed.manifests.problems().len(), 1);
}

#[test]
fn a_mounted_config_map_is_swapped() {
    let mut followed = Followed::new(|root| {
        fs::create_dir(root.join("..1")).unwrap();
        fs::write(root.join("..1/a.yaml"), service("a", 1)).unwrap();
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    });
    followed.becomes(&[("default/a", 1)]);
    for (old, new, port) in [("..1", "..2", 2), ("..2", "..3", 3)] {
        fs::create_dir(followed.path(new)).unwrap();
        fs::write(followed.path(new).join("a.yaml"), service("a", port)).unwrap();
        fs::write(followed.path(new).join("b.yaml"), service("b", port)).unwrap();
        symlink(new, followed.path("..data_tmp")).unwrap();
        fs::rename(followed.path("..data_tmp"), followed.path("..data")).unwrap();
        fs::remove_dir_all(followed.path(old)).unwrap();
        if old == "..1" {
            symlink("..data/b.yaml", followed.path("b.yaml")).unwrap();
        }
        followed.becomes(&[("default/a", port), ("default/b", port)]);
    }
}

#[test]
fn links_to_files_elsewhere() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target.yaml");
    let mut followed = Followed::new(|root| symlink(&target, root.join("a.yaml")).unwrap());
    followed.becomes(&[]);
    fs::write(&target, service("a", 1)).unwrap();
    followed.becomes(&[("default/a", 1)]);
    fs::write(&target, service("a", 2)).unwrap();
    followed.becomes(&[("default/a", 2)]);
    fs::remove_file(&target).unwrap();
    followed.becomes(&[]);
    fs::write(elsewhere.path().join("new"), service("a", 3)).unwrap();
    fs::rename(elsewhere.path().join("new"), &target).unwrap();
    followed.becomes(&[("default/a", 3)]);
    fs::remove_file(followed.path("a.yaml")).unwrap();
    followed.becomes(&[]);
    fs::write(&target, service("a", 4)).unwrap();
    followed.stays();
}

#[test]
fn folders_that_come_move_and_go() {
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir_all(elsewhere.path().join("x/deep")).unwrap();
    fs::write(elsewhere.path().join("x/deep/x.yaml"), service("x", 1)).unwrap();
    let mut followed = Followed::new(|root| fs::create_dir(root.join("sub")).unwrap());
    fs::write(followed.path("sub/a.yaml"), service("a", 1)).unwrap();
    followed.becomes(&[("default/a", 1)]);
    fs::rename(elsewhere.path().join("x"), followed.path("x")).unwrap();
    followed.becomes(&[("default/a", 1), ("default/x", 1)]);
    fs::write(followed.path("x/deep/x.yaml"), service("x", 2)).unwrap();
    followed.becomes(&[("default/a", 1), ("default/x", 2)]);
    fs::rename(followed.path("sub"), followed.path("other")).unwrap();
    fs::write(followed.path("other/a.yaml"), service("a", 2)).unwrap();
    followed.becomes(&[("default/a", 2), ("default/x", 2)]);
    fs::rename(followed.path("x"), elsewhere.path().join("x")).unwrap();
    followed.becomes(&[("default/a", 2)]);
    fs::write(elsewhere.path().join("x/deep/x.yaml"), service("x", 3)).unwrap();
    followed.stays();
    symlink(elsewhere.path().join("x"), followed.path("link")).unwrap();
    followed.becomes(&[("default/a", 2), ("default/x", 3)]);
    fs::write(elsewhere.path().join("x/deep/x.yaml"), service("x", 4)).unwrap();
    followed.becomes(&[("default/a", 2), ("default/x", 4)]);
    fs::remove_file(followed.path("link")).unwrap();
    followed.becomes(&[("default/a", 2)]);
    symlink("..", followed.path("other/loop")).unwrap();
    fs::write(followed.path("b.yaml"), service("b", 1)).unwrap();
    followed.becomes(&[("default/a", 2), ("default/b", 1)]);
}

#[test]
fn the_folder_itself_goes_and_comes_back() {
    let mut followed = Followed::new(|root| fs::write(root.join("a.yaml"), service("a", 1)).unwrap());
    followed.becomes(&[("default/a", 1)]);
    fs::remove_dir_all(followed.path("")).unwrap();
    followed.becomes(&[]);
    while followed.manifests.problems().is_empty() {
        followed.manifests.wait(Some(Duration::from_secs(10))).unwrap().expect("the folder is missed");
    }
    fs::create_dir(followed.path("")).unwrap();
    fs::write(followed.path("a.yaml"), service("a", 2)).unwrap();
    followed.becomes(&[("default/a", 2)]);
    fs::write(followed.path("a.yaml"), service("a", 3)).unwrap();
    followed.becomes(&[("default/a", 3)]);
    assert!(followed.manifests.problems().is_empty());
}

#[test]
fn lost_events_are_made_up_for() {
    let mut followed = Followed::new(|root| fs::write(root.join("a.yaml"), service("a", 1)).unwrap());
    let limit: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // Three events each, of kinds that differ, so that the kernel cannot merge them.
    for _ in 0..=limit / 3 {
        fs::write(followed.path(".other"), "").unwrap();
        fs::remove_file(followed.path(".other")).unwrap();
    }
    fs::write(followed.path("b.yaml"), service("b", 2)).unwrap();
    fs::remove_file(followed.path("a.yaml")).unwrap();
    followed.becomes(&[("default/b", 2)]);
}

#[test]
fn waiting_ends_in_time() {
    let mut followed = Followed::new(|_| {});
    assert!(followed.manifests.wait(Some(Duration::from_millis(1))).unwrap().is_none());
}
