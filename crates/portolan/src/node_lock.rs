//! Only one proxy works in a network namespace: two would rewrite each other's rules for ever.
//!
//! The lock is an abstract unix socket. Its name belongs to the network namespace, whatever file
//! systems a container sees, and is free when the process that has it ends, however it ends
//! (unix(7)). Who comes second connects to it, and so knows which process is first, and when it has
//! ended. The first one that waits gets the sockets of Service ports by this connection, when the
//! process that has the lock is to end.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fmt, mem};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::{PeerCredentials, SendTimeout};
use nix::sys::socket::{
    AddressFamily, Shutdown, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, shutdown, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};
use portolan_dataplane::listeners::HandedOver;
use portolan_observe::Telemetry;
use tracing::{info, warn};

/// The name in the abstract namespace.
const NAME: &[u8] = b"portolan/run";
/// At most this many waiting proxies are counted.
const WAITING_AT_MOST: usize = 8;
/// The pause between attempts where there is no event to wait for.
const PAUSE: Duration = Duration::from_secs(1);
/// The next proxy takes over within this time, or another one may.
const ANSWER: Duration = Duration::from_secs(3);

/// The right to write rules in this network namespace, for as long as this lives.
#[derive(Debug)]
pub(crate) struct NodeLock {
    listener: Option<Arc<UnixListener>>,
    waiting: Arc<Waiting>,
    /// Answers those that come second.
    answering: Option<JoinHandle<()>>,
    /// What the process before had, and handed over.
    handed_over: HandedOver,
}

/// Those that wait for this process to end.
#[derive(Debug, Default)]
struct Waiting {
    all: Mutex<Vec<(Arc<UnixStream>, Peer)>>,
    /// Nobody else is let in.
    ended: AtomicBool,
}

/// Who has the lock.
#[derive(Debug)]
pub(crate) enum Taken {
    /// We have it.
    Ours(NodeLock),
    /// Another proxy has.
    Theirs(Holder),
}

/// The proxy that was first.
#[derive(Debug)]
pub(crate) struct Holder {
    stream: Option<UnixStream>,
    peer: Peer,
}

/// A process at the other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    /// 0 if it is in another process namespace, which this one does not see into.
    pid: i32,
    uid: u32,
}

impl Peer {
    fn of(stream: &impl AsFd) -> io::Result<Peer> {
        let credentials = getsockopt(stream, PeerCredentials)?;
        Ok(Peer { pid: credentials.pid(), uid: credentials.uid() })
    }

    /// Anybody can take the name and connect to it, but only root and our own user can be a proxy.
    fn is_trusted(self) -> bool {
        self.uid == 0 || self.uid == nix::unistd::geteuid().as_raw()
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            0 => f.write_str("a process of another container"),
            pid => write!(f, "process {pid}"),
        }
    }
}

impl fmt::Display for Holder {
    /// Whose rules are in force, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "another portolan, {}, serves this node (network namespace): waiting for it to end, and writing nothing \
             until then; end one of the two",
            self.peer
        )
    }
}

/// Takes the lock, if nobody has it.
pub(crate) fn take() -> anyhow::Result<Taken> {
    take_named(NAME).context("looking for other proxies on this node")
}

fn take_named(name: &[u8]) -> io::Result<Taken> {
    let address = SocketAddr::from_abstract_name(name)?;
    loop {
        match UnixListener::bind_addr(&address) {
            Ok(listener) => return Ok(Taken::Ours(NodeLock::new(Some(listener)))),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
        match ask(name) {
            Ok(stream) => {
                let peer = Peer::of(&stream)?;
                if peer.is_trusted() {
                    return Ok(Taken::Theirs(Holder { stream: Some(stream), peer }));
                }
                return Ok(Taken::Ours(untrusted(peer)));
            }
            // It has just ended.
            Err(Errno::ECONNREFUSED) => {}
            // Too many wait to be let in.
            Err(Errno::EAGAIN) => {
                return Ok(Taken::Theirs(Holder { stream: None, peer: Peer { pid: 0, uid: 0 } }));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Nobody without privileges may keep the node's proxy from its work.
fn untrusted(peer: Peer) -> NodeLock {
    warn!(
        "{peer} of user {} has the abstract socket {} and is no proxy, as it has no privileges: going on without it; a \
         second proxy would not be noticed",
        peer.uid,
        String::from_utf8_lossy(NAME)
    );
    NodeLock::new(None)
}

/// Connects, without waiting long to be let in.
fn ask(name: &[u8]) -> nix::Result<UnixStream> {
    let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, SendTimeout, &TimeVal::seconds(1))?;
    connect(socket.as_raw_fd(), &UnixAddr::new_abstract(name)?)?;
    Ok(UnixStream::from(socket))
}

impl Holder {
    /// Waits until the other proxy has ended or gives way, and takes its place.
    pub(crate) fn wait(self) -> anyhow::Result<NodeLock> {
        self.wait_named(NAME)
    }

    fn wait_named(mut self, name: &[u8]) -> anyhow::Result<NodeLock> {
        loop {
            let handed_over = self.receive();
            match take_named(name).context("looking for other proxies on this node")? {
                Taken::Ours(lock) => {
                    self.answer();
                    return Ok(NodeLock { handed_over, ..lock });
                }
                Taken::Theirs(next) => {
                    if next.peer == self.peer {
                        thread::sleep(PAUSE);
                    } else {
                        warn!("{next}");
                    }
                    self = next;
                }
            }
        }
    }

    /// Waits for the sockets of the other proxy, or for its end.
    fn receive(&mut self) -> HandedOver {
        let Some(stream) = &mut self.stream else {
            thread::sleep(PAUSE);
            return HandedOver::default();
        };
        let (handed_over, received) = HandedOver::receive(stream);
        match received {
            Ok(()) => {}
            // A process that was killed hands nothing over.
            Err(error) if error.is_end() && handed_over.is_empty() => {}
            Err(error) => {
                let (count, peer) = (handed_over.len(), self.peer);
                warn!(
                    "sockets of {count} Service ports, and not of all, were taken over from {peer}: {error}"
                );
            }
        }
        handed_over
    }

    /// Lets the other proxy know that it has been replaced. It may have ended before.
    fn answer(&mut self) {
        let _ = self.stream.as_mut().map(|stream| stream.write_all(&[0]));
    }
}

impl NodeLock {
    fn new(listener: Option<UnixListener>) -> NodeLock {
        NodeLock {
            listener: listener.map(Arc::new),
            waiting: Arc::default(),
            answering: None,
            handed_over: HandedOver::default(),
        }
    }

    /// The sockets of the process before, if it has handed any over.
    pub(crate) fn take_over(&mut self) -> HandedOver {
        mem::take(&mut self.handed_over)
    }

    /// Lets those know that come second which process is first, and has `telemetry` say that they
    /// are there.
    pub(crate) fn announce(&mut self, telemetry: &Arc<Telemetry>) -> anyhow::Result<()> {
        let Some(listener) = self.listener.clone() else { return Ok(()) };
        let (telemetry, waiting) = (telemetry.clone(), self.waiting.clone());
        let serve = move || {
            let mut all = Vec::new();
            loop {
                let watched = watch(&listener, &mut all);
                if waiting.ended.load(Ordering::Acquire) {
                    return;
                }
                // Polling and accepting can fail for want of memory or descriptors only.
                if watched.is_err() {
                    thread::sleep(PAUSE);
                }
                telemetry.health.set_note(note(&all));
                waiting.lock().clone_from(&all);
                // Whoever reads this may end the process: then it has to be known who waits.
                if let Ok(Some(peer)) = watched {
                    warn!(
                        "another portolan, {peer}, was started on this node and waits for this one to end; end one of \
                         the two"
                    );
                }
            }
        };
        let spawned = thread::Builder::new().name("node lock".to_owned()).spawn(serve);
        self.answering = Some(spawned.context("starting the thread that answers other proxies")?);
        Ok(())
    }

    /// Whether another proxy waits for this one to end.
    pub(crate) fn is_waited_for(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Gives the lock up, and the sockets to the first of those that wait that takes over. This
    /// process must write no rule after that.
    pub(crate) fn hand_over(mut self, sockets: &HandedOver) {
        // The name is free before they know.
        self.waiting.ended.store(true, Ordering::Release);
        if let Some(listener) = self.listener.take() {
            // Wakes up the thread, which has it too.
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        // A panic of it was reported by the panic hook.
        let _ = self.answering.take().map(JoinHandle::join);
        for (stream, peer) in self.waiting.lock().drain(..) {
            match hand_to(&stream, sockets) {
                Ok(()) => {
                    info!("{peer} takes over, with the sockets of {} Service ports", sockets.len());
                    return;
                }
                Err(error) => warn!("{peer} does not take over: {error:#}"),
            }
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<UnixStream>, Peer)>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends the sockets, and waits until the other process has the lock.
fn hand_to(mut stream: &UnixStream, sockets: &HandedOver) -> anyhow::Result<()> {
    stream.set_write_timeout(Some(PAUSE))?;
    sockets.send(stream)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.read_exact(&mut [0]).context("no answer from it")
}

fn note(waiting: &[(Arc<UnixStream>, Peer)]) -> Option<String> {
    let (_, first) = waiting.first()?;
    let more = match waiting.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    Some(format!("another portolan, {first}{more}, waits for this one to end"))
}

/// Waits for somebody to come or to go.
fn watch(listener: &UnixListener, waiting: &mut Vec<(Arc<UnixStream>, Peer)>) -> io::Result<Option<Peer>> {
    let mut polled = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    polled.extend(waiting.iter().map(|(stream, _)| PollFd::new(stream.as_fd(), PollFlags::POLLIN)));
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(error.into()),
    }
    let moved: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or_default()).collect();
    let mut of_waiting = moved[1..].iter();
    // Whoever waits says nothing.
    waiting.retain(|(_, peer)| {
        let gone = of_waiting.next().copied().unwrap_or_default();
        if gone {
            info!("{peer} does not wait any more for this proxy to end");
        }
        !gone
    });
    if moved[0] {
        let (stream, _) = listener.accept()?;
        let peer = Peer::of(&stream)?;
        if peer.is_trusted() && waiting.len() < WAITING_AT_MOST {
            waiting.push((Arc::new(stream), peer));
            return Ok(Some(peer));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    fn name(of: &str) -> Vec<u8> {
        format!("portolan-test-{of}-{}", process::id()).into_bytes()
    }

    #[test]
    fn who_comes_second_waits_for_the_end_of_the_first() {
        let name = name("handover");
        let Taken::Ours(first) = take_named(&name).unwrap() else { panic!("it is free") };
        let Taken::Theirs(second) = take_named(&name).unwrap() else { panic!("it is taken") };
        assert_eq!(second.peer.pid, i32::try_from(process::id()).unwrap());
        assert!(second.to_string().contains(&format!("process {}", process::id())), "{second}");
        let waiting = thread::spawn({
            let name = name.clone();
            move || second.wait_named(&name).map(drop)
        });
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn who_waits_gets_the_lock_while_the_first_still_runs() {
        let name = name("successor");
        let Taken::Ours(mut first) = take_named(&name).unwrap() else { panic!("it is free") };
        let build = portolan_observe::BuildInfo::new("0");
        let families = portolan_service::Family::ALL;
        let mode = portolan_config::Config::default().mode;
        let telemetry = Arc::new(Telemetry::new(mode, mode, &families, PAUSE, &build));
        first.announce(&telemetry).unwrap();
        let Taken::Theirs(second) = take_named(&name).unwrap() else { panic!("it is taken") };
        let waiting = thread::spawn(move || second.wait_named(&name).map(drop));
        while !first.is_waited_for() {
            thread::yield_now();
        }
        first.hand_over(&HandedOver::default());
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn who_dies_before_it_takes_over_leaves_the_sockets_to_the_next() {
        let name = name("death");
        let Taken::Ours(first) = take_named(&name).unwrap() else { panic!("it is free") };
        let listener = first.listener.clone().unwrap();
        let (mut dying, mut next) = (ask(&name).unwrap(), ask(&name).unwrap());
        let mut waiting = Vec::new();
        for _ in 0..2 {
            watch(&listener, &mut waiting).unwrap();
        }
        drop(listener);
        first.waiting.lock().clone_from(&waiting);
        drop(waiting);
        // It gets all, and ends before it has the lock.
        let dying = thread::spawn(move || HandedOver::receive(&mut dying).1);
        let next = thread::spawn(move || {
            let received = HandedOver::receive(&mut next).1;
            next.write_all(&[0]).unwrap();
            received
        });
        first.hand_over(&HandedOver::default());
        dying.join().unwrap().unwrap();
        next.join().unwrap().unwrap();
    }

    #[test]
    fn who_waits_is_known() {
        let name = name("known");
        let Taken::Ours(first) = take_named(&name).unwrap() else { panic!("it is free") };
        let listener = first.listener.as_ref().unwrap();
        let mut waiting = Vec::new();
        let Taken::Theirs(second) = take_named(&name).unwrap() else { panic!("it is taken") };
        watch(listener, &mut waiting).unwrap();
        let expected = format!("another portolan, process {}, waits for this one to end", process::id());
        assert_eq!(note(&waiting), Some(expected));
        drop(second);
        watch(listener, &mut waiting).unwrap();
        assert_eq!(note(&waiting), None);
    }

    #[test]
    fn only_root_and_our_own_user_can_be_a_proxy() {
        let own = nix::unistd::geteuid().as_raw();
        for (uid, expected) in [(0, true), (own, true), (own + 1, false), (65534, false)] {
            assert_eq!(Peer { pid: 1, uid }.is_trusted(), expected, "{uid}");
        }
    }
}
