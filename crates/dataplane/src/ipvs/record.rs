//! Which virtual servers are ours: IPVS itself cannot say.
//!
//! A table of its own in each family has a set of them, which outlives the process, and the rules
//! of whichever mode. A virtual server is in it before it is created and until it is deleted. Those
//! for marks are known by their mark.

use std::collections::{BTreeSet, HashSet};
use std::io;

use portolan_netfilter::ipvs::{ServerKey, VirtualServer};
use portolan_netfilter::nft::{Batch, Element, Field, KeyType, Set, TableRef};
use portolan_netfilter::socket::Socket;
use portolan_service::{Family, Protocol};

use super::kernel::netlink;
use crate::error::Error;
use crate::nftables::{FrontendKey, Marks, Nftables, put_frontend, take_frontend};
use crate::variant::table_family;

/// The name of the tables.
const TABLE: &str = "portolan-ipvs";
const COMMENT: &str = "which virtual servers of IPVS are portolan's; do not edit";
const SET: &str = "virtual-servers";
const KEY: KeyType = KeyType(&[Field::DestinationAddress, Field::L4Proto, Field::DestinationPort]);

/// What the kernel's record says.
#[derive(Debug)]
pub(super) struct Record {
    socket: Socket,
    tables: BTreeSet<Family>,
    known: HashSet<VirtualServer>,
}

/// The virtual servers in the kernel's record.
pub(crate) fn virtual_servers_of_ours() -> io::Result<HashSet<VirtualServer>> {
    let mut record = Record::open_socket()?;
    record.read_kernel()?;
    Ok(record.known)
}

fn table(family: Family) -> TableRef<'static> {
    TableRef { family: table_family(family), name: TABLE }
}

fn declare_set() -> Set {
    Set {
        name: SET.into(),
        id: 1,
        key: KEY,
        data: None,
        dynamic: false,
        timeouts: false,
        interval: false,
        gc_interval: None,
        size: None,
        comment: None,
    }
}

fn encode(server: &VirtualServer) -> Vec<u8> {
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.number() == server.protocol);
    let mut key = Vec::with_capacity(24);
    // Ours are of these protocols only.
    let protocol = protocol.unwrap_or(Protocol::Tcp);
    put_frontend(&mut key, &FrontendKey { address: server.address, protocol, port: server.port });
    key
}

fn decode(mut key: &[u8], family: Family) -> Option<VirtualServer> {
    let FrontendKey { address, protocol, port } = take_frontend(&mut key, family)?;
    Some(VirtualServer { protocol: protocol.number(), address, port })
}

impl Record {
    pub(super) fn open() -> Result<Record, Error> {
        Record::open_socket().map_err(netlink("opening a netlink socket for nftables"))
    }

    fn open_socket() -> io::Result<Record> {
        Ok(Record { socket: Socket::open()?, tables: BTreeSet::new(), known: HashSet::new() })
    }

    /// What it says, since it was last read or changed.
    pub(super) fn known(&self) -> &HashSet<VirtualServer> {
        &self.known
    }

    /// A virtual server is one of ours. Those for marks are, where there is a record.
    pub(super) fn has(&self, server: &ServerKey) -> bool {
        match server {
            ServerKey::Address(server) => self.known.contains(server),
            ServerKey::Mark(_, mark) => self.is_there() && Marks::is_one(*mark),
        }
    }

    /// There is a table for it.
    pub(super) fn is_there(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Reads it from the kernel.
    pub(super) fn read(&mut self) -> Result<(), Error> {
        self.read_kernel().map_err(netlink("reading which virtual servers are ours"))
    }

    fn read_kernel(&mut self) -> io::Result<()> {
        self.tables.clear();
        self.known.clear();
        for family in Family::ALL {
            let table = table(family);
            if !self.socket.tables(table.family)?.iter().any(|found| found.name == TABLE) {
                continue;
            }
            self.tables.insert(family);
            if self.socket.sets(table)?.iter().any(|set| set.name == SET) {
                let known = &mut self.known;
                self.socket.elements(table, SET, |element| known.extend(decode(&element.key, family)))?;
            }
        }
        Ok(())
    }

    /// Makes its tables where they are missing.
    pub(super) fn ensure(&mut self, families: &[Family], rules: &mut Nftables) -> Result<(), Error> {
        let missing: Vec<Family> =
            families.iter().copied().filter(|family| !self.tables.contains(family)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        rules.commit_beside(|batch| {
            for family in &missing {
                batch.add_table(table(*family), COMMENT);
                batch.add_set(table(*family), &declare_set());
            }
        })?;
        self.tables.extend(missing);
        Ok(())
    }

    /// Notes that these are ours from now on.
    pub(super) fn add(&mut self, rules: &mut Nftables, servers: &[VirtualServer]) -> Result<(), Error> {
        let new: Vec<VirtualServer> =
            servers.iter().copied().filter(|server| !self.known.contains(server)).collect();
        write(rules, &new, |batch, table, elements| batch.add_elements(table, SET, elements))?;
        self.known.extend(new);
        Ok(())
    }

    /// Notes that these are gone.
    pub(super) fn remove(&mut self, rules: &mut Nftables, servers: &[VirtualServer]) -> Result<(), Error> {
        let gone: Vec<VirtualServer> =
            servers.iter().copied().filter(|server| self.known.contains(server)).collect();
        write(rules, &gone, |batch, table, elements| batch.delete_elements(table, SET, elements))?;
        for server in gone {
            self.known.remove(&server);
        }
        Ok(())
    }

    /// Deletes its tables.
    pub(super) fn delete(&mut self, rules: &mut Nftables) -> Result<(), Error> {
        if self.tables.is_empty() {
            return Ok(());
        }
        rules.commit_beside(|batch| {
            for family in &self.tables {
                batch.delete_table(table(*family));
            }
        })?;
        self.tables.clear();
        self.known.clear();
        Ok(())
    }
}

fn write(
    rules: &mut Nftables,
    servers: &[VirtualServer],
    emit: impl Fn(&mut Batch, TableRef<'static>, &mut dyn Iterator<Item = Element<'_>>),
) -> Result<(), Error> {
    if servers.is_empty() {
        return Ok(());
    }
    let keys: Vec<(Family, Vec<u8>)> =
        servers.iter().map(|server| (Family::of(server.address), encode(server))).collect();
    rules.commit_beside(|batch| {
        for family in Family::ALL {
            let of_family = keys.iter().filter(|(of, _)| *of == family);
            let mut elements = of_family.map(|(_, key)| Element::new(key)).peekable();
            if elements.peek().is_some() {
                emit(batch, table(family), &mut elements);
            }
        }
    })
}
