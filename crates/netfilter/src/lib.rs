//! What a service proxy says to the kernel: nftables transactions and dumps ([`nft`]), connection tracking
//! ([`conntrack`]) and the netlink socket that carries them ([`socket`]); and, to take over from others, the tables of
//! iptables-legacy ([`xtables`]), [`ipset`]s, [`ipvs`] and network [`link`]s; and the
//! counters that rules of iptables count into ([`nfacct`]).
//!
//! Encodings come in emit/parse pairs; what is parsed from the kernel never panics. Knows nothing of Services.

pub mod conntrack;
pub mod ipset;
pub mod ipvs;
pub mod link;
pub mod nfacct;
pub mod nft;
pub mod socket;
pub mod wire;
pub mod xtables;
