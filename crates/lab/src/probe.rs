//! A client's side: asks a responder once, and reports what came of it.
//!
//! Call these in a namespace: `lab.client().run(|| probe::http(&request))`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::responder::Answer;

/// Linux's `EHOSTUNREACH`, `ENETUNREACH` and `EACCES` come from ICMP errors and from routes.
const UNREACHABLE: [nix::errno::Errno; 3] =
    [nix::errno::Errno::EHOSTUNREACH, nix::errno::Errno::ENETUNREACH, nix::errno::Errno::EACCES];

/// What to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Where.
    pub to: SocketAddr,
    /// The own address (port 0: any), if not the kernel's choice.
    pub from: Option<SocketAddr>,
    /// For everything together.
    pub timeout: Duration,
}

impl Request {
    /// From any address, within two seconds.
    pub fn to(to: SocketAddr) -> Request {
        Request { to, from: None, timeout: Duration::from_secs(2) }
    }

    /// The same from an address of one's own.
    #[must_use]
    pub fn from_address(self, address: IpAddr) -> Request {
        Request { from: Some(SocketAddr::new(address, 0)), ..self }
    }

    /// The same with another time limit.
    #[must_use]
    pub fn within(self, timeout: Duration) -> Request {
        Request { timeout, ..self }
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// This pod answered.
    Answered(Answer),
    /// Nobody listens (TCP reset, ICMP port unreachable).
    Refused,
    /// There is no way, or it is forbidden (ICMP).
    Unreachable,
    /// The client heard nothing, or not enough.
    TimedOut,
    /// Something else; what.
    Failed(String),
}

impl Outcome {
    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Outcome::Answered(answer) => Some(answer),
            _ => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered(answer) => {
                write!(f, "{} on {}, which saw {}", answer.pod, answer.node, answer.client.ip())
            }
            Outcome::Refused => f.write_str("refused"),
            Outcome::Unreachable => f.write_str("unreachable"),
            Outcome::TimedOut => f.write_str("no answer"),
            Outcome::Failed(what) => f.write_str(what),
        }
    }
}

/// An outcome and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// What came of it.
    pub outcome: Outcome,
    /// From the first packet to the whole answer or the error.
    pub took: Duration,
}

/// Asks over TCP: `GET /whoami` on a connection of its own.
pub fn http(request: &Request) -> Measured {
    measure(request, |deadline| {
        let mut stream = connect(request)?;
        let head = format!("GET /whoami HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", request.to);
        stream.write_all(head.as_bytes())?;
        let mut response = Vec::new();
        let mut piece = [0; 1024];
        loop {
            stream.set_read_timeout(Some(left(deadline)?))?;
            match stream.read(&mut piece)? {
                0 => break,
                length => response.extend_from_slice(&piece[..length]),
            }
        }
        let body = response.windows(4).position(|window| window == b"\r\n\r\n").map(|at| &response[at + 4..]);
        parse(body.unwrap_or_default())
    })
}

/// Asks over UDP: one datagram there, one back.
pub fn udp(request: &Request) -> Measured {
    measure(request, |deadline| {
        let any = if request.to.is_ipv4() {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))
        } else {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))
        };
        let socket = UdpSocket::bind(request.from.unwrap_or(any))?;
        ask(&socket, request.to, deadline)
    })
}

/// Asks over UDP on a socket that one keeps: the same flow each time.
pub fn udp_on(socket: &UdpSocket, request: &Request) -> Measured {
    measure(request, |deadline| ask(socket, request.to, deadline))
}

fn ask(socket: &UdpSocket, to: SocketAddr, deadline: Instant) -> io::Result<Answer> {
    // Connected, so that ICMP errors arrive here and other senders' datagrams do not.
    socket.connect(to)?;
    match socket.send(b"who are you?") {
        // A rule on this host refused the packet; the ICMP error that comes with it says how.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
        sent => drop(sent?),
    }
    let mut datagram = [0; 4096];
    socket.set_read_timeout(Some(left(deadline)?))?;
    let length = socket.recv(&mut datagram)?;
    parse(datagram[..length].split(|byte| *byte == b'\n').next().unwrap_or_default())
}

fn connect(request: &Request) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(request.to), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(from) = request.from {
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
    }
    socket.connect_timeout(&request.to.into(), request.timeout)?;
    Ok(socket.into())
}

fn parse(json: &[u8]) -> io::Result<Answer> {
    serde_json::from_slice(json).map_err(|error| {
        let text = String::from_utf8_lossy(json);
        io::Error::new(io::ErrorKind::InvalidData, format!("not a responder's answer ({error}): {text:?}"))
    })
}

fn left(deadline: Instant) -> io::Result<Duration> {
    deadline
        .checked_duration_since(Instant::now())
        .filter(|left| !left.is_zero())
        .ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))
}

fn measure(request: &Request, ask: impl FnOnce(Instant) -> io::Result<Answer>) -> Measured {
    let begun = Instant::now();
    let outcome = ask(begun + request.timeout).map_or_else(|error| outcome_of(&error), Outcome::Answered);
    Measured { outcome, took: begun.elapsed() }
}

fn outcome_of(error: &io::Error) -> Outcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Outcome::TimedOut,
        _ if UNREACHABLE.iter().any(|errno| error.raw_os_error() == Some(*errno as i32)) => {
            Outcome::Unreachable
        }
        _ => Outcome::Failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_names() {
        use nix::errno::Errno;
        for (errno, expected) in [
            (Errno::ECONNREFUSED, Outcome::Refused),
            (Errno::EHOSTUNREACH, Outcome::Unreachable),
            (Errno::ENETUNREACH, Outcome::Unreachable),
            (Errno::EACCES, Outcome::Unreachable),
            (Errno::ETIMEDOUT, Outcome::TimedOut),
            (Errno::EAGAIN, Outcome::TimedOut),
        ] {
            assert_eq!(outcome_of(&errno.into()), expected, "{errno}");
        }
        assert!(matches!(outcome_of(&Errno::ECONNRESET.into()), Outcome::Failed(_)));
    }
}
