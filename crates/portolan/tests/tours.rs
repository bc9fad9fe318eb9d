//! `portolan lab demo W1` to `W5`: each tour shows what it says that it shows, or fails.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The widest line, in columns.
const WIDTH: usize = 100;

/// A kubectl that `./test` has installed.
fn kubectl() -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/kubectl-1.37.1/bin");
    tools.join("kubectl").is_file().then(|| tools.canonicalize().unwrap())
}

fn path_with(first: &[PathBuf]) -> std::ffi::OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(first.iter().cloned().chain(std::env::split_paths(&path))).unwrap()
}

/// A folder with these programs of the machine, and no others.
fn only(programs: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        let found =
            std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file());
        symlink(found.unwrap_or_else(|| panic!("{program} is missing")), folder.path().join(program))
            .unwrap();
    }
    folder
}

fn tour(name: &str, path: impl AsRef<std::ffi::OsStr>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["lab", "demo", name])
        .env("PATH", path)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// Goes through a tour, and gives what it shows.
fn goes_through(name: &str, path: impl AsRef<std::ffi::OsStr>) -> String {
    let output = tour(name, path);
    let shown = text(&output);
    assert!(output.status.success(), "{shown}");
    let wide: Vec<&str> = shown.lines().filter(|line| line.chars().count() > WIDTH).collect();
    assert!(wide.is_empty(), "{wide:?}");
    shown
}

/// All steps are shown, by a real kubectl if there is one.
fn is_as_it_says(name: &str) -> String {
    let shown = goes_through(name, path_with(kubectl().as_slice()));
    assert!(shown.contains("steps are as they say. Built in"), "{shown}");
    shown
}

#[test]
fn w1_a_port_nobody_listens_on() {
    let shown = is_as_it_says("W1");
    assert!(shown.contains("hello from by-hand on worker"), "{shown}");
}

#[test]
fn w2_two_pods_behind_a_node_port() {
    is_as_it_says("w2");
}

#[test]
fn w3_a_load_balancer_in_front() {
    is_as_it_says("balancer");
}

#[test]
fn w4_reading_the_rules() {
    is_as_it_says("W4");
}

#[test]
fn w5_from_pod_to_service_by_name() {
    is_as_it_says("W5");
}

const SHELL: [&str; 9] = ["sh", "cat", "grep", "sort", "uniq", "seq", "touch", "ss", "tcpdump"];

#[test]
fn without_kubectl_the_api_is_asked() {
    let tools = only(&[&SHELL[..], &["curl", "ip"]].concat());
    for name in ["W3", "W4", "W5"] {
        let shown = goes_through(name, tools.path());
        assert!(shown.contains("There is no kubectl on this machine."), "{shown}");
        assert!(shown.contains("steps are as they say. Built in"), "{shown}");
    }
}

#[test]
fn what_is_missing_is_named_and_left_out() {
    let shown = goes_through("W4", only(&SHELL).path());
    assert!(shown.contains("skipped: curl is not on this machine. Package curl has it."), "{shown}");
    assert!(shown.contains("steps are as they say, 4 are skipped. Built in"), "{shown}");
}

#[test]
fn what_is_not_as_it_says_fails() {
    let tools = tempfile::tempdir().unwrap();
    let ss = tools.path().join("ss");
    fs::write(&ss, "#!/bin/sh\necho 'tcp LISTEN 0 128 Address:Port 0.0.0.0:32264'\n").unwrap();
    fs::set_permissions(&ss, fs::Permissions::from_mode(0o755)).unwrap();
    let output = tour("W1", path_with(&[tools.path().to_owned()]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        said,
        "portolan: W1, step 5 (ss -tuln): a line has `*:32264`. So it is not true that: No socket listens on 32264.\n"
    );
}

#[test]
fn tours_have_names() {
    let list = Command::new(env!("CARGO_BIN_EXE_portolan")).args(["lab", "demo", "--list"]).output().unwrap();
    let listed = text(&list);
    assert_eq!(listed.lines().count(), 5, "{listed}");
    assert!(listed.starts_with("W1  port      A port nobody listens on\n"), "{listed}");
    let unknown = tour("W6", path_with(&[]));
    assert!(
        !unknown.status.success() && text(&unknown).contains("there is no tour \"W6\""),
        "{}",
        text(&unknown)
    );
}
