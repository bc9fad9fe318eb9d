//! Chains.

use super::uapi::attr;
use super::userdata;
use portolan_netlink::wire::{Message, Writer};

/// A chain to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name
    pub name: String,
    /// Where the kernel calls it; `None` for one that rules jump to.
    pub kind: Option<BaseChain>,
    /// What it is for, for people.
    pub comment: Option<String>,
}

/// Where the kernel calls a chain; its policy is accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// What it may do
    pub kind: ChainType,
    /// When
    pub hook: Hook,
    /// Before (lower) or after (higher) others of the same hook
    pub priority: i32,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainType {
    /// Translates addresses; sees the first packet of each connection.
    Nat,
    /// Sees every packet.
    Filter,
    /// Sees every packet of this host, which is routed anew if its mark changes.
    Route,
}

/// When a base chain is called (`enum nf_inet_hooks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before routing, from outside
    Prerouting,
    /// To this host
    Input,
    /// Through this host
    Forward,
    /// From this host
    Output,
    /// After routing
    Postrouting,
}

const HOOKS: [Hook; 5] = [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];

impl BaseChain {
    fn type_name(self) -> &'static str {
        match self.kind {
            ChainType::Nat => "nat",
            ChainType::Filter => "filter",
            ChainType::Route => "route",
        }
    }
}

impl Chain {
    pub(super) fn emit(&self, table: &str, to: &mut Writer) {
        to.string(attr::CHAIN_TABLE, table);
        to.string(attr::CHAIN_NAME, &self.name);
        if let Some(base) = self.kind {
            to.string(attr::CHAIN_TYPE, base.type_name());
            let hook = to.nest(attr::CHAIN_HOOK);
            to.be32(attr::HOOK_NUMBER, base.hook as u32);
            to.be32(attr::HOOK_PRIORITY, base.priority.cast_unsigned());
            to.end_nest(hook);
        }
        if let Some(comment) = &self.comment {
            to.attribute(attr::CHAIN_USERDATA, userdata::Comment::new(comment).as_bytes());
        }
    }
}

/// A chain as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainInfo {
    /// The table it is in
    pub table: String,
    /// Its name
    pub name: String,
    /// The kernel calls it, in a place that [`ChainInfo::kind`] need not be able to say.
    pub is_base: bool,
    /// Where the kernel calls it
    pub kind: Option<BaseChain>,
    /// Its policy is drop.
    pub drops: bool,
    /// Its comment
    pub comment: Option<String>,
}

impl ChainInfo {
    /// Reads an `NFT_MSG_NEWCHAIN`.
    pub fn parse(message: &Message<'_>) -> Option<ChainInfo> {
        let (_, attributes) = message.netfilter()?;
        let hook = attributes.get(attr::CHAIN_HOOK);
        let base = || {
            let kind = match attributes.get(attr::CHAIN_TYPE)?.text()? {
                "nat" => ChainType::Nat,
                "filter" => ChainType::Filter,
                "route" => ChainType::Route,
                _ => return None,
            };
            let hook = hook?.nested();
            let number = usize::try_from(hook.get(attr::HOOK_NUMBER)?.be32()?).ok()?;
            let priority = hook.get(attr::HOOK_PRIORITY)?.be32()?.cast_signed();
            Some(BaseChain { kind, hook: *HOOKS.get(number)?, priority })
        };
        Some(ChainInfo {
            table: attributes.get(attr::CHAIN_TABLE)?.text()?.to_owned(),
            name: attributes.get(attr::CHAIN_NAME)?.text()?.to_owned(),
            is_base: hook.is_some(),
            kind: base(),
            drops: attributes.get(attr::CHAIN_POLICY).and_then(|policy| policy.be32()) == Some(0),
            comment: attributes.get(attr::CHAIN_USERDATA).and_then(|data| userdata::comment(data.payload, 0)),
        })
    }
}
