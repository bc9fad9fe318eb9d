//! Netlink, the kernel's own way of talking about its network: messages and attributes ([`wire`]),
//! the socket that carries them ([`socket`]), and interfaces, addresses, routes and neighbours by
//! [`rtnetlink`].
//!
//! What speaks another protocol of netlink (nfnetlink, generic netlink) brings its own messages and
//! uses the same socket. What is parsed from the kernel never panics.

pub mod rtnetlink;
pub mod socket;
pub mod wire;
