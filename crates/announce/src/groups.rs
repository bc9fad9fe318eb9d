//! The groups that solicitations for IPv6 addresses are sent to. Switches forward those of a group
//! to its members only (RFC 4541), so that membership has to be reported, which the kernel does.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, UdpSocket};

use crate::neighbour::solicited_node;

/// So many are joined with one socket: the kernel accounts for each, up to `net.core.optmem_max`.
const FOR_EACH_SOCKET: usize = 100;

/// The groups that have been joined.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By interface and group: how many addresses need it, and the socket that joined it.
    joined: HashMap<(u32, Ipv6Addr), (usize, usize)>,
    /// Each with how many it has joined.
    sockets: Vec<(UdpSocket, usize)>,
}

impl Groups {
    /// Joins the group of an address on an interface; nothing has to be done for IPv4.
    pub(crate) fn join(&mut self, interface: u32, address: IpAddr) -> io::Result<()> {
        let IpAddr::V6(address) = address else { return Ok(()) };
        let group = solicited_node(address);
        if let Some((needed, _)) = self.joined.get_mut(&(interface, group)) {
            *needed += 1;
            return Ok(());
        }
        let free = self.sockets.iter().position(|(_, joined)| *joined < FOR_EACH_SOCKET);
        let place = if let Some(place) = free {
            place
        } else {
            // Nobody sends to its port.
            self.sockets.push((UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?, 0));
            self.sockets.len() - 1
        };
        self.sockets[place].0.join_multicast_v6(&group, interface)?;
        self.sockets[place].1 += 1;
        self.joined.insert((interface, group), (1, place));
        Ok(())
    }

    /// Leaves the group of an address, if no other needs it.
    pub(crate) fn leave(&mut self, interface: u32, address: IpAddr) {
        let IpAddr::V6(address) = address else { return };
        let group = solicited_node(address);
        let Some((needed, place)) = self.joined.get_mut(&(interface, group)) else { return };
        *needed -= 1;
        if *needed == 0 {
            let place = *place;
            self.joined.remove(&(interface, group));
            self.sockets[place].1 -= 1;
            // The interface may be gone, and its groups with it.
            let _ = self.sockets[place].0.leave_multicast_v6(&group, interface);
        }
    }
}
