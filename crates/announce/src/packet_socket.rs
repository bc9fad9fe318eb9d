//! Raw sockets for one kind of frame on one interface (packet(7)).

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use portolan_netlink::rtnetlink::HardwareAddress;
use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

use crate::ethernet::{Frame, Kind};

// linux/if_packet.h
const ADD_MEMBERSHIP: libc::c_int = 1;
const MULTICAST: libc::c_ushort = 0;

/// Room for heartbeats that wait, bytes
const HEARTBEATS: usize = 4 << 20;
/// The longest frame that is read, bytes; longer ones are cut, and mean nothing to us.
const LONGEST: usize = 1_600;

/// Receives frames of one kind from an interface, and sends them there.
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: Socket,
}

impl PacketSocket {
    /// Whether this process may open one at all.
    pub(crate) fn check() -> io::Result<()> {
        Socket::new(Domain::PACKET, Type::RAW, None).map(drop)
    }

    /// Receives what is of `kind` on the interface with that number, from now on. Of IPv6 only what
    /// Neighbour Discovery is about.
    pub(crate) fn open(kind: Kind, interface: u32) -> io::Result<PacketSocket> {
        // With no protocol it receives nothing, until the filter is in place and it is bound.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        if kind == Kind::Ipv6 {
            socket.attach_filter(&neighbour_discovery())?;
        }
        socket.bind(&address(kind, interface)?)?;
        socket.set_nonblocking(true)?;
        if kind == Kind::Heartbeat {
            // A second of a thousand nodes. The kernel gives what it may.
            socket.set_recv_buffer_size(HEARTBEATS)?;
        }
        Ok(PacketSocket { socket })
    }

    /// Receives what is sent to a group, too.
    pub(crate) fn join(&self, interface: u32, group: HardwareAddress) -> io::Result<()> {
        let mut request = libc::packet_mreq {
            mr_ifindex: index(interface)?,
            mr_type: MULTICAST,
            mr_alen: 6,
            mr_address: [0; 8],
        };
        request.mr_address[..6].copy_from_slice(&group);
        let length = libc::socklen_t::try_from(size_of::<libc::packet_mreq>()).unwrap_or(0);
        // SAFETY: the kernel reads `length` bytes of `request`, which is that long and lives until
        // the call returns.
        let result = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                ADD_MEMBERSHIP,
                (&raw const request).cast(),
                length,
            )
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The next frame, if one has been received, in `buffer`.
    pub(crate) fn receive<'b>(&self, buffer: &'b mut Buffer) -> io::Result<&'b [u8]> {
        let (length, from) = self.socket.recv_from(&mut buffer.0)?;
        // SAFETY: addresses on a packet socket are of this kind, and `SockAddr` has room for it.
        let kind = unsafe { (*from.as_ptr().cast::<libc::sockaddr_ll>()).sll_pkttype };
        // For another host, such as frames of a VLAN that this one is not in; or our own.
        if matches!(kind, libc::PACKET_OTHERHOST | libc::PACKET_OUTGOING) {
            return Ok(&[]);
        }
        // SAFETY: `recv_from` has written that many bytes, and no more than there are.
        Ok(unsafe { buffer.0[..length].assume_init_ref() })
    }

    /// Sends a frame on the interface.
    pub(crate) fn send(&self, frame: &Frame) -> io::Result<()> {
        self.socket.send(&frame.bytes).map(drop)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Room for a frame.
pub(crate) struct Buffer([MaybeUninit<u8>; LONGEST]);

impl Buffer {
    pub(crate) fn new() -> Box<Buffer> {
        Box::new(Buffer([MaybeUninit::uninit(); LONGEST]))
    }
}

fn index(interface: u32) -> io::Result<libc::c_int> {
    libc::c_int::try_from(interface).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// The `sockaddr_ll` of a kind of frames on an interface.
fn address(kind: Kind, interface: u32) -> io::Result<SockAddr> {
    let index = index(interface)?;
    let fill = |storage: *mut socket2::SockAddrStorage, length: *mut libc::socklen_t| {
        // SAFETY: the storage has room for every kind of address, is aligned for it, and is zeroed
        // by `try_init`; the length is valid to write.
        unsafe {
            let address = &mut *storage.cast::<libc::sockaddr_ll>();
            address.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).unwrap_or(0);
            address.sll_protocol = (kind as u16).to_be();
            address.sll_ifindex = index;
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).unwrap_or(0);
        }
        Ok(())
    };
    // SAFETY: `fill` writes a `sockaddr_ll` and its length.
    let ((), address) = unsafe { SockAddr::try_init(fill) }?;
    Ok(address)
}

/// Lets through ICMPv6 of types 135 and 136, right behind the IPv6 header, and nothing else.
fn neighbour_discovery() -> [SockFilter; 7] {
    // linux/filter.h; offsets are from the beginning of the frame.
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const NEXT_HEADER: u32 = 20;
    const ICMP_TYPE: u32 = 54;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, NEXT_HEADER),
        SockFilter::new(JUMP_IF_EQUAL, 0, 4, 58),
        SockFilter::new(LOAD_BYTE, 0, 0, ICMP_TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, 135),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, 136),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the kernel would do with the filter.
    fn passes(frame: &[u8]) -> bool {
        let filter = neighbour_discovery();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let step: libc::sock_filter = as_libc(&filter[at]);
            at += 1;
            match step.code {
                0x30 => match frame.get(step.k as usize) {
                    Some(byte) => loaded = u32::from(*byte),
                    None => return false,
                },
                0x15 => at += usize::from(if loaded == step.k { step.jt } else { step.jf }),
                _ => return step.k != 0,
            }
        }
    }

    fn as_libc(filter: &SockFilter) -> libc::sock_filter {
        // SAFETY: `SockFilter` is a transparent wrapper of it.
        unsafe { std::mem::transmute_copy(filter) }
    }

    #[test]
    fn only_neighbour_discovery_passes() {
        for (next_header, kind, expected) in
            [(58, 135, true), (58, 136, true), (58, 134, false), (58, 128, false), (6, 135, false)]
        {
            let mut frame = [0; 78];
            (frame[20], frame[54]) = (next_header, kind);
            assert_eq!(passes(&frame), expected, "{next_header} {kind}");
        }
    }

    proptest! {
        #[test]
        fn the_filter_ends(frame: Vec<u8>) {
            passes(&frame);
        }
    }
}
