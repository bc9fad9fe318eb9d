//! A node that forwards, within one network namespace: what is sent on `in0` arrives at the node on
//! `in1`; what the node forwards leaves by `out0` and ends at `out1`, as a frame that is for
//! another machine.

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use ipnet::IpNet;
use portolan_netlink::rtnetlink::{HardwareAddress, Rtnetlink, VethEnd};

use crate::namespace;

/// Where frames are sent.
pub(crate) const SENDER: &str = "in0";
/// The hardware address of the node on that side.
pub(crate) const NODE_ADDRESS: HardwareAddress = [2, 0, 0, 0, 0, 1];
pub(crate) const SENDER_ADDRESS: HardwareAddress = [2, 0, 0, 0, 0, 2];

const EXIT: &str = "out0";
const EXIT_ADDRESS: HardwareAddress = [2, 0, 0, 0, 0, 3];
const SINK_ADDRESS: HardwareAddress = [2, 0, 0, 0, 0, 4];
/// What frames to the sink are addressed to: not the sink, so that it throws them away unread.
const ELSEWHERE: HardwareAddress = [2, 0, 0, 0, 0, 5];
const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 9, 2);

/// Builds it in the network namespace of the calling thread; packets to `routed` are forwarded.
pub(crate) fn build(routed: &[(Ipv4Addr, u8)]) -> anyhow::Result<()> {
    let mut kernel = open()?;
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
        let end = |(name, address)| VethEnd { name, address: Some(address), namespace: None };
        kernel.add_veth(end(here), end(there)).context("creating a veth pair")?;
        for (name, _) in [here, there] {
            let index = index(name)?;
            kernel.set_up(index, true).with_context(|| format!("taking interface {name} up"))?;
        }
    }
    let exit = index(EXIT)?;
    kernel.set_neighbour(exit, NEXT_HOP.into(), ELSEWHERE).context("adding the next hop")?;
    for (network, length) in routed {
        let network = IpNet::new((*network).into(), *length).context("the length of a network")?;
        kernel
            .set_route(network, Some(NEXT_HOP.into()), exit)
            .with_context(|| format!("adding a route to {network}"))?;
    }
    Ok(())
}

/// Takes loopback up in the network namespace of the calling thread.
pub(crate) fn raise_loopback() -> anyhow::Result<()> {
    open()?.set_up(index("lo")?, true).context("taking loopback up")
}

fn open() -> anyhow::Result<Rtnetlink> {
    Rtnetlink::open().context("opening a netlink socket")
}

/// The index of an interface.
pub(crate) fn index(name: &str) -> anyhow::Result<u32> {
    let found = open()?.link(name).with_context(|| format!("finding interface {name}"))?;
    Ok(found.with_context(|| format!("there is no interface {name}"))?.index)
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
