//! `portolan lab capture`

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use super::enter;

/// Not found, as a shell says it.
const NOT_FOUND: u8 = 127;

/// Runs tcpdump where `target` is, until it ends or is interrupted, and returns its exit code.
pub(super) fn run(name: &str, target: &str, flags: &[OsString]) -> anyhow::Result<ExitCode> {
    let inside = enter::enter(name, target)?;
    let mut tcpdump = Command::new("tcpdump");
    // Numbers, because no name is known here; a line at a time, for pipes. Without -Z it would
    // become another user, and there is none but root.
    tcpdump.args(["-n", "-l", "-i", "any", "-Z", "root"]).args(flags);
    let code = inside.run(&mut tcpdump)?;
    if code == ExitCode::from(NOT_FOUND) {
        eprintln!(
            "portolan: lab capture needs tcpdump on this machine: install it, as with apt-get install tcpdump"
        );
    }
    Ok(code)
}
