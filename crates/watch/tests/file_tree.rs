//! A tree of files whose changes are seen.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use portolan_watch::{FileTree, Waited};
use tempfile::TempDir;

struct Followed {
    folder: TempDir,
    tree: FileTree,
}

impl Followed {
    fn new(prepare: impl FnOnce(&Path)) -> Followed {
        let folder = TempDir::new().unwrap();
        let root = folder.path().join("root");
        fs::create_dir(&root).unwrap();
        prepare(&root);
        let wanted = |path: &Path| path.extension().is_some_and(|extension| extension == "txt");
        let mut tree = FileTree::open(&root, wanted).unwrap();
        tree.rescan();
        Followed { folder, tree }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("root").join(name)
    }

    /// Waits until `file` is among the changed ones.
    fn changes(&mut self, file: &str) -> BTreeSet<PathBuf> {
        loop {
            assert_eq!(
                self.tree.wait(Some(Duration::from_secs(20))).unwrap(),
                Waited::Changed,
                "{file} does not change"
            );
            let changed = self.tree.changed().unwrap();
            if changed.contains(Path::new(file)) {
                return changed;
            }
        }
    }

    fn files(&self) -> Vec<&str> {
        self.tree.files().map(|path| path.to_str().unwrap()).collect()
    }
}

#[test]
fn whoever_waits_can_be_woken_up() {
    let followed = Followed::new(|_| {});
    let waker = followed.tree.waker();
    waker.wake();
    std::thread::spawn(move || waker.wake());
    let patience = Some(Duration::from_secs(20));
    assert_eq!(followed.tree.wait(patience).unwrap(), Waited::Woken);
    fs::write(followed.path("a.txt"), "").unwrap();
    assert_eq!(followed.tree.wait(patience).unwrap(), Waited::Changed);
}

#[test]
fn files_and_folders_that_come_change_and_go() {
    let mut followed = Followed::new(|root| {
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("sub/a.txt"), "").unwrap();
        fs::write(root.join("other"), "").unwrap();
    });
    assert_eq!(followed.files(), ["sub/a.txt"]);
    fs::write(followed.path("sub/a.txt"), "two").unwrap();
    followed.changes("sub/a.txt");
    fs::write(followed.path(".hidden.txt"), "").unwrap();
    fs::rename(followed.path("sub"), followed.path("moved")).unwrap();
    followed.changes("moved/a.txt");
    assert_eq!(followed.files(), ["moved/a.txt"]);
    fs::write(followed.path("moved/b.txt"), "").unwrap();
    followed.changes("moved/b.txt");
    fs::remove_dir_all(followed.path("moved")).unwrap();
    while !followed.files().is_empty() {
        followed.changes("moved/b.txt");
    }
}

#[test]
fn a_mounted_config_map_is_swapped() {
    let mut followed = Followed::new(|root| {
        fs::create_dir(root.join("..1")).unwrap();
        fs::write(root.join("..1/a.txt"), "").unwrap();
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/a.txt", root.join("a.txt")).unwrap();
    });
    for (old, new) in [("..1", "..2"), ("..2", "..3")] {
        fs::create_dir(followed.path(new)).unwrap();
        fs::write(followed.path(new).join("a.txt"), new).unwrap();
        symlink(new, followed.path("..data_tmp")).unwrap();
        fs::rename(followed.path("..data_tmp"), followed.path("..data")).unwrap();
        followed.changes("a.txt");
        fs::remove_dir_all(followed.path(old)).unwrap();
        fs::write(followed.path(new).join("a.txt"), "in place").unwrap();
        followed.changes("a.txt");
        assert_eq!(followed.files(), ["a.txt"]);
    }
}

#[test]
fn the_root_goes_and_comes_back() {
    let mut followed = Followed::new(|root| fs::write(root.join("a.txt"), "").unwrap());
    fs::remove_dir_all(followed.path("")).unwrap();
    followed.changes("a.txt");
    while followed.tree.failed().is_empty() {
        assert_eq!(
            followed.tree.wait(Some(Duration::from_secs(20))).unwrap(),
            Waited::Changed,
            "the root is not missed"
        );
        followed.tree.changed().unwrap();
    }
    fs::create_dir(followed.path("")).unwrap();
    fs::write(followed.path("b.txt"), "").unwrap();
    followed.changes("b.txt");
    assert!(followed.tree.failed().is_empty());
}

#[test]
fn what_cannot_be_followed_is_reported() {
    let followed = Followed::new(|root| {
        symlink("..", root.join("loop")).unwrap();
        fs::create_dir_all(root.join("d/".repeat(33))).unwrap();
    });
    let failed: Vec<String> = followed.tree.failed().values().map(ToString::to_string).collect();
    let expected = ["more than 32 folders inside of each other", "it is a link to a folder around it"];
    // The link leads to the folder around the root, which leads back.
    assert!(expected.iter().all(|message| failed.iter().any(|found| found == message)), "{failed:?}");
}

#[test]
fn lost_events_are_made_up_for() {
    let mut followed = Followed::new(|root| fs::write(root.join("a.txt"), "").unwrap());
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // Three events each, of kinds that differ, so that the kernel cannot merge them.
    for _ in 0..=limit / 3 {
        fs::write(followed.path(".other"), "").unwrap();
        fs::remove_file(followed.path(".other")).unwrap();
    }
    fs::write(followed.path("b.txt"), "").unwrap();
    fs::remove_file(followed.path("a.txt")).unwrap();
    followed.changes("b.txt");
    assert_eq!(followed.files(), ["b.txt"]);
}
