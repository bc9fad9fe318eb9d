//! Names with fixed addresses, from a file as hosts(5) has it and from settings.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use portolan_names::wire::{Name, kind};

use crate::answer::Answer;
use crate::question::Question;
use crate::settings::{self, Error, domains};

/// So many names are taken of a file at most.
const NAMES_MAX: usize = 1 << 20;

/// Names with fixed addresses.
#[derive(Debug)]
pub(crate) struct Hosts {
    settings: settings::Hosts,
    domains: Vec<Name>,
    fallthrough: Vec<Name>,
    inline: Table,
    /// Both, as the file is now.
    table: RwLock<Arc<Table>>,
}

/// What they say about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// This.
    Answer(Answer),
    /// That there is no such name, but not who knows that: a failure.
    Nothing,
    /// Others are to be asked.
    AskOthers,
}

/// Addresses by name, in lower case, and names by address.
#[derive(Debug, Clone, Default)]
struct Table {
    addresses: HashMap<Box<[u8]>, Vec<IpAddr>>,
    names: HashMap<IpAddr, Vec<Box<[u8]>>>,
}

impl Hosts {
    /// Without what the file has.
    pub(crate) fn new(settings: settings::Hosts) -> Result<Hosts, Error> {
        let mut inline = Table::default();
        for (address, names) in &settings.entries {
            for text in names {
                let name =
                    Name::parse(text).ok_or_else(|| Error::Domain { field: "hosts", value: text.clone() })?;
                inline.add(*address, &name);
            }
        }
        Ok(Hosts {
            domains: domains("hosts", &settings.domains)?,
            fallthrough: match settings.fallthrough.as_deref() {
                None => Vec::new(),
                Some([]) => vec![Name::root()],
                Some(texts) => domains("fallthrough", texts)?,
            },
            table: RwLock::new(Arc::new(inline.clone())),
            inline,
            settings,
        })
    }

    /// The file that further names are in.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.settings.file.as_deref()
    }

    /// Has the names of `text`, the file's content, from now on. Returns how many names there are.
    pub(crate) fn load(&self, text: &str) -> usize {
        let mut table = self.inline.clone();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            // An interface's name behind an address is no part of it.
            let address = words.next().and_then(|word| word.split('%').next()?.parse().ok());
            let Some(address) = address else { continue };
            for name in words.filter_map(Name::parse) {
                if table.addresses.len() < NAMES_MAX {
                    table.add(address, &name);
                }
            }
        }
        let count = table.addresses.len();
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        count
    }

    /// What they say about `asked`.
    pub(crate) fn answer(&self, asked: &Question) -> Said {
        let table = Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner));
        let ttl = self.settings.ttl;
        if asked.kind == kind::PTR {
            let address = reverse(&asked.name).filter(|_| self.settings.reverse);
            return match address.and_then(|address| table.names.get(&address)) {
                Some(names) => Said::Answer(Answer::own(kind::PTR, ttl, names)),
                None => Said::AskOthers,
            };
        }
        if !self.domains.is_empty() && !self.domains.iter().any(|domain| asked.name.is_within(domain)) {
            return Said::AskOthers;
        }
        let Some(addresses) = table.addresses.get(asked.name.as_wire()) else {
            let falls_through = self.fallthrough.iter().any(|domain| asked.name.is_within(domain));
            return if falls_through { Said::AskOthers } else { Said::Nothing };
        };
        let data = addresses.iter().filter_map(|address| match (asked.kind, address) {
            (kind::A, IpAddr::V4(address)) => Some(address.octets().to_vec()),
            (kind::AAAA, IpAddr::V6(address)) => Some(address.octets().to_vec()),
            _ => None,
        });
        Said::Answer(Answer::own(asked.kind, ttl, data))
    }
}

impl Table {
    fn add(&mut self, address: IpAddr, name: &Name) {
        let mut key = name.clone();
        key.make_lowercase();
        let addresses = self.addresses.entry(key.as_wire().into()).or_default();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
        let names = self.names.entry(address).or_default();
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name.as_wire())) {
            names.push(name.as_wire().into());
        }
    }
}

/// The address that the reverse name `name` is of (RFC 1035 §3.5, RFC 3596 §2.5).
fn reverse(name: &Name) -> Option<IpAddr> {
    let domain = name.labels().checked_sub(2)?;
    let text = |at| std::str::from_utf8(name.label(at)).ok();
    if name.label(domain + 1) != b"arpa" {
        return None;
    }
    match name.label(domain) {
        b"in-addr" if domain == 4 => {
            let mut octets = [0; 4];
            for (at, octet) in octets.iter_mut().rev().enumerate() {
                let text = text(at).filter(|text| *text == "0" || !text.starts_with(['0', '+']))?;
                *octet = text.parse().ok()?;
            }
            Some(IpAddr::V4(Ipv4Addr::from(octets)))
        }
        b"ip6" if domain == 32 => {
            let mut number: u128 = 0;
            for at in (0..32).rev() {
                let digit = text(at).filter(|text| text.len() == 1)?;
                number = number << 4 | u128::from(u8::from_str_radix(digit, 16).ok()?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(number)))
        }
        _ => None,
    }
}
