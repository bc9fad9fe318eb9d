//! The tables of x_tables, which iptables-legacy uses: one block of memory for each table, read and
//! replaced as a whole (linux/netfilter/x_tables.h, linux/netfilter_ipv4/ip_tables.h,
//! linux/netfilter_ipv6/ip6_tables.h).

mod kernel;
mod layout;
mod table;

pub use kernel::{ReplaceError, Xtables, tables};
pub use table::{Chain, Info, Malformed, Place, Reduced, Refusal, Table};
