//! Private namespaces to measure in.

use std::io;
use std::path::Path;

use anyhow::Context;

/// Moves this process into namespaces of its own in which it has all rights. Only while it has a
/// single thread.
///
/// A network namespace suffices for root, who may also send nft's transactions of any size; for
/// anybody else a user namespace comes with it.
pub(crate) fn enter_private() -> anyhow::Result<()> {
    // SAFETY: these two only return numbers.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    if unshare(libc::CLONE_NEWNET).is_ok() {
        return Ok(());
    }
    unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET).context(
        "creating a user and network namespace: are unprivileged user namespaces allowed? \
         (sysctl user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns)",
    )?;
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {user} 1"))?;
    write("/proc/self/gid_map", &format!("0 {group} 1"))
}

/// Moves the calling thread into a fresh network namespace, which ends with its last process.
pub(crate) fn enter_fresh_network() -> anyhow::Result<()> {
    unshare(libc::CLONE_NEWNET).context("creating a network namespace")
}

fn unshare(namespaces: libc::c_int) -> io::Result<()> {
    // SAFETY: takes flags, no memory; a failure changes nothing.
    if unsafe { libc::unshare(namespaces) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Writes a kernel setting.
pub(crate) fn write(path: impl AsRef<Path>, value: &str) -> anyhow::Result<()> {
    let path = path.as_ref();
    std::fs::write(path, value).with_context(|| format!("writing {value:?} to {}", path.display()))
}
