//! Transactions: all of a batch is applied, or nothing of it.

use std::io;

use portolan_netlink::socket::Answer;
use portolan_netlink::wire::Messages;

use super::Socket;
use crate::nft::{self, Batch, ElementAt, EncodeError};

/// What the kernel says against one message of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {}{}", io::Error::from_raw_os_error(*.errno), .reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default())]
pub struct MessageError {
    /// The message's number in the batch, from 0
    pub index: usize,
    /// The error, positive
    pub errno: i32,
    /// What the message asked for, such as `add 312 elements to services`
    pub what: String,
    /// The kernel's own words, where it has some
    pub reason: Option<String>,
    /// The element that the kernel names as the cause, where it does
    pub element: Option<ElementAt>,
}

/// Why a transaction was not applied. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The kernel refuses some messages; all errors are here, in the order of messages, unless the
    /// kernel had no room for all of them.
    #[error("the kernel refuses the transaction: {}", summary(errors))]
    Refused {
        /// At least one
        errors: Vec<MessageError>,
    },
    /// The rule set is not of the generation that the batch expects: somebody else changed it.
    #[error("the rule set has changed since it was read")]
    Stale,
    /// The batch is longer than what may be sent at once, and the process has no privilege over the
    /// machine's own user namespace that would let it raise the limit.
    #[error(
        "transaction of {bytes} bytes, but this process may send only {limit} at once; split it, raise net.core.wmem_max, \
         or grant CAP_NET_ADMIN in the initial user namespace"
    )]
    TooLarge {
        /// Length of the batch
        bytes: usize,
        /// The longest possible batch
        limit: usize,
    },
    /// The batch contains what cannot be written.
    #[error(transparent)]
    Unencodable(#[from] EncodeError),
    /// A system call failed, or the kernel refuses all of it (`EPERM` without CAP_NET_ADMIN).
    #[error("netlink: {0}")]
    Io(#[from] io::Error),
}

fn summary(errors: &[MessageError]) -> String {
    match errors {
        [] => "no reason given".to_owned(),
        [first] => first.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

impl CommitError {
    /// The rule set has changed since it was read: read again, and try again.
    pub fn is_stale(&self) -> bool {
        matches!(self, CommitError::Stale)
    }

    /// The messages that the kernel refuses.
    pub fn errors(&self) -> &[MessageError] {
        match self {
            CommitError::Refused { errors } => errors,
            _ => &[],
        }
    }
}

impl Socket {
    /// The longest batch that [`Socket::commit`] can send, bytes, or `None` where only memory
    /// limits it.
    ///
    /// The limit exists for processes without CAP_NET_ADMIN in the initial user namespace, such as
    /// root of a user namespace: it is twice `net.core.wmem_max`, and the kernel offers no other
    /// way to pass a transaction.
    pub fn batch_limit(&self) -> Option<usize> {
        self.netlink.hard_send_limit()
    }

    /// Applies a transaction, or nothing of it. An empty one always succeeds.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), CommitError> {
        if let Some(error) = batch.error() {
            return Err(error.clone().into());
        }
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.len();
        let too_large = |limit| CommitError::TooLarge { bytes, limit };
        self.netlink.make_room(bytes)?.map_err(too_large)?;
        // Answers to an earlier transaction that failed half-way are nobody's.
        self.discard_answers()?;
        let end = Batch::end();
        match self.netlink.send(&[batch.front(), end.as_bytes()]) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                return Err(CommitError::TooLarge { bytes, limit: self.netlink.send_limit() });
            }
            result => result?,
        }
        self.answers(batch)
    }

    fn discard_answers(&mut self) -> io::Result<()> {
        loop {
            match self.netlink.try_receive() {
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads what the kernel says to a transaction. The kernel applies it within `send`, so that
    /// all answers are there. The last is for the last message, unless there was no room.
    fn answers(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let mut refused: Vec<Answer> = Vec::new();
        let mut acknowledged = false;
        let mut overrun = None;
        let last = batch.messages();
        loop {
            let datagram = match self.netlink.try_receive() {
                Ok(Some(datagram)) => datagram,
                Ok(None) => break,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    overrun = Some(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            for message in Messages::new(datagram).map_while(Result::ok) {
                let Some(answer) = Answer::parse(&message) else { continue };
                match (answer.errno, answer.sequence as usize) {
                    (0, sequence) => acknowledged |= sequence == last,
                    (libc::ERESTART, 0) => return Err(CommitError::Stale),
                    (errno, 0) => return Err(io::Error::from_raw_os_error(errno).into()),
                    _ => refused.push(answer),
                }
            }
        }
        if refused.is_empty() {
            return match overrun {
                Some(error) if !acknowledged => Err(error.into()),
                None if !acknowledged => {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "no answer to a transaction").into())
                }
                _ => Ok(()),
            };
        }
        refused.sort_by_key(|answer| answer.sequence);
        let mut messages = batch.iter().zip(1..).peekable();
        let errors = refused
            .into_iter()
            .map(|answer| {
                while messages.next_if(|(_, sequence)| *sequence < answer.sequence).is_some() {}
                let message = messages.peek().map(|(message, _)| *message);
                MessageError {
                    index: (answer.sequence - 1) as usize,
                    errno: answer.errno,
                    what: message.map(|message| nft::describe(&message)).unwrap_or_default(),
                    reason: answer.reason,
                    element: message.and_then(|message| nft::element_at(&message, answer.offset?)),
                }
            })
            .collect();
        Err(CommitError::Refused { errors })
    }
}
