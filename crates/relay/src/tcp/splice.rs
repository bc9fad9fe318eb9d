//! How a flow moves octets: within the kernel, from socket to pipe to socket. A few are copied,
//! because that takes two system calls in place of three, and each costs less. What the sink does
//! not take of them goes into the pipe. Without a pipe all are copied, and only as many are taken
//! from the source as the sink has taken: nothing is held.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;

use super::flow::{Broken, Ends, Filled, Taken};
use super::pipes::{Pipe, Pipes};
use crate::system;

/// As many octets as are copied. Every pipe has room for them, however small the kernel keeps it: a
/// page.
const FEW: usize = 4096;

/// As many octets as go into a pipe at once: more than fit into any. A pipe has room for a number
/// of pieces, and one that comes from a network device can be of many pages.
const MANY: usize = 1 << 30;

/// The sockets of a flow, and its pipe if it has one.
pub(super) struct Splice<'c> {
    pub(super) source: &'c TcpStream,
    pub(super) sink: &'c TcpStream,
    pub(super) pipe: &'c mut Option<Pipe>,
    pub(super) pipes: &'c mut Pipes,
    /// For copies.
    pub(super) buffer: &'c mut [u8],
    /// Many octets came last: more of them are expected.
    pub(super) many: &'c mut bool,
}

impl Ends for Splice<'_> {
    fn fill(&mut self) -> Result<Filled, Broken> {
        if self.pipe.is_none() {
            *self.pipe = self.pipes.take();
        }
        let Some(pipe) = self.pipe else { return self.copy() };
        if !*self.many {
            let few = &mut self.buffer[..FEW];
            let taken = match again(|| self.source.read(few)) {
                Ok(0) => return Ok(Filled::End),
                Ok(taken) => taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Filled::SourceIsEmpty),
                Err(error) => return Err(error.into()),
            };
            *self.many = taken == FEW;
            let passed = match again(|| self.sink.write(&few[..taken])) {
                Ok(passed) => passed,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error.into()),
            };
            if passed < taken {
                pipe.writer.write_all(&few[passed..taken])?;
            }
            return Ok(Filled::Taken(Taken { passed, held: taken - passed, all: taken < FEW }));
        }
        match again(|| system::splice(self.source.as_fd(), pipe.writer.as_fd(), MANY)) {
            Ok(0) => Ok(Filled::End),
            Ok(held) => {
                *self.many = held >= FEW;
                Ok(Filled::Taken(Taken { held, ..Taken::default() }))
            }
            // The pipe is empty: there is room.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Filled::SourceIsEmpty),
            Err(error) => Err(error.into()),
        }
    }

    fn drain(&mut self, held: usize) -> io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(ErrorKind::BrokenPipe)?;
        system::splice(pipe.reader.as_fd(), self.sink.as_fd(), held)
    }
}

impl Splice<'_> {
    fn copy(&mut self) -> Result<Filled, Broken> {
        let there = match again(|| self.source.peek(self.buffer)) {
            Ok(0) => return Ok(Filled::End),
            Ok(there) => there,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Filled::SourceIsEmpty),
            Err(error) => return Err(error.into()),
        };
        let octets = &mut self.buffer[..there];
        let taken = match again(|| self.sink.write(octets)) {
            Ok(taken) => taken,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Filled::SinkIsFull),
            Err(error) => return Err(error.into()),
        };
        self.source.read_exact(&mut octets[..taken])?;
        Ok(Filled::Taken(Taken { passed: taken, ..Taken::default() }))
    }
}

/// Calls until it is not interrupted.
fn again<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}
