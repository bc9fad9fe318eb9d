//! `portolan lab exec`

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

use anyhow::Context;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};

use super::control;

/// Runs a command where `target` is and returns its exit code.
pub(super) fn run(name: &str, target: &str, command: &[OsString]) -> anyhow::Result<ExitCode> {
    let namespaces = control::namespaces(name, target)?;
    // The user namespace first: it gives the right to enter the others (user_namespaces(7)).
    for (fd, kind, what) in [
        (&namespaces.user, CloneFlags::CLONE_NEWUSER, "user"),
        (&namespaces.process, CloneFlags::CLONE_NEWPID, "process"),
        (&namespaces.host_name, CloneFlags::CLONE_NEWUTS, "host name"),
        (&namespaces.network, CloneFlags::CLONE_NEWNET, "network"),
        (&namespaces.mount, CloneFlags::CLONE_NEWNS, "mount"),
    ] {
        setns(fd, kind)
            .with_context(|| format!("entering the lab's {what} namespace; does the lab belong to you?"))?;
    }
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::FAILURE) };
    // A Ctrl-C is for the command; its exit code tells what became of it.
    [Signal::SIGINT, Signal::SIGQUIT].into_iter().collect::<SigSet>().thread_block()?;
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            eprintln!("portolan: starting {}: {error}", program.display());
            // As a shell says "not found" and "not to be run".
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            return Ok(ExitCode::from(if missing { 127 } else { 126 }));
        }
    };
    let status = child.wait().context("waiting for the command")?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from))
}
