//! What runs in a pod: HTTP over TCP and an echo over UDP that report who answered whom.
//!
//! One thread serves all ports of a pod by readiness, so that a pod costs little and a slow client
//! holds up nobody.

mod answer;
mod http;
mod page;
mod shell;

use std::collections::HashMap;
use std::io::{self, PipeWriter, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Protocol, Socket, Type};

use crate::Error;
use crate::netns::Namespace;
pub use answer::{Answer, Identity};
pub use page::Page;
use shell::Shells;

/// Connections that wait for the responder to take them.
const BACKLOG: i32 = 1024;
/// The epoll key of the pipe whose end means stop.
const STOP: u64 = 0;

/// A running responder. Its ports are closed when this has been dropped.
#[derive(Debug)]
pub struct Responder {
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    /// Answers TCP and UDP on each of `ports` at each of `addresses` in `namespace`, from when this
    /// returns.
    pub fn start(
        namespace: &Namespace,
        identity: &Identity,
        addresses: &[IpAddr],
        ports: &[u16],
    ) -> Result<Responder, Error> {
        let opened = namespace.run(|| open(addresses, ports, ports))??;
        Responder::with(opened, identity, Page::Facts)
    }

    /// The same in the caller's own namespace, with another page, and UDP on other ports than TCP.
    pub fn start_here(
        identity: &Identity,
        page: Page,
        addresses: &[IpAddr],
        ports: &[u16],
        datagrams: &[u16],
    ) -> Result<Responder, Error> {
        Responder::with(open(addresses, ports, datagrams)?, identity, page)
    }

    fn with(opened: Vec<Source>, identity: &Identity, page: Page) -> Result<Responder, Error> {
        let mut sources = HashMap::new();
        for source in opened {
            sources.insert(key_after(&sources), source);
        }
        let failed = || Error::io::<io::Error>(format!("starting the responder of {}", identity.pod));
        let (stopped, stop) = io::pipe().map_err(failed())?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|errno| failed()(errno.into()))?;
        let readable = |key| EpollEvent::new(EpollFlags::EPOLLIN, key);
        epoll.add(&stopped, readable(STOP)).map_err(|errno| failed()(errno.into()))?;
        for (key, source) in &sources {
            epoll.add(source, readable(*key)).map_err(|errno| failed()(errno.into()))?;
        }
        let next = key_after(&sources);
        let mut server =
            Server { epoll, sources, next, identity: identity.clone(), page, shells: Shells::default() };
        let thread = thread::Builder::new()
            .name("responder".to_owned())
            .spawn(move || {
                let _stopped = stopped;
                server.serve();
            })
            .map_err(failed())?;
        Ok(Responder { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there has been printed; nothing more can be done about it here.
            let _ = thread.join();
        }
    }
}

fn key_after(sources: &HashMap<u64, Source>) -> u64 {
    sources.keys().max().map_or(STOP + 1, |key| key + 1)
}

/// A socket for each address: an answer comes from the address that was asked, and clients are seen
/// by their address in their own family.
fn open(addresses: &[IpAddr], ports: &[u16], datagrams: &[u16]) -> Result<Vec<Source>, Error> {
    let mut sources = Vec::new();
    for address in addresses {
        for port in ports {
            sources.push(Source::Listener(listen(SocketAddr::new(*address, *port))?));
        }
        for port in datagrams {
            sources.push(Source::Datagrams(bind(SocketAddr::new(*address, *port))?));
        }
    }
    Ok(sources)
}

fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let listen = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of the responder before this one may linger.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    listen().map_err(Error::io::<io::Error>(format!("listening on TCP {address}")))
}

fn bind(address: SocketAddr) -> Result<UdpSocket, Error> {
    let bind = || {
        let socket = UdpSocket::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    bind().map_err(Error::io::<io::Error>(format!("listening on UDP {address}")))
}

#[derive(Debug)]
enum Source {
    Listener(TcpListener),
    Datagrams(UdpSocket),
    Connection { stream: TcpStream, client: SocketAddr, server: SocketAddr, received: Vec<u8> },
}

impl AsFd for Source {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Source::Listener(listener) => listener.as_fd(),
            Source::Datagrams(socket) => socket.as_fd(),
            Source::Connection { stream, .. } => stream.as_fd(),
        }
    }
}

struct Server {
    epoll: Epoll,
    sources: HashMap<u64, Source>,
    next: u64,
    identity: Identity,
    page: Page,
    shells: Shells,
}

/// What becomes of a source that has been served.
enum Then {
    GoOn,
    End,
    /// Its client wants a command to be run, and to hear nothing else.
    Run(String),
}

impl Server {
    fn serve(&mut self) {
        let mut events = [EpollEvent::empty(); 64];
        loop {
            let count = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                // Only a closed or foreign descriptor gives another error, and this one is ours.
                Err(_) => return,
            };
            for event in &events[..count] {
                if event.data() == STOP {
                    return;
                }
                self.handle(event.data());
            }
        }
    }

    fn handle(&mut self, key: u64) {
        let mut accepted = Vec::new();
        let then = match self.sources.get_mut(&key) {
            None => return,
            Some(Source::Listener(listener)) => {
                // Errors concern one connection; the others show at the next readiness.
                while let Ok((stream, client)) = listener.accept() {
                    accepted.push((stream, client));
                }
                Then::GoOn
            }
            Some(Source::Datagrams(socket)) => {
                echo(socket, &self.identity, &self.page);
                Then::GoOn
            }
            Some(Source::Connection { stream, client, server, received }) => {
                converse(stream, received, &self.page, |request| {
                    let answer = Answer::new(&self.identity, "TCP", *client, *server);
                    http::respond(request, &self.page, &answer)
                })
            }
        };
        match then {
            Then::GoOn => {}
            // Closing takes it out of the epoll set.
            Then::End => drop(self.sources.remove(&key)),
            Then::Run(command) => self.run(key, command),
        }
        for (stream, client) in accepted {
            self.admit(stream, client);
        }
    }

    /// Hands a connection over to a thread that runs a command for it.
    fn run(&mut self, key: u64, command: String) {
        let Some(Source::Connection { stream, .. }) = self.sources.remove(&key) else { return };
        let source = stream.as_fd();
        if self.epoll.delete(source).is_ok() {
            self.shells.run(stream, command);
        }
    }

    fn admit(&mut self, stream: TcpStream, client: SocketAddr) {
        // Whatever fails here is a connection that has gone already.
        let Ok(server) = stream.local_addr() else { return };
        if stream.set_nonblocking(true).is_err() || stream.set_nodelay(true).is_err() {
            return;
        }
        let key = self.next;
        let connection = Source::Connection { stream, client, server, received: Vec::new() };
        if self.epoll.add(&connection, EpollEvent::new(EpollFlags::EPOLLIN, key)).is_ok() {
            self.next += 1;
            self.sources.insert(key, connection);
        }
    }
}

/// Answers every datagram that is there.
fn echo(socket: &UdpSocket, identity: &Identity, page: &Page) {
    let Ok(server) = socket.local_addr() else { return };
    let mut datagram = [0; 2048];
    loop {
        match socket.recv_from(&mut datagram) {
            Ok((length, client)) => {
                let answer = Answer::new(identity, "UDP", client, server);
                let answer = page.datagram(&datagram[..length], &answer);
                // A full buffer loses a datagram, as a network may.
                let _ = socket.send_to(&answer, client);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // An ICMP error for an earlier answer; it has been taken off the socket by this.
            Err(_) => {}
        }
    }
}

/// Reads what there is and answers whole requests.
fn converse(
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
    page: &Page,
    respond: impl Fn(&http::RequestHead) -> Vec<u8>,
) -> Then {
    let mut piece = [0; 2048];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return Then::End,
            Ok(length) => received.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Then::GoOn,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Then::End,
        }
        while let Some((request, length)) = http::RequestHead::parse(received) {
            received.drain(..length);
            if let Some(command) = page.command(request.target()) {
                return Then::Run(command);
            }
            // An answer is smaller than any socket buffer; a client that lets answers pile up is
            // cut off.
            if stream.write_all(&respond(&request)).is_err() || !request.keep_alive {
                return Then::End;
            }
        }
        if received.len() > http::MAX_HEAD {
            return Then::End;
        }
    }
}
