//! Rules.

use super::expr::{Expr, Verdict};
use super::uapi::{self, attr};
use super::{expr_wire, userdata};
use portolan_netlink::wire::{Message, Writer};

/// A rule to be appended to a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    /// What it does, in order
    pub exprs: Vec<Expr>,
    /// What it is for, for people.
    pub comment: Option<String>,
}

impl Rule {
    pub(super) fn emit(
        &self,
        table: &str,
        chain: &str,
        to: &mut Writer,
    ) -> Result<(), expr_wire::NotEmittable> {
        emit_parts(table, chain, &self.exprs, |_| {}, to)?;
        if let Some(comment) = &self.comment {
            to.attribute(attr::RULE_USERDATA, userdata::Comment::new(comment).as_bytes());
        }
        Ok(())
    }
}

/// Appends where a rule goes and what it does: `exprs`, then the list elements that `last` writes.
pub(super) fn emit_parts(
    table: &str,
    chain: &str,
    exprs: &[Expr],
    last: impl FnOnce(&mut Writer),
    to: &mut Writer,
) -> Result<(), expr_wire::NotEmittable> {
    to.string(attr::RULE_TABLE, table);
    to.string(attr::RULE_CHAIN, chain);
    let list = to.nest(attr::RULE_EXPRESSIONS);
    for expr in exprs {
        let item = to.nest(attr::LIST_ELEMENT);
        expr_wire::emit(expr, to)?;
        to.end_nest(item);
    }
    last(to);
    to.end_nest(list);
    Ok(())
}

/// A rule as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleInfo {
    /// The table it is in
    pub table: String,
    /// The chain it is in
    pub chain: String,
    /// The kernel's number for it, unique in the table
    pub handle: u64,
    /// What it does, in order
    pub exprs: Vec<Expr>,
    /// Its comment, nft's or that of iptables-nft
    pub comment: Option<String>,
}

impl RuleInfo {
    /// Reads an `NFT_MSG_NEWRULE`.
    pub fn parse(message: &Message<'_>) -> Option<RuleInfo> {
        let (_, attributes) = message.netfilter()?;
        let exprs = attributes.get(attr::RULE_EXPRESSIONS).into_iter().flat_map(|list| list.nested());
        Some(RuleInfo {
            table: attributes.get(attr::RULE_TABLE)?.text()?.to_owned(),
            chain: attributes.get(attr::RULE_CHAIN)?.text()?.to_owned(),
            handle: attributes.get(attr::RULE_HANDLE)?.be64()?,
            comment: attributes
                .get(attr::RULE_USERDATA)
                .and_then(|data| userdata::comment(data.payload, 0))
                .or_else(|| exprs.clone().find_map(|item| expr_wire::parse_comment(&item))),
            exprs: exprs.map(|item| expr_wire::parse(&item)).collect(),
        })
    }
}

/// What the rules of one chain jump to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainJumps {
    /// The chain's name
    pub chain: String,
    /// How many rules it has
    pub rules: usize,
    /// The chains that its rules jump or go to, each with the handle of the rule; not those that a
    /// map leads to
    pub jumps: Vec<(u64, String)>,
}

impl ChainJumps {
    /// Counts an `NFT_MSG_NEWRULE` of `table`; the rules of a chain come one after the other.
    pub(crate) fn collect(message: &Message<'_>, table: &str, chains: &mut Vec<ChainJumps>) {
        let Some((_, attributes)) = message.netfilter().filter(|_| message.kind == uapi::NEWRULE) else {
            return;
        };
        let text = |kind| attributes.get(kind).and_then(|attribute| attribute.text());
        let handle = attributes.get(attr::RULE_HANDLE).and_then(|handle| handle.be64());
        let (Some(chain), Some(handle)) = (text(attr::RULE_CHAIN), handle) else { return };
        if text(attr::RULE_TABLE) != Some(table) {
            return;
        }
        if chains.last().is_none_or(|last| last.chain != chain) {
            chains.push(ChainJumps { chain: chain.to_owned(), rules: 0, jumps: Vec::new() });
        }
        let Some(last) = chains.last_mut() else { return };
        last.rules += 1;
        for item in attributes.get(attr::RULE_EXPRESSIONS).into_iter().flat_map(|list| list.nested()) {
            if let Some(Verdict::Jump(target) | Verdict::Goto(target)) = expr_wire::parse_immediate(&item) {
                last.jumps.push((handle, target));
            }
        }
    }
}
