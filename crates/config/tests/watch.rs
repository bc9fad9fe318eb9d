//! Files that change under watch. Each step waits for the event, none for time to pass.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use portolan_config::watch::{ConfigFile, Error};
use tempfile::TempDir;

/// What the watch returns, from a thread of its own.
fn changed(path: &Path) -> Receiver<String> {
    let mut file = ConfigFile::open(path).unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || sender.send(file.wait().unwrap().to_owned()));
    receiver
}

fn expect(receiver: &Receiver<String>, text: &str, name: &str) {
    let found = receiver.recv_timeout(Duration::from_secs(20));
    assert_eq!(found.as_deref(), Ok(text), "{name}");
}

/// A folder as kubelet mounts a ConfigMap: `config.conf -> ..data/config.conf`, `..data ->
/// VERSION`.
fn config_map(folder: &Path) -> PathBuf {
    publish(folder, "1", "one");
    symlink("..data/config.conf", folder.join("config.conf")).unwrap();
    folder.join("config.conf")
}

fn publish(folder: &Path, version: &str, text: &str) {
    let name = format!("..version_{version}");
    fs::create_dir(folder.join(&name)).unwrap();
    fs::write(folder.join(&name).join("config.conf"), text).unwrap();
    symlink(&name, folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
}

#[test]
fn changes_that_are_noticed() {
    type Case = (&'static str, fn(&Path) -> PathBuf, fn(&Path));
    fn plain(folder: &Path) -> PathBuf {
        fs::write(folder.join("c"), "one").unwrap();
        folder.join("c")
    }
    let cases: &[Case] = &[
        ("written in place", plain, |folder| fs::write(folder.join("c"), "two").unwrap()),
        ("replaced by a rename", plain, |folder| {
            fs::write(folder.join("d"), "two").unwrap();
            fs::rename(folder.join("d"), folder.join("c")).unwrap();
        }),
        ("removed and made anew", plain, |folder| {
            fs::remove_file(folder.join("c")).unwrap();
            fs::write(folder.join("c"), "two").unwrap();
        }),
        ("a ConfigMap is swapped", config_map, |folder| {
            publish(folder, "2", "two");
            fs::remove_dir_all(folder.join("..version_1")).unwrap();
        }),
        ("a ConfigMap is swapped for the same, then for another", config_map, |folder| {
            publish(folder, "2", "one");
            publish(folder, "3", "two");
        }),
        (
            "the end of a link is written",
            |folder| {
                fs::create_dir(folder.join("elsewhere")).unwrap();
                fs::write(folder.join("elsewhere/real"), "one").unwrap();
                symlink(folder.join("elsewhere/real"), folder.join("c")).unwrap();
                folder.join("c")
            },
            |folder| fs::write(folder.join("elsewhere/real"), "two").unwrap(),
        ),
        (
            "the folder is removed and made anew",
            |folder| {
                fs::create_dir(folder.join("sub")).unwrap();
                fs::write(folder.join("sub/c"), "one").unwrap();
                folder.join("sub/c")
            },
            |folder| {
                fs::remove_dir_all(folder.join("sub")).unwrap();
                fs::create_dir(folder.join("new")).unwrap();
                fs::write(folder.join("new/c"), "two").unwrap();
                fs::rename(folder.join("new"), folder.join("sub")).unwrap();
            },
        ),
    ];
    for (name, make, change) in cases {
        let folder = TempDir::new().unwrap();
        let path = make(folder.path());
        let receiver = changed(&path);
        change(folder.path());
        expect(&receiver, "two", name);
    }
}

#[test]
fn the_same_text_is_no_change() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("c");
    fs::write(&path, "one").unwrap();
    let receiver = changed(&path);
    // Were any of these taken for a change, the first message would not be the last text.
    fs::write(&path, "one").unwrap();
    fs::write(folder.path().join("other"), "two").unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("next"), "one").unwrap();
    fs::rename(folder.path().join("next"), &path).unwrap();
    fs::write(folder.path().join("next"), "three").unwrap();
    fs::rename(folder.path().join("next"), &path).unwrap();
    expect(&receiver, "three", "only the last differs");
}

#[test]
fn changes_before_the_wait_are_seen() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("c");
    fs::write(&path, "one").unwrap();
    let mut file = ConfigFile::open(&path).unwrap();
    assert_eq!(file.text(), "one");
    fs::write(&path, "two").unwrap();
    assert_eq!(file.wait().unwrap(), "two");
    assert_eq!(file.text(), "two");
    fs::write(&path, "three").unwrap();
    assert_eq!(file.wait().unwrap(), "three", "and so is the next");
}

#[test]
fn files_that_cannot_be_read() {
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    let error = ConfigFile::open(&missing).unwrap_err();
    assert!(matches!(error, Error::Read { .. }));
    assert_eq!(
        error.to_string(),
        format!("{}: cannot be read: No such file or directory (os error 2)", missing.display())
    );
    assert!(ConfigFile::open(folder.path()).is_err(), "a folder");
}
