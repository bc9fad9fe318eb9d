//! Tables.

use super::uapi::attr;
use super::userdata;
use portolan_netlink::wire::{Message, Writer};

/// The family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableFamily {
    /// `ip`
    Ip,
    /// `ip6`
    Ip6,
}

impl TableFamily {
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`, which are also `AF_INET` and `AF_INET6`.
    pub const fn number(self) -> u8 {
        match self {
            TableFamily::Ip => 2,
            TableFamily::Ip6 => 10,
        }
    }

    /// The family of that number, if it is one of ours.
    pub const fn from_number(number: u8) -> Option<TableFamily> {
        match number {
            2 => Some(TableFamily::Ip),
            10 => Some(TableFamily::Ip6),
            _ => None,
        }
    }

    /// Length of its addresses, bytes.
    pub const fn address_len(self) -> u32 {
        match self {
            TableFamily::Ip => 4,
            TableFamily::Ip6 => 16,
        }
    }
}

impl std::fmt::Display for TableFamily {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            TableFamily::Ip => "ip",
            TableFamily::Ip6 => "ip6",
        })
    }
}

/// Names a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TableRef<'a> {
    /// Its family
    pub family: TableFamily,
    /// Its name
    pub name: &'a str,
}

impl std::fmt::Display for TableRef<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

/// `NFT_TABLE_F_OWNER`: the table goes with the socket that made it; kernel 5.12.
pub(super) const OWNED: u32 = 2;

pub(super) fn emit(name: &str, flags: u32, comment: &str, to: &mut Writer) {
    to.string(attr::TABLE_NAME, name);
    to.be32(attr::TABLE_FLAGS, flags);
    if !comment.is_empty() {
        to.attribute(attr::TABLE_USERDATA, userdata::Comment::new(comment).as_bytes());
    }
}

/// A table as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableInfo {
    /// Its family
    pub family: TableFamily,
    /// Its name
    pub name: String,
    /// `NFT_TABLE_F_*`: 1 if it is dormant, 2 if a process owns it
    pub flags: u32,
    /// Its comment
    pub comment: Option<String>,
}

impl TableInfo {
    /// Reads an `NFT_MSG_NEWTABLE`; `None` for what is not a table of ours to know.
    pub fn parse(message: &Message<'_>) -> Option<TableInfo> {
        let (family, attributes) = message.netfilter()?;
        Some(TableInfo {
            family: TableFamily::from_number(family)?,
            name: attributes.get(attr::TABLE_NAME)?.text()?.to_owned(),
            flags: attributes.get(attr::TABLE_FLAGS).and_then(|flags| flags.be32()).unwrap_or(0),
            comment: attributes.get(attr::TABLE_USERDATA).and_then(|data| userdata::comment(data.payload, 0)),
        })
    }
}
