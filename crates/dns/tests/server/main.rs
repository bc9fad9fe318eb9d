//! The server on real sockets of the loopback interface.

mod asking;
mod connections;
mod datagrams;
mod elsewhere;
mod finish;
mod hostile;
mod logged;
mod others;
mod restart;
mod scene;
mod search;
