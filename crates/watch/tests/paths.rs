//! Files and folders whose changes are seen. Each step waits for the event, none for time to pass.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use portolan_watch::Paths;
use tempfile::TempDir;

/// Receives the text of the file whenever it may have changed.
fn texts(path: &Path) -> Receiver<String> {
    let mut paths = Paths::open([path]).unwrap();
    let (path, (sender, receiver)) = (path.to_owned(), channel());
    thread::spawn(move || {
        while paths.wait().is_ok() {
            if sender.send(fs::read_to_string(&path).unwrap_or_default()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn becomes(receiver: &Receiver<String>, text: &str, situation: &str) {
    loop {
        let found = receiver.recv_timeout(Duration::from_secs(20));
        if found.unwrap_or_else(|_| panic!("{situation}: {text:?} is not seen")) == text {
            return;
        }
    }
}

/// A folder as kubelet mounts a ConfigMap: `file -> ..data/file`, `..data -> ..version`.
fn config_map(folder: &Path) -> PathBuf {
    publish(folder, "1", "one");
    symlink("..data/file", folder.join("file")).unwrap();
    folder.join("file")
}

fn publish(folder: &Path, version: &str, text: &str) {
    let name = format!("..version_{version}");
    fs::create_dir(folder.join(&name)).unwrap();
    fs::write(folder.join(&name).join("file"), text).unwrap();
    symlink(&name, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

fn plain(folder: &Path) -> PathBuf {
    fs::write(folder.join("file"), "one").unwrap();
    folder.join("file")
}

fn in_a_folder(folder: &Path) -> PathBuf {
    fs::create_dir(folder.join("sub")).unwrap();
    plain(&folder.join("sub"))
}

fn missing(folder: &Path) -> PathBuf {
    folder.join("sub/file")
}

#[test]
fn changes_are_seen() {
    type Case = (&'static str, fn(&Path) -> PathBuf, fn(&Path));
    let cases: &[Case] = &[
        ("written in place", plain, |folder| fs::write(folder.join("file"), "two").unwrap()),
        ("replaced by a rename", plain, |folder| {
            fs::write(folder.join("new"), "two").unwrap();
            fs::rename(folder.join("new"), folder.join("file")).unwrap();
        }),
        ("removed and made anew", plain, |folder| {
            fs::remove_file(folder.join("file")).unwrap();
            fs::write(folder.join("file"), "two").unwrap();
        }),
        ("a ConfigMap is swapped", config_map, |folder| {
            publish(folder, "2", "two");
            fs::remove_dir_all(folder.join("..version_1")).unwrap();
        }),
        ("a ConfigMap is swapped twice", config_map, |folder| {
            publish(folder, "2", "one");
            fs::remove_dir_all(folder.join("..version_1")).unwrap();
            publish(folder, "3", "two");
        }),
        (
            "the end of a link is written",
            |folder| {
                let end = in_a_folder(folder);
                symlink(&end, folder.join("file")).unwrap();
                folder.join("file")
            },
            |folder| fs::write(folder.join("sub/file"), "two").unwrap(),
        ),
        ("its folder is removed and made anew", in_a_folder, |folder| {
            fs::remove_dir_all(folder.join("sub")).unwrap();
            fs::create_dir(folder.join("new")).unwrap();
            fs::write(folder.join("new/file"), "two").unwrap();
            fs::rename(folder.join("new"), folder.join("sub")).unwrap();
        }),
        ("its folder is moved away, and another takes the place", in_a_folder, |folder| {
            fs::rename(folder.join("sub"), folder.join("old")).unwrap();
            fs::create_dir(folder.join("sub")).unwrap();
            fs::write(folder.join("sub/file"), "two").unwrap();
        }),
        ("it was not there", missing, |folder| {
            fs::create_dir(folder.join("sub")).unwrap();
            fs::write(folder.join("sub/file"), "two").unwrap();
        }),
    ];
    for (situation, make, change) in cases {
        let folder = TempDir::new().unwrap();
        let path = make(folder.path());
        let receiver = texts(&path);
        change(folder.path());
        becomes(&receiver, "two", situation);
        fs::write(path, "three").unwrap();
        becomes(&receiver, "three", &format!("{situation}, and then it is written"));
    }
}

#[test]
fn a_removal_is_a_change() {
    let folder = TempDir::new().unwrap();
    let path = plain(folder.path());
    let mut paths = Paths::open([&path]).unwrap();
    fs::remove_file(&path).unwrap();
    paths.wait().unwrap();
    fs::write(&path, "one").unwrap();
    paths.wait().unwrap();
}

#[test]
fn any_name_in_a_folder_matters() {
    let folder = TempDir::new().unwrap();
    symlink(in_a_folder(folder.path()).parent().unwrap(), folder.path().join("link")).unwrap();
    for path in ["sub", "link"] {
        let mut paths = Paths::open([folder.path().join(path)]).unwrap();
        fs::write(folder.path().join("sub/other"), "").unwrap();
        paths.wait().unwrap();
    }
}

#[test]
fn names_beside_a_file_do_not_matter() {
    let folder = TempDir::new().unwrap();
    let receiver = texts(&plain(folder.path()));
    // Were this taken for a change, the first text would be the old one.
    fs::write(folder.path().join("other"), "").unwrap();
    fs::write(folder.path().join("new"), "two").unwrap();
    fs::rename(folder.path().join("new"), folder.path().join("file")).unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(20)).as_deref(), Ok("two"));
}

#[test]
fn lost_events_count_as_a_change() {
    let folder = TempDir::new().unwrap();
    let mut paths = Paths::open([plain(folder.path())]).unwrap();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // Three events each, of kinds that differ, so that the kernel cannot merge them: it came, was
    // closed, and went. None concerns the file.
    let other = folder.path().join("other");
    for _ in 0..=limit / 3 {
        fs::write(&other, "").unwrap();
        fs::remove_file(&other).unwrap();
    }
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(paths.wait().is_ok()));
    assert_eq!(receiver.recv_timeout(Duration::from_secs(20)), Ok(true));
}
