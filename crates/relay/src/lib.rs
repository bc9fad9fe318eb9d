//! TCP and UDP in user space: what comes to a socket goes to an endpoint that the caller chooses,
//! and the answers go back. Neither Kubernetes nor rules of the kernel are known here.
//!
//! Bytes of a connection go through a pipe in the kernel (splice(2)) and are not copied to the
//! memory of this process. They are copied if they are few, or no pipe is left. Whatever runs out,
//! new clients are refused and counted, and those that are there go on.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use portolan_relay::{Listener, Order, Protocol, Relay, Settings, Table};
//!
//! let relay = Relay::start(Settings::default())?;
//! let table = Arc::new(Table::new(Order::RoundRobin, None));
//! table.set(vec!["10.0.0.1:8080".parse()?, "10.0.0.2:8080".parse()?]);
//! let address = "127.0.0.1:30080".parse()?;
//! relay.add(Listener::new("shop/web:http", Protocol::Tcp, address, table.clone()))?;
//! // An endpoint leaves: it gets no new connections, and those that it has end in a minute.
//! let gone = "10.0.0.2:8080".parse()?;
//! table.set(vec!["10.0.0.1:8080".parse()?]);
//! relay.leave("shop/web:http", gone, Some(std::time::Duration::from_mins(1)));
//! println!("{:?}", relay.counts());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One process after the other
//!
//! [`Relay::sockets`] and [`hand_over`] pass listening sockets to the next process, so that no
//! connection is refused between the two. Connections stay with the old process until they end
//! ([`Relay::finish`]). What is lost: which endpoint a UDP client has. The next process chooses
//! anew, and the old one passes on the answers that are still on their way.
//!
//! A process that uses this crate must ignore SIGPIPE, as programs in Rust do by themselves.

mod counters;
mod deadlines;
mod error;
pub mod hand_over;
mod limits;
mod listener;
mod listening;
mod mailbox;
mod picker;
mod proxy_header;
mod reactor;
mod relay;
mod served;
mod shared;
mod slots;
mod sockets;
mod system;
mod table;
mod tcp;
mod token;
mod udp;
mod worker;

pub use counters::{Counts, ListenerCounts};
pub use error::Error;
pub use limits::Limits;
pub use listener::{Destination, Listener, Protocol, ProxyHeader, Sockets, Source, Upstream};
pub use picker::{Asked, Picker};
pub use relay::Relay;
pub use shared::{Keepalive, Settings};
pub use sockets::is_free;
pub use table::{Order, Table};
