//! One connection: octets in, answers out. Nothing here waits.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use crate::settings::TcpLimits;

/// The longest question that is read, octets. There are no useful ones beyond.
pub(super) const QUESTION_MAX: usize = 4096;
/// So much of what a client sends is held, octets.
const INPUT_MAX: usize = QUESTION_MAX + 2;
/// From so many octets of answers on that the client has not taken, no more of its questions are
/// answered.
const OUTPUT_MAX: usize = 16 << 10;
/// How long others may take, seconds: beyond what any of them needs.
const OTHERS_MAX: u64 = 60;

/// A client's connection.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) client: SocketAddr,
    pub(super) listener: usize,
    input: Vec<u8>,
    /// Answers, each after its length.
    output: Vec<u8>,
    /// How much of `output` is sent.
    sent: usize,
    /// Questions that others are being asked.
    asked: usize,
    /// A whole question has come.
    pub(super) has_asked: bool,
    /// What the kernel watches it for.
    pub(super) watched: Interest,
    /// The client will send no more.
    ended: bool,
    /// The last whole question, or answer that was taken.
    last: Instant,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interest {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// The connection is of no more use.
#[derive(Debug)]
pub(super) struct Over;

impl From<io::Error> for Over {
    fn from(_: io::Error) -> Over {
        Over
    }
}

impl Connection {
    pub(super) fn new(stream: TcpStream, client: SocketAddr, listener: usize, now: Instant) -> Connection {
        Connection {
            stream,
            client,
            listener,
            input: Vec::new(),
            output: Vec::new(),
            sent: 0,
            asked: 0,
            has_asked: false,
            watched: Interest { read: true, write: false },
            ended: false,
            last: now,
        }
    }

    /// Reads what there is, as far as there is room for it.
    pub(super) fn read(&mut self) -> Result<(), Over> {
        while self.input.len() < INPUT_MAX && !self.ended {
            let before = self.input.len();
            self.input.resize((before * 2).clamp(512, INPUT_MAX), 0);
            let read = self.stream.read(&mut self.input[before..]);
            self.input.truncate(before + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Takes the next whole question into `question`. Returns false if there is none, or too much
    /// is under way already.
    pub(super) fn next(
        &mut self,
        limits: &TcpLimits,
        question: &mut Vec<u8>,
        now: Instant,
    ) -> Result<bool, Over> {
        if self.asked >= limits.questions.max(1) || self.waiting() >= OUTPUT_MAX {
            return Ok(false);
        }
        let Some(&[high, low]) = self.input.first_chunk() else { return Ok(false) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length > QUESTION_MAX {
            return Err(Over);
        }
        let Some(message) = self.input.get(2..2 + length) else { return Ok(false) };
        question.clear();
        question.extend_from_slice(message);
        self.input.drain(..2 + length);
        (self.has_asked, self.last) = (true, now);
        Ok(true)
    }

    /// A question that others are asked has been taken from it.
    pub(super) fn defer(&mut self) {
        self.asked += 1;
    }

    /// Others have answered a question; `None`: there will be no answer.
    pub(super) fn complete(&mut self, answer: Option<&[u8]>) {
        self.asked = self.asked.saturating_sub(1);
        if let Some(answer) = answer {
            self.answer(answer);
        }
    }

    /// Queues an answer.
    pub(super) fn answer(&mut self, answer: &[u8]) {
        let Ok(length) = u16::try_from(answer.len()) else { return };
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(answer);
    }

    /// Sends what the client takes.
    pub(super) fn write(&mut self, now: Instant) -> Result<(), Over> {
        while self.waiting() > 0 {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(Over),
                Ok(sent) => {
                    self.sent += sent;
                    self.last = now;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.output.clear();
        self.output.shrink_to(OUTPUT_MAX);
        self.sent = 0;
        Ok(())
    }

    /// How many octets of answers the client has not taken.
    pub(super) fn waiting(&self) -> usize {
        self.output.len() - self.sent
    }

    /// All that it has asked is answered.
    pub(super) fn is_done(&self) -> bool {
        self.has_asked && self.asked == 0 && self.waiting() == 0
    }

    /// What it waits for; an error if that is nothing.
    pub(super) fn interest(&self, limits: &TcpLimits) -> Result<Interest, Over> {
        let write = self.waiting() > 0;
        let busy = self.asked >= limits.questions.max(1) || self.waiting() >= OUTPUT_MAX;
        if self.ended && !write && self.asked == 0 {
            // What is left, if anything, is no whole question.
            return Err(Over);
        }
        Ok(Interest { read: !self.ended && !busy && self.input.len() < INPUT_MAX, write })
    }

    /// When it is closed if nothing happens.
    pub(super) fn deadline(&self, limits: &TcpLimits) -> Instant {
        let patience = if self.waiting() > 0 {
            limits.write
        } else if self.asked > 0 {
            std::time::Duration::from_secs(OTHERS_MAX)
        } else if self.has_asked {
            limits.idle
        } else {
            limits.first
        };
        self.last + patience
    }

    /// Since when nothing has happened.
    pub(super) fn last(&self) -> Instant {
        self.last
    }
}
