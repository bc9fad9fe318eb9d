//! Pipes that flows borrow while octets are in them.

use std::io::{PipeReader, PipeWriter};
use std::os::fd::AsFd;

use crate::system;

/// So many empty pipes are kept for the next flow.
const KEPT: usize = 256;

/// A pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) reader: PipeReader,
    pub(super) writer: PipeWriter,
}

/// The pipes of one thread.
#[derive(Debug)]
pub(super) struct Pipes {
    free: Vec<Pipe>,
    /// Pipes that are there, borrowed or not.
    count: usize,
    most: usize,
    size: usize,
}

impl Pipes {
    /// At most so many, each for so many octets.
    pub(super) fn new(most: usize, size: usize) -> Pipes {
        Pipes { free: Vec::new(), count: 0, most, size }
    }

    /// An empty pipe. `None` if there are no more.
    pub(super) fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.count >= self.most {
            return None;
        }
        let (reader, writer) = std::io::pipe().ok()?;
        // It stays smaller if this process's pipes are too large together.
        let _ = system::set_pipe_size(writer.as_fd(), self.size);
        self.count += 1;
        Some(Pipe { reader, writer })
    }

    /// Takes an empty pipe back.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        if self.free.len() < KEPT {
            self.free.push(pipe);
        } else {
            self.discard(pipe);
        }
    }

    /// Closes a pipe in which something is left.
    pub(super) fn discard(&mut self, pipe: Pipe) {
        self.count -= 1;
        drop(pipe);
    }
}
