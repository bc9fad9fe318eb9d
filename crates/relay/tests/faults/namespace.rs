//! Namespaces to test in.

use std::ffi::c_int;

use libtest_mimic::Failed;
use portolan_netlink::rtnetlink::Rtnetlink;

/// A test.
pub(crate) type Case = fn() -> Result<(), Failed>;

/// Becomes root of a user namespace, which a process can do only before it has threads.
pub(crate) fn enter_user_namespace() -> std::io::Result<()> {
    // SAFETY: neither has arguments or failures.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare(libc::CLONE_NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

fn unshare(what: c_int) -> std::io::Result<()> {
    // SAFETY: no pointers; only the calling thread (for a user namespace the whole, single-threaded
    // process) moves.
    if unsafe { libc::unshare(what) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Runs `case` on a thread with a network namespace and descriptors of its own, which threads that
/// it starts share.
pub(crate) fn apart(case: Case) -> Result<(), Failed> {
    let thread = std::thread::spawn(move || {
        unshare(libc::CLONE_NEWNET | libc::CLONE_FILES)?;
        let mut kernel = Rtnetlink::open()?;
        let loopback = kernel.link("lo")?.ok_or("every namespace has it")?.index;
        kernel.set_up(loopback, true)?;
        drop(kernel);
        case()
    });
    thread.join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
            .into())
    })
}
