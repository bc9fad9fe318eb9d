//! Announces addresses on the local network (layer 2): for each address, one node of those that
//! are there answers ARP and Neighbour Discovery, and another takes over within a second or two
//! when that one dies.
//!
//! Nodes do not negotiate. Each sends heartbeats on the links where there are addresses, and each
//! computes from those that it hears, by a rank of a hash, who has which address. What a node must
//! do follows from that (`speaker`, which does no I/O). [`Announcer`] is the thread that does it,
//! with raw sockets. The kernel has none of the addresses: so nothing answers for them when this
//! process has ended, and no other socket of the node is reached by them.
//!
//! This crate knows no Service: it is given addresses, and for each the nodes that may have it.

mod announcer;
mod arp;
mod choice;
mod duplicates;
mod error;
mod ethernet;
mod event;
mod groups;
mod heartbeat;
mod interfaces;
mod link;
mod neighbour;
mod pace;
mod packet_socket;
mod peers;
mod routes;
mod speaker;
mod status;

pub use announcer::{Announcer, Settings};
pub use error::Error;
pub use event::Event;
pub use heartbeat::Key;
pub use interfaces::Selected;
pub use link::Allowed;
pub use routes::Routes;
pub use speaker::Own;
pub use status::{AddressStatus, Counters, Holder};
