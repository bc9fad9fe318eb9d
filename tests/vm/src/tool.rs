//! Programs of this machine.

use std::env;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use rustix::io::{FdFlags, fcntl_setfd};

/// Folders of administrators' tools, which not every user has in PATH.
const OF_ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// Where a program is, if it is there.
pub(crate) fn find(program: impl AsRef<OsStr>) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(OF_ADMINISTRATORS.map(PathBuf::from));
    folders.map(|folder| folder.join(program.as_ref())).find(|path| path.is_file())
}

/// A command that runs `program`. `package` is the one of Debian's to install where it is missing.
pub(crate) fn command(program: &str, package: &str) -> anyhow::Result<Command> {
    let path =
        find(program).with_context(|| format!("{program} is missing: install the package {package}"))?;
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    Ok(command)
}

/// Runs a command to its end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("starting {}", command.get_program().display()))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}{}", output.status, printed.trim(), errors.trim());
    }
    Ok(printed)
}

/// Has programs that are started from now on inherit `descriptor`, until it is closed. Returns a
/// path that leads them to it.
pub(crate) fn handed(descriptor: &(impl AsFd + AsRawFd)) -> anyhow::Result<String> {
    fcntl_setfd(descriptor, FdFlags::empty()).context("handing a descriptor on")?;
    Ok(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}
