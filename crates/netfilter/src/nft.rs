//! nftables objects and transactions (linux/netfilter/nf_tables.h).
//!
//! What is sent has the byte form that nft 1.0.6 sends, user data included, wherever that decides
//! how `nft list ruleset` prints it.

mod batch;
mod chain;
mod element;
mod expr;
mod expr_wire;
mod rule;
mod set;
mod table;
mod trace;
mod uapi;
mod userdata;

pub use batch::{Batch, ElementAt, ElementList, ElementOperation, EncodeError};
pub(crate) use batch::{describe, element_at};
pub use chain::{BaseChain, Chain, ChainInfo, ChainType, Hook};
pub(crate) use element::element_keys;
pub use element::{Element, ElementData, OwnedData, OwnedElement};
pub use expr::*;
pub use rule::{ChainJumps, Rule, RuleInfo};
pub use set::{DataType, Field, KeyType, Set, SetInfo};
pub use table::{TableFamily, TableInfo, TableRef};
pub(crate) use trace::TRACE_GROUP;
pub use trace::{ChainHandles, TraceEvent, TraceHeaders, TraceKind, TraceVerdict};
pub use userdata::COMMENT_MAX;

pub(crate) use uapi::{
    GETCHAIN, GETGEN, GETRULE, GETSET, GETSETELEM, GETTABLE, NEWCHAIN, NEWGEN, NEWRULE, NEWSET, NEWSETELEM,
    NEWTABLE, attr,
};
