//! A question in a datagram, from a socket of its own: a port that nobody can guess, and no
//! datagrams but the server's.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use prometheus::IntCounter;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::Failure;
use crate::question::{Match, Message};

/// The longest datagram that is read, octets: more than any answer that we ask for.
const DATAGRAM_MAX: usize = 4096;

/// What a server has sent.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The answer.
    Answer(Vec<u8>),
    /// An answer that does not repeat the case of letters: from a server that does not keep it, or
    /// from somebody else.
    OtherCase,
    /// A header that says that the question cannot be read.
    Rejection,
}

/// Asks `server`, and waits until `deadline`. What is no answer to `message` is counted in
/// `strays`, and otherwise ignored.
pub(crate) async fn ask(
    server: SocketAddr,
    message: &Message,
    deadline: Instant,
    strays: &IntCounter,
) -> Result<Heard, Failure> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // The kernel chooses a random port, and connected passes on nobody else's datagrams.
    let socket = UdpSocket::bind(any).await.map_err(Failure::Local)?;
    socket.connect(server).await?;
    socket.send(message.octets()).await?;
    let mut buffer = vec![0; DATAGRAM_MAX];
    loop {
        let received = timeout_at(deadline, socket.recv(&mut buffer)).await;
        let length = received.map_err(|_| Failure::Silent)??;
        match message.matches(&buffer[..length]) {
            Match::Answer => {
                buffer.truncate(length);
                return Ok(Heard::Answer(buffer));
            }
            Match::OtherCase => return Ok(Heard::OtherCase),
            Match::Rejection => return Ok(Heard::Rejection),
            Match::No => strays.inc(),
        }
    }
}
