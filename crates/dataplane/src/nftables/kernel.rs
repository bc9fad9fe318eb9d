//! Our side of the conversation with the kernel: generation ids, what a refusal means, what is
//! there.

use std::io;
use std::time::Duration;

use portolan_netfilter::nft::{self, Batch};
use portolan_netfilter::socket::{CommitError, MessageError, Socket};
use portolan_service::Family;

use super::owners::Owners;
use super::set::SetName;
use super::table::table;
use crate::error::Error;
use crate::owner::Owner;

/// A netlink socket and what it last reported.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Socket,
    /// The generation of the whole rule set that we know; a commit of anybody's ends it.
    generation: Option<u32>,
    /// The longest batch that can be sent, bytes, if there is a limit.
    pub(super) batch_limit: Option<usize>,
    /// The batch sent last, for its buffer.
    spare: Batch,
}

/// How a transaction ended.
#[derive(Debug)]
pub(crate) enum Commit {
    /// It is in force.
    Done,
    /// Somebody committed since we last looked; nothing happened.
    Stale,
    /// The kernel does not want it; nothing happened.
    Refused(Refusal),
}

/// What the kernel does not want.
#[derive(Debug)]
pub(crate) struct Refusal(Vec<MessageError>);

impl Refusal {
    /// Only these transient reasons: something is still referred to.
    pub(crate) fn is_busy(&self) -> bool {
        self.0.iter().all(|error| error.errno == libc::EBUSY)
    }

    /// The Services at fault, with the reason for each; empty if it is not theirs.
    pub(crate) fn culprits(&self, owners: &Owners) -> Vec<(Owner, String)> {
        self.0.iter().filter_map(|error| Some((owners.of(error.index)?, error.to_string()))).collect()
    }

    /// As an error of the whole call.
    pub(crate) fn into_error(self, doing: &str) -> Error {
        match self.0.into_iter().next() {
            Some(error) => Error::Netlink {
                doing: format!("{doing}: {}", error.what),
                source: io::Error::from_raw_os_error(error.errno),
            },
            None => Error::Unusable(format!("{doing}: the kernel refused without a reason")),
        }
    }
}

/// A remembered client: its address as the kernel holds it.
#[derive(Debug)]
pub(crate) struct Learnt {
    client: Vec<u8>,
    expires: Option<Duration>,
}

/// What is there of our table.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) table: Option<nft::TableInfo>,
    pub(crate) chains: Vec<nft::ChainInfo>,
    pub(crate) sets: Vec<nft::SetInfo>,
}

impl Kernel {
    pub(crate) fn open() -> Result<Kernel, Error> {
        let socket = Socket::open().map_err(netlink("opening a netlink socket for nftables"))?;
        Ok(Kernel { batch_limit: socket.batch_limit(), socket, generation: None, spare: Batch::new() })
    }

    /// An empty transaction.
    pub(crate) fn begin(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.spare);
        batch.clear();
        batch
    }

    /// Asks for the present generation; the next transaction holds only if it is still that.
    pub(crate) fn refresh(&mut self) -> Result<(), Error> {
        self.generation = Some(self.ask_generation()?);
        Ok(())
    }

    /// The next transaction holds whatever others did.
    pub(crate) fn expect_nothing(&mut self) {
        self.generation = None;
    }

    /// The generation that is known, if one is.
    pub(crate) fn generation(&self) -> Option<u32> {
        self.generation
    }

    /// The next transaction holds only if the generation is this one.
    pub(crate) fn expect_generation(&mut self, generation: Option<u32>) {
        self.generation = generation;
    }

    /// The batch can be sent.
    pub(crate) fn can_send(&self, batch: &Batch) -> bool {
        self.batch_limit.is_none_or(|limit| batch.len() <= limit)
    }

    /// Somebody committed since we last looked.
    pub(crate) fn is_outdated(&mut self) -> Result<bool, Error> {
        let generation = self.ask_generation()?;
        Ok(self.generation != Some(generation))
    }

    fn ask_generation(&mut self) -> Result<u32, Error> {
        self.socket.generation().map_err(netlink("asking for the generation of the rule set"))
    }

    /// Commits, if nobody else did since the last look.
    pub(crate) fn commit(&mut self, mut batch: Batch) -> Result<Commit, Error> {
        if batch.is_empty() {
            return Ok(Commit::Done);
        }
        if let Some(generation) = self.generation {
            batch.expect_generation(generation);
        }
        let result = self.socket.commit(&batch);
        self.spare = batch;
        match result {
            Ok(()) => {
                // Each commit counts one up, leaving out 0; the kernel made sure that nobody was in
                // between.
                self.generation = self.generation.map(|known| known.checked_add(1).unwrap_or(1));
                Ok(Commit::Done)
            }
            Err(CommitError::Stale) => Ok(Commit::Stale),
            Err(CommitError::Refused { errors }) => Ok(Commit::Refused(Refusal(errors))),
            Err(CommitError::Io(source)) => Err(Error::Netlink { doing: "committing".into(), source }),
            Err(error @ (CommitError::TooLarge { .. } | CommitError::Unencodable(_))) => {
                Err(Error::Unusable(error.to_string()))
            }
        }
    }

    pub(crate) fn has_table(&mut self, family: Family) -> Result<bool, Error> {
        Ok(self.find_table(family)?.is_some())
    }

    fn find_table(&mut self, family: Family) -> Result<Option<nft::TableInfo>, Error> {
        let ours = table(family);
        let tables = self.socket.tables(ours.family).map_err(netlink("listing tables"))?;
        Ok(tables.into_iter().find(|table| table.name == ours.name))
    }

    pub(crate) fn contents(&mut self, family: Family) -> Result<Contents, Error> {
        let Some(found) = self.find_table(family)? else { return Ok(Contents::default()) };
        Ok(Contents {
            table: Some(found),
            chains: self.socket.chains(table(family)).map_err(netlink("listing chains"))?,
            sets: self.socket.sets(table(family)).map_err(netlink("listing sets"))?,
        })
    }

    pub(crate) fn rules(&mut self, family: Family) -> Result<Vec<nft::RuleInfo>, Error> {
        self.socket.rules(table(family)).map_err(netlink("listing rules"))
    }

    pub(crate) fn elements(
        &mut self,
        family: Family,
        set: SetName,
        mut each: impl FnMut(&nft::OwnedElement),
    ) -> Result<(), Error> {
        let name = set.name();
        self.socket
            .elements(table(family), name, |element| each(&element))
            .map_err(|source| Error::Netlink { doing: format!("listing set {name}"), source })
    }

    /// The clients that a set remembers.
    pub(crate) fn learnt(&mut self, family: Family, set: &str) -> Result<Vec<Learnt>, Error> {
        let mut learnt = Vec::new();
        self.socket
            .elements(table(family), set, |element| {
                learnt.push(Learnt { client: element.key, expires: element.expires });
            })
            .map_err(|source| Error::Netlink { doing: format!("listing set {set}"), source })?;
        Ok(learnt)
    }
}

/// Writes clients to be remembered in a set, each with the time that it has left.
pub(crate) fn write_learnt(batch: &mut Batch, family: Family, set: &str, learnt: &[Learnt]) {
    let elements = learnt
        .iter()
        .map(|Learnt { client, expires }| nft::Element { timeout: *expires, ..nft::Element::new(client) });
    batch.add_elements(table(family), set, elements);
}

fn netlink(doing: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::Netlink { doing: doing.into(), source }
}
