//! Packets that are really sent, and where they come out.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use libtest_mimic::Failed;
use portolan_trace::Protocol;
use socket2::{Domain, Socket, Type};

use crate::topology::{CLIENTS, SERVERS, Topology};

/// The port that every rule set lets through: it shows when all packets before it have been
/// handled.
pub(crate) const FENCE: u16 = 9;
const WITHIN: Duration = Duration::from_secs(5);

/// The first packet of a connection. Its source port is unlike that of any other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) from_node: bool,
    pub(crate) source: SocketAddrV4,
    pub(crate) destination: SocketAddrV4,
    pub(crate) protocol: Protocol,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It came in here, from this source.
    Delivered {
        source: Ipv4Addr,
        destination: SocketAddrV4,
    },
    /// The sender got an ICMP error for it.
    Rejected,
    Nothing,
}

/// Sockets in every namespace.
pub(crate) struct Wire {
    client: Socket,
    node: Socket,
    /// UDP and TCP as they are delivered at server and node. The UDP of the server comes first.
    delivered: Vec<Socket>,
    /// ICMP at client and node.
    errors: Vec<Socket>,
    next_port: u16,
    /// What was seen while waiting for something else.
    arrived: Vec<(u16, Seen)>,
}

impl Wire {
    /// Opens the sockets, and sends one packet along each link, so that no later one waits for a
    /// neighbour.
    pub(crate) fn new(topology: &Topology) -> Result<Wire, Failed> {
        let raw = |protocol: libc::c_int| -> Result<Socket, Failed> {
            let socket = Socket::new(Domain::IPV4, Type::RAW, Some(protocol.into()))?;
            socket.set_recv_buffer_size(1 << 20)?;
            Ok(socket)
        };
        let (udp, tcp, icmp) = (libc::IPPROTO_UDP, libc::IPPROTO_TCP, libc::IPPROTO_ICMP);
        let (client, client_errors) =
            topology.within(&topology.client, || Ok((raw(libc::IPPROTO_RAW)?, raw(icmp)?)))?;
        let mut delivered = topology.within(&topology.server, || Ok(vec![raw(udp)?, raw(tcp)?]))?;
        delivered.extend([raw(udp)?, raw(tcp)?]);
        let errors = vec![client_errors, raw(icmp)?];
        let mut wire = Wire {
            client,
            node: raw(libc::IPPROTO_RAW)?,
            delivered,
            errors,
            next_port: 20_000,
            arrived: Vec::new(),
        };
        for client in CLIENTS {
            for server in SERVERS {
                wire.fence(client, server)?;
            }
        }
        wire.take()?;
        Ok(wire)
    }

    pub(crate) fn next_port(&mut self) -> u16 {
        self.next_port += 1;
        self.next_port
    }

    /// Sends `packets` and says what became of each.
    pub(crate) fn send(&mut self, packets: &[Sent]) -> Result<Vec<Seen>, Failed> {
        for packet in packets {
            self.put(packet)?;
        }
        self.fence(CLIENTS[0], SERVERS[0])?;
        // What the first packets of the node caused may itself have gone over the loopback
        // interface.
        self.fence(CLIENTS[0], SERVERS[0])?;
        let seen = self.take()?;
        Ok(packets
            .iter()
            .map(|packet| seen.get(&packet.source.port()).copied().unwrap_or(Seen::Nothing))
            .collect())
    }

    fn put(&self, packet: &Sent) -> Result<(), Failed> {
        let socket = if packet.from_node { &self.node } else { &self.client };
        let to: SocketAddr = SocketAddrV4::new(*packet.destination.ip(), 0).into();
        match socket.send_to(&bytes(packet), &to.into()) {
            // This is how the kernel reports a packet that is dropped at the output hook to its
            // sender.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
            Err(error) => Err(format!("sending {packet:?}: {error}").into()),
            Ok(_) => Ok(()),
        }
    }

    /// Returns when all packets before have been handled: they and this one were queued in order on
    /// one processor.
    fn fence(&mut self, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), Failed> {
        let port = self.next_port();
        self.put(&Sent {
            from_node: false,
            source: SocketAddrV4::new(from, port),
            destination: SocketAddrV4::new(to, FENCE),
            protocol: Protocol::Udp,
        })?;
        let mut buffer = [0; 512];
        let mut server = &self.delivered[0];
        server.set_nonblocking(false)?;
        server.set_read_timeout(Some(WITHIN))?;
        loop {
            let length = server
                .read(&mut buffer)
                .map_err(|error| format!("a packet that every rule set lets through was lost: {error}"))?;
            let Some((number, seen)) = parsed(&buffer[..length]) else { continue };
            if number == port {
                return Ok(());
            }
            self.arrived.push((number, seen));
        }
    }

    /// Takes what has come in. A packet that was delivered counts as such, whatever the receiver
    /// answered.
    fn take(&mut self) -> Result<BTreeMap<u16, Seen>, Failed> {
        let mut buffer = [0; 1024];
        let mut all = BTreeMap::new();
        for mut socket in &self.errors {
            socket.set_nonblocking(true)?;
            while let Some(length) = waiting(socket.read(&mut buffer))? {
                if let Some(number) = refused(&buffer[..length]) {
                    all.insert(number, Seen::Rejected);
                }
            }
        }
        for mut socket in &self.delivered {
            socket.set_nonblocking(true)?;
            while let Some(length) = waiting(socket.read(&mut buffer))? {
                self.arrived.extend(parsed(&buffer[..length]));
            }
        }
        all.extend(self.arrived.drain(..));
        Ok(all)
    }
}

fn waiting(read: std::io::Result<usize>) -> std::io::Result<Option<usize>> {
    match read {
        Ok(length) => Ok(Some(length)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// An IPv4 packet (RFC 791) without options that carries its number: as payload of UDP, or as
/// sequence number of a TCP SYN.
fn bytes(packet: &Sent) -> Vec<u8> {
    let number = packet.source.port();
    let mut transport = Vec::new();
    transport.extend(number.to_be_bytes());
    transport.extend(packet.destination.port().to_be_bytes());
    if packet.protocol == Protocol::Tcp {
        transport.extend(u32::from(number).to_be_bytes());
        // No acknowledgement; five words of header, SYN, a window; checksum and urgent pointer.
        transport.extend([0, 0, 0, 0, 0x50, 0x02, 0x10, 0, 0, 0, 0, 0]);
        let checksum = checksum(packet, &transport);
        transport[16..18].copy_from_slice(&checksum.to_be_bytes());
    } else {
        // Length, and no checksum (RFC 768).
        transport.extend([0, 12, 0, 0]);
        transport.extend(u32::from(number).to_be_bytes());
    }
    let length = u16::try_from(20 + transport.len()).expect("a short packet");
    let mut bytes = vec![0x45, 0];
    bytes.extend(length.to_be_bytes());
    // The kernel fills in identification and checksum.
    bytes.extend([0, 0, 0, 0, 64, packet.protocol.number(), 0, 0]);
    bytes.extend(packet.source.ip().octets());
    bytes.extend(packet.destination.ip().octets());
    bytes.extend(transport);
    bytes
}

/// Of a TCP segment of even length and its pseudo header (RFC 9293, 3.1).
fn checksum(packet: &Sent, segment: &[u8]) -> u16 {
    let addresses = [packet.source.ip().octets(), packet.destination.ip().octets()].concat();
    let words = addresses.chunks(2).chain(segment.chunks(2));
    let length = u32::try_from(segment.len()).expect("a short segment");
    let mut sum = words.fold(u32::from(packet.protocol.number()) + length, |sum, word| {
        sum + u32::from(u16::from_be_bytes([word[0], word[1]]))
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

/// The number of a packet that these tests sent, and its header.
fn parsed(packet: &[u8]) -> Option<(u16, Seen)> {
    let transport = packet.get(usize::from(packet.first()? & 0xf) * 4..)?;
    let at = match packet.get(9)? {
        6 if transport.get(13)? & 0x17 == 0x02 => 4,
        17 => 8,
        _ => return None,
    };
    let number: [u8; 4] = transport.get(at..at + 4)?.try_into().ok()?;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let port = u16::from_be_bytes(transport.get(2..4)?.try_into().ok()?);
    let destination = SocketAddrV4::new(address(16)?, port);
    Some((u32::from_be_bytes(number).try_into().ok()?, Seen::Delivered { source: address(12)?, destination }))
}

/// The number of the packet that an ICMP error is about: type 3, destination unreachable (RFC 792).
fn refused(packet: &[u8]) -> Option<u16> {
    let message = packet.get(usize::from(packet.first()? & 0xf) * 4..)?;
    if *message.first()? != 3 {
        return None;
    }
    parsed(message.get(8..)?).map(|(number, _)| number)
}
