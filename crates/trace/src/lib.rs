//! Follows a packet through rules that were read from a dump, and says where it goes and why.
//!
//! One model of rules ([`Ruleset`]), readers that fill it ([`Ruleset::from_iptables`],
//! [`Ruleset::from_nft_json`], [`Ruleset::from_nft_text`]), and one evaluator ([`evaluate`]). No
//! input or output, no privileges: texts in, an [`Answer`] out, which [`explain::explain`] puts in
//! words.
//!
//! ```
//! use portolan_trace::{Entry, Family, Node, Packet, Protocol, Record, Ruleset, Verdict, evaluate};
//!
//! let rules = Ruleset::from_iptables_save(
//!     "*nat\n:PREROUTING ACCEPT [0:0]\n\
//!      -A PREROUTING -d 10.96.0.1/32 -p tcp -m tcp --dport 80 \
//!      -j DNAT --to-destination 10.244.1.7:8080\n\
//!      COMMIT\n",
//!     Family::V4,
//! )?;
//! let packet = Packet::new(
//!     "192.0.2.7:40000".parse().unwrap(),
//!     "10.96.0.1:80".parse().unwrap(),
//!     Protocol::Tcp,
//!     Entry::Prerouting { interface: Some("eth0".into()) },
//! );
//! let answer = evaluate(&rules, &Node::default(), &packet, Record::Nothing);
//! assert_eq!(answer.outcomes.len(), 1);
//! assert_eq!(answer.outcomes[0].verdict, Verdict::Forward("10.244.1.7:8080".parse().unwrap()));
//! # Ok::<(), portolan_trace::Error>(())
//! ```

mod evaluate;
pub mod explain;
mod host;
mod ipset;
mod iptables;
pub mod ipvs;
mod nft_json;
mod nft_text;
mod node_text;
mod packet;
mod port_names;
mod printable;
mod probability;
pub mod ruleset;
mod value;

pub use evaluate::{
    Answer, Assumption, Condition, Outcome, Path, Record, Step, StepKind, Stop, Undecided, Verdict, evaluate,
};
pub use host::{Host, Interface, Refusal, ReversePath};
pub use ipset::IpSets;
pub use nft_text::{is_nft_text, listing as nft_text_listing};
pub use packet::{Entry, Node, Packet, State};
pub use portolan_service::{Family, Protocol};
pub use printable::printable;
pub use probability::Probability;
pub use ruleset::{Hook, Ruleset};

/// Why a dump could not be read. The text shown of it has no control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A line of an iptables-save text is not what iptables-save writes.
    #[error("line {line}: {problem}: `{text}`; give the output of iptables-save as it is")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
        /// The line, cut short.
        text: String,
    },
    /// The text ends within a table.
    #[error(
        "the text ends within table {table} (no COMMIT after line {line}): it was cut off; save it again"
    )]
    CutOff {
        /// The table.
        table: String,
        /// Where the table begins.
        line: usize,
    },
    /// A part of an nft listing is not what nft prints.
    #[error("line {line}: {problem}: `{text}`; give the output of `nft list ruleset` as it is")]
    NftText {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
        /// The beginning of it.
        text: String,
    },
    /// An nft listing ends within a table.
    #[error(
        "the text ends within table {table} (no closing brace after line {line}): it was cut off; list it again"
    )]
    CutOffListing {
        /// The table.
        table: String,
        /// Where the table begins.
        line: usize,
    },
    /// What is said of the node besides its rules cannot be understood.
    #[error("{problem}; give the output of `{program}` as it is")]
    NodeText {
        /// What should have printed it.
        program: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The text is not JSON.
    #[error("not JSON: {0}; give the output of `nft -j list ruleset`")]
    Json(String),
    /// An object of an nft JSON listing cannot be understood.
    #[error("{object}: {problem}; give the output of `nft -j list ruleset` as it is")]
    Object {
        /// Which: table, chain, set or rule, with its name.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
}
