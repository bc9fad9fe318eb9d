//! Sockets as a relay needs them.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;

use socket2::{Domain, Protocol as Transport, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::error::Error;
use crate::listener::{Destination, Listener, Protocol, Sockets, Source, Upstream};
use crate::shared::Keepalive;
use crate::system;

/// Connections that wait to be accepted; the kernel grants `net.core.somaxconn` of them.
const BACKLOG: i32 = 4096;
/// Receive buffer of a socket that datagrams of all clients come to, octets.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// Opens what `listener` has not brought along, and makes all ready for use. Returns where they
/// listen.
pub(crate) fn open(
    listener: &Listener,
    threads: usize,
    keepalive: Option<Keepalive>,
) -> Result<(Arc<Sockets>, SocketAddr), Error> {
    let key = &listener.key;
    let bind = |source| Error::Bind {
        key: key.clone(),
        address: listener.address,
        protocol: listener.protocol,
        source,
    };
    let sockets = match &listener.sockets {
        Some(sockets) if sockets.protocol() == listener.protocol => sockets.clone(),
        Some(_) => return Err(Error::Sockets { key: key.clone(), protocol: listener.protocol }),
        None => match listener.protocol {
            Protocol::Tcp => Arc::new(Sockets::Tcp(connections(listener).map_err(bind)?)),
            Protocol::Udp => Arc::new(Sockets::Udp(datagrams(listener, threads).map_err(bind)?)),
        },
    };
    let ready = match &*sockets {
        Sockets::Tcp(socket) => ready_for_connections(socket, keepalive),
        Sockets::Udp(sockets) => sockets.iter().try_for_each(|socket| ready_for_datagrams(listener, socket)),
    };
    ready.map_err(Error::system("setting options of a listener's socket"))?;
    let address = match &*sockets {
        Sockets::Tcp(socket) => socket.local_addr(),
        Sockets::Udp(sockets) => match sockets.first() {
            Some(socket) => socket.local_addr(),
            None => return Err(Error::Sockets { key: key.clone(), protocol: listener.protocol }),
        },
    };
    Ok((sockets, address.map_err(Error::system("reading the address of a listener's socket"))?))
}

fn connections(listener: &Listener) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(listener.address), Type::STREAM, Some(Transport::TCP))?;
    // Connections of a relay that ended do not keep the next one from its port.
    socket.set_reuse_address(true)?;
    prepare(&socket, listener)?;
    socket.bind(&listener.address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One a thread. The first is bound alone before: others of this host could share the port of those
/// with SO_REUSEPORT, and clients would be theirs without notice.
fn datagrams(listener: &Listener, threads: usize) -> io::Result<Vec<UdpSocket>> {
    let one = |address: SocketAddr, shared| {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Transport::UDP))?;
        socket.set_reuse_port(shared)?;
        prepare(&socket, listener)?;
        socket.bind(&address.into())?;
        io::Result::Ok(UdpSocket::from(socket))
    };
    let address = one(listener.address, false)?.local_addr()?;
    (0..threads.max(1)).map(|_| one(address, true)).collect()
}

/// Whether a listener can be opened at `address` now. Does not listen there. An address that this
/// host does not have is free.
pub fn is_free(protocol: Protocol, address: SocketAddr) -> bool {
    let (kind, transport) = match protocol {
        Protocol::Tcp => (Type::STREAM, Transport::TCP),
        Protocol::Udp => (Type::DGRAM, Transport::UDP),
    };
    let bound = Socket::new(Domain::for_address(address), kind, Some(transport)).and_then(|socket| {
        socket.set_reuse_address(protocol == Protocol::Tcp)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())
    });
    !bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn prepare(socket: &Socket, listener: &Listener) -> io::Result<()> {
    if listener.address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if listener.transparent {
        set_transparent(socket, listener.address)?;
    }
    Ok(())
}

fn set_transparent(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    match address {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    }
}

/// Connections inherit these options from the socket that they come to.
fn ready_for_connections(socket: &TcpListener, keepalive: Option<Keepalive>) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // What one side has sent is passed on as it came.
    SockRef::from(socket).set_tcp_nodelay(true)?;
    set_keepalive(&SockRef::from(socket), keepalive)
}

fn ready_for_datagrams(listener: &Listener, socket: &UdpSocket) -> io::Result<()> {
    let address = socket.local_addr()?;
    if address.ip().is_unspecified() || listener.destination != Destination::Listener {
        // Answers must leave from the address that was asked.
        let (level, option) = match address {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        system::set_option(socket.as_fd(), level, option, 1)?;
    }
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN.
    let level = libc::SOL_SOCKET;
    if system::set_option(socket.as_fd(), level, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
        system::set_option(socket.as_fd(), level, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
    }
    receive_joined(socket);
    Ok(())
}

/// Has datagrams that came together received together (UDP_GRO of udp(7)).
fn receive_joined(socket: &UdpSocket) {
    // Kernels before 5.0 do not have it, and need it not.
    let _ = system::set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1);
}

/// Has a connection notice that the other side is gone.
pub(crate) fn keep_alive(socket: &TcpStream, keepalive: Option<Keepalive>) {
    // It fails for times that tcp(7) does not know.
    let _ = set_keepalive(&SockRef::from(socket), keepalive);
}

fn set_keepalive(socket: &Socket, keepalive: Option<Keepalive>) -> io::Result<()> {
    let Some(keepalive) = keepalive else { return Ok(()) };
    let how = TcpKeepalive::new().with_time(keepalive.idle).with_interval(keepalive.interval);
    socket.set_tcp_keepalive(&how.with_retries(keepalive.probes))
}

/// Begins a connection to an endpoint. Returns whether it is there already.
pub(crate) fn dial(
    endpoint: SocketAddr,
    client: SocketAddr,
    upstream: &Upstream,
) -> io::Result<(TcpStream, bool)> {
    let socket = outgoing(Type::STREAM, endpoint, client, upstream)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&endpoint.into()) {
        Ok(()) => Ok((socket.into(), true)),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok((socket.into(), false)),
        Err(error) => Err(error),
    }
}

/// Whether a connection to `endpoint` that was begun is there.
pub(crate) fn dialled(socket: &TcpStream, endpoint: SocketAddr) -> io::Result<bool> {
    match SockRef::from(socket).connect(&endpoint.into()) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EISCONN) => Ok(true),
            Some(libc::EALREADY | libc::EINPROGRESS) => Ok(false),
            _ => Err(error),
        },
    }
}

/// A socket that sends datagrams to an endpoint and gets its answers.
pub(crate) fn datagrams_to(
    endpoint: SocketAddr,
    client: SocketAddr,
    upstream: &Upstream,
) -> io::Result<UdpSocket> {
    let socket = outgoing(Type::DGRAM, endpoint, client, upstream)?;
    socket.connect(&endpoint.into())?;
    let socket = socket.into();
    receive_joined(&socket);
    Ok(socket)
}

fn outgoing(kind: Type, endpoint: SocketAddr, client: SocketAddr, upstream: &Upstream) -> io::Result<Socket> {
    let socket = Socket::new_raw(Domain::for_address(endpoint), kind.nonblocking().cloexec(), None)?;
    if let Some(mark) = upstream.mark {
        socket.set_mark(mark)?;
    }
    let source = match upstream.source {
        Source::Route => return Ok(socket),
        Source::Address(address) => address,
        Source::Client => {
            set_transparent(&socket, endpoint)?;
            client.ip()
        }
    };
    // The port is chosen with the endpoint in view: each endpoint can have all of them.
    system::set_option(socket.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
    Ok(socket)
}

/// Has a connection end with a reset when it is closed (SO_LINGER of socket(7)).
pub(crate) fn end_with_reset(socket: &TcpStream) {
    // It fails for no connection.
    let _ = SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
}

/// Where the client of a connection wanted to go.
pub(crate) fn destination(
    how: Destination,
    listener: SocketAddr,
    socket: &TcpStream,
) -> io::Result<SocketAddr> {
    match how {
        Destination::Listener => Ok(listener),
        Destination::Local => socket.local_addr(),
        Destination::Original => {
            let option = SockRef::from(socket);
            let original =
                if listener.is_ipv4() { option.original_dst_v4() } else { option.original_dst_v6() };
            // Without translation it is where it has come.
            original.ok().and_then(|original| original.as_socket()).map_or_else(|| socket.local_addr(), Ok)
        }
    }
}
