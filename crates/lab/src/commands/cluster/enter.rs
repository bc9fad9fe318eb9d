//! `portolan lab exec`, and what the commands that look into a lab share.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::Context;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal};

use super::control::{self, Entry};
use super::names;
use crate::own_files::own_files;
use crate::privileges;
use crate::search_path::search_path;

/// Runs a command where `target` is and returns its exit code.
pub(super) fn run(name: &str, target: &str, command: &[OsString]) -> anyhow::Result<ExitCode> {
    let inside = enter(name, target)?;
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::FAILURE) };
    inside.run(Command::new(program).args(arguments))
}

/// The calling process, in the namespaces of a node, a pod or the client.
pub(in crate::commands) struct Inside {
    path: OsString,
}

/// Goes where `target` is: into the first container of a pod, or to a node or the client, with its
/// network, and its own host name, `/run/portolan` and `/var/lib/portolan`. The process must have
/// one thread only.
pub(super) fn enter(name: &str, target: &str) -> anyhow::Result<Inside> {
    let (entry, namespaces) = match control::namespaces(name, target) {
        Ok(found) => found,
        Err(error) => match names::pod_or_workload(&control::status(name)?, target)? {
            Some(pod) if pod.name != target => control::namespaces(name, &pod.name)?,
            _ => return Err(error),
        },
    };
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
    let Entry { target, is_pod, state, program } = entry;
    if is_pod { equipped(&state, &program) } else { settle(&target, &state, &program) }
}

/// Gives the calling process, which is in the network of a node or the client, what else is that
/// machine's own: its host name, `/run/portolan` and `/var/lib/portolan`. The process must have one
/// thread only.
pub(in crate::commands) fn settle(target: &str, state: &Path, program: &Path) -> anyhow::Result<Inside> {
    // What is different in each place is for this process and its children alone.
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS).context("creating namespaces in the lab")?;
    own_files(state, target).put_in_place()?;
    nix::unistd::sethostname(target).context("setting the host name")?;
    equipped(state, program)
}

fn equipped(state: &Path, program: &Path) -> anyhow::Result<Inside> {
    privileges::stay_root().context("installing a filter of system calls")?;
    Ok(Inside { path: path(state, program)? })
}

impl Inside {
    /// Runs a command and returns its exit code.
    pub(in crate::commands) fn run(&self, command: &mut Command) -> anyhow::Result<ExitCode> {
        // A Ctrl-C is for the command; its exit code says what became of it.
        [Signal::SIGINT, Signal::SIGQUIT].into_iter().collect::<SigSet>().thread_block()?;
        let program = command.get_program().to_owned();
        let mut child = match command.env("PATH", &self.path).spawn() {
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
}

/// The caller's PATH, with the lab's own `portolan` first, and with the folders of administrators'
/// tools, which not every user has.
fn path(state: &Path, program: &Path) -> anyhow::Result<OsString> {
    let folder = state.join("bin");
    let link = folder.join("portolan");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    match symlink(program, &link) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(error).with_context(|| format!("creating {}", link.display()));
        }
        _ => {}
    }
    let mut path = folder.into_os_string();
    path.push(":");
    path.push(search_path());
    Ok(path)
}
