//! The kernel's limit of watches, which is one for each user namespace.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use portolan_watch::{Error, FileTree, Paths};

/// Runs [`few_watches`] where there may be three watches.
#[test]
fn the_limit_is_named() {
    let script = "echo 3 > /proc/sys/user/max_inotify_watches && exec \"$0\" --exact few_watches --ignored";
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script])
        .arg(env::current_exe().unwrap())
        .output()
        .expect("unshare of util-linux");
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

#[test]
#[ignore = "needs a limit of three watches: the other test runs it"]
fn few_watches() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a", "b", "c", "d"].map(|name| folder.path().join(name));
    for name in &names {
        fs::create_dir(name).unwrap();
    }
    let limit = "the limit of watches is reached; raise the sysctl fs.inotify.max_user_watches";
    let error = Paths::open(&names).unwrap_err();
    assert!(matches!(error, Error::Watches), "{error:?}");
    assert_eq!(error.to_string(), limit);

    let mut tree = FileTree::open(folder.path(), |_| true).unwrap();
    tree.rescan();
    assert!(!tree.failed().is_empty());
    assert!(tree.failed().keys().all(|path| path != Path::new("")), "the root is followed");
    assert!(tree.failed().values().all(|error| error.to_string() == limit), "{:?}", tree.failed());
}
