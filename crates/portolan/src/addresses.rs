//! The addresses on this node's interfaces, and their changes.

use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use portolan_netlink::rtnetlink::{Changes, Rtnetlink, Subject};
use tracing::debug;

use crate::batch::Batch;
use crate::feed::Feed;

/// All addresses on all interfaces of the calling thread's network namespace.
pub(crate) fn list() -> io::Result<Vec<IpAddr>> {
    let addresses = Rtnetlink::open()?.addresses()?;
    Ok(addresses.into_iter().map(|address| address.network.addr()).collect())
}

/// Wakes whoever waits when an address comes or goes. What exactly is for [`list`] to say.
pub(crate) fn changes() -> io::Result<Changes> {
    Changes::of(&[Subject::Ipv4Addresses, Subject::Ipv6Addresses])
}

/// Hands all addresses to `feed`, now and whenever they have changed.
pub(crate) fn follow(changes: &mut Changes, feed: &Feed) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        match list() {
            Ok(mut now) => {
                now.sort_unstable();
                if last.as_ref() != Some(&now) {
                    feed.publish(&Batch::of_addresses(now.clone()));
                    last = Some(now);
                }
                changes.wait().context("listening for interface addresses")?;
            }
            Err(error) => {
                // A dump that raced with changes; the next attempt sees them all.
                debug!("listing interface addresses: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_listed() {
        assert!(list().unwrap().contains(&"127.0.0.1".parse().unwrap()));
    }
}
