//! nfnetlink, as far as a service proxy speaks it: nftables transactions and dumps ([`nft`]), connection
//! tracking ([`conntrack`]) and the socket that carries them ([`socket`]).
//!
//! Encodings come in emit/parse pairs; what is parsed from the kernel never panics. Knows nothing of Services.

pub mod conntrack;
pub mod nft;
pub mod socket;
pub mod wire;
pub mod xtables;
