//! What the rule set holds.

use std::collections::HashSet;
use std::io;

use portolan_netlink::socket::Completeness;
use portolan_netlink::wire::{HEADER_LEN, Message, Messages, Writer, align};

use super::{Socket, netfilter_header};
use crate::nft::{
    self, ChainHandles, ChainInfo, ChainJumps, OwnedElement, RuleInfo, SetInfo, TableFamily, TableInfo,
    TableRef, attr,
};

/// How often a dump that a commit interrupted is started over.
const DUMP_ATTEMPTS: usize = 50;

impl Socket {
    /// The generation of the namespace's nftables rule set: each commit of anybody raises it.
    pub fn generation(&mut self) -> io::Result<u32> {
        self.netlink.ask_one(
            nft::GETGEN,
            &netfilter_header(0),
            |_| {},
            |message| {
                let (_, attributes) = message.netfilter().filter(|_| message.kind == nft::NEWGEN)?;
                attributes.get(attr::GEN_ID)?.be32()
            },
        )
    }

    /// The tables of a family.
    pub fn tables(&mut self, family: TableFamily) -> io::Result<Vec<TableInfo>> {
        let bytes = self.snapshot(nft::GETTABLE, family, |_| {})?;
        Ok(parsed(&bytes, nft::NEWTABLE, TableInfo::parse).filter(|table| table.family == family).collect())
    }

    /// The chains of a table; none if it is missing.
    pub fn chains(&mut self, table: TableRef<'_>) -> io::Result<Vec<ChainInfo>> {
        let bytes =
            self.snapshot(nft::GETCHAIN, table.family, |to| to.string(attr::CHAIN_TABLE, table.name))?;
        Ok(parsed(&bytes, nft::NEWCHAIN, ChainInfo::parse)
            .filter(|chain| chain.table == table.name)
            .collect())
    }

    /// The chains of all tables that the kernel calls, each with the number of its table's family
    /// (`NFPROTO_*`). Started over while commits of others come in between.
    pub fn base_chains(&mut self) -> io::Result<Vec<(u8, ChainInfo)>> {
        let collect = |chains: &mut Vec<_>, message: &Message<'_>| {
            let family = message.netfilter().map(|(family, _)| family);
            chains.extend(family.zip(ChainInfo::parse(message)).filter(|(_, chain)| chain.is_base));
        };
        self.netlink.dump_whole(nft::GETCHAIN, &netfilter_header(0), |_| {}, collect)
    }

    /// The rules of a table, chain by chain, those of a chain in order; none if it is missing.
    pub fn rules(&mut self, table: TableRef<'_>) -> io::Result<Vec<RuleInfo>> {
        let bytes =
            self.snapshot(nft::GETRULE, table.family, |to| to.string(attr::RULE_TABLE, table.name))?;
        Ok(parsed(&bytes, nft::NEWRULE, RuleInfo::parse).filter(|rule| rule.table == table.name).collect())
    }

    /// What the rules of a table jump to, chain by chain; chains without rules are left out. Reads
    /// all rules and keeps little of them. Started over while commits of others come in between.
    pub fn jumps(&mut self, table: TableRef<'_>) -> io::Result<Vec<ChainJumps>> {
        let header = netfilter_header(table.family.number());
        let fill = |to: &mut Writer| to.string(attr::RULE_TABLE, table.name);
        let collect = |chains: &mut Vec<_>, message: &Message<'_>| {
            ChainJumps::collect(message, table.name, chains);
        };
        match self.netlink.dump_whole(nft::GETRULE, &header, fill, collect) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Vec::new()),
            result => result,
        }
    }

    /// The numbers of all rules of the network namespace, chain by chain, of all families; chains
    /// without rules are left out. Started over while commits of others come in between.
    pub fn rule_handles(&mut self) -> io::Result<Vec<ChainHandles>> {
        let collect = |chains: &mut Vec<_>, message: &Message<'_>| ChainHandles::collect(message, chains);
        self.netlink.dump_whole(nft::GETRULE, &netfilter_header(0), |_| {}, collect)
    }

    /// The sets and maps of a table; none if it is missing.
    pub fn sets(&mut self, table: TableRef<'_>) -> io::Result<Vec<SetInfo>> {
        let bytes = self.snapshot(nft::GETSET, table.family, |to| to.string(attr::SET_TABLE, table.name))?;
        Ok(parsed(&bytes, nft::NEWSET, SetInfo::parse).filter(|set| set.table == table.name).collect())
    }

    /// Calls `each` once with every element of a set, all of one generation, in no order; never if
    /// the set is missing.
    ///
    /// Takes time in proportion to the square of large sets: a second for 250,000 elements, twice
    /// that just after they were added, while the kernel still grows the table and the dump has to
    /// be started over.
    pub fn elements(
        &mut self,
        table: TableRef<'_>,
        set: &str,
        mut each: impl FnMut(OwnedElement),
    ) -> io::Result<()> {
        let request = |to: &mut Writer| {
            to.string(attr::LIST_TABLE, table.name);
            to.string(attr::LIST_SET, set);
        };
        let bytes = self.checked_snapshot(nft::GETSETELEM, table.family, request, |bytes| !repeats(bytes))?;
        for message in Messages::new(&bytes).map_while(Result::ok) {
            if message.kind == nft::NEWSETELEM {
                OwnedElement::parse_all(&message).for_each(&mut each);
            }
        }
        Ok(())
    }

    /// The messages of a dump of one generation: started over when a commit comes in between. What
    /// is missing has no messages.
    fn snapshot(
        &mut self,
        kind: u16,
        family: TableFamily,
        fill: impl Fn(&mut Writer),
    ) -> io::Result<Vec<u8>> {
        self.checked_snapshot(kind, family, fill, |_| true)
    }

    /// Like `snapshot`; also started over when `is_whole` does not hold for the messages.
    fn checked_snapshot(
        &mut self,
        kind: u16,
        family: TableFamily,
        fill: impl Fn(&mut Writer),
        is_whole: impl Fn(&[u8]) -> bool,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut before = self.generation()?;
        for _ in 0..DUMP_ATTEMPTS {
            bytes.clear();
            let collect = |message: &Message<'_>| put_message(message, &mut bytes);
            let dumped = match self.netlink.dump(kind, &netfilter_header(family.number()), &fill, collect) {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => Completeness::Interrupted,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Vec::new()),
                result => result?,
            };
            // Dumps of elements are not marked when a commit interrupts them.
            let after = self.generation()?;
            if dumped == Completeness::Complete && after == before && is_whole(&bytes) {
                return Ok(bytes);
            }
            before = after;
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "rule set changes faster than it can be read"))
    }
}

/// Appends a message as it was received.
fn put_message(message: &Message<'_>, to: &mut Vec<u8>) {
    let length = HEADER_LEN + message.payload.len();
    to.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_ne_bytes());
    to.extend_from_slice(&message.kind.to_ne_bytes());
    to.extend_from_slice(&message.flags.to_ne_bytes());
    to.extend_from_slice(&message.sequence.to_ne_bytes());
    to.extend_from_slice(&[0; 4]);
    to.extend_from_slice(message.payload);
    to.resize(align(to.len()), 0);
}

/// An element comes twice. Between two reads of a dump the kernel remembers how many elements it
/// listed; when the hash table grows meanwhile they are in another order, some come again, and as
/// many others never. A commit is not needed for that: tables grow in the background after one.
fn repeats(bytes: &[u8]) -> bool {
    let messages =
        Messages::new(bytes).map_while(Result::ok).filter(|message| message.kind == nft::NEWSETELEM);
    let mut seen = HashSet::new();
    messages.flat_map(|message| nft::element_keys(&message)).any(|key| !seen.insert(key))
}

fn parsed<T>(bytes: &[u8], kind: u16, parse: impl Fn(&Message<'_>) -> Option<T>) -> impl Iterator<Item = T> {
    Messages::new(bytes)
        .map_while(Result::ok)
        .filter(move |message| message.kind == kind)
        .filter_map(move |message| parse(&message))
}
