//! UDP packets, each the first of a flow, sent as fast as the kernel takes them.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::Context;

use crate::cluster::{SERVICE_PORT, cluster_ip};
use crate::forwarding::{NODE_ADDRESS, SENDER, SENDER_ADDRESS, index};

/// Ethernet, IPv4, UDP, and padding to the shortest frame there is.
const FRAME: usize = 60;
const ETHERNET: usize = 14;
const IP: usize = 20;
/// Frames given to the kernel at once.
const AT_ONCE: usize = 64;
const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 255, 0, 1);
const FIRST_SOURCE_PORT: u32 = 1024;
const SOURCE_PORTS: u32 = 60_000;

/// Frames ready to be sent.
pub(crate) struct Flood {
    socket: OwnedFd,
    frames: Vec<[u8; FRAME]>,
}

impl Flood {
    /// Prepares the first packets of `flows` flows from pods to random Services out of `services`.
    pub(crate) fn prepare(services: u32, flows: u32) -> anyhow::Result<Flood> {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let frames = (0..flows)
            .map(|flow| frame(flow / SOURCE_PORTS, flow % SOURCE_PORTS, next(&mut random, services)))
            .collect();
        Ok(Flood { socket: open(index(SENDER)?).context("opening a packet socket")?, frames })
    }

    /// Prepares packets of so many forged clients, one each, to the first Service.
    pub(crate) fn prepare_forged(clients: u32) -> anyhow::Result<Flood> {
        let frames = (0..clients).map(|client| frame(client, 0, 0)).collect();
        Ok(Flood { socket: open(index(SENDER)?).context("opening a packet socket")?, frames })
    }

    /// Sends all of them once.
    pub(crate) fn send(&self) -> io::Result<()> {
        for frames in self.frames.chunks(AT_ONCE) {
            // SAFETY: all zeroes are valid vectors and headers: null pointers with length zero.
            let mut vectors: [libc::iovec; AT_ONCE] = unsafe { zeroed() };
            // SAFETY: as above.
            let mut messages: [libc::mmsghdr; AT_ONCE] = unsafe { zeroed() };
            for ((frame, vector), message) in frames.iter().zip(&mut vectors).zip(&mut messages) {
                // The kernel only reads from what a sent vector points to.
                vector.iov_base = frame.as_ptr().cast_mut().cast();
                vector.iov_len = FRAME;
                message.msg_hdr.msg_iov = vector;
                message.msg_hdr.msg_iovlen = 1;
            }
            let mut rest = &mut messages[..frames.len()];
            while !rest.is_empty() {
                let length = u32::try_from(rest.len()).expect("at most AT_ONCE");
                // SAFETY: the headers, the vectors they point to and the frames those point to
                // outlive the call.
                let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), rest.as_mut_ptr(), length, 0) };
                let sent = usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
                rest = &mut rest[sent..];
            }
        }
        Ok(())
    }
}

/// A frame from a pod of this number, from its port of this number, to the ClusterIP of this
/// number.
fn frame(client: u32, port: u32, service: u32) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[..6].copy_from_slice(&NODE_ADDRESS);
    frame[6..12].copy_from_slice(&SENDER_ADDRESS);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    let payload = u16::try_from(FRAME - ETHERNET).expect("a short frame");

    // RFC 791
    let ip = &mut frame[ETHERNET..ETHERNET + IP];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&payload.to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    let client = u32::from(FIRST_CLIENT) + client;
    ip[12..16].copy_from_slice(&client.to_be_bytes());
    ip[16..20].copy_from_slice(&cluster_ip(service).octets());
    let checksum = checksum(ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());

    // RFC 768; checksum 0: none.
    let udp = &mut frame[ETHERNET + IP..];
    let source = u16::try_from(FIRST_SOURCE_PORT + port).expect("below 2^16");
    udp[..2].copy_from_slice(&source.to_be_bytes());
    udp[2..4].copy_from_slice(&SERVICE_PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&(payload - 20).to_be_bytes());
    frame
}

/// The checksum of a header whose checksum field is zero (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

/// A number below `bound` (xorshift64*; the same ones in every run).
fn next(state: &mut u64, bound: u32) -> u32 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    let high = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
    u32::try_from((high * u64::from(bound)) >> 32).expect("below bound")
}

/// A packet socket (packet(7)) that sends on one interface and receives nothing.
fn open(interface: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes numbers only.
    let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just created and that nobody else has.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all zeroes are a valid `sockaddr_ll`.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("a small constant");
    address.sll_ifindex = i32::try_from(interface).map_err(io::Error::other)?;
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("a small structure");
    // SAFETY: the pointer and length are those of one live value.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Keeps the calling thread on one processor of those it may use.
pub(crate) fn stay_on_one_processor() -> io::Result<()> {
    // SAFETY: takes nothing.
    let here = usize::try_from(unsafe { libc::sched_getcpu() }).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: all zeroes are the empty set.
    let mut set: libc::cpu_set_t = unsafe { zeroed() };
    // SAFETY: `here` is a processor that exists, and `set` has room for all that can.
    unsafe { libc::CPU_SET(here, &mut set) };
    // SAFETY: the pointer and length are those of one live value.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn frames_are_valid_and_of_different_flows() {
        let mut flows = HashSet::new();
        for flow in 0..150_000 {
            let frame = frame(flow / SOURCE_PORTS, flow % SOURCE_PORTS, 0);
            // The sum over a header with its checksum is all ones (RFC 1071).
            assert_eq!(checksum(&frame[ETHERNET..ETHERNET + IP]), 0, "flow {flow}");
            flows.insert(frame[ETHERNET + 12..ETHERNET + IP + 4].to_vec());
        }
        assert_eq!(flows.len(), 150_000);
    }

    #[test]
    fn random_numbers_cover_their_range() {
        let mut state = 1;
        let drawn: HashSet<u32> = (0..1000).map(|_| next(&mut state, 10)).collect();
        assert_eq!(drawn, (0..10).collect());
    }
}
