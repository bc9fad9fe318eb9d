//! Rules.

use super::expr::Expr;
use super::uapi::attr;
use super::{expr_wire, userdata};
use crate::wire::{Message, Writer};

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
        to.string(attr::RULE_TABLE, table);
        to.string(attr::RULE_CHAIN, chain);
        let list = to.nest(attr::RULE_EXPRESSIONS);
        for expr in &self.exprs {
            let item = to.nest(attr::LIST_ELEMENT);
            expr_wire::emit(expr, to)?;
            to.end_nest(item);
        }
        to.end_nest(list);
        if let Some(comment) = &self.comment {
            to.attribute(attr::RULE_USERDATA, userdata::Comment::new(comment).as_bytes());
        }
        Ok(())
    }
}

/// A rule as the kernel tells of it.
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
    /// Its comment
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
            exprs: exprs.map(|item| expr_wire::parse(&item)).collect(),
            comment: attributes.get(attr::RULE_USERDATA).and_then(|data| userdata::comment(data.payload, 0)),
        })
    }
}
