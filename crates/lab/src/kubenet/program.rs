//! Runs a program that reads rules.

use std::io::{self, Write};
use std::process::{Command, Stdio};
use std::thread;

use crate::Error;
use crate::netns::Namespace;
use crate::search_path::search_path;

/// Runs a program on a node with `input`; what it complains about is the error.
pub(super) fn run(node: &Namespace, program: &str, arguments: &[&str], input: &str) -> Result<(), Error> {
    let what = format!("writing the host ports of {} with {program}, which must be installed", node.name());
    let mut command = Command::new(program);
    command.args(arguments).env("LC_ALL", "C").env("PATH", search_path());
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = node.spawn(&mut command)?;
    let stdin = child.stdin.take();
    let output = thread::scope(|scope| {
        // A program that fails need not read everything.
        scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input.as_bytes())));
        child.wait_with_output()
    });
    let output = output.map_err(Error::io(what.clone()))?;
    if output.status.success() {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::io(what)(io::Error::other(complaint)))
}
