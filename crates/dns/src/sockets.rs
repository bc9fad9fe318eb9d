//! Sockets as a server needs them.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

use crate::error::Error;
use crate::settings::{Listener, Sockets, threads_of};
use crate::socket_option;

/// Receive buffer of a socket for datagrams, octets: some thousand questions.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

impl Sockets {
    /// Binds those that `listener` does not bring along, as a server with so many `threads`
    /// ([`Settings::threads`](crate::Settings::threads)) does that is started with it.
    pub fn bind(mut listener: Listener, threads: Option<usize>) -> Result<Sockets, Error> {
        open(&mut listener, threads_of(threads), None)
    }
}

/// Opens what `listener` has not brought along, for so many threads, and makes all ready for use.
pub(crate) fn open(listener: &mut Listener, threads: usize, buffer: Option<usize>) -> Result<Sockets, Error> {
    let mut sockets = listener.sockets.take().unwrap_or_default();
    let bound = sockets.udp.first().map(UdpSocket::local_addr);
    let bound = bound.or_else(|| sockets.tcp.as_ref().map(TcpListener::local_addr));
    let mut address = listener.address;
    if let Some(bound) = bound {
        address = bound.map_err(Error::system("reading the address of a socket that was handed over"))?;
    }
    let chosen = address.port() == 0 && listener.udp && listener.tcp;
    for attempt in 0.. {
        match open_at(listener, &mut sockets, address, threads) {
            // The port that the kernel chose for datagrams has connections of somebody else.
            Err(Error::Bind { protocol: "tcp", .. }) if chosen && attempt < 16 => sockets.udp.clear(),
            Err(error) => return Err(error),
            Ok(address) => {
                listener.address = address;
                break;
            }
        }
    }
    for socket in &sockets.udp {
        ready(socket, buffer.unwrap_or(RECEIVE_BUFFER))
            .map_err(Error::system("setting options of a socket for datagrams"))?;
    }
    if let Some(socket) = &sockets.tcp {
        socket.set_nonblocking(true).map_err(Error::system("setting options of a listening socket"))?;
    }
    Ok(sockets)
}

fn open_at(
    listener: &Listener,
    sockets: &mut Sockets,
    mut address: SocketAddr,
    threads: usize,
) -> Result<SocketAddr, Error> {
    let failed = |address, protocol| move |source| Error::Bind { address, protocol, source };
    while listener.udp && sockets.udp.len() < threads {
        let socket = datagrams(address, listener.absent).map_err(failed(address, "udp"))?;
        address = socket.local_addr().map_err(failed(address, "udp"))?;
        sockets.udp.push(socket);
    }
    if listener.tcp && sockets.tcp.is_none() {
        let socket = connections(address, listener.absent).map_err(failed(address, "tcp"))?;
        address = socket.local_addr().map_err(failed(address, "tcp"))?;
        sockets.tcp = Some(socket);
    }
    Ok(address)
}

fn datagrams(address: SocketAddr, absent: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    allow_absent(&socket, address, absent)?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        // As other servers do: `::` takes questions of both families.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn connections(address: SocketAddr, absent: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a server that ended do not keep the next one from its port.
    socket.set_reuse_address(true)?;
    allow_absent(&socket, address, absent)?;
    if address.ip().is_unspecified() && address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn allow_absent(socket: &Socket, address: SocketAddr, absent: bool) -> io::Result<()> {
    match address {
        _ if !absent => Ok(()),
        SocketAddr::V4(_) => socket.set_freebind_v4(true),
        SocketAddr::V6(_) => socket.set_freebind_v6(true),
    }
}

/// Sets what must be so for all sockets, also those that were handed over.
fn ready(socket: &UdpSocket, buffer: usize) -> io::Result<()> {
    let address = socket.local_addr()?;
    if address.ip().is_unspecified() {
        // Which address was asked; where there is one address only, answers leave from it anyway.
        let (level, option) = match address {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        socket_option::set(socket, level, option, 1)?;
    }
    let octets = libc::c_int::try_from(buffer).unwrap_or(libc::c_int::MAX);
    // Beyond net.core.rmem_max only with CAP_NET_ADMIN.
    if socket_option::set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, octets).is_err() {
        socket_option::set(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, octets)?;
    }
    Ok(())
}
