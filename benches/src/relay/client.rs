//! Clients of connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::server::SHORT_LENGTH;
use crate::sample::Sample;

/// Nobody waits longer.
const PATIENCE: Duration = Duration::from_secs(20);
/// Clients that make short connections at once.
const AT_ONCE: usize = 32;
/// Octets of a request whose latency is measured.
const REQUEST: usize = 1000;

fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).with_context(|| format!("connecting to {to}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Takes what the source sends on so many connections for so long. Returns how many octets.
pub(crate) fn throughput(to: SocketAddr, connections: usize, time: Duration) -> anyhow::Result<u64> {
    let (taken, counting) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let ended = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for _ in 0..connections {
        let stream = connect(to)?;
        let (taken, counting, ended) = (taken.clone(), counting.clone(), ended.clone());
        threads.push(std::thread::spawn(move || -> anyhow::Result<()> {
            while !ended.load(Ordering::Relaxed) {
                let octets = discard(&stream)?;
                if counting.load(Ordering::Relaxed) {
                    taken.fetch_add(octets, Ordering::Relaxed);
                }
            }
            Ok(())
        }));
    }
    // Windows grow first.
    std::thread::sleep(time / 4);
    counting.store(true, Ordering::Relaxed);
    std::thread::sleep(time);
    let all = taken.load(Ordering::Relaxed);
    ended.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    Ok(all)
}

/// Takes octets from a connection without copying them (MSG_TRUNC of tcp(7)).
fn discard(stream: &TcpStream) -> anyhow::Result<u64> {
    // SAFETY: with this flag the kernel writes nothing.
    let taken = unsafe { libc::recv(stream.as_raw_fd(), std::ptr::null_mut(), 4 << 20, libc::MSG_TRUNC) };
    let taken = u64::try_from(taken).map_err(|_| std::io::Error::last_os_error());
    let taken = taken.context("taking what is sent")?;
    ensure!(taken > 0, "the source has ended");
    Ok(taken)
}

/// Makes so many connections with a request each.
pub(crate) fn short(to: SocketAddr, connections: usize) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let next = next.clone();
            std::thread::spawn(move || -> anyhow::Result<()> {
                while next.fetch_add(1, Ordering::Relaxed) < connections {
                    let mut stream = connect(to)?;
                    stream.write_all(&[1; SHORT_LENGTH])?;
                    let mut answer = [0; SHORT_LENGTH];
                    stream.read_exact(&mut answer)?;
                    ensure!(stream.read(&mut answer)? == 0, "more than an answer");
                }
                Ok(())
            })
        })
        .collect();
    for client in clients {
        client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    Ok(())
}

/// Sends requests on one connection, one after the other, and returns how long each took.
pub(crate) fn latency(to: SocketAddr, requests: usize) -> anyhow::Result<Sample<Duration>> {
    let mut stream = connect(to)?;
    let (request, mut answer) = ([1; REQUEST], [0; REQUEST]);
    let mut times = Vec::new();
    for number in 0..requests + requests / 10 {
        let start = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut answer)?;
        // Warm first.
        if number >= requests / 10 {
            times.push(start.elapsed());
        }
    }
    Ok(Sample::new(times))
}

/// Connections that have said something and are silent now.
pub(crate) fn idle(to: SocketAddr, connections: usize) -> anyhow::Result<Vec<TcpStream>> {
    let mut all = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut stream = connect(to)?;
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        all.push(stream);
    }
    Ok(all)
}
