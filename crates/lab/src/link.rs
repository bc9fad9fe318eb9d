//! Interfaces, addresses and routes of the calling thread's network namespace (rtnetlink(7)).

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::Error;

/// The hardware address of every bridge, locally administered; no two bridges share a link.
const BRIDGE_ADDRESS: [u8; 6] = [0x02, 0, 0, 0, 0, 1];

/// `RTMGRP_LINK` (linux/rtnetlink.h).
const LINK_GROUP: u32 = 1;

/// How long a link may take to carry packets after both its ends are up.
const RUNNING_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

/// A connection to the kernel's link, address and route tables. It belongs to the namespace it was opened in.
#[derive(Debug)]
pub struct Links {
    socket: Socket,
    place: String,
}

impl Links {
    /// Opens one in the calling thread's namespace; `place` names it in messages.
    pub fn open(place: &str) -> Result<Links, Error> {
        let socket = open(0).map_err(Error::io(format!("{place}: opening rtnetlink")))?;
        Ok(Links { socket, place: place.to_owned() })
    }

    /// Creates a bridge without spanning tree: its ports forward at once. Its hardware address stays when ports come and
    /// go, so that neighbours who know it go on reaching it.
    pub fn add_bridge(&self, name: &str) -> Result<(), Error> {
        let mut message = new_link(
            name,
            InfoKind::Bridge,
            InfoData::Bridge(vec![InfoBridge::StpState(
                netlink_packet_route::link::BridgeStpState::Disabled,
            )]),
        );
        // By default it takes the lowest address of its ports, whenever one comes or goes.
        message.attributes.push(LinkAttribute::Address(BRIDGE_ADDRESS.to_vec()));
        self.create(RouteNetlinkMessage::NewLink(message), || format!("adding bridge {name}"))
    }

    /// Creates a pair of joined interfaces, `name` here and `peer` in the namespace `peer_namespace`.
    pub fn add_veth(&self, name: &str, peer: &str, peer_namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let mut other = LinkMessage::default();
        other.attributes =
            vec![LinkAttribute::IfName(peer.to_owned()), LinkAttribute::NetNsFd(peer_namespace.as_raw_fd())];
        let message = new_link(name, InfoKind::Veth, InfoData::Veth(InfoVeth::Peer(other)));
        self.create(RouteNetlinkMessage::NewLink(message), || format!("adding veth {name}"))
    }

    /// Makes an interface a port of a bridge.
    pub fn set_bridge(&self, name: &str, bridge: &str) -> Result<(), Error> {
        let controller = self.index(bridge)?;
        self.change(name, |message| message.attributes.push(LinkAttribute::Controller(controller)))
    }

    /// Sets an interface up.
    pub fn set_up(&self, name: &str) -> Result<(), Error> {
        self.change(name, |message| {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        })
    }

    /// Sets an interface down.
    pub fn set_down(&self, name: &str) -> Result<(), Error> {
        self.change(name, |message| message.header.change_mask = LinkFlags::Up)
    }

    /// Removes an interface; of a pair, both.
    pub fn remove(&self, name: &str) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        self.request(RouteNetlinkMessage::DelLink(message), 0, || format!("removing {name}"))
    }

    /// Waits until an interface that is up also carries packets.
    pub fn wait_running(&self, name: &str) -> Result<(), Error> {
        let what = format!("{}: waiting for {name} to carry packets", self.place);
        let events = open(LINK_GROUP).map_err(Error::io(what.clone()))?;
        let timeout = RUNNING_WITHIN;
        socket2::SockRef::from(&events).set_read_timeout(Some(timeout)).map_err(Error::io(what.clone()))?;
        while !self.is_running(name)? {
            match events.recv_from_full() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Error::io(what)(error));
                }
                // Anything else is a reason to look again.
                _ => {}
            }
        }
        Ok(())
    }

    /// Adds an address that is usable at once: no duplicate address detection.
    pub fn add_address(&self, name: &str, address: IpNet) -> Result<(), Error> {
        let message = self.address_message(name, address)?;
        self.create(RouteNetlinkMessage::NewAddress(message), || {
            format!("adding address {address} to {name}")
        })
    }

    /// Removes an address.
    pub fn remove_address(&self, name: &str, address: IpNet) -> Result<(), Error> {
        let message = self.address_message(name, address)?;
        self.request(RouteNetlinkMessage::DelAddress(message), 0, || {
            format!("removing address {address} from {name}")
        })
    }

    /// Adds a route, or replaces the one to the same network. Without `via`, `network` is on `name`'s link.
    pub fn set_route(&self, network: IpNet, via: Option<IpAddr>, name: &str) -> Result<(), Error> {
        let message = self.route_message(network, via, name)?;
        self.request(RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("adding a route to {network} on {name}")
        })
    }

    /// Removes a route.
    pub fn remove_route(&self, network: IpNet, via: Option<IpAddr>, name: &str) -> Result<(), Error> {
        let message = self.route_message(network, via, name)?;
        self.request(RouteNetlinkMessage::DelRoute(message), 0, || format!("removing the route to {network}"))
    }

    /// Forgets which hardware address `address` was last seen at, if it was.
    pub fn forget_neighbour(&self, name: &str, address: IpAddr) -> Result<(), Error> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = self.index(name)?;
        message.attributes = vec![NeighbourAttribute::Destination(address.into())];
        match exchange(&self.socket, RouteNetlinkMessage::DelNeighbour(message), NLM_F_REQUEST | NLM_F_ACK) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format!("{}: forgetting neighbour {address}", self.place))(error))
            }
            _ => Ok(()),
        }
    }

    fn address_message(&self, name: &str, address: IpNet) -> Result<AddressMessage, Error> {
        let mut message = AddressMessage::default();
        message.header.family = family(address.addr());
        message.header.prefix_len = address.prefix_len();
        message.header.flags = AddressHeaderFlags::Nodad;
        message.header.index = self.index(name)?;
        message.attributes = vec![
            AddressAttribute::Local(address.addr()),
            AddressAttribute::Address(address.addr()),
            AddressAttribute::Flags(AddressFlags::Nodad),
        ];
        Ok(message)
    }

    fn route_message(&self, network: IpNet, via: Option<IpAddr>, name: &str) -> Result<RouteMessage, Error> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(network.addr());
        message.header.destination_prefix_length = network.prefix_len();
        message.header.table = netlink_packet_route::route::RouteHeader::RT_TABLE_MAIN;
        message.header.protocol = RouteProtocol::Boot;
        message.header.kind = RouteType::Unicast;
        message.header.scope = if via.is_some() { RouteScope::Universe } else { RouteScope::Link };
        message.attributes = vec![
            RouteAttribute::Destination(network.network().into()),
            RouteAttribute::Oif(self.index(name)?),
        ];
        if let Some(via) = via {
            // The gateway need not be in a network of the interface: pods have none.
            message.header.flags = RouteFlags::Onlink;
            message.attributes.push(RouteAttribute::Gateway(via.into()));
        }
        Ok(message)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut LinkMessage)) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = self.index(name)?;
        change(&mut message);
        self.request(RouteNetlinkMessage::SetLink(message), 0, || format!("changing {name}"))
    }

    fn index(&self, name: &str) -> Result<u32, Error> {
        Ok(self.get(name)?.header.index)
    }

    fn is_running(&self, name: &str) -> Result<bool, Error> {
        let link = self.get(name)?;
        let up = LinkFlags::Up | LinkFlags::LowerUp;
        // A loopback and a bridge say Unknown.
        let down = |state: &LinkAttribute| {
            matches!(state, LinkAttribute::OperState(State::Down | State::LowerLayerDown | State::NotPresent))
        };
        Ok(link.header.flags.contains(up) && !link.attributes.iter().any(down))
    }

    fn get(&self, name: &str) -> Result<LinkMessage, Error> {
        let what = || format!("{}: looking for interface {name}", self.place);
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let answer = exchange(&self.socket, RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST);
        match answer.map_err(Error::io(what()))? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
            _ => Err(Error::io(what())(io::Error::from(io::ErrorKind::NotFound))),
        }
    }

    fn create(&self, message: RouteNetlinkMessage, what: impl FnOnce() -> String) -> Result<(), Error> {
        self.request(message, NLM_F_CREATE | NLM_F_EXCL, what)
    }

    fn request(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl FnOnce() -> String,
    ) -> Result<(), Error> {
        exchange(&self.socket, message, NLM_F_REQUEST | NLM_F_ACK | flags)
            .map(drop)
            .map_err(|error| Error::io(format!("{}: {}", self.place, what()))(error))
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn new_link(name: &str, kind: InfoKind, data: InfoData) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]),
    ];
    message
}

fn open(groups: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, groups))?;
    Ok(socket)
}

/// Sends one request and returns its answer, or nothing for a bare acknowledgement.
fn exchange(
    socket: &Socket,
    message: RouteNetlinkMessage,
    flags: u16,
) -> io::Result<Option<RouteNetlinkMessage>> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    match answer.payload {
        NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
        NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
        _ => Ok(None),
    }
}
