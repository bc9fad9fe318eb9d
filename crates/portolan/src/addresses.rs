//! The addresses on this node's interfaces, and word of their changes.

use std::io;
use std::net::IpAddr;

use portolan_netlink::rtnetlink::{Changes, Rtnetlink, Subject};

/// All addresses on all interfaces of the calling thread's network namespace.
pub(crate) fn list() -> io::Result<Vec<IpAddr>> {
    let addresses = Rtnetlink::open()?.addresses()?;
    Ok(addresses.into_iter().map(|address| address.network.addr()).collect())
}

/// Wakes whoever waits when an address comes or goes. What exactly is for [`list`] to say.
pub(crate) fn changes() -> io::Result<Changes> {
    Changes::of(&[Subject::Ipv4Addresses, Subject::Ipv6Addresses])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed() {
        assert!(list().unwrap().contains(&"127.0.0.1".parse().unwrap()));
    }
}
