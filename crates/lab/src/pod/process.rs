//! The processes of a container: in the pod's network, and with mounts, a host name and process
//! numbers of their own.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, sethostname};

use super::Place;
use super::life::Exit;
use super::log::Log;
use crate::privileges;
use crate::sandbox::mount_proc;

/// A container's command, and how it begins.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) command: Command,
    /// It is the lab's own, which mounts its /proc itself.
    pub(super) mounts_proc: bool,
    /// The signals that it begins with held back. Process 1 loses what it neither handles nor holds
    /// back (pid_namespaces(7)): one that comes before the server has begun would be waited for in
    /// vain, as long as the pod has to end.
    pub(super) held_back: SigSet,
}

/// A container that runs. It is its first process, which has number 1 there: when that ends, the
/// kernel ends all others.
#[derive(Debug, Clone)]
pub(super) struct Running {
    /// Its first process, until it has been waited for.
    first: Arc<Mutex<Option<Pid>>>,
    inside: Arc<Inside>,
    environment: Arc<Environment>,
}

/// What every command in a container begins with.
#[derive(Debug)]
struct Environment {
    variables: Vec<(OsString, OsString)>,
    folder: Option<PathBuf>,
}

/// The namespaces of a container that runs, to be entered (setns(2)). They hold nothing up: a
/// container that has ended can be entered no more.
#[derive(Debug)]
pub struct Namespaces {
    /// Its mounts.
    pub mount: OwnedFd,
    /// Its process numbers: those of the children of whoever enters.
    pub process: OwnedFd,
    /// Its host name.
    pub host_name: OwnedFd,
    /// Its message queues, semaphores and shared memory.
    pub communication: OwnedFd,
    /// Its network.
    pub network: OwnedFd,
}

/// Where a container's processes are.
#[derive(Debug)]
struct Inside {
    place: Place,
    mount: OwnedFd,
    host_name: OwnedFd,
    communication: OwnedFd,
    process: OwnedFd,
}

/// Starts a container. What it writes goes into `log`; `ended` is called when it has ended.
///
/// The lab's own server, which most containers are, is not forked, as far as the standard library
/// can do without: a lab with many pods is large, and copying its page tables takes longer than all
/// else.
pub(super) fn start(
    place: &Place,
    prepared: Prepared,
    log: Log,
    ended: impl FnOnce(Exit) + Send + 'static,
) -> io::Result<Running> {
    let Prepared { mut command, mounts_proc, held_back } = prepared;
    let environment = Environment::of(&command);
    let (reader, writer) = io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let (child, inside) = in_thread(|| {
        let new = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWPID;
        setns(place.network.as_fd(), CloneFlags::CLONE_NEWNET)?;
        unshare(new)?;
        furnish(place)?;
        // Opened while this thread is still to be found in /proc: its first child covers it.
        let folder = File::open("/proc/thread-self/ns")?;
        let open = |name: &str| {
            openat(&folder, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(io::Error::from)
        };
        let (mount, host_name, communication) = (open("mnt")?, open("uts")?, open("ipc")?);
        if !mounts_proc {
            mount_proc_first(&mut command);
        }
        // This thread is for this child alone.
        held_back.thread_block()?;
        let child = as_root(&mut command)?;
        let process = open("pid_for_children")?;
        let place = place.clone();
        Ok((child, Inside { place, mount, host_name, communication, process }))
    })?;
    // The writing ends in it would keep the log open.
    drop(command);
    let first = Arc::new(Mutex::new(i32::try_from(child.id()).ok().map(Pid::from_raw)));
    let running =
        Running { first: Arc::clone(&first), inside: Arc::new(inside), environment: Arc::new(environment) };
    thread::Builder::new()
        .name("container".to_owned())
        .stack_size(64 << 10)
        .spawn(move || ended(attend(child, &first, reader, &log)))?;
    Ok(running)
}

/// Reads what a container writes, waits for its end, and takes care that no signal is sent to a
/// number that has become another's.
fn attend(mut child: Child, first: &Mutex<Option<Pid>>, mut reader: PipeReader, log: &Log) -> Exit {
    let mut piece = [0; 4096];
    loop {
        match reader.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => log.write(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let pid = *first.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pid) = pid {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(pid), flags) == Err(Errno::EINTR) {}
    }
    let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
    *first = None;
    let exit = match child.wait() {
        Ok(status) => Exit {
            code: status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(255),
            signal: status.signal().unwrap_or_default(),
        },
        Err(_) => Exit { code: 255, signal: 0 },
    };
    log.complete();
    exit
}

/// What is different in a pod from its node, in the calling thread's namespaces: all mounts
/// private, its host name, its files in /etc.
fn furnish(place: &Place) -> io::Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    sethostname(&place.host_name)?;
    for (own, place) in &place.files {
        mount(Some(own.as_path()), place.as_path(), none, MsFlags::MS_BIND, none)?;
    }
    Ok(())
}

/// Has the command mount a /proc of its process numbers before it runs.
fn mount_proc_first(command: &mut Command) {
    // SAFETY: between fork and exec only what is safe in a signal handler may be called. This is
    // one system call with constant strings; it allocates nothing.
    unsafe { command.pre_exec(|| mount_proc().map_err(Into::into)) };
}

/// Starts a command in a thread that ends thereafter.
fn as_root(command: &mut Command) -> io::Result<Child> {
    // Where the kernel has no filters, programs that want to be another user say so.
    let _ = privileges::stay_root();
    command.spawn()
}

fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, work)?.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

impl Environment {
    fn of(command: &Command) -> Environment {
        let owned = |(name, value): (&OsStr, Option<&OsStr>)| Some((name.to_owned(), value?.to_owned()));
        Environment {
            variables: command.get_envs().filter_map(owned).collect(),
            folder: command.get_current_dir().map(Path::to_owned),
        }
    }
}

impl Running {
    /// A command with the environment of the container, to be started by [`Running::spawn`].
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.environment.variables.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.environment.folder {
            command.current_dir(folder);
        }
        command
    }

    pub(super) fn namespaces(&self) -> io::Result<Namespaces> {
        let inside = &self.inside;
        Ok(Namespaces {
            mount: inside.mount.try_clone()?,
            process: inside.process.try_clone()?,
            host_name: inside.host_name.try_clone()?,
            communication: inside.communication.try_clone()?,
            network: inside.place.network.as_fd().try_clone_to_owned()?,
        })
    }

    /// Asks the container to end. One that does nothing about it, as number 1 may, goes on.
    pub(super) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Ends the container.
    pub(super) fn kill(&self) {
        self.signal(Signal::SIGKILL);
    }

    fn signal(&self, signal: Signal) {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = *first {
            // It is there, for it has not been waited for; whether it has ended is no matter.
            let _ = kill(pid, signal);
        }
    }

    /// Starts one more process in the container.
    pub(super) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let inside = &self.inside;
        in_thread(|| {
            // A thread that shares its root with others cannot go to other mounts.
            unshare(CloneFlags::CLONE_FS)?;
            setns(&inside.process, CloneFlags::CLONE_NEWPID)?;
            setns(inside.place.network.as_fd(), CloneFlags::CLONE_NEWNET)?;
            setns(&inside.host_name, CloneFlags::CLONE_NEWUTS)?;
            setns(&inside.communication, CloneFlags::CLONE_NEWIPC)?;
            setns(&inside.mount, CloneFlags::CLONE_NEWNS)?;
            as_root(command)
        })
    }
}
