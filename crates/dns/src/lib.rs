//! The DNS server: sockets, threads, who may ask, counters and the log of questions. What the
//! answer is comes from `portolan_names`, and from [`Others`] for names outside the cluster.
//!
//! ```no_run
//! use std::sync::{Arc, RwLock};
//!
//! use portolan_dns::{Block, Listener, Server, Settings};
//! use portolan_names::Names;
//!
//! let names = Arc::new(RwLock::new(Names::new(portolan_names::Settings::default(), 0x5eed)?));
//! let zones = vec![".".to_owned()];
//! let block = Block { zones, names: Some(names.clone()), ..Block::default() };
//! let listener = Listener::new("127.0.0.1:5300".parse()?, vec![block]);
//! let server = Server::start(Settings { listeners: vec![listener], ..Settings::default() })?;
//! // Whoever has changes takes the lock for as short as they take.
//! names.write().unwrap().set_synced();
//! println!("{:?}", server.counts());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod access;
mod counters;
mod error;
mod later;
mod others;
mod query_log;
mod responder;
mod server;
mod settings;
mod shared;
mod socket_option;
mod sockets;
mod swap;
mod tcp;
mod udp;
mod under_way;
mod zones;

pub use counters::{Counts, Histogram, Requests, Responses, Source, ZoneCounts};
pub use error::Error;
pub use others::{Answered, Known, LookedUp, Others};
pub use query_log::{Classes, Entry, QueryLog};
pub use server::Server;
pub use settings::{Block, Listener, MayAsk, Refusal, Settings, Sockets, TcpLimits};
