//! The server on real sockets of the loopback interface.

mod asking;
mod datagrams;
mod scene;
