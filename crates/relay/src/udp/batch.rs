//! Many datagrams with one system call: recvmmsg(2) and sendmmsg(2). Datagrams of one length to one
//! place are sent as one, which the kernel takes apart as late as it can (UDP_SEGMENT of udp(7));
//! those that came joined (UDP_GRO) are received as one.

use std::io;
use std::mem::zeroed;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use socket2::{SockAddr, SockAddrStorage};

use super::control::{Control, Local, ROOM, Said};

/// What a batch has room for: datagrams, or several joined ones.
pub(super) const SLOTS: usize = 64;
/// The longest there is, octets.
const SLOT: usize = 65_536;
/// At most so many datagrams are joined (UDP_MAX_SEGMENTS of older kernels), of so many octets
/// together.
const JOINED_MAX: usize = 64;
const JOINED_OCTETS_MAX: usize = 60_000;
/// The longest datagram that is joined with others at first: what fits into a frame of Ethernet.
const SEGMENT_MAX: usize = 1472;

/// Datagrams that were received, and are to be sent elsewhere.
pub(super) struct Batch {
    octets: Box<[u8]>,
    slots: Vec<Slot>,
    from: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    headers: Box<[libc::mmsghdr]>,
    vectors: Box<[libc::iovec]>,
    names: Vec<SockAddr>,
    messages: Vec<Message>,
    /// Longer ones were not taken when they were joined.
    segment_max: usize,
}

/// A datagram, or several joined ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    length: usize,
    said: Said,
    /// Who sent it; nobody, for what a connected socket has received.
    pub(super) from: Option<SocketAddr>,
}

/// Who gets datagrams, and from which address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) local: Option<Local>,
}

/// What is to be sent: the content of a slot, to somebody, or to whom the socket is connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outgoing {
    pub(super) slot: usize,
    pub(super) to: Option<Peer>,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Sent {
    pub(super) datagrams: u64,
    pub(super) octets: u64,
    /// Datagrams that the kernel did not take.
    pub(super) unsent: u64,
}

/// Datagrams that are sent as one.
#[derive(Debug, Clone, Copy)]
struct Message {
    /// The first of `outgoing`, and how many.
    first: usize,
    count: usize,
    segment: Option<u16>,
    datagrams: usize,
    octets: usize,
}

impl Slot {
    /// The address that it came to, if the socket asks for it.
    pub(super) fn local(&self) -> Option<Local> {
        self.said.local
    }

    /// Several datagrams are in it, each of this length.
    fn joined(&self) -> Option<usize> {
        self.said.segment.filter(|segment| *segment < self.length)
    }

    fn datagrams(&self) -> usize {
        self.joined().map_or(1, |segment| self.length.div_ceil(segment))
    }
}

impl Batch {
    pub(super) fn new() -> Batch {
        // SAFETY: all zeroes are valid addresses, headers and vectors: null pointers with lengths
        // of 0.
        let (from, header, vector) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Batch {
            // The kernel gives memory only for what is written to.
            octets: vec![0; SLOTS * SLOT].into(),
            slots: Vec::with_capacity(SLOTS),
            from: vec![from; SLOTS].into(),
            controls: vec![Control::new(); SLOTS].into(),
            headers: vec![header; SLOTS].into(),
            vectors: vec![vector; SLOTS].into(),
            names: Vec::with_capacity(SLOTS),
            messages: Vec::with_capacity(SLOTS),
            segment_max: SEGMENT_MAX,
        }
    }

    /// Forgets what it has.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    /// What was received since it was cleared.
    pub(super) fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Receives what there is, at most `most` and as much as there is room for, without waiting.
    /// Returns how many slots it fills.
    pub(super) fn receive(&mut self, socket: &UdpSocket, most: usize) -> io::Result<usize> {
        let used = self.slots.len();
        let most = most.min(SLOTS - used);
        for at in used..used + most {
            let octets = &mut self.octets[at * SLOT..][..SLOT];
            self.vectors[at] = libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: SLOT };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_name = (&raw mut self.from[at]).cast();
            header.msg_namelen = length_of::<libc::sockaddr_storage>();
            header.msg_iov = &raw mut self.vectors[at];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[at]).cast();
            header.msg_controllen = ROOM as _;
            header.msg_flags = 0;
        }
        let headers = &mut self.headers[used..used + most];
        // SAFETY: the kernel writes into the buffers that the headers name, which are as long as
        // they say, live in `self`, and are not used otherwise meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                libc::c_uint::try_from(most).unwrap_or(0),
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
        for at in used..used + received {
            let header = &self.headers[at];
            #[allow(clippy::unnecessary_cast, reason = "with musl it is shorter")]
            let said = self.controls[at].read(header.msg_hdr.msg_controllen as usize);
            let from = (header.msg_hdr.msg_namelen > 0).then(|| {
                // SAFETY: the kernel has written an address of this length.
                unsafe { SockAddr::new(storage(&self.from[at]), header.msg_hdr.msg_namelen) }.as_socket()
            });
            let length = (header.msg_len as usize).min(SLOT);
            self.slots.push(Slot { length, said, from: from.flatten() });
        }
        Ok(received)
    }

    /// Sends slots, without waiting. On an error of the socket itself (its endpoint cannot be
    /// reached), `outgoing` from the returned number on is not sent.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        outgoing: &[Outgoing],
        sent: &mut Sent,
    ) -> Result<(), usize> {
        let mut next = 0;
        while next < outgoing.len() {
            let end = outgoing.len().min(next + SLOTS);
            self.join(&outgoing[next..end]);
            self.transmit(socket, &outgoing[next..end], sent).map_err(|at| next + at)?;
            next = end;
        }
        Ok(())
    }

    /// Decides what is sent as one.
    fn join(&mut self, outgoing: &[Outgoing]) {
        self.messages.clear();
        let mut first = 0;
        while first < outgoing.len() {
            let slot = &self.slots[outgoing[first].slot];
            let mut message = Message {
                first,
                count: 1,
                segment: slot.joined().and_then(|segment| u16::try_from(segment).ok()),
                datagrams: slot.datagrams(),
                octets: slot.length,
            };
            let joins = message.segment.is_none() && (1..=self.segment_max).contains(&slot.length);
            let mut last = slot.length;
            for next in &outgoing[first + 1..] {
                let other = &self.slots[next.slot];
                let fits = joins
                    && next.to == outgoing[first].to
                    && other.joined().is_none()
                    && last == slot.length
                    && (1..=slot.length).contains(&other.length)
                    && message.count < JOINED_MAX
                    && message.octets + other.length <= JOINED_OCTETS_MAX;
                if !fits {
                    break;
                }
                (message.count, message.datagrams) = (message.count + 1, message.datagrams + 1);
                message.octets += other.length;
                message.segment = u16::try_from(slot.length).ok();
                last = other.length;
            }
            first += message.count;
            self.messages.push(message);
        }
    }

    /// Sends what was joined.
    fn transmit(&mut self, socket: &UdpSocket, outgoing: &[Outgoing], sent: &mut Sent) -> Result<(), usize> {
        self.lay_out(outgoing);
        let (mut next, count) = (0, self.messages.len());
        while next < count {
            let headers = &mut self.headers[next..count];
            // SAFETY: the kernel reads what the headers name: vectors, octets, names and control
            // messages, which live in `self` and are not changed meanwhile.
            let taken = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    headers.as_mut_ptr(),
                    libc::c_uint::try_from(headers.len()).unwrap_or(0),
                    (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
                )
            };
            if let Ok(taken @ 1..) = usize::try_from(taken) {
                for message in &self.messages[next..next + taken] {
                    sent.datagrams += message.datagrams as u64;
                    sent.octets += message.octets as u64;
                }
                next += taken;
                continue;
            }
            // It is about the first of them: others may go.
            let error = io::Error::last_os_error();
            let message = self.messages[next];
            match error.raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EINVAL | libc::EIO | libc::EMSGSIZE) if message.segment.is_some() => {
                    if message.count > 1 {
                        let length = self.slots[outgoing[message.first].slot].length;
                        self.segment_max = self.segment_max.min(length - 1);
                    }
                    self.send_apart(socket, &outgoing[message.first..][..message.count], sent);
                }
                Some(
                    libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EPERM | libc::EMSGSIZE | libc::EINVAL,
                ) => sent.unsent += message.datagrams as u64,
                _ => return Err(message.first),
            }
            next += 1;
        }
        Ok(())
    }

    /// Fills the headers for what was joined.
    fn lay_out(&mut self, outgoing: &[Outgoing]) {
        for (vector, outgoing) in self.vectors.iter_mut().zip(outgoing) {
            let slot = &self.slots[outgoing.slot];
            let octets = &mut self.octets[outgoing.slot * SLOT..][..slot.length];
            *vector = libc::iovec { iov_base: octets.as_mut_ptr().cast(), iov_len: slot.length };
        }
        self.names.clear();
        for message in &self.messages {
            let to = outgoing[message.first].to;
            // Without a name, the place is kept.
            self.names.push(SockAddr::from(to.map_or(([0; 4], 0).into(), |peer| peer.address)));
        }
        let parts = self.messages.iter().zip(&self.names).zip(&mut self.headers).zip(&mut self.controls);
        for (((message, name), header), control) in parts {
            let to = outgoing[message.first].to;
            let header = &mut header.msg_hdr;
            (header.msg_name, header.msg_namelen) = match to {
                Some(_) => (name.as_ptr().cast_mut().cast(), name.len()),
                None => (std::ptr::null_mut(), 0),
            };
            header.msg_iov = &raw mut self.vectors[message.first];
            header.msg_iovlen = message.count as _;
            let length = control.write(to.and_then(|peer| peer.local), message.segment);
            header.msg_control = if length == 0 { std::ptr::null_mut() } else { (&raw mut *control).cast() };
            header.msg_controllen = length as _;
            header.msg_flags = 0;
        }
    }

    /// Sends each datagram by itself: the kernel does not take these joined.
    fn send_apart(&self, socket: &UdpSocket, outgoing: &[Outgoing], sent: &mut Sent) {
        for Outgoing { slot: at, to } in outgoing {
            let slot = &self.slots[*at];
            let octets = &self.octets[at * SLOT..][..slot.length];
            for datagram in octets.chunks(slot.joined().unwrap_or(SLOT)) {
                if send_one(socket, datagram, *to) {
                    (sent.datagrams, sent.octets) = (sent.datagrams + 1, sent.octets + datagram.len() as u64);
                } else {
                    sent.unsent += 1;
                }
            }
        }
    }
}

/// Sends one datagram. Returns whether the kernel has taken it.
fn send_one(socket: &UdpSocket, datagram: &[u8], to: Option<Peer>) -> bool {
    let mut control = Control::new();
    let length = control.write(to.and_then(|peer| peer.local), None);
    let name = to.map(|peer| SockAddr::from(peer.address));
    let mut vector = libc::iovec { iov_base: datagram.as_ptr().cast_mut().cast(), iov_len: datagram.len() };
    // SAFETY: all zeroes are a valid header.
    let mut header: libc::msghdr = unsafe { zeroed() };
    if let Some(name) = &name {
        (header.msg_name, header.msg_namelen) = (name.as_ptr().cast_mut().cast(), name.len());
    }
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    if length > 0 {
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = length as _;
    }
    // SAFETY: the kernel reads what the header names, which all lives until the call returns.
    let sent = unsafe {
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
    };
    sent >= 0
}

/// An address as socket2 takes it.
fn storage(address: &libc::sockaddr_storage) -> SockAddrStorage {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: it is one.
    *unsafe { storage.view_as::<libc::sockaddr_storage>() } = *address;
    storage
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}
