//! Three network namespaces in a row: clients, the proxy, servers.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread::JoinHandle;

use anyhow::Context;
use portolan_netlink::rtnetlink::{Address, Rtnetlink, VethEnd};

use crate::{forwarding, namespace};

/// The proxy, as clients see it.
pub(crate) const PROXY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
/// The servers.
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
/// The proxy, as servers see it.
const PROXY_BEHIND: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

/// The namespaces of clients and servers; that of the proxy is the calling thread's.
pub(crate) struct Topology {
    pub(crate) clients: File,
    pub(crate) servers: File,
}

impl Topology {
    /// Builds it around the network namespace of the calling thread.
    pub(crate) fn build() -> anyhow::Result<Topology> {
        let topology = Topology { clients: fresh()?, servers: fresh()? };
        forwarding::raise_loopback()?;
        let mut kernel = Rtnetlink::open().context("opening a netlink socket")?;
        for (here, there, namespace) in
            [("clients", "eth0", &topology.clients), ("servers", "eth0", &topology.servers)]
        {
            let near = VethEnd { name: here, address: None, namespace: None };
            let far = VethEnd { name: there, address: None, namespace: Some(namespace.as_fd()) };
            kernel.add_veth(near, far).context("creating a veth pair")?;
        }
        set_up("clients", PROXY, None)?;
        set_up("servers", PROXY_BEHIND, None)?;
        tune()?;
        namespace::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        for (namespace, own, gateway) in
            [(&topology.clients, CLIENT, PROXY), (&topology.servers, SERVER, PROXY_BEHIND)]
        {
            let set_up = within(namespace, move || -> anyhow::Result<()> {
                forwarding::raise_loopback()?;
                set_up("eth0", own, Some(gateway))?;
                tune()
            })?;
            set_up.join().map_err(|_| anyhow::anyhow!("a thread panicked"))??;
        }
        Ok(topology)
    }
}

/// Runs `work` in a thread in a namespace. Threads that it starts are there too.
pub(crate) fn within<T: Send + 'static>(
    namespace: &File,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<JoinHandle<T>> {
    let namespace = namespace.try_clone().context("duplicating a descriptor")?;
    Ok(std::thread::spawn(move || {
        // SAFETY: takes numbers.
        let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        assert_eq!(entered, 0, "entering a network namespace: {}", std::io::Error::last_os_error());
        work()
    }))
}

fn fresh() -> anyhow::Result<File> {
    let made = std::thread::spawn(|| -> anyhow::Result<File> {
        namespace::enter_fresh_network()?;
        File::open("/proc/thread-self/ns/net").context("opening a network namespace")
    });
    made.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
}

fn set_up(name: &str, address: Ipv4Addr, gateway: Option<Ipv4Addr>) -> anyhow::Result<()> {
    let mut kernel = Rtnetlink::open().context("opening a netlink socket")?;
    let index = forwarding::index(name)?;
    kernel.set_up(index, true).with_context(|| format!("taking {name} up"))?;
    let network = ipnet::Ipv4Net::new(address, 24)?;
    let address = Address { index, network: network.into() };
    kernel.add_address(&address).context("adding an address")?;
    if let Some(gateway) = gateway {
        let all = ipnet::Ipv4Net::default().into();
        kernel.set_route(all, Some(gateway.into()), index).context("adding a route")?;
    }
    Ok(())
}

/// Ports for many short connections, and windows of which many fit into the kernel's queue of
/// packets for a processor (`net.core.netdev_max_backlog`): what is dropped there says nothing.
fn tune() -> anyhow::Result<()> {
    namespace::write("/proc/sys/net/ipv4/tcp_rmem", "4096 131072 524288")?;
    namespace::write("/proc/sys/net/ipv4/ip_local_port_range", "10000 65000")?;
    namespace::write("/proc/sys/net/core/somaxconn", "4096")
}
