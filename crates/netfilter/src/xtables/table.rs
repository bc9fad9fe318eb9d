//! A table as one block of entries, and the same without some of them.
//!
//! Entries follow one another. Those of a built-in chain start where the header says that a hook
//! starts, and end with its policy; a chain of the user's starts with an entry that holds its name
//! and ends with a return. A jump is the distance from the table's start to the first entry of a
//! chain. The last entry of all says `ERROR`.

use std::collections::HashMap;
use std::ops::Range;

use super::layout::{
    ALIGN, ERROR_NAME_LEN, Entry, HOOKS, INFO, NAME, TARGET, TARGET_NAME, TARGET_NAME_LEN, text_at, u16_at,
    u32_at,
};
use crate::nft::TableFamily;

/// The target that marks the start of a chain, and the name in the one at the end of the table
const ERROR: &[u8] = b"ERROR";

/// What the kernel says about a table (`struct ipt_getinfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// The hooks at which it is called, a bit each
    pub valid_hooks: u32,
    /// Where the chain of each hook starts, bytes
    pub hook_entry: [u32; HOOKS],
    /// Where the policy of each hook is, bytes
    pub underflow: [u32; HOOKS],
    /// How many entries it has
    pub entries: u32,
    /// How long they are together, bytes
    pub size: u32,
}

impl Info {
    /// Reads a `struct ipt_getinfo`; `None` if it is too short.
    pub fn parse(bytes: &[u8]) -> Option<Info> {
        let mut numbers = bytes.get(NAME..INFO)?.chunks_exact(4).filter_map(|number| u32_at(number, 0));
        let mut next = || numbers.next();
        let valid_hooks = next()?;
        let mut hook_entry = [0; HOOKS];
        let mut underflow = [0; HOOKS];
        for field in hook_entry.iter_mut().chain(&mut underflow) {
            *field = next()?;
        }
        Some(Info { valid_hooks, hook_entry, underflow, entries: next()?, size: next()? })
    }

    fn hooks(&self) -> impl Iterator<Item = usize> {
        let valid = self.valid_hooks;
        (0..HOOKS).filter(move |hook| valid & (1 << hook) != 0)
    }
}

/// The block is not laid out as iptables lays out its tables.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table}, at byte {offset}: {what}")]
pub struct Malformed {
    /// The table's name
    pub table: String,
    /// Where
    pub offset: usize,
    /// What is wrong
    pub what: &'static str,
}

/// Why entries cannot be left out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A rule that is to stay leads to a chain that is to go.
    #[error("chain {0} is still in use")]
    InUse(String),
    /// A built-in chain, or something that is no rule.
    #[error("entry {0} is no rule and no chain of the user's")]
    Structure(usize),
    /// What would be left is not a table: a bug.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Which chain it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// That of a hook (`enum nf_inet_hooks`)
    Hook(usize),
    /// One of the user's, by name; not necessarily UTF-8 in the kernel
    User(String),
}

/// A chain of a [`Table`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Which it is
    pub place: Place,
    /// Its rules, by the number of their entries in the table; not its policy or return
    pub rules: Range<usize>,
    /// All its entries
    entries: Range<usize>,
}

/// A table as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    family: TableFamily,
    name: String,
    info: Info,
    bytes: Vec<u8>,
    /// Where each entry starts
    offsets: Vec<usize>,
    chains: Vec<Chain>,
    /// The chains that entries jump to
    jumps: HashMap<usize, usize>,
}

/// A table with entries left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reduced {
    /// What is left
    pub table: Table,
    /// The number that each entry had before
    pub origins: Vec<usize>,
}

/// What a rule does when it matches, as far as it concerns the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target<'a> {
    /// Not a rule: the start of a chain, or the end of the table
    Error(&'a [u8]),
    /// On to the entry at this place: where a chain's rules start, or simply the next entry
    To(usize),
    /// A verdict, policies and returns included
    Verdict,
    /// What an extension does
    Extension,
}

impl Table {
    /// Reads a block of entries.
    pub fn parse(family: TableFamily, name: &str, info: Info, bytes: Vec<u8>) -> Result<Table, Malformed> {
        let mut table = Table {
            family,
            name: name.to_owned(),
            info,
            bytes,
            offsets: Vec::new(),
            chains: Vec::new(),
            jumps: HashMap::new(),
        };
        table.find_entries()?;
        table.find_chains()?;
        table.find_jumps()?;
        Ok(table)
    }

    /// Its family
    pub fn family(&self) -> TableFamily {
        self.family
    }

    /// Its name
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What goes to the kernel about it
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Its entries
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many entries it has
    pub fn entries(&self) -> usize {
        self.offsets.len()
    }

    /// Its chains
    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    /// Whether the chain of a hook (`enum nf_inet_hooks`) drops what none of its rules decides on.
    pub fn drops(&self, hook: usize) -> bool {
        let called = self.info.hooks().any(|called| called == hook);
        let policy = called.then(|| self.entry_at(self.info.underflow[hook] as usize)).flatten();
        policy.is_some_and(|entry| {
            let bytes = &self.bytes[self.extent(entry)];
            let verdict = u32_at(bytes, self.target_offset(entry) + TARGET).map(u32::cast_signed);
            // A verdict is written as its negative, less one: NF_DROP is 0.
            verdict == Some(-1)
        })
    }

    /// The chain that a rule jumps or goes to, by its place in [`Table::chains`].
    pub fn jump(&self, rule: usize) -> Option<usize> {
        self.jumps.get(&rule).copied()
    }

    /// The text of a rule's match `comment` (`struct xt_comment_info`), by the rule's number.
    pub fn comment(&self, rule: usize) -> Option<&str> {
        let bytes = self.bytes.get(self.extent_of(rule)?)?;
        let mut matches = bytes.get(Entry::of(self.family).len..self.target_offset(rule))?;
        loop {
            // `struct xt_entry_match` is laid out as `struct xt_entry_target`.
            let len = usize::from(u16_at(matches, 0)?).max(TARGET);
            let (name, data) = matches.get(..len)?.split_at(TARGET);
            if text_at(name, TARGET_NAME, TARGET_NAME_LEN)? == b"comment" {
                return std::str::from_utf8(text_at(data, 0, data.len())?).ok();
            }
            matches = &matches[len..];
        }
    }

    /// Leaves out chains of the user's, by their places in [`Table::chains`], and rules, by their
    /// numbers. All else stays as it is, but for the distances in it.
    pub fn without(&self, chains: &[usize], rules: &[usize]) -> Result<Reduced, Refusal> {
        let mut stays = vec![true; self.offsets.len()];
        for at in chains {
            let chain = self.chains.get(*at).ok_or(Refusal::Structure(*at))?;
            if let Place::Hook(_) = chain.place {
                return Err(Refusal::Structure(chain.entries.start));
            }
            stays[chain.entries.clone()].fill(false);
        }
        for rule in rules {
            if !self.chains.iter().any(|chain| chain.rules.contains(rule)) {
                return Err(Refusal::Structure(*rule));
            }
            stays[*rule] = false;
        }
        for (rule, chain) in &self.jumps {
            if let Place::User(name) = &self.chains[*chain].place
                && stays[*rule]
                && !stays[self.chains[*chain].entries.start]
            {
                return Err(Refusal::InUse(name.clone()));
            }
        }

        let mut bytes = Vec::with_capacity(self.bytes.len());
        let mut origins = Vec::new();
        // Where each entry is now; for one that is gone, where the next one is that is not.
        let mut moved = Vec::with_capacity(self.offsets.len());
        for (entry, stays) in stays.iter().enumerate() {
            moved.push(bytes.len());
            if *stays {
                bytes.extend_from_slice(&self.bytes[self.extent(entry)]);
                origins.push(entry);
            }
        }
        let new_offset = |old: usize| self.entry_at(old).map(|entry| moved[entry]);
        for origin in &origins {
            if let Target::To(old) = self.target(*origin)
                && let Some(new) = new_offset(old).and_then(|new| i32::try_from(new).ok())
            {
                let at = moved[*origin] + self.target_offset(*origin) + TARGET;
                bytes[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            }
        }
        let mut info = self.info;
        for hook in self.info.hooks() {
            for field in [&mut info.hook_entry[hook], &mut info.underflow[hook]] {
                if let Some(new) = new_offset(*field as usize).and_then(|new| u32::try_from(new).ok()) {
                    *field = new;
                }
            }
        }
        // Never larger than before.
        info.entries = u32::try_from(origins.len()).unwrap_or(u32::MAX);
        info.size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let table = Table::parse(self.family, &self.name, info, bytes)?;
        Ok(Reduced { table, origins })
    }

    fn malformed(&self, offset: usize, what: &'static str) -> Malformed {
        Malformed { table: self.name.clone(), offset, what }
    }

    fn extent_of(&self, entry: usize) -> Option<Range<usize>> {
        (entry < self.offsets.len()).then(|| self.extent(entry))
    }

    fn extent(&self, entry: usize) -> Range<usize> {
        self.offsets[entry]..self.offsets.get(entry + 1).copied().unwrap_or(self.bytes.len())
    }

    fn target_offset(&self, entry: usize) -> usize {
        let offset = u16_at(&self.bytes, self.offsets[entry] + Entry::of(self.family).offsets);
        offset.map_or(0, usize::from)
    }

    /// The entry that starts at `offset`.
    fn entry_at(&self, offset: usize) -> Option<usize> {
        self.offsets.binary_search(&offset).ok()
    }

    fn target(&self, entry: usize) -> Target<'_> {
        let bytes = &self.bytes[self.extent(entry)];
        let bytes = bytes.get(self.target_offset(entry)..).unwrap_or(&[]);
        let verdict = || u32_at(bytes, TARGET).map(u32::cast_signed);
        match text_at(bytes, TARGET_NAME, TARGET_NAME_LEN) {
            Some(b"") => match verdict().map(usize::try_from) {
                Some(Ok(offset)) => Target::To(offset),
                _ => Target::Verdict,
            },
            Some(ERROR) => Target::Error(text_at(bytes, TARGET, ERROR_NAME_LEN).unwrap_or(b"")),
            _ => Target::Extension,
        }
    }

    fn find_entries(&mut self) -> Result<(), Malformed> {
        let layout = Entry::of(self.family);
        if self.bytes.len() != self.info.size as usize {
            return Err(self.malformed(self.bytes.len(), "the table is not as long as the kernel says"));
        }
        let mut start = 0;
        while start < self.bytes.len() {
            let field = |at| u16_at(&self.bytes, at).map(usize::from);
            let offsets = field(start + layout.offsets).zip(field(start + layout.offsets + 2));
            let Some((target, len)) = offsets else {
                return Err(self.malformed(start, "the table ends within an entry"));
            };
            if len % ALIGN != 0 || start + len > self.bytes.len() {
                return Err(self.malformed(start, "the entry's length is impossible"));
            }
            if target < layout.len || target + TARGET > len {
                return Err(self.malformed(start, "the entry's target lies outside it"));
            }
            let target_len = field(start + target).unwrap_or(0);
            if target_len < TARGET || target + target_len > len {
                return Err(self.malformed(start, "the target's length is impossible"));
            }
            let is_short = |room: usize| target_len < TARGET + room;
            match text_at(&self.bytes, start + target + TARGET_NAME, TARGET_NAME_LEN) {
                Some(b"") if is_short(4) => return Err(self.malformed(start, "a verdict is missing")),
                Some(ERROR) if is_short(ERROR_NAME_LEN) => {
                    return Err(self.malformed(start, "a chain's name is missing"));
                }
                _ => {}
            }
            self.offsets.push(start);
            start += len;
        }
        if self.offsets.len() != self.info.entries as usize {
            return Err(self.malformed(start, "the table has not as many entries as the kernel says"));
        }
        Ok(())
    }

    fn find_chains(&mut self) -> Result<(), Malformed> {
        let last = match self.offsets.len().checked_sub(1) {
            Some(last) if self.target(last) == Target::Error(ERROR) => last,
            _ => return Err(self.malformed(self.bytes.len(), "the table's last entry is missing")),
        };
        let mut starts = HashMap::new();
        for hook in self.info.hooks() {
            let offset = self.info.hook_entry[hook] as usize;
            match self.entry_at(offset) {
                Some(entry)
                    if !matches!(self.target(entry), Target::Error(_))
                        && starts.insert(entry, hook).is_none() => {}
                _ => return Err(self.malformed(offset, "a hook's chain starts at no entry of its own")),
            }
        }
        let begins = |table: &Table, entry| {
            starts.contains_key(&entry) || matches!(table.target(entry), Target::Error(_))
        };
        let mut entry = 0;
        while entry < last {
            let end = (entry + 1..last).find(|entry| begins(self, *entry)).unwrap_or(last);
            let offset = self.offsets[entry];
            let chain = if let Some(&hook) = starts.get(&entry) {
                if self.entry_at(self.info.underflow[hook] as usize) != Some(end - 1) {
                    return Err(self.malformed(offset, "a hook's chain does not end with its policy"));
                }
                Chain { place: Place::Hook(hook), rules: entry..end - 1, entries: entry..end }
            } else if let Target::Error(name) = self.target(entry) {
                if end - 1 == entry {
                    return Err(self.malformed(offset, "a chain has no end"));
                }
                let name = String::from_utf8_lossy(name).into_owned();
                Chain { place: Place::User(name), rules: entry + 1..end - 1, entries: entry..end }
            } else {
                return Err(self.malformed(offset, "the entry belongs to no chain"));
            };
            if self.target(end - 1) != Target::Verdict {
                return Err(self.malformed(offset, "the chain does not end with a verdict"));
            }
            self.chains.push(chain);
            entry = end;
        }
        Ok(())
    }

    fn find_jumps(&mut self) -> Result<(), Malformed> {
        let first_rules: HashMap<usize, usize> = (0..)
            .zip(&self.chains)
            .filter(|(_, chain)| matches!(chain.place, Place::User(_)))
            .map(|(at, chain)| (self.offsets[chain.rules.start], at))
            .collect();
        let mut jumps = HashMap::new();
        for entry in 0..self.offsets.len() {
            if let Target::To(offset) = self.target(entry) {
                // To the next entry: a rule that only counts.
                if offset == self.extent(entry).end {
                    continue;
                }
                let Some(chain) = first_rules.get(&offset) else {
                    return Err(self.malformed(self.offsets[entry], "a jump leads to no chain"));
                };
                jumps.insert(entry, *chain);
            }
        }
        self.jumps = jumps;
        Ok(())
    }
}
