//! Listening sockets on their way from one process to the next, over a Unix socket (SCM_RIGHTS of
//! unix(7)).
//!
//! The old process calls [`send`] with [`Relay::sockets`](crate::Relay::sockets), the next one
//! [`receive`], adds its listeners with what it got, and lets the old one know by means of its own.
//! Then the old one calls [`Relay::finish`](crate::Relay::finish). Meanwhile both take clients.
//! Who may connect to the Unix socket may have the sockets: it belongs into a folder of root's.

use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::zeroed;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crate::error::Error;
use crate::limits::Limits;
use crate::listener::{Protocol, Sockets};

/// Descriptors of one message (SCM_MAX_FD of the kernel).
const DESCRIPTORS_MAX: usize = 253;
/// Protocol, number of descriptors, length of the key.
const HEAD: usize = 4;

/// Room for the descriptors of a message, aligned as `cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; 1040]);

/// Sends sockets with the keys of their listeners.
pub fn send(to: &UnixStream, sockets: &[(String, Arc<Sockets>)]) -> Result<(), Error> {
    let failed = Error::system("handing sockets over");
    for (key, sockets) in sockets {
        let (protocol, descriptors): (u8, Vec<RawFd>) = match &**sockets {
            Sockets::Tcp(socket) => (b't', vec![socket.as_raw_fd()]),
            Sockets::Udp(sockets) => (b'u', sockets.iter().map(AsRawFd::as_raw_fd).collect()),
        };
        let too_long = |_| Error::HandOver { reason: "a key has more than 65535 octets" };
        let length = u16::try_from(key.len()).map_err(too_long)?.to_be_bytes();
        // What comes to sockets beyond that comes to these when the old process has closed them.
        let descriptors = &descriptors[..descriptors.len().min(DESCRIPTORS_MAX)];
        let count = u8::try_from(descriptors.len()).unwrap_or(u8::MAX);
        let message = [&[protocol, count, length[0], length[1]], key.as_bytes()].concat();
        send_message(to, &message, descriptors).map_err(&failed)?;
    }
    send_message(to, &[0; HEAD], &[]).map_err(&failed)
}

/// Receives what [`send`] sends into `all`, which has what came if there is an error, too. A read
/// timeout of `from` bounds the time. The limit of the process's descriptors is raised as far as it
/// may. Sockets that would need the last of them are closed, and are an error at the end.
pub fn receive(from: &mut UnixStream, all: &mut Vec<(String, Arc<Sockets>)>) -> Result<(), Error> {
    let room = Limits::descriptors().map_err(Error::system("raising the limit of descriptors"))?;
    receive_at_most(room, from, all)
}

/// As many descriptors as there is `room` for.
fn receive_at_most(
    room: usize,
    from: &mut UnixStream,
    all: &mut Vec<(String, Arc<Sockets>)>,
) -> Result<(), Error> {
    let failed = Error::system("taking sockets over");
    let (mut held, mut closed) = (0, 0);
    loop {
        let (head, descriptors) = receive_head(from).map_err(&failed)?;
        let [protocol, count, high, low] = head;
        if protocol == 0 {
            return if closed == 0 { Ok(()) } else { Err(Error::Descriptors { closed }) };
        }
        let mut key = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        from.read_exact(&mut key).map_err(&failed)?;
        // The kernel leaves out what the process may not have (MSG_CTRUNC of recvmsg(2)).
        if usize::from(count) != descriptors.len() || held + descriptors.len() > room {
            closed += 1;
            continue;
        }
        held += descriptors.len();
        let key = String::from_utf8(key).map_err(|_| Error::HandOver { reason: "a key is no UTF-8" })?;
        let mut descriptors = descriptors.into_iter();
        let sockets = match (protocol, descriptors.len()) {
            (b't', 1) => Sockets::Tcp(descriptors.next().map(TcpListener::from).expect("there is one")),
            (b'u', 1..) => Sockets::Udp(descriptors.map(UdpSocket::from).collect()),
            _ => return Err(Error::HandOver { reason: "sockets are of no known protocol" }),
        };
        debug_assert!(matches!(sockets.protocol(), Protocol::Tcp | Protocol::Udp));
        all.push((key, Arc::new(sockets)));
    }
}

fn send_message(to: &UnixStream, message: &[u8], descriptors: &[RawFd]) -> io::Result<()> {
    let mut control = Control([0; 1040]);
    let vector = IoSlice::new(message);
    let octets = size_of_val(descriptors);
    // SAFETY: all zeroes are a valid header. The control message has room for all descriptors, and
    // all that the header names lives until the call returns.
    let sent = unsafe {
        let mut header: libc::msghdr = zeroed();
        header.msg_iov = (&raw const vector).cast_mut().cast();
        header.msg_iovlen = 1;
        if !descriptors.is_empty() {
            header.msg_control = (&raw mut control).cast();
            header.msg_controllen = libc::CMSG_SPACE(u32::try_from(octets).unwrap_or(0)) as _;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(u32::try_from(octets).unwrap_or(0)) as _;
            std::ptr::copy_nonoverlapping(descriptors.as_ptr().cast(), libc::CMSG_DATA(first), octets);
        }
        libc::sendmsg(to.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL)
    };
    match usize::try_from(sent) {
        Ok(sent) if sent == message.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// The head of a message, and its descriptors.
fn receive_head(from: &mut UnixStream) -> io::Result<([u8; HEAD], Vec<OwnedFd>)> {
    let (mut head, mut control) = ([0; HEAD], Control([0; 1040]));
    let mut vector = [IoSliceMut::new(&mut head)];
    let mut descriptors = Vec::new();
    // SAFETY: all zeroes are a valid header. The kernel writes into the buffers that it names,
    // which are as long as it says. Descriptors that it returns are nobody else's.
    let received = unsafe {
        let mut header: libc::msghdr = zeroed();
        header.msg_iov = vector.as_mut_ptr().cast();
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of::<Control>() as _;
        let received = libc::recvmsg(from.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC);
        let first = if received < 0 { std::ptr::null() } else { libc::CMSG_FIRSTHDR(&raw const header) };
        if !first.is_null()
            && (*first).cmsg_level == libc::SOL_SOCKET
            && (*first).cmsg_type == libc::SCM_RIGHTS
        {
            #[allow(clippy::unnecessary_cast, reason = "with musl it is shorter")]
            let octets = (*first).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
            let data = std::slice::from_raw_parts(libc::CMSG_DATA(first), octets);
            let (numbers, _) = data.as_chunks::<{ size_of::<RawFd>() }>();
            for number in numbers {
                descriptors.push(OwnedFd::from_raw_fd(RawFd::from_ne_bytes(*number)));
            }
        }
        received
    };
    match usize::try_from(received) {
        Err(_) => Err(io::Error::last_os_error()),
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(received) => {
            from.read_exact(&mut head[received..])?;
            Ok((head, descriptors))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_room_for_is_reported_and_the_rest_is_kept() {
        let tcp = || Arc::new(Sockets::Tcp(TcpListener::bind("127.0.0.1:0").unwrap()));
        let udp =
            || Arc::new(Sockets::Udp((0..2).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect()));
        let sockets = [("a", tcp()), ("b", udp()), ("c", tcp()), ("d", tcp())];
        let sockets = sockets.map(|(key, sockets)| (key.to_owned(), sockets));
        for (room, keys, expected) in [
            (5, vec!["a", "b", "c", "d"], 0),
            (4, vec!["a", "b", "c"], 1),
            (2, vec!["a", "c"], 2),
            (0, vec![], 4),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            send(&ours, &sockets).unwrap();
            let mut all = Vec::new();
            let closed = match receive_at_most(room, &mut theirs, &mut all) {
                Ok(()) => 0,
                Err(Error::Descriptors { closed }) => closed,
                Err(error) => panic!("{error}"),
            };
            let found: Vec<&str> = all.iter().map(|(key, _)| key.as_str()).collect();
            assert_eq!((found, closed), (keys, expected), "{room}");
        }
    }

    #[test]
    fn what_came_before_the_end_is_kept() {
        let socket = Sockets::Tcp(TcpListener::bind("127.0.0.1:0").unwrap());
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let Sockets::Tcp(listener) = &socket else { unreachable!() };
        send_message(&ours, &[b't', 1, 0, 1, b'a'], &[listener.as_raw_fd()]).unwrap();
        drop(ours);
        let mut all = Vec::new();
        let error = receive_at_most(1, &mut theirs, &mut all).unwrap_err();
        assert!(error.is_end(), "{error}");
        assert_eq!(all.len(), 1);
    }
}
