//! Just enough SCTP (RFC 9260) to see a first packet translated: INIT chunks through raw sockets.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

const SCTP: i32 = 132;
/// Common header (RFC 9260 §3.1).
const HEADER: usize = 12;

/// An SCTP packet as its receiver saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its source address and port.
    pub from: SocketAddr,
    /// Its destination port.
    pub to_port: u16,
    /// Its checksum was right.
    pub checksum: bool,
    /// The initiate tag of its INIT chunk, by which the sender marks its packets.
    pub tag: u32,
}

/// Receives the SCTP packets of one network namespace: make it on a thread that is inside.
#[derive(Debug)]
pub struct Receiver {
    /// A raw socket; the type only stands for "datagrams with a sender".
    socket: UdpSocket,
}

impl Receiver {
    /// Starts to listen for packets to any address of this family.
    pub fn new(v4: bool) -> io::Result<Receiver> {
        let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(SCTP)))?;
        Ok(Receiver { socket: OwnedFd::from(socket).into() })
    }

    /// The packet with an INIT of this tag, if it arrives within `patience`.
    pub fn init(&self, tag: u32, patience: Duration) -> io::Result<Option<Received>> {
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.socket.set_read_timeout(Some(left))?;
            let (length, from) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            if let Some(received) = parse(&buffer[..length], from.ip()).filter(|received| received.tag == tag)
            {
                return Ok(Some(received));
            }
        }
    }
}

/// Receives ICMP errors for packets to one address: make it on a thread in the network namespace.
#[derive(Debug)]
pub struct Refusals {
    to: SocketAddr,
    socket: UdpSocket,
}

impl Refusals {
    /// Starts to listen.
    pub fn new(to: SocketAddr) -> io::Result<Refusals> {
        let (domain, protocol) =
            if to.is_ipv4() { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
        Ok(Refusals { to, socket: OwnedFd::from(Socket::new(domain, Type::RAW, Some(protocol))?).into() })
    }

    /// Whether it is said within `patience` that the destination cannot be reached.
    pub fn wait(&self, patience: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            self.socket.set_read_timeout(Some(left))?;
            match self.socket.recv_from(&mut buffer) {
                Ok((length, from)) if self.is_refusal(&buffer[..length], from.ip()) => return Ok(true),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Destination Unreachable (RFC 792, RFC 4443 §3.1), with the head of an SCTP packet to the
    /// address.
    fn is_refusal(&self, bytes: &[u8], from: IpAddr) -> bool {
        let header = if from.is_ipv4() { usize::from(bytes.first().unwrap_or(&0) & 0xf) * 4 } else { 0 };
        let Some(message) = bytes.get(header..).filter(|message| message.len() > 8) else { return false };
        let (kind, packet) = (message[0], &message[8..]);
        match self.to.ip() {
            IpAddr::V4(to) => {
                kind == 3 && packet.get(9) == Some(&132) && packet.get(16..20) == Some(&to.octets())
            }
            IpAddr::V6(to) => {
                kind == 1 && packet.get(6) == Some(&132) && packet.get(24..40) == Some(&to.octets())
            }
        }
    }
}

/// Sends an INIT with `tag` from `source_port` to `to`, from the namespace that the thread is in.
pub fn send_init(to: SocketAddr, source_port: u16, tag: u32) -> io::Result<()> {
    let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(SCTP)))?;
    let mut packet = Vec::with_capacity(32);
    packet.extend(source_port.to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend([0; 4]); // verification tag: 0 with INIT
    packet.extend([0; 4]); // checksum
    packet.extend([1, 0, 0, 20]); // INIT, no flags, length
    packet.extend(tag.to_be_bytes());
    packet.extend(65_535_u32.to_be_bytes()); // receiver window
    packet.extend([0, 1, 0, 1]); // one stream each way
    packet.extend(1_u32.to_be_bytes()); // initial TSN
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..HEADER].copy_from_slice(&checksum);
    socket.send_to(&packet, &SockAddr::from(SocketAddr::new(to.ip(), 0))).map(drop)
}

fn parse(bytes: &[u8], from: IpAddr) -> Option<Received> {
    // A raw IPv4 socket delivers the IP header too (ip(7), raw(7)), an IPv6 one does not.
    let header = if from.is_ipv4() { usize::from(bytes.first()? & 0xf) * 4 } else { 0 };
    let mut packet = bytes.get(header..)?.to_vec();
    if packet.len() < HEADER + 20 || packet[HEADER] != 1 {
        return None;
    }
    let claimed = u32::from_le_bytes(packet[8..HEADER].try_into().ok()?);
    packet[8..HEADER].fill(0);
    Some(Received {
        from: SocketAddr::new(from, u16::from_be_bytes([packet[0], packet[1]])),
        to_port: u16::from_be_bytes([packet[2], packet[3]]),
        checksum: crc32c(&packet) == claimed,
        tag: u32::from_be_bytes(packet[HEADER + 4..HEADER + 8].try_into().ok()?),
    })
}

/// CRC32c, bit by bit (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32c_of_the_check_string() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
