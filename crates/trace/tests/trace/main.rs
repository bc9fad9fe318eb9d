//! Packets through rule sets, as a table of cases a dump; and dumps that nobody wrote.

mod facts;
mod forms;
mod host;
mod ipset;
mod iptables;
mod ipvs;
mod nft;
mod notation;
mod robustness;
mod scale;
mod walkthroughs;
