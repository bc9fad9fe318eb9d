//! Where an answer is written, with room to work it out.

use std::net::IpAddr;

use crate::services::Place;
use crate::wire::{Name, Writer};

/// A message that is sent back, and working space. To be used for one answer after the other: then
/// none of them allocates memory.
#[derive(Debug, Default)]
pub struct Reply {
    pub(crate) writer: Writer,
    pub(crate) places: Vec<Place>,
    pub(crate) servers: Vec<(Name, IpAddr)>,
    pub(crate) srv: Vec<SrvRecord>,
    pub(crate) glue: Vec<Glue>,
}

/// A SRV record to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SrvRecord {
    /// Hash of the target's name.
    pub(crate) hash: u32,
    pub(crate) port: u16,
    pub(crate) place: Place,
    /// Which one it is in the answer.
    pub(crate) order: u32,
    /// Where its target is in the message.
    pub(crate) target: usize,
}

/// The address of a SRV record's target, to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glue {
    pub(crate) hash: u32,
    pub(crate) address: IpAddr,
    pub(crate) place: Place,
}

impl Reply {
    /// An empty one.
    pub fn new() -> Reply {
        Reply::default()
    }

    /// The message, if there is one to be sent.
    pub fn message(&self) -> &[u8] {
        self.writer.message()
    }
}
