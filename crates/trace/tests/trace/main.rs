//! Packets through rule sets, as a table of cases a dump; and dumps that nobody wrote.

mod forms;
mod iptables;
mod nft;
mod notation;
mod robustness;
mod scale;
