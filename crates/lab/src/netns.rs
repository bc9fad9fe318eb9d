//! A network namespace, and work in it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::Arc;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

use crate::Error;

/// A network namespace (network_namespaces(7)). It lives as long as any clone of this, a process or
/// a socket in it.
#[derive(Debug, Clone)]
pub struct Namespace {
    name: Arc<str>,
    fd: Arc<OwnedFd>,
}

impl Namespace {
    /// Creates an empty namespace; `name` is for messages. Needs CAP_SYS_ADMIN, which a sandbox
    /// gives.
    pub fn new(name: &str) -> Result<Namespace, Error> {
        let fd = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })
        .map_err(Error::io(format!("creating the network namespace of {name}")))?;
        Ok(Namespace { name: name.into(), fd: Arc::new(fd.into()) })
    }

    /// Whose namespace it is, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on a new thread in this namespace and returns its value; a panic goes on in the
    /// caller. Sockets opened by `work` stay in this namespace wherever they are used later.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        in_thread(|| {
            setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        })
        .map_err(Error::io(format!("entering the network namespace of {}", self.name)))
    }

    /// Starts a process in this namespace.
    pub fn spawn(&self, command: &mut Command) -> Result<Child, Error> {
        let what = format!("starting {} on {}", command.get_program().display(), self.name);
        self.run(|| command.spawn())?.map_err(Error::io(what))
    }

    /// Sets a kernel parameter of this namespace, such as `net.ipv4.ip_forward`, with `/` or `.`
    /// between its parts.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), Error> {
        self.run(|| sysctl(key, value))?
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sets a parameter of the calling thread's namespace.
pub(crate) fn sysctl(key: &str, value: &str) -> Result<(), Error> {
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    fs::write(&path, value).map_err(Error::io(format!("setting {key}={value}")))
}

fn in_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, work)?.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
