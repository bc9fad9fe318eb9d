//! Sets of ipset, which rules of iptables look into: read from what `ipset save` or `ipset list`
//! prints.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use portolan_service::Family;

use crate::Error;
use crate::printable::{printable, shortened};
use crate::ruleset::{Data, Field, Operand, Set, Test};
use crate::value::{address_value, interface_value, network_range, value_address};

/// Sets by name.
#[derive(Debug, Clone, Default)]
pub struct IpSets {
    sets: BTreeMap<String, IpSet>,
}

/// One dimension of a set's elements (ipset(8), `SET TYPES`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Address,
    Port,
    /// Without a protocol: of bitmap:port.
    BarePort,
    Interface,
    Mark,
}

#[derive(Debug, Clone)]
struct IpSet {
    /// `None` where a part of the elements is not known.
    parts: Option<Vec<Part>>,
    family: Family,
    elements: Set,
    /// Whether all of its elements were understood.
    whole: bool,
    /// Of list:set.
    members: Vec<String>,
    is_list: bool,
}

/// The sets of ipset that the rules of a table look into, in the order of their numbers.
#[derive(Debug, Default)]
pub(crate) struct InUse {
    numbers: HashMap<String, u32>,
}

/// How deep sets of sets are followed: the kernel has none within another.
const DEEPEST: usize = 1;

impl IpSets {
    /// Reads the output of `ipset save` or `ipset list`.
    ///
    /// # Errors
    /// A text that makes no set.
    pub fn from_text(text: &str) -> Result<IpSets, Error> {
        let mut sets = IpSets::default();
        // Of `ipset list`: the set that lines are of, and whether its members have begun.
        let mut listed: Option<(String, bool)> = None;
        for line in text.lines() {
            let clean = printable(line);
            let words: Vec<&str> = clean.split_ascii_whitespace().collect();
            match words[..] {
                ["create" | "-N", name, kind, ref options @ ..] => sets.create(name, kind, options),
                ["add" | "-A", name, element, ref options @ ..] => sets.add(name, element, options),
                ["Name:", name] => listed = Some((name.to_owned(), false)),
                ["Type:", kind] => {
                    if let Some((name, _)) = &listed {
                        sets.create(name, kind, &[]);
                    }
                }
                ["Header:", ref options @ ..] => {
                    if let Some(set) = listed.as_ref().and_then(|(name, _)| sets.sets.get_mut(name)) {
                        set.options(options);
                    }
                }
                ["Members:"] => {
                    if let Some((_, begun)) = &mut listed {
                        *begun = true;
                    }
                }
                [element, ref options @ ..] => {
                    if let Some((name, true)) = &listed {
                        sets.add(&name.clone(), element, options);
                    }
                }
                [] => {}
            }
        }
        if sets.sets.is_empty() {
            let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let problem = format!("no set found in it, which begins with `{}`", shortened(first));
            return Err(Error::NodeText { program: "ipset save", problem });
        }
        Ok(sets)
    }

    /// Adds the sets of another text.
    pub fn extend(&mut self, other: IpSets) {
        self.sets.extend(other.sets);
    }

    /// The elements of these sets that are single addresses.
    pub fn addresses(&self, names: [&str; 2]) -> Vec<IpAddr> {
        let sets = names.iter().filter_map(|name| self.sets.get(*name));
        let elements = sets.flat_map(|set| set.elements.elements().map(move |(key, ..)| (key, set)));
        let single = elements.filter_map(|(key, set)| match (key, set.parts.as_deref()) {
            ([address], Some([Part::Address])) => Some(value_address(*address, set.family)),
            _ => None,
        });
        single.collect()
    }

    fn create(&mut self, name: &str, kind: &str, options: &[&str]) {
        let (method, dimensions) = kind.split_once(':').unwrap_or((kind, ""));
        let parts = dimensions
            .split(',')
            .map(|part| match (part, method) {
                ("ip" | "net", _) => Some(Part::Address),
                ("port", "bitmap") => Some(Part::BarePort),
                ("port", _) => Some(Part::Port),
                ("iface", _) => Some(Part::Interface),
                ("mark", _) => Some(Part::Mark),
                _ => None,
            })
            .collect();
        let mut set = IpSet {
            parts,
            family: Family::V4,
            elements: Set::new(name, false),
            whole: true,
            members: Vec::new(),
            is_list: method == "list",
        };
        set.options(options);
        self.sets.insert(name.to_owned(), set);
    }

    fn add(&mut self, name: &str, element: &str, options: &[&str]) {
        let Some(set) = self.sets.get_mut(name) else { return };
        if set.is_list {
            // Before and after others: only the order differs.
            set.members.push(element.to_owned());
        } else if options.contains(&"nomatch") {
            set.whole = false;
        } else {
            set.whole &= set.add(element);
        }
    }

    /// The tests of `-m set --match-set NAME DIRECTIONS`, all of which must hold; `None` if they
    /// are not known. Sets that are looked into are added to `sets`, those of the table.
    pub(crate) fn tests(
        &self,
        (name, directions): (&str, &str),
        negate: bool,
        family: Family,
        sets: &mut Vec<Set>,
        in_use: &mut InUse,
    ) -> Option<Vec<Test>> {
        let directions: Vec<bool> = directions
            .split(',')
            .map(|direction| match direction {
                "src" => Some(true),
                "dst" => Some(false),
                _ => None,
            })
            .collect::<Option<_>>()?;
        let mut tests = Vec::new();
        self.lookups(name, &directions, negate, family, (sets, in_use), &mut tests, 0)?;
        match tests.len() {
            0 => Some(if negate { Vec::new() } else { vec![Test::Never] }),
            1 => Some(tests),
            _ if negate => Some(tests),
            _ => Some(vec![Test::Any(tests.into())]),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one walk through sets of sets")]
    fn lookups(
        &self,
        name: &str,
        directions: &[bool],
        negate: bool,
        family: Family,
        (sets, in_use): (&mut Vec<Set>, &mut InUse),
        tests: &mut Vec<Test>,
        depth: usize,
    ) -> Option<()> {
        let set = self.sets.get(name)?;
        if depth > DEEPEST || !set.whole {
            return None;
        }
        if set.is_list {
            for member in &set.members {
                self.lookups(
                    member,
                    directions,
                    negate,
                    family,
                    (&mut *sets, &mut *in_use),
                    tests,
                    depth + 1,
                )?;
            }
            return Some(());
        }
        let parts = set.parts.as_ref()?;
        let addressed = parts.contains(&Part::Address);
        if addressed && set.family != family {
            return Some(());
        }
        let mut key = Vec::new();
        for (part, source) in parts.iter().zip(directions) {
            key.extend(fields(*part, *source, family).into_iter().map(Operand::from));
        }
        if directions.len() < parts.len() {
            return None;
        }
        let number = if let Some(number) = in_use.numbers.get(name) {
            *number
        } else {
            let number = u32::try_from(sets.len()).ok()?;
            sets.push(set.elements.clone());
            in_use.numbers.insert(name.to_owned(), number);
            number
        };
        tests.push(Test::Lookup { key: key.into(), set: number, negate });
        Some(())
    }
}

/// What a part of an element is compared with.
fn fields(part: Part, source: bool, family: Family) -> Vec<Field> {
    let port = if source { Field::SourcePort } else { Field::DestinationPort };
    match part {
        Part::Address => vec![if source { Field::Source(family) } else { Field::Destination(family) }],
        Part::Port => vec![Field::Protocol, port],
        Part::BarePort => vec![port],
        Part::Interface => vec![if source { Field::InInterface } else { Field::OutInterface }],
        Part::Mark => vec![Field::Mark],
    }
}

impl IpSet {
    fn options(&mut self, options: &[&str]) {
        if let Some(place) = options.iter().position(|option| *option == "family") {
            let v6 = options.get(place + 1) == Some(&"inet6");
            self.family = if v6 { Family::V6 } else { Family::V4 };
        }
        // Elements stand for more than they say.
        let masks = ["netmask", "bitmask", "markmask", "wildcard"];
        self.whole &= !options.iter().any(|option| masks.contains(option));
    }

    /// Adds an element; returns whether it was understood.
    fn add(&mut self, element: &str) -> bool {
        let Some(parts) = &self.parts else { return false };
        let values: Vec<&str> = element.split(',').collect();
        if values.len() != parts.len() {
            return false;
        }
        let mut key = Vec::new();
        for (part, value) in parts.iter().zip(values) {
            match ranges(*part, value, self.family) {
                Some(ranges) => key.extend(ranges),
                // No packet that is followed has such a protocol.
                None if *part == Part::Port && value.starts_with("icmp") => return true,
                None => return false,
            }
        }
        self.elements.insert(&key, Data::Nothing);
        true
    }
}

/// First and last value of each field of a part.
fn ranges(part: Part, value: &str, family: Family) -> Option<Vec<(u128, u128)>> {
    let port = |text: &str| -> Option<(u128, u128)> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some((first.parse::<u16>().ok()?.into(), last.parse::<u16>().ok()?.into()))
    };
    Some(match part {
        Part::Address => match value.split_once('-') {
            Some((first, last)) => {
                let of = |text: &str| text.parse::<IpAddr>().ok().map(address_value);
                vec![(of(first)?, of(last)?)]
            }
            None => vec![network_range(value, family).ok()?],
        },
        Part::BarePort => vec![port(value)?],
        Part::Port => {
            let (protocol, number) = value.split_once(':').unwrap_or(("tcp", value));
            let protocol = match protocol {
                "tcp" => 6,
                "udp" => 17,
                "sctp" => 132,
                "udplite" => 136,
                other => other.parse::<u8>().ok()?.into(),
            };
            vec![(protocol, protocol), port(number)?]
        }
        Part::Interface => {
            if value.contains(':') {
                return None;
            }
            let name = interface_value(value);
            vec![(name, name)]
        }
        Part::Mark => {
            let number = match value.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => value.parse().ok()?,
            };
            vec![(number.into(), number.into())]
        }
    })
}
