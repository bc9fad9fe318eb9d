//! Namespaces and the tools that act in them.

use std::ffi::c_int;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use libtest_mimic::Failed;

/// Becomes root of a user namespace, which a process can do only before it has threads.
pub(crate) fn enter_user_namespace() -> std::io::Result<()> {
    // SAFETY: neither has arguments or failures.
    let (user, group) = unsafe { (libc::geteuid(), libc::getegid()) };
    unshare(libc::CLONE_NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Moves the calling thread to a new namespace.
pub(crate) fn unshare(what: c_int) -> std::io::Result<()> {
    // SAFETY: no pointers; only the calling thread (for a user namespace the whole, single-threaded
    // process) moves.
    if unsafe { libc::unshare(what) } == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Runs `work` on a thread with a network namespace of its own.
pub(crate) fn alone<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, Failed> {
    let thread = std::thread::spawn(move || {
        unshare(libc::CLONE_NEWNET)?;
        work()
    });
    thread.join().unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
            .into())
    })
}

/// The lock file of iptables-legacy, for the tests alone.
pub(crate) fn lock() -> PathBuf {
    std::env::temp_dir().join(format!("portolan-test-xtables-{}.lock", std::process::id()))
}

/// Runs a tool in the calling thread's namespace, with `input`, and returns what it prints.
pub(crate) fn tool(words: &str, input: &str) -> Result<String, Failed> {
    let output = run(words, input)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{words}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

fn run(words: &str, input: &str) -> Result<Output, Failed> {
    let mut words_of = words.split_whitespace();
    let program = words_of.next().unwrap_or_default();
    let mut child = Command::new(program)
        .args(words_of)
        .env("XTABLES_LOCKFILE", lock())
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}, which these tests need: {error}"))?;
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output()?;
    // A tool that fails need not read everything.
    let _ = writer.join();
    Ok(output)
}
