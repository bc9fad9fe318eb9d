//! Questions and answers as octets.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// Longer than any answer takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
pub(crate) const A: u16 = 1;
pub(crate) const AAAA: u16 = 28;

/// A question for `name`, with this number.
pub(crate) fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&[0, 1]);
    message
}

/// Number, response code, and the last octets of an answer: those of an address, if it is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) id: u16,
    pub(crate) rcode: u8,
    pub(crate) records: u16,
    pub(crate) octets: Vec<u8>,
}

impl Answer {
    pub(crate) fn of(octets: &[u8]) -> Answer {
        assert!(octets.len() >= 12 && octets[2] & 0x80 != 0, "no answer: {octets:?}");
        Answer {
            id: u16::from_be_bytes([octets[0], octets[1]]),
            rcode: octets[3] & 0xf,
            records: u16::from_be_bytes([octets[6], octets[7]]),
            octets: octets.to_vec(),
        }
    }

    /// The address that its last record says.
    pub(crate) fn address(&self) -> [u8; 4] {
        *self.octets.last_chunk().unwrap()
    }
}

/// A client's socket that is connected to `server`: answers from elsewhere do not come in.
pub(crate) fn client(server: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The answer to `message`.
pub(crate) fn ask(socket: &UdpSocket, message: &[u8]) -> Answer {
    socket.send(message).unwrap();
    receive(socket)
}

pub(crate) fn receive(socket: &UdpSocket) -> Answer {
    let mut octets = [0; 2048];
    let length = socket.recv(&mut octets).expect("an answer in time");
    Answer::of(&octets[..length])
}
