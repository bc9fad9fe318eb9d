//! A node that forwards, within one network namespace: what is sent on `in0` arrives at the node on
//! `in1`; what the node forwards leaves by `out0` and ends at `out1`, as a frame that is for
//! another machine.

use std::ffi::CString;
use std::io;
use std::net::Ipv4Addr;

use anyhow::{Context, bail};

use crate::namespace;
use crate::netlink::{NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, Socket, attribute, message};

/// Where frames are sent.
pub(crate) const SENDER: &str = "in0";
/// The hardware address of the node on that side.
pub(crate) const NODE_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const SENDER_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 2];

const EXIT: &str = "out0";
const EXIT_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 3];
const SINK_ADDRESS: [u8; 6] = [2, 0, 0, 0, 0, 4];
/// What frames to the sink are addressed to: not the sink, so that it throws them away unread.
const ELSEWHERE: [u8; 6] = [2, 0, 0, 0, 0, 5];
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 9, 2);

// linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h, veth.h
const RTM_NEWLINK: u16 = 16;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const AF_INET: u8 = 2;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_STATIC: u8 = 4;
const RTN_UNICAST: u8 = 1;
const RTNH_F_ONLINK: u32 = 4;
const NUD_PERMANENT: u16 = 0x80;
/// The length of `struct ifinfomsg`.
const IFINFOMSG: usize = 16;
const CREATE: u16 = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;

/// Builds it in the network namespace of the calling thread; packets to `routed` are forwarded.
pub(crate) fn build(routed: &[(Ipv4Addr, u8)]) -> anyhow::Result<()> {
    let mut route = Socket::open(libc::NETLINK_ROUTE).context("opening a netlink socket")?;
    for (kind, value) in [("all", "0"), ("default", "0")] {
        namespace::write(format!("/proc/sys/net/ipv4/conf/{kind}/rp_filter"), value)?;
    }
    namespace::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    // Nothing but the flood is to be on the way.
    if std::fs::exists("/proc/sys/net/ipv6/conf/default/disable_ipv6").unwrap_or(false) {
        namespace::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
    }
    // Before loopback has its addresses, the kernel takes every gateway for invalid.
    raise_loopback()?;
    for [here, there] in
        [[(SENDER, SENDER_ADDRESS), ("in1", NODE_ADDRESS)], [(EXIT, EXIT_ADDRESS), ("out1", SINK_ADDRESS)]]
    {
        route.exchange(&message(RTM_NEWLINK, CREATE, &veth(here, there))).context("creating a veth pair")?;
        for (name, _) in [here, there] {
            let up = message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &up(index(name)?));
            route.exchange(&up).with_context(|| format!("taking interface {name} up"))?;
        }
    }
    let exit = index(EXIT)?;
    route.exchange(&message(RTM_NEWNEIGH, CREATE, &neighbour(exit))).context("adding the next hop")?;
    for (network, length) in routed {
        let added = message(RTM_NEWROUTE, CREATE, &gateway(*network, *length, exit));
        route.exchange(&added).with_context(|| format!("adding a route to {network}/{length}"))?;
    }
    Ok(())
}

/// Takes loopback up in the network namespace of the calling thread.
pub(crate) fn raise_loopback() -> anyhow::Result<()> {
    let mut route = Socket::open(libc::NETLINK_ROUTE).context("opening a netlink socket")?;
    let loopback = message(RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK, &up(index("lo")?));
    route.exchange(&loopback).context("taking loopback up").map(drop)
}

/// The index of an interface.
pub(crate) fn index(name: &str) -> anyhow::Result<u32> {
    let name = CString::new(name).context("an interface name with a zero byte")?;
    // SAFETY: the pointer is to a live string that ends with a zero byte.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()).with_context(|| format!("finding interface {name:?}")),
        index => Ok(index),
    }
}

/// How many packets the node has forwarded.
pub(crate) fn forwarded() -> anyhow::Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/dev").context("reading interface counters")?;
    for line in text.lines() {
        if let Some((name, counters)) = line.split_once(':')
            && name.trim() == EXIT
        {
            // Eight counters of reception, then bytes and packets sent.
            let packets = counters.split_whitespace().nth(9).context("a line of too few counters")?;
            return packets.parse().with_context(|| format!("{EXIT}: {packets:?} packets"));
        }
    }
    bail!("{EXIT} has no counters")
}

/// `struct ifinfomsg` of a new interface with name and address.
fn interface((name, address): (&str, [u8; 6])) -> Vec<u8> {
    let mut body = vec![0; IFINFOMSG];
    body.extend(attribute(IFLA_IFNAME, &[name.as_bytes(), b"\0"].concat()));
    body.extend(attribute(IFLA_ADDRESS, &address));
    body
}

/// `struct ifinfomsg` that takes an interface up. A veth refuses that before it has its peer.
fn up(interface: u32) -> Vec<u8> {
    let up = u32::try_from(libc::IFF_UP).expect("a small constant").to_ne_bytes();
    [[0; 4], interface.to_ne_bytes(), up, up].concat()
}

fn veth(here: (&str, [u8; 6]), there: (&str, [u8; 6])) -> Vec<u8> {
    let peer = attribute(VETH_INFO_PEER | NLA_F_NESTED, &interface(there));
    let mut info = attribute(IFLA_INFO_KIND, b"veth\0");
    info.extend(attribute(IFLA_INFO_DATA | NLA_F_NESTED, &peer));
    let mut body = interface(here);
    body.extend(attribute(IFLA_LINKINFO | NLA_F_NESTED, &info));
    body
}

/// `struct ndmsg`
fn neighbour(interface: u32) -> Vec<u8> {
    let mut body = vec![AF_INET, 0, 0, 0];
    body.extend(interface.to_ne_bytes());
    body.extend(NUD_PERMANENT.to_ne_bytes());
    body.extend([0, 0]);
    body.extend(attribute(NDA_DST, &NEXT_HOP.octets()));
    body.extend(attribute(NDA_LLADDR, &ELSEWHERE));
    body
}

/// `struct rtmsg`
fn gateway(network: Ipv4Addr, length: u8, interface: u32) -> Vec<u8> {
    let mut body = vec![AF_INET, length, 0, 0, RT_TABLE_MAIN, RTPROT_STATIC, 0, RTN_UNICAST];
    body.extend(RTNH_F_ONLINK.to_ne_bytes());
    body.extend(attribute(RTA_DST, &network.octets()));
    body.extend(attribute(RTA_GATEWAY, &NEXT_HOP.octets()));
    body.extend(attribute(RTA_OIF, &interface.to_ne_bytes()));
    body
}
