//! The addresses on this node's interfaces, and their changes (rtnetlink).

use std::io;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use tracing::debug;

use crate::batch::Batch;
use crate::feed::Feed;

/// `RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR` (linux/rtnetlink.h).
const ADDRESS_GROUPS: u32 = 0x10 | 0x100;

/// All addresses on all interfaces of the calling thread's network namespace.
pub(crate) fn list() -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()), |message| {
        if let RouteNetlinkMessage::NewAddress(message) = message {
            addresses.extend(address(&message));
        }
    })?;
    Ok(addresses)
}

/// Asks the calling thread's network namespace for everything of one kind.
pub(crate) fn dump(
    request: RouteNetlinkMessage,
    mut take: impl FnMut(RouteNetlinkMessage),
) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    loop {
        let (answer, _) = socket.recv_from_full()?;
        let mut rest = &answer[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4).clamp(16, rest.len());
            rest = &rest[length..];
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(()),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::InnerMessage(message) => take(message),
                _ => {}
            }
        }
    }
}

/// An interface's own address: IFA_LOCAL, which differs from IFA_ADDRESS on point-to-point links.
fn address(message: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    })
}

/// Waits for changes of addresses.
pub(crate) struct Watch {
    socket: Socket,
}

impl Watch {
    /// Starts to listen; changes from now on wake [`Watch::wait`].
    pub(crate) fn start() -> io::Result<Watch> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, ADDRESS_GROUPS))?;
        Ok(Watch { socket })
    }

    /// Blocks until an address came or went. What exactly is for [`list`] to say: messages can be
    /// lost.
    pub(crate) fn wait(&self) -> io::Result<()> {
        match self.socket.recv_from_full() {
            Ok(_) => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Hands all addresses to `feed`, now and whenever they have changed.
pub(crate) fn follow(watch: &Watch, feed: &Feed) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        match list() {
            Ok(mut now) => {
                now.sort_unstable();
                if last.as_ref() != Some(&now) {
                    feed.publish(&Batch::of_addresses(now.clone()));
                    last = Some(now);
                }
                watch.wait().context("listening for interface addresses")?;
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
