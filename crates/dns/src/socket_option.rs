//! Options of sockets that socket2 lacks.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Sets an option that is a number.
pub(crate) fn set(
    socket: &UdpSocket,
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

/// Datagrams that came while the kernel's queue of `socket` was full (SO_MEMINFO).
pub(crate) fn overflowed(socket: &UdpSocket) -> io::Result<u64> {
    // SK_MEMINFO_DROPS of linux/sock_diag.h is the last of them.
    let mut figures = [0u32; 9];
    let mut length = libc::socklen_t::try_from(size_of_val(&figures)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` octets into `figures`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            figures.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if done == 0 { Ok(u64::from(figures[8])) } else { Err(io::Error::last_os_error()) }
}
