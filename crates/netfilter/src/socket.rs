//! A netlink socket, of the netfilter family unless said otherwise. Apart from [`crate::xtables`], which is no netlink,
//! the only place that makes system calls.

use std::collections::HashSet;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::nft::{
    self, Batch, ChainHandles, ChainInfo, ChainJumps, ElementAt, EncodeError, OwnedElement, RuleInfo,
    SetInfo, TableFamily, TableInfo, TableRef, TraceEvent, attr,
};
use crate::wire::{Attributes, Message, Messages, Writer};

/// Room for one read of a dump; the kernel fills up to 32 KiB (`netlink_dump`).
const READ_BUFFER: usize = 64 << 10;
/// Room for the kernel's answers to one transaction: about a kilobyte each.
const ANSWER_BUFFER: libc::c_int = 16 << 20;
/// How much smaller than the socket's buffer a message must be (`netlink_sendmsg`), bytes.
const SEND_SLACK: usize = 32;
/// How often a dump that a commit interrupted is started over.
const DUMP_ATTEMPTS: usize = 50;

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
const DUMP_INTERRUPTED: u16 = 0x10;
const CAPPED: u16 = 0x100;
const ACK_TLVS: u16 = 0x200;
const NLMSGERR_MESSAGE: u16 = 1;
const NLMSGERR_OFFSET: u16 = 2;
/// `int` and `struct nlmsghdr`, bytes
const ERROR_LEN: usize = 4 + crate::wire::HEADER_LEN;

/// What the kernel says against one message of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {}{}", io::Error::from_raw_os_error(*.errno), .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
pub struct MessageError {
    /// The message's number in the batch, from 0
    pub index: usize,
    /// The error, positive
    pub errno: i32,
    /// What the message asked for, such as `add 312 elements to services`
    pub what: String,
    /// The kernel's own words, where it has some
    pub reason: Option<String>,
    /// The element that the kernel names as the cause, where it does
    pub element: Option<ElementAt>,
}

/// Why a transaction was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The kernel refuses some messages; all errors are here, in the order of messages, unless the kernel had no
    /// room to tell them all.
    #[error("the kernel refuses the transaction: {}", summary(errors))]
    Refused {
        /// At least one
        errors: Vec<MessageError>,
    },
    /// The rule set is not of the generation that the batch expects: somebody else changed it.
    #[error("the rule set has changed since it was read")]
    Stale,
    /// The batch is longer than what may be sent at once, and the process has no privilege over the machine's
    /// own user namespace that would let it raise the limit.
    #[error(
        "transaction of {bytes} bytes, but this process may send only {limit} at once; split it, raise net.core.wmem_max, \
         or grant CAP_NET_ADMIN in the initial user namespace"
    )]
    TooLarge {
        /// Length of the batch
        bytes: usize,
        /// The longest possible batch
        limit: usize,
    },
    /// The batch contains what cannot be written.
    #[error(transparent)]
    Unencodable(#[from] EncodeError),
    /// A system call failed, or the kernel refuses all of it (`EPERM` without CAP_NET_ADMIN).
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
}

fn summary(errors: &[MessageError]) -> String {
    match errors {
        [] => "no reason given".to_owned(),
        [first] => first.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

impl CommitError {
    /// The rule set has changed since it was read: read again, and try again.
    pub fn is_stale(&self) -> bool {
        matches!(self, CommitError::Stale)
    }

    /// The messages that the kernel refuses.
    pub fn errors(&self) -> &[MessageError] {
        match self {
            CommitError::Refused { errors } => errors,
            _ => &[],
        }
    }
}

/// A socket in one network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
    /// The longest datagram that can be sent now, bytes
    send_limit: usize,
    /// The limit can be raised.
    privileged: bool,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Socket> {
        Socket::open_for(libc::NETLINK_NETFILTER)
    }

    /// As [`Socket::open`], for another protocol of netlink (`NETLINK_ROUTE`, `NETLINK_GENERIC`).
    pub(crate) fn open_for(protocol: libc::c_int) -> io::Result<Socket> {
        // SAFETY: no pointers are involved.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new, and ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let buffer = vec![0; READ_BUFFER].into_boxed_slice();
        let mut socket = Socket { fd, sequence: 0, buffer, send_limit: 0, privileged: false };
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

    /// The longest batch that [`Socket::commit`] can send, bytes, or `None` where only memory limits it.
    ///
    /// The limit exists for processes without CAP_NET_ADMIN in the initial user namespace, such as root of a user
    /// namespace: it is twice `net.core.wmem_max`, and the kernel offers no other way to pass a transaction.
    pub fn batch_limit(&self) -> Option<usize> {
        (!self.privileged).then_some(self.send_limit)
    }

    /// Applies a transaction, or nothing of it. An empty one always succeeds.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if let Some(error) = batch.error() {
            return Err(error.clone().into());
        }
        if batch.is_empty() {
            return Ok(());
        }
        if batch.len() > self.send_limit {
            self.raise_send_limit(batch.len())?;
        }
        // Answers to an earlier transaction that failed half-way are nobody's.
        self.discard_answers()?;
        let end = Batch::end();
        match self.send(&[batch.front(), end.as_bytes()]) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                return Err(CommitError::TooLarge { bytes: batch.len(), limit: self.send_limit });
            }
            result => result?,
        }
        self.answers(batch)
    }

    fn discard_answers(&mut self) -> io::Result<()> {
        loop {
            match self.receive(libc::MSG_DONTWAIT) {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what the kernel says to a transaction. The kernel applies it within `send`, so that all answers are
    /// there; the last is for the last message, unless there was no room.
    fn answers(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let mut refused: Vec<Answer> = Vec::new();
        let mut acknowledged = false;
        let mut overrun = None;
        let last = batch.messages();
        loop {
            let datagram = match self.receive(libc::MSG_DONTWAIT) {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    overrun = Some(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for message in Messages::new(datagram).map_while(Result::ok) {
                let Some(answer) = Answer::parse(&message) else { continue };
                match (answer.errno, answer.sequence as usize) {
                    (0, sequence) => acknowledged |= sequence == last,
                    (libc::ERESTART, 0) => return Err(CommitError::Stale),
                    (errno, 0) => return Err(io::Error::from_raw_os_error(errno).into()),
                    _ => refused.push(answer),
                }
            }
        }
        if refused.is_empty() {
            return match overrun {
                Some(error) if !acknowledged => Err(error.into()),
                None if !acknowledged => {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "no answer to a transaction").into())
                }
                _ => Ok(()),
            };
        }
        refused.sort_by_key(|answer| answer.sequence);
        let mut messages = batch.iter().zip(1..).peekable();
        let errors = refused
            .into_iter()
            .map(|answer| {
                while messages.next_if(|(_, sequence)| *sequence < answer.sequence).is_some() {}
                let message = messages.peek().map(|(message, _)| *message);
                MessageError {
                    index: (answer.sequence - 1) as usize,
                    errno: answer.errno,
                    what: message.map(|message| nft::describe(&message)).unwrap_or_default(),
                    reason: answer.reason,
                    element: message.and_then(|message| nft::element_at(&message, answer.offset?)),
                }
            })
            .collect();
        Err(CommitError::Refused { errors })
    }

    /// The generation of the namespace's nftables rule set: each commit of anybody raises it.
    pub fn generation(&mut self) -> io::Result<u32> {
        let sequence = self.request(nft::GETGEN, REQUEST, &netfilter_header(0), |_| {})?;
        loop {
            let Some(datagram) = self.receive(0)? else { continue };
            for message in Messages::new(datagram) {
                let message = message.map_err(malformed)?;
                if message.sequence != sequence {
                    continue;
                }
                if let Some(answer) = Answer::parse(&message) {
                    answer.into_result()?;
                }
                if message.kind == nft::NEWGEN {
                    return message
                        .netfilter()
                        .and_then(|(_, attributes)| attributes.get(attr::GEN_ID)?.be32())
                        .ok_or_else(|| malformed("generation message without a number"));
                }
            }
        }
    }

    /// The tables of a family.
    pub fn tables(&mut self, family: TableFamily) -> io::Result<Vec<TableInfo>> {
        let bytes = self.snapshot(nft::GETTABLE, family, |_| {})?;
        Ok(parsed(&bytes, nft::NEWTABLE, TableInfo::parse).filter(|table| table.family == family).collect())
    }

    /// The chains of a table; none if it is missing.
    pub fn chains(&mut self, table: TableRef<'_>) -> io::Result<Vec<ChainInfo>> {
        let bytes =
            self.snapshot(nft::GETCHAIN, table.family, |to| to.string(attr::CHAIN_TABLE, table.name))?;
        Ok(parsed(&bytes, nft::NEWCHAIN, ChainInfo::parse)
            .filter(|chain| chain.table == table.name)
            .collect())
    }

    /// The chains of all tables that the kernel calls, each with the number of its table's family
    /// (`NFPROTO_*`). Started over while commits of others come in between.
    pub fn base_chains(&mut self) -> io::Result<Vec<(u8, ChainInfo)>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut chains = Vec::new();
            let collect = |message: &Message<'_>| {
                let family = message.netfilter().map(|(family, _)| family);
                let chain = family.zip(ChainInfo::parse(message)).filter(|(_, chain)| chain.is_base);
                chains.extend(chain);
            };
            match self.dump(nft::GETCHAIN, &netfilter_header(0), |_| {}, collect) {
                Ok(Completeness::Complete) => return Ok(chains),
                Ok(Completeness::Interrupted) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "rule set changes faster than it can be read"))
    }

    /// The rules of a table, chain by chain, those of a chain in order; none if it is missing.
    pub fn rules(&mut self, table: TableRef<'_>) -> io::Result<Vec<RuleInfo>> {
        let bytes =
            self.snapshot(nft::GETRULE, table.family, |to| to.string(attr::RULE_TABLE, table.name))?;
        Ok(parsed(&bytes, nft::NEWRULE, RuleInfo::parse).filter(|rule| rule.table == table.name).collect())
    }

    /// What the rules of a table jump to, chain by chain; chains without rules are left out. Reads all rules and
    /// keeps little of them. Started over while commits of others come in between.
    pub fn jumps(&mut self, table: TableRef<'_>) -> io::Result<Vec<ChainJumps>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut chains = Vec::new();
            let collect = |message: &Message<'_>| ChainJumps::collect(message, table.name, &mut chains);
            let fill = |to: &mut Writer| to.string(attr::RULE_TABLE, table.name);
            match self.dump(nft::GETRULE, &netfilter_header(table.family.number()), fill, collect) {
                Ok(Completeness::Complete) => return Ok(chains),
                Ok(Completeness::Interrupted) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "rule set changes faster than it can be read"))
    }

    /// The numbers of all rules of the network namespace, chain by chain, of all families; chains without rules are left
    /// out. Started over while commits of others come in between.
    pub fn rule_handles(&mut self) -> io::Result<Vec<ChainHandles>> {
        for _ in 0..DUMP_ATTEMPTS {
            let mut chains = Vec::new();
            let collect = |message: &Message<'_>| ChainHandles::collect(message, &mut chains);
            match self.dump(nft::GETRULE, &netfilter_header(0), |_| {}, collect) {
                Ok(Completeness::Complete) => return Ok(chains),
                Ok(Completeness::Interrupted) => {}
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "rule set changes faster than it can be read"))
    }

    /// From now on [`Socket::trace_events`] tells of packets that are traced. Such a socket is for nothing else: what comes
    /// between answers to requests would be lost.
    pub fn join_trace(&self) -> io::Result<()> {
        // SAFETY: all-zero is a valid sockaddr_nl; the kernel chooses the port. A socket without one hears nothing, as it has the
        // number of the kernel, which is the sender (`do_one_broadcast`).
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::sa_family_t::try_from(libc::AF_NETLINK).unwrap_or_default();
        // SAFETY: the address is as long as is said and lives until the call returns.
        if unsafe { libc::bind(self.fd.as_raw_fd(), (&raw const address).cast(), ADDRESS_LEN) } < 0 {
            return Err(io::Error::last_os_error());
        }
        self.set_option(libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, nft::TRACE_GROUP)
    }

    /// Waits for trace events, at most so long, and calls `each` with those of one datagram, or with none. Returns whether
    /// there were any. `ENOBUFS` says that some were lost; the next call goes on.
    pub fn trace_events(&mut self, timeout: Duration, each: impl FnMut(TraceEvent)) -> io::Result<bool> {
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
        let Some(datagram) = self.receive(libc::MSG_DONTWAIT)? else { return Ok(false) };
        Messages::new(datagram)
            .map_while(Result::ok)
            .filter_map(|message| TraceEvent::parse(&message))
            .for_each(each);
        Ok(true)
    }

    /// The sets and maps of a table; none if it is missing.
    pub fn sets(&mut self, table: TableRef<'_>) -> io::Result<Vec<SetInfo>> {
        let bytes = self.snapshot(nft::GETSET, table.family, |to| to.string(attr::SET_TABLE, table.name))?;
        Ok(parsed(&bytes, nft::NEWSET, SetInfo::parse).filter(|set| set.table == table.name).collect())
    }

    /// Calls `each` once with every element of a set, all of one generation, in no order; never if the set is
    /// missing.
    ///
    /// Takes time in proportion to the square of large sets: a second for 250,000 elements, twice that just after
    /// they were added, while the kernel still grows the table and the dump has to be started over.
    pub fn elements(
        &mut self,
        table: TableRef<'_>,
        set: &str,
        mut each: impl FnMut(OwnedElement),
    ) -> io::Result<()> {
        let request = |to: &mut Writer| {
            to.string(attr::LIST_TABLE, table.name);
            to.string(attr::LIST_SET, set);
        };
        let bytes = self.checked_snapshot(nft::GETSETELEM, table.family, request, |bytes| !repeats(bytes))?;
        for message in Messages::new(&bytes).map_while(Result::ok) {
            if message.kind == nft::NEWSETELEM {
                OwnedElement::parse_all(&message).for_each(&mut each);
            }
        }
        Ok(())
    }

    /// The messages of a dump of one generation: started over when a commit comes in between. What is missing has
    /// no messages.
    fn snapshot(
        &mut self,
        kind: u16,
        family: TableFamily,
        fill: impl Fn(&mut Writer),
    ) -> io::Result<Vec<u8>> {
        self.checked_snapshot(kind, family, fill, |_| true)
    }

    /// Like `snapshot`; also started over when `is_whole` does not hold for the messages.
    fn checked_snapshot(
        &mut self,
        kind: u16,
        family: TableFamily,
        fill: impl Fn(&mut Writer),
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut before = self.generation()?;
        for _ in 0..DUMP_ATTEMPTS {
            bytes.clear();
            let collect = |message: &Message<'_>| put_message(message, &mut bytes);
            let dumped = match self.dump(kind, &netfilter_header(family.number()), &fill, collect) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => Completeness::Interrupted,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
                result => result?,
            };
            // Dumps of elements are not marked when a commit interrupts them.
            let after = self.generation()?;
            if dumped == Completeness::Complete && after == before && is_whole(&bytes) {
                return Ok(bytes);
            }
            before = after;
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "rule set changes faster than it can be read"))
    }

    /// Asks for a dump, in a message that begins with `header`, and calls `each` with every message of it.
    pub(crate) fn dump(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<Completeness> {
        let sequence = self.request(kind, REQUEST | DUMP, header, fill)?;
        let mut completeness = Completeness::Complete;
        loop {
            let Some(datagram) = self.receive(0)? else { continue };
            for message in Messages::new(datagram) {
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

    /// Sends one message that the kernel answers with success or an error.
    pub(crate) fn acknowledged(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
    ) -> io::Result<()> {
        self.ask(kind, header, fill, |_| {})
    }

    /// As [`Socket::acknowledged`], and calls `each` with the messages that come before.
    pub(crate) fn ask(
        &mut self,
        kind: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer),
        mut each: impl FnMut(&Message<'_>),
    ) -> io::Result<()> {
        let sequence = self.request(kind, REQUEST | ACK, header, fill)?;
        loop {
            let Some(datagram) = self.receive(0)? else { continue };
            for message in Messages::new(datagram) {
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
        let message = writer.message_with(kind, flags, self.sequence, header);
        fill(&mut writer);
        writer.end_message(message);
        if writer.is_oversized() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "name longer than a netlink attribute"));
        }
        self.send(&[writer.as_bytes()])?;
        Ok(self.sequence)
    }

    fn send(&self, parts: &[&[u8]]) -> io::Result<()> {
        let parts: Vec<libc::iovec> = parts
            .iter()
            .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() })
            .collect();
        // SAFETY: all-zero is a valid msghdr: no address (the kernel is meant), no parts, no control data.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = parts.as_ptr().cast_mut();
        header.msg_iovlen = parts.len() as _;
        loop {
            // SAFETY: `header` and the parts it leads to live until the call returns, and are only read.
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

    /// Receives a datagram; `None` if there is none and `flags` say not to wait. What is not from the kernel is taken
    /// for empty.
    fn receive(&mut self, flags: libc::c_int) -> io::Result<Option<&[u8]>> {
        // SAFETY: all-zero is a valid sockaddr_nl.
        let mut sender: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let length = loop {
            let mut sender_len = ADDRESS_LEN;
            // SAFETY: the buffer is as long as is said, `sender` too, and both live until the call returns.
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

    fn raise_send_limit(&mut self, bytes: usize) -> Result<(), CommitError> {
        let too_large = |limit| CommitError::TooLarge { bytes, limit };
        if !self.privileged {
            return Err(too_large(self.send_limit));
        }
        // The kernel doubles what it is told; a little more than needed, lest every slightly larger batch asks.
        let wanted = (bytes + SEND_SLACK).next_power_of_two() / 2;
        let Ok(wanted) = libc::c_int::try_from(wanted) else { return Err(too_large(self.send_limit)) };
        self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, wanted)?;
        self.read_send_limit()?;
        if bytes > self.send_limit { Err(too_large(self.send_limit)) } else { Ok(()) }
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
pub(crate) enum Completeness {
    /// All of it is of one generation.
    Complete,
    /// Something changed while it was read.
    Interrupted,
}

/// The `struct nfgenmsg` of a request about `family`.
pub(crate) const fn netfilter_header(family: u8) -> [u8; crate::wire::NFGENMSG_LEN] {
    [family, 0, 0, 0]
}

fn malformed(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Appends a message as it was received.
fn put_message(message: &Message<'_>, to: &mut Vec<u8>) {
    let length = crate::wire::HEADER_LEN + message.payload.len();
    to.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_ne_bytes());
    to.extend_from_slice(&message.kind.to_ne_bytes());
    to.extend_from_slice(&message.flags.to_ne_bytes());
    to.extend_from_slice(&message.sequence.to_ne_bytes());
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(message.payload);
    to.resize(crate::wire::align(to.len()), 0);
}

/// An element comes twice. Between two reads of a dump the kernel remembers how many elements it told; when the
/// hash table grows meanwhile they are in another order, some come again, and as many others never. A commit is not
/// needed for that: tables grow in the background after one.
fn repeats(bytes: &[u8]) -> bool {
    let messages =
        Messages::new(bytes).map_while(Result::ok).filter(|message| message.kind == nft::NEWSETELEM);
    let mut seen = HashSet::new();
    messages.flat_map(|message| nft::element_keys(&message)).any(|key| !seen.insert(key))
}

fn parsed<T>(bytes: &[u8], kind: u16, parse: impl Fn(&Message<'_>) -> Option<T>) -> impl Iterator<Item = T> {
    Messages::new(bytes)
        .map_while(Result::ok)
        .filter(move |message| message.kind == kind)
        .filter_map(move |message| parse(&message))
}

/// An `NLMSG_ERROR`, which also says success.
#[derive(Debug)]
struct Answer {
    /// Positive, or 0
    errno: i32,
    /// Of the message that it answers
    sequence: u32,
    reason: Option<String>,
    /// Where in that message the cause is, bytes from its start
    offset: Option<usize>,
}

impl Answer {
    fn parse(message: &Message<'_>) -> Option<Answer> {
        if message.kind != NLMSG_ERROR {
            return None;
        }
        let number = |at: usize| Some(u32::from_ne_bytes(*message.payload.get(at..)?.first_chunk()?));
        let errno = number(0)?.cast_signed().saturating_neg();
        // The header of the message that it answers follows, and without CAPPED the rest of it.
        let skipped =
            if message.flags & CAPPED != 0 { ERROR_LEN } else { 4 + crate::wire::align(number(4)? as usize) };
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

    fn into_result(self) -> io::Result<()> {
        if self.errno == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(self.errno)) }
    }
}
