//! Sets and maps: their types, and what nft needs to print them.

use std::time::Duration;

use super::expr_wire::milliseconds;
use super::table::TableFamily;
use super::uapi::attr;
use super::userdata;
use portolan_netlink::wire::{Message, Writer};

/// A part of a key or of data. Each is padded to four bytes in a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `numgen random mod 65536`: 4 bytes, host order
    Random,
    /// `ip saddr` or `ip6 saddr`, by the table's family: 4 or 16 bytes
    SourceAddress,
    /// `ip daddr` or `ip6 daddr`, by the table's family: 4 or 16 bytes
    DestinationAddress,
    /// `meta l4proto`: 1 byte
    L4Proto,
    /// `ip protocol`: 1 byte; in IPv6 tables the same as [`Field::L4Proto`]. In interval sets nft
    /// 1.0.6 can load only this one from text.
    IpProtocol,
    /// `th sport`: 2 bytes, network order
    SourcePort,
    /// `th dport`: 2 bytes, network order
    DestinationPort,
    /// `meta mark`: 4 bytes, host order
    Mark,
}

// enum expr_types of nft, stable since it is stored
const EXPR_VERDICT: u32 = 1;
const EXPR_PAYLOAD: u32 = 7;
const EXPR_META: u32 = 9;
const EXPR_CONCAT: u32 = 13;
const EXPR_NUMGEN: u32 = 23;
// enum proto_desc_id of nft, and the numbers of header fields within each
const HEADER_TRANSPORT: u32 = 11;
const HEADER_IP: u32 = 12;
const HEADER_IP6: u32 = 13;
// enum byteorder of nft
const BYTEORDER_NONE: u32 = 0;
const BYTEORDER_HOST: u32 = 1;
const BYTEORDER_NETWORK: u32 = 2;

// Types of user data of sets (enum nftnl_udata_set_types), and within typeof
const KEY_BYTEORDER: u8 = 0;
const DATA_BYTEORDER: u8 = 1;
const KEY_TYPEOF: u8 = 3;
const DATA_TYPEOF: u8 = 4;
const DATA_INTERVAL: u8 = 6;
const TYPEOF_EXPR: u8 = 0;
const TYPEOF_DATA: u8 = 1;

impl Field {
    fn len(self, family: TableFamily) -> u32 {
        match self {
            Field::Random | Field::Mark => 4,
            Field::SourceAddress | Field::DestinationAddress => family.address_len(),
            Field::L4Proto | Field::IpProtocol => 1,
            Field::SourcePort | Field::DestinationPort => 2,
        }
    }

    /// `enum datatypes` of nft
    fn datatype(self, family: TableFamily) -> u32 {
        match (self, family) {
            (Field::Random, _) => 4,
            (Field::SourceAddress | Field::DestinationAddress, TableFamily::Ip) => 7,
            (Field::SourceAddress | Field::DestinationAddress, TableFamily::Ip6) => 8,
            (Field::L4Proto | Field::IpProtocol, _) => 12,
            (Field::SourcePort | Field::DestinationPort, _) => 13,
            (Field::Mark, _) => 19,
        }
    }

    /// The expression it comes from, as `typeof` is stored.
    fn put_typeof(self, family: TableFamily, to: &mut Vec<u8>) {
        let (source_address, destination_address, header) = match family {
            TableFamily::Ip => (11, 12, HEADER_IP),
            TableFamily::Ip6 => (8, 9, HEADER_IP6),
        };
        let (expr, data) = match (self, family) {
            (Field::Random, _) => (EXPR_NUMGEN, &[1, 65536, 0][..]),
            (Field::SourceAddress, _) => (EXPR_PAYLOAD, &[header, source_address][..]),
            (Field::DestinationAddress, _) => (EXPR_PAYLOAD, &[header, destination_address][..]),
            (Field::IpProtocol, TableFamily::Ip) => (EXPR_PAYLOAD, &[HEADER_IP, 9][..]),
            (Field::L4Proto | Field::IpProtocol, _) => (EXPR_META, &[16][..]),
            (Field::SourcePort, _) => (EXPR_PAYLOAD, &[HEADER_TRANSPORT, 1][..]),
            (Field::DestinationPort, _) => (EXPR_PAYLOAD, &[HEADER_TRANSPORT, 2][..]),
            (Field::Mark, _) => (EXPR_META, &[3][..]),
        };
        userdata::put(to, TYPEOF_EXPR, &expr.to_ne_bytes());
        userdata::nest(to, TYPEOF_DATA, |to| {
            for (kind, number) in (0..).zip(data) {
                userdata::put(to, kind, &number.to_ne_bytes());
            }
        });
    }
}

/// The type of a set's keys: one field or a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyType(pub &'static [Field]);

/// The type of a map's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// Elements decide.
    Verdict,
    /// Elements give one field or a concatenation.
    Value(&'static [Field]),
}

fn datatype(fields: &[Field], family: TableFamily) -> u32 {
    // Six bits for each field; 32 bits are room for five.
    fields.iter().fold(0, |all, field| (all << 6) | field.datatype(family))
}

fn len(fields: &[Field], family: TableFamily) -> u32 {
    match fields {
        [single] => single.len(family),
        fields => fields.iter().map(|field| field.len(family).next_multiple_of(4)).sum(),
    }
}

fn byteorder(fields: &[Field]) -> u32 {
    match fields {
        [Field::Random | Field::Mark] => BYTEORDER_HOST,
        [_] => BYTEORDER_NETWORK,
        _ => BYTEORDER_NONE,
    }
}

fn put_typeof(fields: &[Field], family: TableFamily, to: &mut Vec<u8>) {
    if let [single] = fields {
        single.put_typeof(family, to);
        return;
    }
    userdata::put(to, TYPEOF_EXPR, &EXPR_CONCAT.to_ne_bytes());
    userdata::nest(to, TYPEOF_DATA, |to| {
        for (index, field) in (0..).zip(fields) {
            userdata::nest(to, index, |to| field.put_typeof(family, to));
        }
    });
}

/// A set or map to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name
    pub name: String,
    /// A number that no other set has that the same batch creates
    pub id: u32,
    /// The type of its keys
    pub key: KeyType,
    /// The type of its data, for a map
    pub data: Option<DataType>,
    /// Packets add elements (`flags dynamic`).
    pub dynamic: bool,
    /// Elements can expire (`flags timeout`).
    pub timeouts: bool,
    /// Elements are ranges (`flags interval`).
    pub interval: bool,
    /// How often the kernel looks for elements that have expired, which counts them out of `size`;
    /// it walks the whole set each time, every second if nothing is given
    pub gc_interval: Option<Duration>,
    /// How many elements it takes at most; the kernel allocates buckets for all of them at once
    pub size: Option<u32>,
    /// What it is for, for people.
    pub comment: Option<String>,
}

// enum nft_set_flags
const FLAG_INTERVAL: u32 = 0x4;
const FLAG_MAP: u32 = 0x8;
const FLAG_TIMEOUT: u32 = 0x10;
const FLAG_EVAL: u32 = 0x20;
const FLAG_CONCAT: u32 = 0x80;
/// `NFT_DATA_VERDICT`
const DATA_VERDICT: u32 = 0xffff_ff00;

impl Set {
    /// `NFT_SET_*`, as [`SetInfo::flags`] has them.
    pub fn flags(&self) -> u32 {
        let flag = |set, flag| if set { flag } else { 0 };
        flag(self.data.is_some(), FLAG_MAP)
            | flag(self.timeouts, FLAG_TIMEOUT)
            | flag(self.dynamic, FLAG_EVAL)
            | flag(self.interval, FLAG_INTERVAL)
            | flag(self.is_interval_concatenation(), FLAG_CONCAT)
    }

    /// Only there the kernel has to know where fields begin (pipapo).
    fn is_interval_concatenation(&self) -> bool {
        self.interval && self.key.0.len() > 1
    }

    /// Length of its keys in tables of `family`, bytes.
    pub fn key_len(&self, family: TableFamily) -> u32 {
        len(self.key.0, family)
    }

    /// Length of its data in tables of `family`, bytes; 0 for verdicts and without data.
    pub fn data_len(&self, family: TableFamily) -> u32 {
        match self.data {
            Some(DataType::Value(fields)) => len(fields, family),
            Some(DataType::Verdict) | None => 0,
        }
    }

    /// What makes nft print its types, and its comment.
    pub fn userdata(&self, family: TableFamily) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        userdata::put(&mut bytes, KEY_BYTEORDER, &byteorder(self.key.0).to_ne_bytes());
        if let Some(data) = self.data {
            let order = match data {
                DataType::Verdict => BYTEORDER_NONE,
                DataType::Value(fields) => byteorder(fields),
            };
            userdata::put(&mut bytes, DATA_BYTEORDER, &order.to_ne_bytes());
        }
        userdata::nest(&mut bytes, KEY_TYPEOF, |to| put_typeof(self.key.0, family, to));
        if let Some(data) = self.data {
            userdata::nest(&mut bytes, DATA_TYPEOF, |to| match data {
                DataType::Verdict => {
                    userdata::put(to, TYPEOF_EXPR, &EXPR_VERDICT.to_ne_bytes());
                    userdata::put(to, TYPEOF_DATA, &[]);
                }
                DataType::Value(fields) => put_typeof(fields, family, to),
            });
            userdata::put(&mut bytes, DATA_INTERVAL, &0u32.to_ne_bytes());
        }
        if let Some(comment) = &self.comment {
            userdata::put_set_comment(&mut bytes, comment);
        }
        bytes
    }

    pub(super) fn emit(&self, table: &str, family: TableFamily, to: &mut Writer) {
        to.string(attr::SET_TABLE, table);
        to.string(attr::SET_NAME, &self.name);
        to.be32(attr::SET_FLAGS, self.flags());
        to.be32(attr::SET_KEY_TYPE, datatype(self.key.0, family));
        to.be32(attr::SET_KEY_LEN, self.key_len(family));
        if let Some(data) = self.data {
            let kind = match data {
                DataType::Verdict => DATA_VERDICT,
                DataType::Value(fields) => datatype(fields, family),
            };
            to.be32(attr::SET_DATA_TYPE, kind);
            to.be32(attr::SET_DATA_LEN, self.data_len(family));
        }
        to.be32(attr::SET_ID, self.id);
        if let Some(interval) = self.gc_interval {
            let interval = u32::try_from(milliseconds(interval)).unwrap_or(u32::MAX);
            to.be32(attr::SET_GC_INTERVAL, interval);
        }
        if self.size.is_some() || self.is_interval_concatenation() {
            let desc = to.nest(attr::SET_DESC);
            if let Some(size) = self.size {
                to.be32(attr::SET_DESC_SIZE, size);
            }
            if self.is_interval_concatenation() {
                let fields = to.nest(attr::SET_DESC_CONCAT);
                for field in self.key.0 {
                    let item = to.nest(attr::LIST_ELEMENT);
                    to.be32(attr::SET_FIELD_LEN, field.len(family));
                    to.end_nest(item);
                }
                to.end_nest(fields);
            }
            to.end_nest(desc);
        }
        to.attribute(attr::SET_USERDATA, &self.userdata(family));
    }
}

/// A set or map as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetInfo {
    /// The table it is in
    pub table: String,
    /// Its name
    pub name: String,
    /// `NFT_SET_*`
    pub flags: u32,
    /// Length of its keys, bytes
    pub key_len: u32,
    /// Length of its data, bytes; 0 for verdicts and without data
    pub data_len: u32,
    /// How many elements it takes at most, if that was given
    pub size: Option<u32>,
    /// How many elements it has, where the kernel says so (6.16): an upper bound, since elements
    /// that expired or were deleted may be counted until the kernel clears them away.
    pub count: Option<u32>,
    /// As it was given when the set was created: see [`Set::userdata`].
    pub userdata: Vec<u8>,
}

impl SetInfo {
    /// Reads an `NFT_MSG_NEWSET`.
    pub fn parse(message: &Message<'_>) -> Option<SetInfo> {
        let (_, attributes) = message.netfilter()?;
        let number = |kind| attributes.get(kind).and_then(|attribute| attribute.be32());
        let desc = attributes.get(attr::SET_DESC);
        let flags = number(attr::SET_FLAGS).unwrap_or(0);
        let verdicts = number(attr::SET_DATA_TYPE) == Some(DATA_VERDICT);
        Some(SetInfo {
            table: attributes.get(attr::SET_TABLE)?.text()?.to_owned(),
            name: attributes.get(attr::SET_NAME)?.text()?.to_owned(),
            flags,
            key_len: number(attr::SET_KEY_LEN)?,
            // The kernel reports the length of its own verdict structure.
            data_len: if verdicts { 0 } else { number(attr::SET_DATA_LEN).unwrap_or(0) },
            size: desc.and_then(|desc| desc.nested().get(attr::SET_DESC_SIZE)?.be32()),
            count: number(attr::SET_COUNT),
            userdata: attributes.get(attr::SET_USERDATA).map_or_else(Vec::new, |data| data.payload.to_vec()),
        })
    }

    /// Its comment.
    pub fn comment(&self) -> Option<String> {
        userdata::comment(&self.userdata, userdata::SET_COMMENT)
    }
}
