//! Interfaces, addresses and routes of the calling thread's network namespace, by the names of
//! interfaces. Errors say where what was tried.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use portolan_netlink::rtnetlink::{Address, Changes, HardwareAddress, Link, Rtnetlink, Subject, VethEnd};

use crate::Error;

/// The hardware address of every bridge, locally administered; no two bridges share a link.
const BRIDGE_ADDRESS: HardwareAddress = [0x02, 0, 0, 0, 0, 1];

/// The group of interfaces that are about to be removed.
const LEAVING: u32 = 1;

/// How long a link may take to carry packets after both its ends are up.
const RUNNING_WITHIN: Duration = Duration::from_secs(5);

/// A connection to the kernel's link, address and route tables. It belongs to the namespace it was
/// opened in.
#[derive(Debug)]
pub struct Links {
    kernel: Rtnetlink,
    place: String,
}

impl Links {
    /// Opens one in the calling thread's namespace; `place` names it in messages.
    pub fn open(place: &str) -> Result<Links, Error> {
        let kernel = Rtnetlink::open().map_err(Error::io(format!("{place}: opening rtnetlink")))?;
        Ok(Links { kernel, place: place.to_owned() })
    }

    /// Creates a bridge without spanning tree: its ports forward at once. Its hardware address
    /// stays when ports come and go, so that neighbours who know it go on reaching it.
    pub fn add_bridge(&mut self, name: &str) -> Result<(), Error> {
        // By default it takes the lowest address of its ports, whenever one comes or goes.
        self.attempt(|kernel| kernel.add_bridge(name, BRIDGE_ADDRESS), || format!("adding bridge {name}"))
    }

    /// Creates a pair of joined interfaces, `name` here and `peer` in the namespace
    /// `peer_namespace`.
    pub fn add_veth(&mut self, name: &str, peer: &str, peer_namespace: BorrowedFd<'_>) -> Result<(), Error> {
        let here = VethEnd { name, address: None, namespace: None };
        let there = VethEnd { name: peer, address: None, namespace: Some(peer_namespace) };
        self.attempt(|kernel| kernel.add_veth(here, there), || format!("adding veth {name}"))
    }

    /// Makes an interface a port of a bridge.
    pub fn set_bridge(&mut self, name: &str, bridge: &str) -> Result<(), Error> {
        let (index, bridge) = (self.index(name)?, self.index(bridge)?);
        self.attempt(|kernel| kernel.set_controller(index, bridge), || format!("changing {name}"))
    }

    /// Sets an interface up.
    pub fn set_up(&mut self, name: &str) -> Result<(), Error> {
        let index = self.index(name)?;
        self.attempt(|kernel| kernel.set_up(index, true), || format!("changing {name}"))
    }

    /// Sets an interface down.
    pub fn set_down(&mut self, name: &str) -> Result<(), Error> {
        let index = self.index(name)?;
        self.attempt(|kernel| kernel.set_up(index, false), || format!("changing {name}"))
    }

    /// Removes an interface; of a pair, both.
    pub fn remove(&mut self, name: &str) -> Result<(), Error> {
        let index = self.index(name)?;
        self.attempt(|kernel| kernel.delete_link(index).map(drop), || format!("removing {name}"))
    }

    /// Removes interfaces, all at once: the kernel takes tens of milliseconds for each call that
    /// removes some. Those that are missing do not matter.
    pub fn remove_all(&mut self, names: &[&str]) -> Result<(), Error> {
        for name in names {
            let leave = |kernel: &mut Rtnetlink| match kernel.link(name)? {
                Some(link) => kernel.set_group(link.index, LEAVING),
                None => Ok(()),
            };
            self.attempt(leave, || format!("changing {name}"))?;
        }
        let what = || format!("removing {}", names.join(", "));
        self.attempt(|kernel| kernel.delete_group(LEAVING).map(drop), what)
    }

    /// Waits until an interface that is up also carries packets.
    pub fn wait_running(&mut self, name: &str) -> Result<(), Error> {
        let what = format!("{}: waiting for {name} to carry packets", self.place);
        let mut changes = Changes::of(&[Subject::Links]).map_err(Error::io(what.clone()))?;
        let until = Instant::now() + RUNNING_WITHIN;
        while !self.get(name)?.is_running() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::io(what)(io::Error::from(io::ErrorKind::TimedOut)));
            }
            changes.wait_for(left).map_err(Error::io(what.clone()))?;
        }
        Ok(())
    }

    /// Adds an address that is usable at once: no duplicate address detection.
    pub fn add_address(&mut self, name: &str, address: IpNet) -> Result<(), Error> {
        let added = Address { index: self.index(name)?, network: address };
        self.attempt(|kernel| kernel.add_address(&added), || format!("adding address {address} to {name}"))
    }

    /// Removes an address.
    pub fn remove_address(&mut self, name: &str, address: IpNet) -> Result<(), Error> {
        let removed = Address { index: self.index(name)?, network: address };
        self.attempt(
            |kernel| kernel.delete_address(&removed),
            || format!("removing address {address} from {name}"),
        )
    }

    /// Adds a route, or replaces the one to the same network. Without `via`, `network` is on
    /// `name`'s link.
    pub fn set_route(&mut self, network: IpNet, via: Option<IpAddr>, name: &str) -> Result<(), Error> {
        let index = self.index(name)?;
        self.attempt(
            |kernel| kernel.set_route(network, via, index),
            || format!("adding a route to {network} on {name}"),
        )
    }

    /// Removes a route.
    pub fn remove_route(&mut self, network: IpNet, via: Option<IpAddr>, name: &str) -> Result<(), Error> {
        let index = self.index(name)?;
        self.attempt(
            |kernel| kernel.delete_route(network, via, index),
            || format!("removing the route to {network}"),
        )
    }

    /// Forgets which hardware address `address` was last seen at, if it was.
    pub fn forget_neighbour(&mut self, name: &str, address: IpAddr) -> Result<(), Error> {
        let index = self.index(name)?;
        self.attempt(
            |kernel| kernel.forget_neighbour(index, address).map(drop),
            || format!("forgetting neighbour {address}"),
        )
    }

    fn index(&mut self, name: &str) -> Result<u32, Error> {
        Ok(self.get(name)?.index)
    }

    fn get(&mut self, name: &str) -> Result<Link, Error> {
        let found = |kernel: &mut Rtnetlink| {
            kernel.link(name)?.ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
        };
        self.attempt(found, || format!("looking for interface {name}"))
    }

    fn attempt<T>(
        &mut self,
        call: impl FnOnce(&mut Rtnetlink) -> io::Result<T>,
        what: impl FnOnce() -> String,
    ) -> Result<T, Error> {
        call(&mut self.kernel).map_err(|error| Error::io(format!("{}: {}", self.place, what()))(error))
    }
}
