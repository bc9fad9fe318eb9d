//! Many datagrams with one system call: recvmmsg(2) and sendmmsg(2), with the address that was
//! asked (ip(7) IP_PKTINFO, ipv7(7) IPV6_PKTINFO), from which the answer must leave.
//!
//! nix has both calls, but sends with the same control message for all datagrams, and rustix has no
//! recvmmsg.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

/// Datagrams of one batch.
pub(super) const SIZE: usize = BATCH as usize;
const BATCH: libc::c_uint = 64;
/// The longest question that is read, octets. There are no useful ones beyond.
const QUESTION_MAX: usize = 4096;
/// Room for one control message with `in6_pktinfo`, the longer one.
const CONTROL_MAX: usize = 40;

/// A control message, aligned as `cmsghdr`.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_MAX]);

/// Who sent a datagram, and which address it was sent to.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    address: libc::sockaddr_storage,
    address_length: libc::socklen_t,
    control: Control,
    control_length: usize,
}

/// Datagrams that were received, and their answers.
pub(super) struct Batch {
    peers: Box<[Peer]>,
    octets: Box<[u8]>,
    lengths: [usize; SIZE],
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    /// Answers, one a datagram; empty ones are not sent.
    pub(super) answers: Vec<Vec<u8>>,
}

impl Batch {
    pub(super) fn new() -> Batch {
        Batch {
            peers: vec![Peer::nobody(); SIZE].into(),
            octets: vec![0; SIZE * QUESTION_MAX].into(),
            lengths: [0; SIZE],
            headers: vec![no_header(); SIZE].into(),
            vectors: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; SIZE].into(),
            answers: vec![Vec::new(); SIZE],
        }
    }

    /// Receives what there is, without waiting, and returns how many datagrams that is.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        let buffers = self.octets.chunks_exact_mut(QUESTION_MAX);
        let parts = self.peers.iter_mut().zip(buffers).zip(&mut self.vectors).zip(&mut self.headers);
        for (((peer, buffer), vector), header) in parts {
            *vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            *header = no_header();
            header.msg_hdr.msg_name = (&raw mut peer.address).cast();
            header.msg_hdr.msg_namelen = length_of::<libc::sockaddr_storage>();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = (&raw mut peer.control).cast();
            header.msg_hdr.msg_controllen = CONTROL_MAX as _;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: the kernel writes into the buffers that the headers name, which are as long as
        // they say, live in `self`, and are not used otherwise meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
        for (at, header) in self.headers[..received].iter().enumerate() {
            self.lengths[at] = header.msg_len as usize;
            self.peers[at].address_length = header.msg_hdr.msg_namelen;
            #[allow(clippy::unnecessary_cast, reason = "with musl it is shorter")]
            let control_length = header.msg_hdr.msg_controllen as usize;
            self.peers[at].control_length = control_length;
            self.peers[at].turn();
            self.answers[at].clear();
        }
        Ok(received)
    }

    /// The datagram with this number, who sent it, and room for the answer.
    pub(super) fn message(&mut self, at: usize) -> (&[u8], Option<SocketAddr>, &mut Vec<u8>) {
        let start = at * QUESTION_MAX;
        let octets = &self.octets[start..start + self.lengths[at].min(QUESTION_MAX)];
        (octets, self.peers[at].socket_address(), &mut self.answers[at])
    }

    /// Who sent the datagram with this number.
    pub(super) fn peer(&self, at: usize) -> Peer {
        self.peers[at]
    }

    /// Sends the answers to the first `count` datagrams, without waiting. Returns how many the
    /// kernel did not take.
    pub(super) fn send(&mut self, socket: &UdpSocket, count: usize) -> usize {
        let mut filled = 0;
        for (peer, answer) in self.peers[..count].iter_mut().zip(&mut self.answers) {
            if answer.is_empty() {
                continue;
            }
            let vector = &mut self.vectors[filled];
            *vector = libc::iovec { iov_base: answer.as_mut_ptr().cast(), iov_len: answer.len() };
            self.headers[filled].msg_hdr = peer.header(vector);
            filled += 1;
        }
        let (mut next, mut failed) = (0, 0);
        while next < filled {
            let left = &mut self.headers[next..filled];
            // SAFETY: the kernel reads what the headers name: vectors, answers and peers, which
            // live in `self` and are not changed meanwhile.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    left.as_mut_ptr(),
                    libc::c_uint::try_from(left.len()).unwrap_or(BATCH),
                    libc::MSG_DONTWAIT as _,
                )
            };
            match usize::try_from(sent) {
                Ok(sent @ 1..) => next += sent,
                // The first of them fails: the others may go.
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                _ => (next, failed) = (next + 1, failed + 1),
            }
        }
        failed
    }
}

impl Peer {
    fn nobody() -> Peer {
        Peer {
            // SAFETY: all zeroes are a valid `sockaddr_storage`.
            address: unsafe { std::mem::zeroed() },
            address_length: 0,
            control: Control([0; CONTROL_MAX]),
            control_length: 0,
        }
    }

    /// Sends one datagram to it, without waiting. Returns whether the kernel has taken it.
    pub(super) fn send(&mut self, socket: &UdpSocket, message: &[u8]) -> bool {
        let mut vector = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        let header = self.header(&raw mut vector);
        // SAFETY: the kernel reads what the header names: the vector, the message and this peer,
        // which all live until the call returns.
        unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) >= 0 }
    }

    /// A header that sends what `vector` names to it.
    fn header(&mut self, vector: *mut libc::iovec) -> libc::msghdr {
        let mut header = no_header().msg_hdr;
        header.msg_name = (&raw mut self.address).cast();
        header.msg_namelen = self.address_length;
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        if self.control_length > 0 {
            header.msg_control = (&raw mut self.control).cast();
            header.msg_controllen = self.control_length as _;
        }
        header
    }

    /// Makes what the kernel said about the way here into what it needs for the way back: the same
    /// control message, with the interface left open. Only a link-local address needs one.
    fn turn(&mut self) {
        let head = control_head(&self.control);
        let data = cmsg_data();
        match (head.cmsg_level, head.cmsg_type) {
            _ if self.control_length < size_of::<libc::cmsghdr>() => self.control_length = 0,
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // `in_pktinfo`: interface, local address, destination.
                self.control.0[data..data + 4].fill(0);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // `in6_pktinfo`: address, interface.
                let link_local = self.control.0[data] == 0xfe && self.control.0[data + 1] & 0xc0 == 0x80;
                if !link_local {
                    self.control.0[data + 16..data + 20].fill(0);
                }
            }
            _ => self.control_length = 0,
        }
    }

    fn socket_address(&self) -> Option<SocketAddr> {
        match libc::c_int::from(self.address.ss_family) {
            libc::AF_INET => {
                // SAFETY: of this family the kernel writes a `sockaddr_in`, which is no longer than
                // the storage and no more strictly aligned.
                let address = unsafe { &*(&raw const self.address).cast::<libc::sockaddr_in>() };
                let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
                Some(SocketAddr::new(IpAddr::V4(ip), u16::from_be(address.sin_port)))
            }
            libc::AF_INET6 => {
                // SAFETY: as above, with `sockaddr_in6`.
                let address = unsafe { &*(&raw const self.address).cast::<libc::sockaddr_in6>() };
                let ip = Ipv6Addr::from(address.sin6_addr.s6_addr);
                let port = u16::from_be(address.sin6_port);
                match ip.to_ipv4_mapped() {
                    Some(v4) => Some(SocketAddr::new(IpAddr::V4(v4), port)),
                    None => Some(SocketAddrV6::new(ip, port, 0, address.sin6_scope_id).into()),
                }
            }
            _ => None,
        }
    }
}

fn no_header() -> libc::mmsghdr {
    // SAFETY: all zeroes are a valid `mmsghdr`: null pointers with lengths of 0.
    unsafe { std::mem::zeroed() }
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

fn control_head(control: &Control) -> libc::cmsghdr {
    let mut head = MaybeUninit::<libc::cmsghdr>::uninit();
    // SAFETY: the control message has room for a head, and any octets are a valid one.
    unsafe {
        std::ptr::copy_nonoverlapping(
            control.0.as_ptr(),
            head.as_mut_ptr().cast::<u8>(),
            size_of::<libc::cmsghdr>(),
        );
        head.assume_init()
    }
}

/// Where the data of a control message begin (cmsg(3): CMSG_DATA).
const fn cmsg_data() -> usize {
    // SAFETY: computes a number.
    unsafe { libc::CMSG_LEN(0) as usize }
}
