//! One connection to a Service and what came of it.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use portolan_lab::probe::{self, Request};
use portolan_lab::sandbox;
use portolan_service::Protocol;

/// How long to wait for an answer that must come. It takes a millisecond; but a lost SYN is sent
/// again, and a machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(15);
/// How long nothing must be heard for a packet to count as dropped; answers take about a
/// millisecond.
pub const SILENCE: Duration = Duration::from_millis(400);

/// The source ports of [`ask_early`], and of [`ask`] where IPVS may be on the way: below those that
/// the kernel chooses (ip_local_port_range, from 32768) and below NodePorts (from 30000).
///
/// IPVS knows a reply by the addresses and ports of the endpoint and the client alone
/// (`ip_vs_conn_out_get`), and remembers connections for two minutes after their end. So a port
/// that is used for two addresses of a Service within that time gets no answer from the second one,
/// if both lead to the same endpoint.
static PORTS: Ports = Ports::new(10_300..30_000);

/// Ports that are used in turn.
struct Ports {
    range: Range<u16>,
    next: AtomicU16,
}

impl Ports {
    const fn new(range: Range<u16>) -> Ports {
        Ports { next: AtomicU16::new(range.start), range }
    }

    fn take(&self) -> u16 {
        let (start, end) = (self.range.start, self.range.end);
        let following = |port: u16| Some(if port + 1 < end { port + 1 } else { start });
        self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, following).unwrap_or(start)
    }
}

/// What came of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// An endpoint answered.
    Answered(Answer),
    /// It was refused, by an ICMP error or, from the node itself, by the local stack.
    Refused,
    /// Nothing was heard.
    Silence,
    /// Something else.
    Other(String),
}

/// What an endpoint said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The pod's name.
    pub pod: String,
    /// The client's address as the pod saw it.
    pub client: IpAddr,
    /// The port the pod was reached on.
    pub port: u16,
}

impl Outcome {
    /// Who answered, if anybody did.
    pub fn pod(&self) -> Option<&str> {
        match self {
            Outcome::Answered(answer) => Some(&answer.pod),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered(Answer { pod, client, port }) => write!(f, "{pod}:{port} (saw {client})"),
            Outcome::Refused => f.write_str("refused"),
            Outcome::Silence => f.write_str("silence"),
            Outcome::Other(what) => f.write_str(what),
        }
    }
}

/// Opens a new connection to `to`, from the network namespace of this thread, and asks who is
/// there. `from` is the address to start from, if it matters.
pub fn ask(protocol: Protocol, to: SocketAddr, from: Option<IpAddr>, patience: Duration) -> Outcome {
    let request = Request::to(to).within(patience);
    let request = if sandbox::is_wanted_privileged() {
        let from = from.unwrap_or_else(|| any_address(to));
        Request { from: Some(SocketAddr::new(from, PORTS.take())), ..request }
    } else if let Some(from) = from {
        request.from_address(from)
    } else {
        request
    };
    send(protocol, &request)
}

fn any_address(to: SocketAddr) -> IpAddr {
    if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() }
}

/// Asks like [`ask`] at a time when the rules for `to` may not be in force yet, from a source port
/// that no later connection has.
///
/// Connection tracking holds a connection to the way of its first packet. A SYN that passes a node
/// before the rules do is forwarded untranslated. For the next two minutes
/// (nf_conntrack_tcp_timeout_syn_sent), so is every other SYN between the same addresses and ports,
/// although the rules are in force by then. The kernel does choose a source port again that soon:
/// every ten seconds, it goes on from another, random port (`secure_ipv4_port_ephemeral`).
pub fn ask_early(protocol: Protocol, to: SocketAddr, patience: Duration) -> Outcome {
    let from = SocketAddr::new(any_address(to), PORTS.take());
    send(protocol, &Request { from: Some(from), ..Request::to(to).within(patience) })
}

fn send(protocol: Protocol, request: &Request) -> Outcome {
    match protocol {
        Protocol::Tcp => probe::http(request).outcome.into(),
        Protocol::Udp => probe::udp(request).outcome.into(),
        Protocol::Sctp => Outcome::Other("SCTP is asked with crate::sctp".to_owned()),
    }
}

/// Asks `count` times, but no more after the first silence: a test that fails on it must not wait
/// for each of the others.
pub fn series(count: usize, mut ask: impl FnMut() -> Outcome) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(count);
    while outcomes.len() < count && outcomes.last() != Some(&Outcome::Silence) {
        outcomes.push(ask());
    }
    outcomes
}

/// A UDP socket that stays, so that all its datagrams are one flow.
#[derive(Debug)]
pub struct Flow {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Flow {
    /// A new flow from the network namespace of this thread.
    pub fn open(to: SocketAddr) -> io::Result<Flow> {
        let socket = UdpSocket::bind((any_address(to), 0))?;
        socket.connect(to)?;
        Ok(Flow { socket, to })
    }

    /// Sends a datagram and waits for an answer. From any thread.
    pub fn ask(&self, patience: Duration) -> Outcome {
        match self.discard() {
            Ok(()) => probe::udp_on(&self.socket, &Request::to(self.to).within(patience)).outcome.into(),
            Err(error) => Outcome::Other(error.to_string()),
        }
    }

    /// Takes off answers and errors of earlier datagrams, which came too late.
    fn discard(&self) -> io::Result<()> {
        self.socket.set_nonblocking(true)?;
        let mut datagram = [0; 2048];
        while !matches!(self.socket.recv(&mut datagram), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        {
        }
        self.socket.set_nonblocking(false)
    }
}

/// The status code of an HTTP answer to `GET /`.
pub fn http_status(to: SocketAddr, patience: Duration) -> io::Result<u16> {
    http_get(to, "/", patience).map(|(status, _)| status)
}

/// The status code and the body of an HTTP answer to `GET path`.
pub fn http_get(to: SocketAddr, path: &str, patience: Duration) -> io::Result<(u16, String)> {
    let response = get(to, path, patience)?;
    let text = String::from_utf8_lossy(&response);
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    status
        .zip(text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer: {text:?}")))
}

fn get(to: SocketAddr, path: &str, patience: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    Ok(response)
}

impl From<probe::Outcome> for Outcome {
    fn from(outcome: probe::Outcome) -> Outcome {
        match outcome {
            probe::Outcome::Answered(answer) => Outcome::Answered(Answer {
                pod: answer.pod,
                client: answer.client.ip(),
                port: answer.server.port(),
            }),
            probe::Outcome::Refused => Outcome::Refused,
            probe::Outcome::TimedOut => Outcome::Silence,
            other => Outcome::Other(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_come_again_only_after_all_others() {
        let range = 20_000..20_100;
        let ports = Ports::new(range.clone());
        let taken: BTreeSet<u16> = range.clone().map(|_| ports.take()).collect();
        assert_eq!(taken, range.clone().collect());
        assert!(range.contains(&ports.take()));
    }
}
