//! Netlink messages with one answer each.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

// linux/netlink.h
pub(crate) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLA_F_NESTED: u16 = 1 << 15;
const NLMSG_ERROR: u16 = 2;
const HEADER: usize = 16;

/// `struct nfgenmsg` for IPv4 (linux/netfilter/nfnetlink.h).
pub(crate) const NFGENMSG_IPV4: [u8; 4] = [2, 0, 0, 0];

/// A netlink socket of the network namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: OwnedFd,
    answer: Vec<u8>,
}

impl Socket {
    /// Opens one for `protocol`, such as `NETLINK_ROUTE`.
    pub(crate) fn open(protocol: libc::c_int) -> io::Result<Socket> {
        // SAFETY: takes numbers only.
        let socket = unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a descriptor that was just created and that nobody else has.
        Ok(Socket { socket: unsafe { OwnedFd::from_raw_fd(socket) }, answer: vec![0; 4096] })
    }

    /// Sends `message` and returns the body of the one message that answers it: empty for an acknowledgement, an
    /// error for a refusal.
    pub(crate) fn exchange(&mut self, message: &[u8]) -> io::Result<&[u8]> {
        let socket = self.socket.as_raw_fd();
        // SAFETY: the pointer and length are those of one live slice.
        if unsafe { libc::send(socket, message.as_ptr().cast(), message.len(), 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the pointer and length are those of one live slice, which nobody else reads meanwhile.
        let received = unsafe { libc::recv(socket, self.answer.as_mut_ptr().cast(), self.answer.len(), 0) };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        let [_, _, _, _, kind_low, kind_high, ..] = self.answer[..received] else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer without a header"));
        };
        let body = self.answer[..received].get(HEADER..).unwrap_or_default();
        if u16::from_ne_bytes([kind_low, kind_high]) != NLMSG_ERROR {
            return Ok(body);
        }
        match body.first_chunk() {
            Some(code) => match i32::from_ne_bytes(*code) {
                0 => Ok(&[]),
                code => Err(io::Error::from_raw_os_error(-code)),
            },
            None => Err(io::Error::new(io::ErrorKind::InvalidData, "an error without a number")),
        }
    }
}

/// A message with its header.
pub(crate) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).expect("a short message");
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// An attribute, padded.
pub(crate) fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + payload.len()).expect("a short attribute");
    let mut attribute = length.to_ne_bytes().to_vec();
    attribute.extend(kind.to_ne_bytes());
    attribute.extend(payload);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
