//! Elements of sets and maps.

use std::time::Duration;

use super::expr::Verdict;
use super::uapi::attr;
use super::{expr_wire, userdata};
use portolan_netlink::wire::{Attribute, Message, Writer};

/// An element to be added or deleted. Keys and data of concatenations have each field padded to 4
/// bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// The key; the start of the range in an interval set
    pub key: &'a [u8],
    /// The end of the range, itself included, in an interval set
    pub key_end: Option<&'a [u8]>,
    /// What a map gives for the key; not looked at when deleting
    pub data: Option<ElementData<'a>>,
    /// After what time it goes; not looked at when deleting
    pub timeout: Option<Duration>,
    /// What it is for, for people; not looked at when deleting
    pub comment: Option<&'a str>,
}

/// What a map gives for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementData<'a> {
    /// A value
    Value(&'a [u8]),
    /// A decision
    Verdict(&'a Verdict),
}

/// Longer than what an element takes apart from its key, data, chain name and comment: seven
/// attribute headers with nests around them, a timeout, a verdict code, padding.
const OVERHEAD: usize = 96;

impl<'a> Element<'a> {
    /// An element with a key alone.
    pub const fn new(key: &'a [u8]) -> Element<'a> {
        Element { key, key_end: None, data: None, timeout: None, comment: None }
    }

    /// An upper bound of what it takes in a message, bytes.
    pub(super) fn size_bound(&self) -> usize {
        let data = match self.data {
            Some(ElementData::Value(value)) => value.len(),
            Some(ElementData::Verdict(Verdict::Jump(chain) | Verdict::Goto(chain))) => chain.len(),
            Some(ElementData::Verdict(_)) | None => 0,
        };
        let comment = self.comment.map_or(0, |comment| comment.len().min(userdata::COMMENT_MAX));
        OVERHEAD + self.key.len() + self.key_end.map_or(0, <[u8]>::len) + data + comment
    }

    pub(super) fn emit(&self, only_key: bool, to: &mut Writer) {
        let element = to.nest(attr::LIST_ELEMENT);
        put_value(attr::ELEMENT_KEY, self.key, to);
        if let Some(end) = self.key_end {
            put_value(attr::ELEMENT_KEY_END, end, to);
        }
        if !only_key {
            match self.data {
                Some(ElementData::Value(value)) => put_value(attr::ELEMENT_DATA, value, to),
                Some(ElementData::Verdict(verdict)) => {
                    let data = to.nest(attr::ELEMENT_DATA);
                    expr_wire::put_verdict(verdict, to);
                    to.end_nest(data);
                }
                None => {}
            }
            if let Some(timeout) = self.timeout {
                to.be64(attr::ELEMENT_TIMEOUT, expr_wire::milliseconds(timeout));
            }
            if let Some(comment) = self.comment {
                to.attribute(attr::ELEMENT_USERDATA, userdata::Comment::new(comment).as_bytes());
            }
        }
        to.end_nest(element);
    }
}

fn put_value(kind: u16, value: &[u8], to: &mut Writer) {
    let nest = to.nest(kind);
    to.attribute(attr::DATA_VALUE, value);
    to.end_nest(nest);
}

/// What a map of the kernel gives for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OwnedData {
    /// A value
    Value(Vec<u8>),
    /// A decision
    Verdict(Verdict),
}

/// An element as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedElement {
    /// The key; the start of the range in an interval set
    pub key: Vec<u8>,
    /// The end of the range, itself included
    pub key_end: Option<Vec<u8>>,
    /// What a map gives for the key
    pub data: Option<OwnedData>,
    /// After what time it goes if nothing refreshes it
    pub timeout: Option<Duration>,
    /// What is left of that time
    pub expires: Option<Duration>,
    /// Its comment
    pub comment: Option<String>,
}

/// The keys in an `NFT_MSG_NEWSETELEM`: where the range starts, for ranges.
pub(crate) fn element_keys<'a>(message: &Message<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let list = message.netfilter().and_then(|(_, attributes)| attributes.get(attr::LIST_ELEMENTS));
    list.into_iter()
        .flat_map(|list| list.nested())
        .filter_map(|item| item.nested().get(attr::ELEMENT_KEY)?.nested().get(attr::DATA_VALUE))
        .map(|value| value.payload)
}

impl OwnedElement {
    /// Reads the elements of an `NFT_MSG_NEWSETELEM`; those that are none are left out.
    pub fn parse_all<'a>(message: &Message<'a>) -> impl Iterator<Item = OwnedElement> + use<'a> {
        let list = message.netfilter().and_then(|(_, attributes)| attributes.get(attr::LIST_ELEMENTS));
        list.into_iter().flat_map(|list| list.nested()).filter_map(|item| OwnedElement::parse(&item))
    }

    /// Reads one element.
    pub fn parse(item: &Attribute<'_>) -> Option<OwnedElement> {
        let mut element = OwnedElement {
            key: Vec::new(),
            key_end: None,
            data: None,
            timeout: None,
            expires: None,
            comment: None,
        };
        let mut has_key = false;
        let value =
            |attribute: &Attribute<'_>| Some(attribute.nested().get(attr::DATA_VALUE)?.payload.to_vec());
        for attribute in item.nested() {
            match attribute.kind {
                attr::ELEMENT_KEY => {
                    element.key = value(&attribute)?;
                    has_key = true;
                }
                attr::ELEMENT_KEY_END => element.key_end = value(&attribute),
                attr::ELEMENT_DATA => {
                    element.data = match attribute.nested().get(attr::DATA_VERDICT) {
                        Some(verdict) => Some(OwnedData::Verdict(expr_wire::parse_verdict(&verdict)?)),
                        None => Some(OwnedData::Value(value(&attribute)?)),
                    };
                }
                attr::ELEMENT_TIMEOUT => element.timeout = attribute.be64().map(Duration::from_millis),
                attr::ELEMENT_EXPIRATION => element.expires = attribute.be64().map(Duration::from_millis),
                attr::ELEMENT_USERDATA => element.comment = userdata::comment(attribute.payload, 0),
                _ => {}
            }
        }
        has_key.then_some(element)
    }
}
