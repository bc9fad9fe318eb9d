//! The server on real sockets of the loopback interface.

mod asking;
mod connections;
mod datagrams;
mod elsewhere;
mod others;
mod scene;
