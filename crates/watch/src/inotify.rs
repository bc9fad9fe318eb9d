//! inotify(7): watches on folders, and what the kernel reports of them.

use std::ffi::{OsStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use crate::Error;

/// Room for the events that one system call returns.
const BUFFER: usize = 16 << 10;

/// An inotify instance.
#[derive(Debug)]
pub(crate) struct Inotify(OwnedFd);

/// One watched folder. The same folder has the same watch, whatever path led to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Watch(i32);

/// What the kernel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// Something happened to this name in the folder: it came, went or was written.
    Name(Watch, OsString),
    /// The folder itself was moved. It is still watched.
    Moved(Watch),
    /// The folder is gone, and the watch with it.
    Ended(Watch),
    /// The queue was full: events are missing.
    Lost,
}

impl Inotify {
    pub(crate) fn new() -> Result<Inotify, Error> {
        match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
            Ok(fd) => Ok(Inotify(fd)),
            Err(Errno::MFILE) => Err(Error::Instances),
            Err(error) => Err(Error::System(error.into())),
        }
    }

    /// Watches the folder at `folder`.
    pub(crate) fn watch(&self, folder: &Path) -> Result<Watch, Error> {
        let flags = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        match inotify::add_watch(&self.0, folder, flags) {
            Ok(watch) => Ok(Watch(watch)),
            Err(Errno::NOSPC) => Err(Error::Watches),
            Err(error) => Err(Error::System(error.into())),
        }
    }

    pub(crate) fn unwatch(&self, watch: Watch) {
        // An error means that the watch has ended by itself, with its folder.
        let _ = inotify::remove_watch(&self.0, watch.0);
    }

    /// Waits until there are events, at most for `timeout`. Returns whether there are.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> io::Result<bool> {
        wait([self.as_fd()], timeout).map(|[ready]| ready)
    }

    /// Takes the events that have come, without waiting.
    pub(crate) fn events(&self) -> io::Result<Vec<Event>> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut events = Vec::new();
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    events.extend(meaning(Watch(event.wd()), event.events(), name));
                }
                Err(Errno::AGAIN) => return Ok(events),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits until one of `fds` can be read, at most for `timeout`. Returns which can.
pub(crate) fn wait<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let timeout = timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    });
    let mut polled = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    match poll(&mut polled, timeout.as_ref()) {
        Ok(_) => Ok(polled.map(|fd| !fd.revents().is_empty())),
        Err(Errno::INTR) => Ok([false; N]),
        Err(error) => Err(error.into()),
    }
}

fn meaning(watch: Watch, flags: ReadFlags, name: Option<&OsStr>) -> Option<Event> {
    if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
        Some(Event::Lost)
    } else if flags.contains(ReadFlags::IGNORED) {
        Some(Event::Ended(watch))
    } else if flags.contains(ReadFlags::MOVE_SELF) {
        Some(Event::Moved(watch))
    } else {
        name.map(|name| Event::Name(watch, name.to_owned()))
    }
}
