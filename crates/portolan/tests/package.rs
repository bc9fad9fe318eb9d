//! The Debian package holds what it must, where its unit looks for it.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

#[test]
fn a_debian_package_is_complete() {
    if Command::new("dpkg-deb").arg("--version").output().is_err() {
        eprintln!("dpkg-deb is not installed: SKIPPED");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // Any program does: packing this one would take a minute.
    let program = folder.path().join("portolan");
    std::fs::write(&program, "#!/bin/sh\n").unwrap();
    let script = root().join("deploy/debian/build");
    let package = output(Command::new(script).arg(&program).arg(folder.path()));
    let package = Path::new(package.trim());
    let listed = output(Command::new("dpkg-deb").arg("--contents").arg(package));
    for (file, mode) in [
        ("./usr/bin/portolan", "-rwxr-xr-x"),
        ("./lib/systemd/system/portolan.service", "-rw-r--r--"),
        ("./etc/portolan/portolan.env", "-rw-r--r--"),
        ("./etc/portolan/config.conf", "-rw-r--r--"),
        ("./", "drwxr-xr-x"),
    ] {
        let line = listed.lines().find(|line| line.ends_with(&format!(" {file}")));
        let line = line.unwrap_or_else(|| panic!("{file} is missing in:\n{listed}"));
        assert!(line.starts_with(&format!("{mode} root/root")), "{line}");
    }
    let out = folder.path().join("out");
    output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&out));
    let unit = std::fs::read_to_string(out.join("lib/systemd/system/portolan.service")).unwrap();
    assert!(unit.contains("\nExecStart=/usr/bin/portolan run $PORTOLAN_OPTIONS\n"), "{unit}");
    assert!(!unit.contains("/usr/local/bin"), "{unit}");
    let fields = output(Command::new("dpkg-deb").arg("--field").arg(package));
    assert!(fields.contains(&format!("Version: {}\n", env!("CARGO_PKG_VERSION"))), "{fields}");
}
