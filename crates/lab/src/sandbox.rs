//! Private user, mount, network, process and host-name namespaces that end with the program.
//!
//! A caller that is root and says so keeps its user namespace, for what the kernel lets only root
//! of the machine do.
//!
//! Three processes: the one outside waits; process 1 inside reaps orphans; the worker is the
//! caller, continuing. When the worker or process 1 ends, the kernel kills whatever else runs
//! inside, and with the last process all network namespaces go (pid_namespaces(7)). Process 1 dies
//! with the one outside, however that ends.

use std::ffi::CStr;
use std::fs;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, Signal, kill, signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, getegid, geteuid};

use crate::Error;

/// Set to `1` by who runs tests as root of a machine that is theirs, to keep the user namespace.
const PRIVILEGED: &str = "PORTOLAN_SANDBOX_PRIVILEGED";

/// Whether [`enter`] keeps the caller's user namespace.
pub fn is_wanted_privileged() -> bool {
    std::env::var_os(PRIVILEGED).is_some_and(|value| value == "1")
}

/// Which side of [`enter`] this is.
#[derive(Debug)]
pub enum Entered {
    /// Inside: go on.
    Inside,
    /// Outside, after everything inside has ended: return this from `main`.
    Ended(ExitCode),
}

/// Enters a new sandbox, in which the caller is root over its own namespaces and nothing else.
///
/// Call it before any thread is started, as user_namespaces(7) demands. The process outside passes
/// SIGINT, SIGTERM and SIGHUP on by ending the sandbox, and returns the worker's exit code, or 128
/// and the signal that ended it.
pub fn enter() -> Result<Entered, Error> {
    // Signals are held back before there is a child that they must reach.
    let watched = watched_signals();
    let before = watched
        .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
        .map_err(Error::io("blocking signals"))?;
    let entered = enter_masked(&watched, &before);
    if !matches!(entered, Ok(Entered::Inside)) {
        before.thread_set_mask().map_err(Error::io("restoring the signal mask"))?;
    }
    entered
}

fn enter_masked(watched: &SigSet, before: &SigSet) -> Result<Entered, Error> {
    // In a process of its own, so that a caller that cannot enter is unchanged. It reports through
    // the pipe.
    let (life_inside, life_outside) = io::pipe().map_err(Error::io("a pipe"))?;
    let (report, reporter) = io::pipe().map_err(Error::io("a pipe"))?;
    // SAFETY: the process has one thread (the caller's contract; the kernel refuses CLONE_NEWUSER
    // otherwise), so the child may do anything that the parent may.
    match unsafe { fork() }.map_err(Error::io("forking"))? {
        ForkResult::Parent { child } => {
            drop((life_inside, reporter));
            let failure = read_report(report);
            // Not killed: it must see the end of all processes inside before its own.
            let code = wait(child, watched, Signal::SIGTERM).map_err(Error::io("waiting for the sandbox"))?;
            drop(life_outside);
            failure.map_or(Ok(Entered::Ended(ExitCode::from(code))), Err)
        }
        ForkResult::Child => {
            drop((life_outside, report));
            let mut reporter = Some(reporter);
            match become_worker(&life_inside, &mut reporter, watched, before) {
                Ok(()) => Ok(Entered::Inside),
                Err(failure) => {
                    failure.send(reporter);
                    std::process::exit(1);
                }
            }
        }
    }
}

fn watched_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD].into_iter().collect()
}

/// The step of entering that failed, as it crosses from the child to the caller.
struct Failure {
    step: String,
    errno: Errno,
}

impl Failure {
    fn at(step: impl Into<String>) -> impl FnOnce(Errno) -> Failure {
        let step = step.into();
        move |errno| Failure { step, errno }
    }

    fn send(&self, reporter: Option<PipeWriter>) {
        if let Some(mut reporter) = reporter {
            // If this fails, the caller still sees the exit code.
            let _ = writeln!(reporter, "{} {}", self.errno as i32, self.step);
        }
    }
}

/// What the child could not do. Returns when the child is inside, has failed or is gone.
fn read_report(mut report: PipeReader) -> Option<Error> {
    let mut text = String::new();
    report.read_to_string(&mut text).ok()?;
    let (errno, step) = text.trim_end().split_once(' ')?;
    let source = io::Error::from_raw_os_error(errno.parse().ok()?);
    Some(if step == NEW_NAMESPACES {
        Error::NoUserNamespaces { source, remedy: remedy() }
    } else {
        Error::Io { what: step.to_owned(), source }
    })
}

const NEW_NAMESPACES: &str = "creating namespaces";

/// Names the setting that stands in the way, as far as it shows.
fn remedy() -> String {
    let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
    for (path, off, setting) in [
        ("/proc/sys/kernel/unprivileged_userns_clone", "0", "kernel.unprivileged_userns_clone=1"),
        ("/proc/sys/user/max_user_namespaces", "0", "user.max_user_namespaces=10000"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
            "kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ] {
        if is(path, off) {
            return format!("set it free with: sudo sysctl -w {setting}");
        }
    }
    "in a container, its seccomp profile may forbid it: allow unshare(2) there, or run on the machine itself; \
     otherwise look at user.max_user_namespaces and kernel.apparmor_restrict_unprivileged_userns"
        .to_owned()
}

/// In the child: new namespaces, process 1, and the worker, in which alone this returns without
/// failure.
fn become_worker(
    life: &PipeReader,
    reporter: &mut Option<PipeWriter>,
    watched: &SigSet,
    before: &SigSet,
) -> Result<(), Failure> {
    let (uid, gid) = (geteuid(), getegid());
    let private = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWUTS;
    let privileged = is_wanted_privileged();
    let users = if privileged { CloneFlags::empty() } else { CloneFlags::CLONE_NEWUSER };
    unshare(private | users).map_err(Failure::at(NEW_NAMESPACES))?;
    // user_namespaces(7): setgroups must be given up before an unprivileged gid_map.
    let maps = [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("0 {uid} 1")),
        ("gid_map", format!("0 {gid} 1")),
    ];
    for (file, text) in maps.into_iter().filter(|_| !privileged) {
        let path = format!("/proc/self/{file}");
        fs::write(&path, text).map_err(|error| Failure::at(format!("writing {path}"))(errno(&error)))?;
    }
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::at("prctl PR_SET_PDEATHSIG"))?;

    // SAFETY: still one thread.
    match unsafe { fork() }.map_err(Failure::at("forking process 1"))? {
        ForkResult::Parent { child } => {
            // Stays between the process outside and process 1: process namespaces begin with a
            // child.
            drop(reporter.take());
            std::process::exit(wait(child, watched, Signal::SIGKILL).map_or(1, i32::from))
        }
        ForkResult::Child => {}
    }
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(Failure::at("prctl PR_SET_PDEATHSIG"))?;
    if is_closed(life) {
        std::process::exit(1); // the one outside died before the line above
    }
    private_mounts()?;

    // SAFETY: still one thread.
    match unsafe { fork() }.map_err(Failure::at("forking the worker"))? {
        ForkResult::Parent { child } => {
            drop(reporter.take());
            std::process::exit(reap(child))
        }
        ForkResult::Child => {}
    }
    drop(reporter.take());
    obey_terminals()?;
    before.thread_set_mask().map_err(Failure::at("restoring the signal mask"))
}

/// Has Ctrl-C and Ctrl-\ end the caller and what it starts. A shell in a script has what it starts
/// in the background ignore them, and whatever is started from there inherits that: Ctrl-C in a
/// pod's terminal would do nothing.
fn obey_terminals() -> Result<(), Failure> {
    for interrupt in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: the usual disposition runs no code of ours.
        unsafe { signal(interrupt, SigHandler::SigDfl) }
            .map_err(Failure::at(format!("obeying {interrupt}")))?;
    }
    Ok(())
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw)
}

fn is_closed(pipe: &PipeReader) -> bool {
    let mut set = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    poll(&mut set, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Mounts that nobody outside sees: /proc of the new processes, an empty /run, and a resolv.conf.
fn private_mounts() -> Result<(), Failure> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Failure::at("making mounts private"))?;
    mount_proc().map_err(Failure::at("mounting /proc"))?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=0755"))
        .map_err(Failure::at("mounting /run"))?;
    private_resolver()
}

/// Mounts a /proc of the caller's process numbers. It allocates nothing.
pub(crate) fn mount_proc() -> nix::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some(c"proc"), c"/proc", Some(c"proc"), flags, None::<&CStr>) {
        // Where parts of /proc are covered, as in containers, the kernel allows no new one. The old
        // one does: the links self and thread-self in it follow us, and /proc/sys/net belongs to
        // the reader's network namespace.
        Ok(()) | Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// What name resolution reads inside. No name server of the machine's can be reached from there,
/// and programs such as `iptables -L` would wait a minute for each name; on its own loopback a
/// question is refused at once.
pub(crate) const RESOLV_CONF: &str = "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n";

/// Puts [`RESOLV_CONF`] where the machine has its own.
fn private_resolver() -> Result<(), Failure> {
    const PLACE: &str = "/etc/resolv.conf";
    const OWN: &str = "/run/resolv.conf";
    let write = |path: &Path| {
        fs::write(path, RESOLV_CONF)
            .map_err(|error| Failure::at(format!("writing {}", path.display()))(errno(&error)))
    };
    // A link into /run, as systemd-resolved has it, leads nowhere now.
    if let Some(target) = fs::read_link(PLACE)
        .ok()
        .map(|link| Path::new("/etc").join(link))
        .filter(|_| !Path::new(PLACE).exists())
    {
        // Where the link leads out of /run there is nothing to make: without the file, 127.0.0.1 is
        // asked (resolv.conf(5)).
        let target = normal(&target);
        if let (true, Some(folder)) = (target.starts_with("/run"), target.parent()) {
            fs::create_dir_all(folder)
                .map_err(|error| Failure::at(format!("creating {}", folder.display()))(errno(&error)))?;
            write(&target)?;
        }
        return Ok(());
    }
    if !Path::new(PLACE).exists() {
        return Ok(());
    }
    write(Path::new(OWN))?;
    let none: Option<&str> = None;
    mount(Some(OWN), PLACE, none, MsFlags::MS_BIND, none).map_err(Failure::at(format!("mounting {PLACE}")))
}

/// The path without `..`, as if no folder on the way were a link.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

/// Process 1: waits for orphans, and ends with the worker.
fn reap(worker: Pid) -> i32 {
    loop {
        match waitpid(None, None) {
            Ok(status) if status.pid() == Some(worker) => {
                if let Some(code) = code_of(status) {
                    return code.into();
                }
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
}

/// The exit code of a process that has ended, as a shell gives it.
fn code_of(status: WaitStatus) -> Option<u8> {
    match status {
        WaitStatus::Exited(_, code) => Some(u8::try_from(code & 0xff).unwrap_or(u8::MAX)),
        WaitStatus::Signaled(_, signal, _) => Some(signal_code(signal)),
        _ => None,
    }
}

fn signal_code(signal: Signal) -> u8 {
    128 + u8::try_from(signal as i32).unwrap_or_default()
}

/// Waits for the child's end; a signal to end is passed on to it as `ending`.
fn wait(child: Pid, watched: &SigSet, ending: Signal) -> Result<u8, Errno> {
    let mut ended_by = None;
    loop {
        match watched.wait()? {
            Signal::SIGCHLD => {
                if let Some(code) = code_of(waitpid(child, Some(WaitPidFlag::WNOHANG))?) {
                    return Ok(ended_by.map_or(code, signal_code));
                }
            }
            signal => {
                ended_by = Some(signal);
                // It may be gone by now. Process 1 heeds no other signal than SIGKILL
                // (pid_namespaces(7)).
                let _ = kill(child, ending);
            }
        }
    }
}
