//! The examples say what they claim to.

use std::path::Path;
use std::process::Command;

/// `portolan check` on a folder of examples: whether it is content, and what it says. Reads the
/// kernel at most.
fn check(folder: &str) -> (bool, serde_json::Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(folder);
    let output = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .arg("check")
        .arg(&folder)
        .args(["--hostname-override=here", "--state-dir=/nonexistent", "-o", "json"])
        .output()
        .expect("portolan starts");
    let text = String::from_utf8_lossy(&output.stdout);
    (output.status.success(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

#[test]
fn examples_have_no_problems() {
    for folder in ["one-host", "lab"] {
        let (content, said) = check(folder);
        assert!(content, "{folder}: {said}");
        assert_eq!(said["problems"], serde_json::json!([]), "{folder}");
        assert_eq!(said["services"], 1, "{folder}");
    }
}
