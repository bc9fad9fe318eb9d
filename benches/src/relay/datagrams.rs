//! Clients and a server of datagrams, which take and send many with one system call: they are not
//! to be what is measured.

use std::io;
use std::mem::zeroed;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

/// Datagrams of one system call.
const SIZE: libc::c_uint = 64;
const BATCH: usize = SIZE as usize;
/// Octets of a datagram.
const LENGTH: usize = 100;
/// A datagram that has not come back by then is lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// Room for datagrams, with who sent them.
struct Batch {
    octets: Vec<[u8; 2048]>,
    names: Vec<libc::sockaddr_in>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Batch {
    fn new() -> Batch {
        // SAFETY: all zeroes are valid addresses, vectors and headers.
        let (name, vector, header) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Batch {
            octets: vec![[0; 2048]; BATCH],
            names: vec![name; BATCH],
            vectors: vec![vector; BATCH],
            headers: vec![header; BATCH],
        }
    }

    /// Prepares the first `count`, of so many octets, for somebody or for whom the socket is
    /// connected to.
    fn lay_out(&mut self, count: usize, named: bool, length: impl Fn(usize) -> usize) {
        for at in 0..count {
            let iov_base = self.octets[at].as_mut_ptr().cast();
            self.vectors[at] = libc::iovec { iov_base, iov_len: length(at) };
            let header = &mut self.headers[at].msg_hdr;
            header.msg_iov = &raw mut self.vectors[at];
            header.msg_iovlen = 1;
            (header.msg_name, header.msg_namelen) = if named {
                let length = u32::try_from(size_of::<libc::sockaddr_in>()).unwrap_or(0);
                ((&raw mut self.names[at]).cast(), length)
            } else {
                (std::ptr::null_mut(), 0)
            };
        }
    }

    fn receive(&mut self, socket: &UdpSocket, named: bool) -> io::Result<usize> {
        self.lay_out(BATCH, named, |_| 2048);
        let flags = libc::MSG_WAITFORONE;
        let none = std::ptr::null_mut();
        // SAFETY: the kernel writes into what the headers name, which lives in `self`.
        let received =
            unsafe { libc::recvmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), SIZE, flags as _, none) };
        usize::try_from(received).map_err(|_| io::Error::last_os_error())
    }

    fn send(&mut self, socket: &UdpSocket, count: usize) {
        let mut next = 0;
        while next < count {
            let left = &mut self.headers[next..count];
            let length = u32::try_from(left.len()).unwrap_or(0);
            // SAFETY: the kernel reads what the headers name, which lives in `self`.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), left.as_mut_ptr(), length, 0) };
            // One that cannot be sent is lost.
            next += usize::try_from(sent).unwrap_or(0).max(1);
        }
    }
}

/// Sends back what comes to an address, for as long as this process lives.
pub(crate) fn echo(address: SocketAddr) -> anyhow::Result<()> {
    let socket = UdpSocket::bind(address).context("binding a server's socket")?;
    enlarge(&socket);
    std::thread::spawn(move || {
        let mut batch = Batch::new();
        loop {
            let Ok(count) = batch.receive(&socket, true) else { continue };
            let lengths: Vec<_> =
                batch.headers[..count].iter().map(|header| header.msg_len as usize).collect();
            batch.lay_out(count, true, |at| lengths[at]);
            batch.send(&socket, count);
        }
    });
    Ok(())
}

/// So many clients send so many datagrams each, wait for them to come back, and begin again, for so
/// long. Returns how many came back, and how many did not.
pub(crate) fn exchange(
    to: SocketAddr,
    clients: usize,
    at_once: usize,
    time: Duration,
) -> anyhow::Result<(u64, u64)> {
    let sockets = (0..clients).map(|_| -> anyhow::Result<UdpSocket> {
        let socket = UdpSocket::bind("0.0.0.0:0").context("binding a client's socket")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    });
    let sockets = sockets.collect::<anyhow::Result<Vec<_>>>()?;
    let mut batch = Batch::new();
    let (mut came, mut lost) = (0, 0);
    let end = Instant::now() + time;
    while Instant::now() < end {
        // As many as queues of any proxy have room for.
        for sockets in sockets.chunks((128 / at_once).max(1)) {
            for socket in sockets {
                batch.lay_out(at_once, false, |_| LENGTH);
                batch.send(socket, at_once);
            }
            for socket in sockets {
                let mut waiting = at_once;
                while waiting > 0 {
                    let Ok(count) = batch.receive(socket, false) else {
                        lost += waiting as u64;
                        break;
                    };
                    (came, waiting) = (came + count as u64, waiting.saturating_sub(count));
                }
            }
        }
    }
    ensure!(came > 0, "no datagram came back");
    Ok((came, lost))
}

fn enlarge(socket: &UdpSocket) {
    let octets: libc::c_int = 4 << 20;
    let length = u32::try_from(size_of_val(&octets)).unwrap_or(0);
    // SAFETY: the kernel reads one number.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const octets).cast(),
            length,
        )
    };
}
