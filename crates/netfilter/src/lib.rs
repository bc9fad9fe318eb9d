//! What a service proxy says to netfilter: nftables transactions and dumps ([`nft`]), connection
//! tracking ([`conntrack`]) and the netlink socket that carries them ([`socket`]). To take over
//! from others: the tables of iptables-legacy ([`xtables`]), [`ipset`]s and [`ipvs`]; and the
//! counters that rules of iptables count into ([`nfacct`]).
//!
//! Encodings come in emit/parse pairs; what is parsed from the kernel never panics. Knows nothing
//! of Services. Messages and attributes themselves are `portolan-netlink`'s.

pub mod conntrack;
pub mod ipset;
pub mod ipvs;
pub mod nfacct;
pub mod nft;
pub mod socket;
pub mod xtables;

pub use portolan_netlink::wire;
