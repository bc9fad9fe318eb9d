//! The duties of process 1 of a container.
//!
//! Signals that would end any other process are ignored by process 1, and processes whose parents
//! have ended become its children and stay as zombies until it waits for them (pid_namespaces(7)):
//! those that `kubectl exec` leaves behind. So process 1 does this and nothing else, and the proxy
//! is a child of it.

use std::process;

use anyhow::Context;
use caps::CapSet;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// What asks a process to end, or to do something that it knows of: passed on.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];

/// Returns in a process that is not process 1: this one, or else a child of it. What is passed is
/// for the child alone, and dropped in process 1. Call it before any thread is started.
pub(crate) fn leave<T>(for_the_child: T) -> anyhow::Result<T> {
    if process::id() != 1 {
        return Ok(for_the_child);
    }
    let mut watched: SigSet = PASSED_ON.into_iter().collect();
    watched.add(Signal::SIGCHLD);
    // From before the fork, so that none is missed.
    let before = watched.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("blocking signals")?;
    // SAFETY: no thread has been started, so that the child has everything in a consistent state.
    match unsafe { fork() }.context("starting the proxy as a child of process 1")? {
        ForkResult::Child => {
            before.thread_set_mask().context("restoring the signal mask")?;
            Ok(for_the_child)
        }
        ForkResult::Parent { child } => {
            drop(for_the_child);
            for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted] {
                // Signals to one's own user need none. Having more than needed is no reason not to
                // run.
                let _ = caps::clear(None, set);
            }
            process::exit(serve(&watched, child))
        }
    }
}

/// Passes signals on and waits for children, until the proxy has ended. Returns its exit code, or
/// 128 and the signal that ended it.
fn serve(watched: &SigSet, proxy: Pid) -> i32 {
    loop {
        match watched.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(proxy) {
                    return code;
                }
            }
            // It may have ended just now, which is the next signal.
            Ok(signal) => drop(kill(proxy, signal)),
            Err(_) => {}
        }
    }
}

/// Waits for all children that have ended. Returns the exit code if the proxy is one of them.
fn reap(proxy: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == proxy => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == proxy => code = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(_) => {}
        }
    }
}
