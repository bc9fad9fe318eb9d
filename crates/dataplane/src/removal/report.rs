//! What was found, removed, kept, and what failed.

use std::fmt;
use std::io;

use portolan_service::Family;

use crate::variant::Variant;

/// Something that a proxy left in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Chains and rules in iptables' tables (modes iptables, IPVS and userspace).
    Iptables {
        /// Where
        variant: Variant,
        /// For IPv4 or IPv6
        family: Family,
        /// Chains of its own
        chains: usize,
        /// Rules in these chains, and rules elsewhere that lead there
        rules: usize,
    },
    /// A table of mode nftables (spec §6.2).
    Table {
        /// For IPv4 or IPv6
        family: Family,
        /// Its name
        name: &'static str,
    },
    /// Virtual servers of mode IPVS.
    VirtualServers(usize),
    /// The device kube-ipvs0, with its addresses (spec §7.5).
    Device,
    /// ipsets of mode IPVS (spec §7.16).
    IpSets(usize),
}

fn count(number: usize, of: &str) -> String {
    if number == 1 { format!("1 {of}") } else { format!("{number} {of}s") }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Iptables { variant, family, chains, rules } => {
                write!(f, "{variant}, {family}: {}, {}", count(*chains, "chain"), count(*rules, "rule"))
            }
            Part::Table { family: Family::V4, name } => write!(f, "nftables: table ip {name}"),
            Part::Table { family: Family::V6, name } => write!(f, "nftables: table ip6 {name}"),
            Part::VirtualServers(number) => write!(f, "ipvs: {}", count(*number, "virtual server")),
            Part::Device => f.write_str("ipvs: device kube-ipvs0"),
            Part::IpSets(number) => write!(f, "ipvs: {}", count(*number, "ipset")),
        }
    }
}

/// Something that stays because others rely on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// A chain of iptables.
    Chain {
        /// Where
        variant: Variant,
        /// For IPv4 or IPv6
        family: Family,
        /// Its table
        table: String,
        /// Its name
        chain: String,
        /// Why, for people
        reason: String,
    },
    /// An ipset, by name.
    IpSet(String),
    /// Virtual servers of IPVS that kube-proxy has taken over.
    VirtualServers(usize),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kept::Chain { variant, family, table, chain, reason } => {
                write!(f, "{variant}, {family}: chain {chain} of table {table} stays: {reason}")
            }
            Kept::IpSet(name) => write!(f, "ipvs: ipset {name} stays: rules that stay look into it"),
            Kept::VirtualServers(number) => {
                let servers = count(*number, "virtual server");
                write!(f, "ipvs: {servers} of addresses that kube-proxy serves, too: left to kube-proxy")
            }
        }
    }
}

/// What a proxy has left in the kernel, as it was found or as it was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// What can be removed, or is gone
    pub parts: Vec<Part>,
    /// What others rely on, and stays
    pub kept: Vec<Kept>,
}

impl Leftovers {
    /// There is nothing to remove, or nothing was removed.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// A line for each part, and for each thing that stays, for people.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.parts.iter().map(Part::to_string).chain(self.kept.iter().map(Kept::to_string))
    }
}

impl fmt::Display for Leftovers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return f.write_str("nothing");
        }
        let parts: Vec<String> = self.parts.iter().map(Part::to_string).collect();
        f.write_str(&parts.join("; "))
    }
}

/// Why one part could not be read or removed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A system call failed.
    #[error("{doing}: {source}")]
    System {
        /// What was being done to which part, for people
        doing: String,
        /// The cause
        source: io::Error,
    },
    /// The kernel refused, or holds what cannot be worked with.
    #[error("{doing}: {reason}")]
    Refused {
        /// What was being done to which part, for people
        doing: String,
        /// The cause, and what to do about it
        reason: String,
    },
    /// A dataplane could not do it.
    #[error(transparent)]
    Dataplane(crate::error::Error),
}

impl From<crate::error::Error> for Failure {
    fn from(error: crate::error::Error) -> Failure {
        Failure::Dataplane(error)
    }
}

impl Failure {
    pub(crate) fn system(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Failure {
        move |source| Failure::System { doing: doing.into(), source }
    }
}

/// Some parts could not be read or removed; the others are done.
#[derive(Debug, thiserror::Error)]
#[error("{}", summary(failures))]
pub struct RemovalError {
    /// At least one
    pub failures: Vec<Failure>,
    /// The parts that were found, or removed
    pub done: Vec<Part>,
}

fn summary(failures: &[Failure]) -> String {
    failures.iter().map(Failure::to_string).collect::<Vec<_>>().join("; ")
}

/// Collects while one part after the other is looked at.
#[derive(Debug, Default)]
pub(crate) struct Report {
    parts: Vec<Part>,
    kept: Vec<Kept>,
    failures: Vec<Failure>,
}

impl Report {
    pub(crate) fn part(&mut self, part: Part) {
        let empty = match &part {
            Part::Iptables { chains, rules, .. } => *chains == 0 && *rules == 0,
            Part::VirtualServers(number) | Part::IpSets(number) => *number == 0,
            Part::Table { .. } | Part::Device => false,
        };
        if !empty {
            self.parts.push(part);
        }
    }

    /// Rules of iptables were found, or removed.
    pub(crate) fn has_rules(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Iptables { .. }))
    }

    pub(crate) fn keep(&mut self, kept: Kept) {
        self.kept.push(kept);
    }

    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failures.push(failure);
    }

    pub(crate) fn finish(self) -> Result<Leftovers, RemovalError> {
        if self.failures.is_empty() {
            Ok(Leftovers { parts: self.parts, kept: self.kept })
        } else {
            Err(RemovalError { failures: self.failures, done: self.parts })
        }
    }
}
