//! System calls that neither the standard library nor rustix nor socket2 has as they are needed.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::SockAddr;

/// Moves up to `most` octets from one descriptor to the other, one of which is a pipe, without
/// waiting (splice(2)).
pub(crate) fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
    let flags = libc::SPLICE_F_MOVE | libc::SPLICE_F_NONBLOCK;
    let none = std::ptr::null_mut();
    // SAFETY: takes numbers. Null offsets stand for what has no position.
    let moved = unsafe { libc::splice(from.as_raw_fd(), none, to.as_raw_fd(), none, most, flags) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}

/// Takes a connection from a listening socket. It does not wait, and is not inherited (accept4(2)).
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes an address of its family, no longer than there is room, and its
    // length. A descriptor that it returns is nobody else's.
    let (socket, client) = unsafe {
        SockAddr::try_init(|address, length| {
            let socket = libc::accept4(listener.as_raw_fd(), address.cast(), length, flags);
            if socket < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(socket)) }
        })
    }?;
    Ok((socket, client.as_socket().ok_or(io::ErrorKind::Unsupported)?))
}

/// Sets how many octets a pipe holds; the kernel rounds up (F_SETPIPE_SZ of fcntl(2)).
pub(crate) fn set_pipe_size(pipe: BorrowedFd<'_>, octets: usize) -> io::Result<()> {
    let octets = libc::c_int::try_from(octets).unwrap_or(libc::c_int::MAX);
    // SAFETY: takes numbers.
    let done = unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETPIPE_SZ, octets) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an option of a socket that is a number.
pub(crate) fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap_or(0);
    // SAFETY: the kernel reads `length` octets of `value`.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the number of descriptors that this process may have, as far as it may and at least to
/// `wanted` if it has CAP_SYS_RESOURCE. Returns the number.
pub(crate) fn raise_descriptors(wanted: u64) -> rustix::io::Result<u64> {
    // None is no limit.
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let set = |number| {
        let limit = Rlimit { current: Some(number), maximum: Some(number) };
        setrlimit(Resource::Nofile, limit).map(|()| number)
    };
    if most < wanted
        && let Ok(number) = set(wanted)
    {
        Ok(number)
    } else {
        set(most)
    }
}
