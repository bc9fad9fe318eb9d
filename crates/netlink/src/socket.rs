//! The socket: the only place that makes system calls for netlink.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::wire::{Attributes, HEADER_LEN, Message, Messages, Writer, align};

/// Room for one read of a dump; the kernel fills up to 32 KiB (`netlink_dump`).
const READ_BUFFER: usize = 64 << 10;
/// Room for the kernel's answers to one transaction: about a kilobyte each.
const ANSWER_BUFFER: libc::c_int = 16 << 20;
/// How much smaller than the socket's buffer a message must be (`netlink_sendmsg`), bytes.
const SEND_SLACK: usize = 32;
/// How often a dump that a change interrupted is started over.
const DUMP_ATTEMPTS: usize = 50;
/// Requests are sent together up to this length; larger datagrams are not faster.
const BATCH_BYTES: usize = 16 << 10;

#[expect(clippy::cast_possible_truncation, reason = "a dozen bytes")]
const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
#[expect(clippy::cast_possible_truncation, reason = "four bytes")]
const INT_LEN: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;

// linux/netlink.h
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
const DUMP_INTERRUPTED: u16 = 0x10;
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;
const NLMSGERR_MESSAGE: u16 = 1;
const NLMSGERR_OFFSET: u16 = 2;
/// `int` and `struct nlmsghdr`, bytes
const ERROR_LEN: usize = 4 + HEADER_LEN;

/// What becomes of a request to create something that is there already (linux/netlink.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfThere {
    /// It is refused with `EEXIST`.
    Refuse,
    /// What is there is replaced.
    Replace,
}

/// A netlink socket in one network namespace.
#[derive(Debug)]
pub struct NetlinkSocket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
    /// The longest datagram that can be sent now, bytes
    send_limit: usize,
    /// The limit can be raised.
    privileged: bool,
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl NetlinkSocket {
    /// Opens a socket for `protocol` (`NETLINK_*`) in the calling thread's network namespace.
    pub fn open(protocol: libc::c_int) -> io::Result<NetlinkSocket> {
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let buffer = vec![0; READ_BUFFER].into_boxed_slice();
        let mut socket = NetlinkSocket { fd, sequence: 0, buffer, send_limit: 0, privileged: false };
        // Errors without the failed message, but with the place in it.
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        socket.privileged = socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, ANSWER_BUFFER).is_ok();
        if !socket.privileged {
            // Both are silently cut to the machine's limits.
            socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, ANSWER_BUFFER)?;
            socket.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, libc::c_int::MAX / 2)?;
        }
        socket.read_send_limit()?;
        Ok(socket)
    }

    /// Subscribes to a multicast group (`RTNLGRP_*`, `NFNLGRP_*`). The socket is for nothing else
    /// from now on: an event that comes between the answers to a request would be lost.
    pub fn join(&self, group: libc::c_int) -> io::Result<()> {
        // SAFETY: all-zero is a valid sockaddr_nl; the kernel chooses the port. A socket without a
        // port hears nothing: its number is then the kernel's, which is the sender
        // (`do_one_broadcast`).
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
        // SAFETY: the address is as long as is said and lives until the call returns.
        let bound = unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), ADDRESS_LEN) };
        if bound < 0 {
            let error = io::Error::last_os_error();
            // It has its port since it joined another group.
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
        }
        self.set_option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)
    }

    /// The longest datagram that can be sent, bytes, or `None` where only memory limits it.
    ///
    /// The limit exists for processes without CAP_NET_ADMIN in the initial user namespace, such as
    /// root of a user namespace: it is twice `net.core.wmem_max`.
    pub fn hard_send_limit(&self) -> Option<usize> {
        (!self.privileged).then_some(self.send_limit)
    }

    /// The longest datagram that can be sent now, bytes.
    pub fn send_limit(&self) -> usize {
        self.send_limit
    }

    /// Sees to it that a datagram of `bytes` can be sent; if that is not possible, the inner result
    /// is the longest that can be.
    pub fn make_room(&mut self, bytes: usize) -> io::Result<Result<(), usize>> {
        if bytes <= self.send_limit {
            return Ok(Ok(()));
        }
        // The kernel doubles it. Somewhat more than is needed, or every slightly longer datagram
        // would ask.
        let wanted = libc::c_int::try_from((bytes + SEND_SLACK).next_power_of_two() / 2);
        let Ok(wanted) = wanted else { return Ok(Err(self.send_limit)) };
        if !self.privileged {
            return Ok(Err(self.send_limit));
        }
        self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted)?;
        self.read_send_limit()?;
        Ok(if bytes <= self.send_limit { Ok(()) } else { Err(self.send_limit) })
    }

    /// Sends a datagram that consists of `parts`. The kernel handles it before this returns.
    pub fn send(&self, parts: &[&[u8]]) -> io::Result<()> {
        let parts: Vec<libc::iovec> = parts
            .iter()
            .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() })
            .collect();
        // SAFETY: all-zero is a valid msghdr: no address (the kernel is meant), no parts, no
        // control data.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = parts.as_ptr().cast_mut();
        header.msg_iovlen = parts.len() as _;
        loop {
            // SAFETY: `header` and the parts it leads to live until the call returns, and are only
            // read.
            let sent = unsafe { libc::sendmsg(self.fd.as_raw_fd(), &raw const header, 0) };
            if sent >= 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }

    /// Moves it to a descriptor of at least `number`. If the process is killed, the kernel closes
    /// the highest first (`close_files` of fs/file.c puts them on the list that `task_work_run` of
    /// kernel/task_work.c takes from the end).
    pub fn move_above(&mut self, number: i32) -> io::Result<()> {
        // SAFETY: a plain integer command on a descriptor that is open.
        let fd = unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, number) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: fcntl has just made it, and nobody else has it.
        self.fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(())
    }

    /// Waits for a datagram. One that is not from the kernel is taken for empty.
    pub fn receive(&mut self) -> io::Result<&[u8]> {
        Ok(self.receive_with(0)?.unwrap_or(&[]))
    }

    /// As [`NetlinkSocket::receive`], and does not wait: `None` if there is no datagram.
    pub fn try_receive(&mut self) -> io::Result<Option<&[u8]>> {
        self.receive_with(libc::MSG_DONTWAIT)
    }

    /// Waits for a datagram, not longer than `timeout`. Returns whether there is one. A signal may
    /// end the wait early.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        // A rounded-down wait would end just before its time.
        let milliseconds =
            libc::c_int::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX);
        let mut polled = libc::pollfd { fd: self.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd, which lives until the call returns.
        let ready = unsafe { libc::poll(&raw mut polled, 1, milliseconds) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted { Ok(false) } else { Err(error) };
        }
        Ok(ready > 0)
    }

    /// Asks for a dump, in a message that begins with `header`, and calls `each` with every message
    /// of it. Returns whether it shows one state.
    pub fn dump(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<Completeness> {
        let sequence = self.request(kind, DUMP, header, fill)?;
        let mut completeness = Completeness::Complete;
        loop {
            for message in Messages::new(self.receive()?) {
                let message = message.map_err(malformed)?;
                if message.sequence != sequence {
                    continue;
                }
                if message.flags & DUMP_INTERRUPTED != 0 {
                    completeness = Completeness::Interrupted;
                }
                match message.kind {
                    NLMSG_DONE => {
                        let errno = message.payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                        if errno < 0 {
                            return Err(io::Error::from_raw_os_error(errno.saturating_neg()));
                        }
                        return Ok(completeness);
                    }
                    NLMSG_ERROR => {
                        let answer =
                            Answer::parse(&message).ok_or_else(|| malformed("error without a code"))?;
                        answer.into_result()?;
                    }
                    _ => each(&message),
                }
            }
        }
    }

    /// As [`NetlinkSocket::dump`], of one state: started over while something changes meanwhile,
    /// and what was collected so far is thrown away.
    pub fn dump_whole<T: Default>(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl Fn(&mut Writer),
        mut collect: impl FnMut(&mut T, &Message<'_>),
    ) -> io::Result<T> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut found = T::default();
            match self.dump(kind, header, &fill, |message| collect(&mut found, message)) {
                Ok(Completeness::Complete) => return Ok(found),
                Ok(Completeness::Interrupted) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "it changes faster than it can be read"))
    }

    /// Sends one message that the kernel answers with success or an error.
    pub fn acknowledged(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> io::Result<()> {
        self.exchange(kind, 0, header, fill, |_| {})
    }

    /// As [`NetlinkSocket::acknowledged`], to create something.
    pub fn create(
        &mut self,
        kind: u16,
        if_there: IfThere,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> io::Result<()> {
        let flags = match if_there {
            IfThere::Refuse => CREATE | EXCLUSIVE,
            IfThere::Replace => CREATE | REPLACE,
        };
        self.exchange(kind, flags, header, fill, |_| {})
    }

    /// Sends one question, and calls `each` with the messages that answer it.
    pub fn ask(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
        each: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        self.exchange(kind, 0, header, fill, each)
    }

    /// Sends one question that is answered by one message, and returns what `parse` makes of that.
    pub fn ask_one<T>(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
        parse: impl FnOnce(&Message<'_>) -> Option<T>,
    ) -> io::Result<T> {
        let sequence = self.request(kind, 0, header, fill)?;
        loop {
            for message in Messages::new(self.receive()?) {
                let message = message.map_err(malformed)?;
                if message.sequence != sequence {
                    continue;
                }
                if let Some(answer) = Answer::parse(&message) {
                    answer.into_result()?;
                }
                return parse(&message).ok_or_else(|| malformed("an answer without what was asked for"));
            }
        }
    }

    /// Sends requests of type `kind`, many in a datagram; `write` writes the header and the
    /// attributes of each, both into the open message. Each is done or fails by itself: returns
    /// the numbers of those that failed, from 0, with the error of each (positive).
    pub fn batch<T>(
        &mut self,
        kind: u16,
        requests: &[T],
        header: impl Fn(&T) -> [u8; 4],
        write: impl Fn(&T, &mut Writer),
    ) -> io::Result<Vec<(usize, i32)>> {
        let mut failed = Vec::new();
        let mut writer = Writer::new();
        let mut sent = 0;
        while sent < requests.len() {
            writer.clear();
            // Sequence numbers of a datagram follow each other, and none is 0.
            if self.sequence > u32::MAX / 2 {
                self.sequence = 0;
            }
            let first = self.sequence + 1;
            let mut last = 0;
            for request in &requests[sent..] {
                last = writer.len();
                self.sequence += 1;
                let message = writer.message_with(kind, REQUEST, self.sequence, &header(request));
                write(request, &mut writer);
                writer.end_message(message);
                if writer.len() >= BATCH_BYTES.min(self.send_limit / 2) {
                    break;
                }
            }
            // Errors are answered anyway. The answer to the last says that all are done.
            writer.bytes_mut()[last + 6..last + 8].copy_from_slice(&(REQUEST | ACK).to_ne_bytes());
            if writer.is_oversized() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "attribute of more than 64 KiB"));
            }
            self.send(&[writer.as_bytes()])?;
            let mut answered = false;
            while !answered {
                let end = self.sequence;
                for message in Messages::new(self.receive()?) {
                    let message = message.map_err(malformed)?;
                    let Some(answer) = Answer::parse(&message) else { continue };
                    if !(first..=end).contains(&answer.sequence) {
                        continue;
                    }
                    answered |= answer.sequence == end;
                    if answer.errno != 0 {
                        failed.push((sent + (answer.sequence - first) as usize, answer.errno));
                    }
                }
            }
            sent += (self.sequence - first) as usize + 1;
        }
        Ok(failed)
    }

    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        let sequence = self.request(kind, flags | ACK, header, fill)?;
        loop {
            for message in Messages::new(self.receive()?) {
                let message = message.map_err(malformed)?;
                if message.sequence != sequence {
                    continue;
                }
                match Answer::parse(&message) {
                    Some(answer) => return answer.into_result(),
                    None => each(&message),
                }
            }
        }
    }

    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> io::Result<u32> {
        // 0 is for messages that nobody asked for.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        let mut writer = Writer::new();
        let message = writer.message_with(kind, REQUEST | flags, self.sequence, header);
        fill(&mut writer);
        writer.end_message(message);
        if writer.is_oversized() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "name longer than a netlink attribute"));
        }
        self.send(&[writer.as_bytes()])?;
        Ok(self.sequence)
    }

    /// Receives a datagram; `None` if there is none and `flags` say not to wait.
    fn receive_with(&mut self, flags: libc::c_int) -> io::Result<Option<&[u8]>> {
        // SAFETY: all-zero is a valid sockaddr_nl.
        let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let length = loop {
            let mut sender_len = ADDRESS_LEN;
            // SAFETY: the buffer is as long as is said, `sender` too, and both live until the call
            // returns.
            let length = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    flags | libc::MSG_TRUNC,
                    (&raw mut sender).cast(),
                    &raw mut sender_len,
                )
            };
            if let Ok(length) = usize::try_from(length) {
                break length;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(None),
                _ => return Err(error),
            }
        };
        match self.buffer.get(..length) {
            Some(_) if sender.nl_pid != 0 => Ok(Some(&[])),
            Some(datagram) => Ok(Some(datagram)),
            None => Err(malformed("datagram longer than the kernel makes them")),
        }
    }

    fn read_send_limit(&mut self) -> io::Result<()> {
        let mut value: libc::c_int = 0;
        let mut length = INT_LEN;
        // SAFETY: `value` is as long as `length` says; both live until the call returns.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDBUF,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        self.send_limit = usize::try_from(value).unwrap_or(0).saturating_sub(SEND_SLACK);
        Ok(())
    }

    fn set_option(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the value is as long as is said and lives until the call returns.
        let result = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, option, (&raw const value).cast(), INT_LEN)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// Whether a dump shows one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// All of it is of one moment.
    Complete,
    /// Something changed while it was read.
    Interrupted,
}

/// The kernel sent what no kernel sends.
pub fn malformed(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// An `NLMSG_ERROR`, which also says success.
#[derive(Debug)]
pub struct Answer {
    /// Positive, or 0 for success
    pub errno: i32,
    /// Of the message that it answers
    pub sequence: u32,
    /// The kernel's own words, where it has some
    pub reason: Option<String>,
    /// Where in that message the cause is, bytes from its start
    pub offset: Option<usize>,
}

impl Answer {
    /// Reads one; `None` for any other message.
    pub fn parse(message: &Message<'_>) -> Option<Answer> {
        if message.kind != NLMSG_ERROR {
            return None;
        }
        let number = |at: usize| Some(u32::from_ne_bytes(*message.payload.get(at..)?.first_chunk()?));
        let errno = number(0)?.cast_signed().saturating_neg();
        // The header of the message that it answers follows, and without CAPPED the rest of it.
        let skipped = if message.flags & CAPPED != 0 { ERROR_LEN } else { 4 + align(number(4)? as usize) };
        let rest =
            if message.flags & ACK_TLVS != 0 { message.payload.get(skipped..).unwrap_or(&[]) } else { &[] };
        let details = Attributes::new(rest);
        let offset = details.get(NLMSGERR_OFFSET);
        Some(Answer {
            errno,
            sequence: number(12)?,
            reason: details.get(NLMSGERR_MESSAGE).and_then(|text| text.text()).map(str::to_owned),
            offset: offset.and_then(|at| at.payload.first_chunk()).map(|at| u32::from_ne_bytes(*at) as usize),
        })
    }

    /// Success, or the error.
    pub fn into_result(self) -> io::Result<()> {
        if self.errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(self.errno)) }
    }
}
