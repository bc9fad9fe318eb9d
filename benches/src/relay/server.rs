//! The servers behind the proxy, in threads of this process.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::Context;

use super::datagrams;
use super::topology::{SERVER, Topology, within};

/// Sends until the client has gone.
pub(crate) const SOURCE: u16 = 9001;
/// Takes a request, answers and closes.
pub(crate) const SHORT: u16 = 9002;
/// Sends back what comes.
pub(crate) const ECHO: u16 = 9003;
/// Sends back an octet, then is silent.
pub(crate) const IDLE: u16 = 9004;
/// Sends back datagrams.
pub(crate) const DATAGRAMS: u16 = 9005;

/// Octets of a request of a short connection, and of its answer.
pub(crate) const SHORT_LENGTH: usize = 100;
/// Threads that answer short connections.
const ANSWERING: usize = 8;
/// Octets that are sent at once.
const SOURCE_LENGTH: usize = 1 << 20;

/// Starts all of them, for as long as this process lives.
pub(crate) fn start(topology: &Topology) -> anyhow::Result<()> {
    let started = within(&topology.servers, || -> anyhow::Result<()> {
        each(listen(SOURCE)?, |stream| {
            std::thread::spawn(move || send_endlessly(&stream));
        });
        let short = listen(SHORT)?;
        for _ in 0..ANSWERING {
            each(short.try_clone()?, |mut stream| {
                let mut request = [0; SHORT_LENGTH];
                if stream.read_exact(&mut request).is_ok() {
                    let _ = stream.write_all(&request);
                }
            });
        }
        each(listen(ECHO)?, |mut stream| {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut octets = vec![0; 1 << 16];
                while let Ok(length @ 1..) = stream.read(&mut octets) {
                    if stream.write_all(&octets[..length]).is_err() {
                        return;
                    }
                }
            });
        });
        let mut idle = Vec::new();
        each(listen(IDLE)?, move |mut stream| {
            if stream.read_exact(&mut [0]).is_ok() && stream.write_all(&[0]).is_ok() {
                // Those of the proxy before are gone.
                if idle.len() % 500 == 0 {
                    idle.retain(is_open);
                }
                idle.push(stream);
            }
        });
        datagrams::echo((SERVER, DATAGRAMS).into())
    })?;
    started.join().map_err(|_| anyhow::anyhow!("a server panicked"))?
}

fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let socket = TcpListener::bind((SERVER, port)).with_context(|| format!("listening on port {port}"))?;
    // SAFETY: takes numbers. The standard library's queue has room for 128.
    unsafe { libc::listen(socket.as_raw_fd(), 4096) };
    Ok(socket)
}

fn each(listener: TcpListener, mut serve: impl FnMut(TcpStream) + Send + 'static) {
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            serve(stream);
        }
    });
}

fn is_open(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

/// Sends what is in memory of the kernel: that costs the server little.
fn send_endlessly(stream: &TcpStream) {
    let Ok(memory) = memory() else { return };
    let mut left = 0;
    while left >= 0 {
        let mut at: libc::off_t = 0;
        // SAFETY: the kernel writes to the offset.
        left = unsafe { libc::sendfile(stream.as_raw_fd(), memory.as_raw_fd(), &raw mut at, SOURCE_LENGTH) };
    }
}

fn memory() -> std::io::Result<OwnedFd> {
    // SAFETY: the name ends with 0.
    let memory = unsafe { libc::memfd_create(c"source".as_ptr(), libc::MFD_CLOEXEC) };
    if memory < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a descriptor that was just created and that nobody else has.
    let memory = unsafe { OwnedFd::from_raw_fd(memory) };
    std::fs::File::from(memory.try_clone()?).write_all(&vec![7; SOURCE_LENGTH])?;
    Ok(memory)
}
