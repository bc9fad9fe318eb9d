//! nftables objects and transactions (linux/netfilter/nf_tables.h).

mod expr;

pub use expr::*;

/// The family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableFamily {
    /// `ip`
    Ip,
    /// `ip6`
    Ip6,
}
