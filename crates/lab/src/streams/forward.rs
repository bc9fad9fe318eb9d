//! Connections to ports of a pod, from within its network.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use portolan_apiserver::Duplex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpSocket;
use tokio::time::timeout;

use crate::Error;
use crate::netns::Namespace;

/// So long is waited for a server that takes no more connections.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket of each family, in a pod's network.
pub(super) type Sockets = [io::Result<TcpStream>; 2];

/// Sockets that are not connected yet.
pub(super) fn sockets(network: &Namespace) -> Result<Sockets, Error> {
    let socket = |domain| {
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    network.run(|| [Domain::IPV4, Domain::IPV6].map(socket))
}

/// Connects to a port of the pod's loopback, over IPv4 or else over IPv6. Errors have the words of
/// container runtimes.
pub(super) async fn connect(sockets: Sockets, port: u16, pod: &str) -> Result<Box<dyn Duplex>, String> {
    let ways =
        [("IPv4: dial tcp4", Ipv4Addr::LOCALHOST.into()), ("IPv6 dial tcp6", Ipv6Addr::LOCALHOST.into())];
    let mut failures = Vec::new();
    for (socket, (way, address)) in sockets.into_iter().zip(ways) {
        let to = SocketAddr::new(address, port);
        match one(socket, to).await {
            Ok(stream) => return Ok(stream),
            Err(error) => failures.push(format!("{way} {to}: {}", words(&error))),
        }
    }
    Err(format!("failed to connect to localhost:{port} inside namespace {pod:?}, {}", failures.join(" ")))
}

async fn one(socket: io::Result<TcpStream>, to: SocketAddr) -> io::Result<Box<dyn Duplex>> {
    let connecting = TcpSocket::from_std_stream(socket?).connect(to);
    let stream = timeout(PATIENCE, connecting).await.map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// As Go puts it.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => format!("connect: {error}"),
    }
}
