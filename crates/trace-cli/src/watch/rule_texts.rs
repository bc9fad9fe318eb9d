//! The rules by the numbers that the kernel has for them.

use std::collections::HashMap;

use anyhow::{Context, bail};
use portolan_netfilter::nft::{ChainHandles, TraceEvent};
use portolan_netfilter::socket::Socket;
use portolan_service::Family;
use portolan_trace::printable;
use portolan_trace::ruleset::{Chain, Table, TableFamily};

use crate::live;
use crate::rules::Rules;

/// How often reading starts over when rules change meanwhile.
const ATTEMPTS: usize = 10;
// NFPROTO_* of linux/netfilter.h
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// The rules of one moment. Numbers and texts are read apart, of the same rules in the same order.
pub(super) struct Texts {
    pub(super) rules: Rules,
    /// Of the rule set, when they were read
    pub(super) generation: u32,
    handles: HashMap<ChainPlace, Vec<u64>>,
}

/// Family, table and chain.
type ChainPlace = (u8, String, String);

/// A rule that an event names.
#[derive(Debug, Clone, Copy)]
pub(super) struct FoundRule<'a> {
    /// Its number in the chain, from 1
    pub(super) number: usize,
    pub(super) text: &'a str,
}

impl Texts {
    pub(super) fn read(socket: &mut Socket) -> anyhow::Result<Texts> {
        for _ in 0..ATTEMPTS {
            let generation = socket.generation().context("asking for the generation of the rule set")?;
            let before = socket.rule_handles().context("reading rules of nftables")?;
            let rules = live::read()?;
            if socket.rule_handles().context("reading rules of nftables")? == before {
                return Ok(Texts { rules, generation, handles: by_place(before) });
            }
        }
        bail!("rules change faster than they can be read: try again when the node is quieter")
    }

    /// The rule of number `handle`; `None` if it is gone.
    pub(super) fn rule(&self, event: &TraceEvent, handle: u64) -> Option<FoundRule<'_>> {
        let handles = self.handles.get(&(event.family, event.table.clone(), event.chain.clone()))?;
        let at = handles.iter().position(|it| *it == handle)?;
        // Tables of iptables-legacy may have the same names.
        let chain =
            self.chains(event).map(|(_, chain)| chain).find(|chain| chain.rules.len() == handles.len())?;
        Some(FoundRule { number: at + 1, text: &chain.rules.get(at)?.text })
    }

    /// The chain of an event.
    pub(super) fn chain(&self, event: &TraceEvent) -> Option<&Chain> {
        self.chains(event).map(|(_, chain)| chain).next()
    }

    fn chains(&self, event: &TraceEvent) -> impl Iterator<Item = (&Table, &Chain)> {
        let family = match event.family {
            INET => Some(TableFamily::Inet),
            IPV4 => Some(TableFamily::Only(Family::V4)),
            IPV6 => Some(TableFamily::Only(Family::V6)),
            _ => None,
        };
        let (table_name, chain_name) =
            (printable(&event.table).into_owned(), printable(&event.chain).into_owned());
        let tables = self.rules.ruleset.tables().iter();
        tables.filter(move |table| Some(table.family) == family && *table.name == *table_name).filter_map(
            move |table| Some((table, table.chains.iter().find(|chain| *chain.name == *chain_name)?)),
        )
    }
}

fn by_place(chains: Vec<ChainHandles>) -> HashMap<ChainPlace, Vec<u64>> {
    chains.into_iter().map(|it| ((it.family, it.table, it.chain), it.handles)).collect()
}

/// A family of tables, as nft names it.
pub(super) fn family_name(family: u8) -> &'static str {
    match family {
        INET => "inet",
        IPV4 => "ip",
        IPV6 => "ip6",
        _ => "other",
    }
}
