//! rtnetlink against the running kernel, each case in a network namespace of its own.
//!
//! Anybody but root enters a user namespace first, which a process can do only before it has
//! threads: hence no harness.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::time::Duration;

use ipnet::IpNet;
use libtest_mimic::{Arguments, Failed, Trial};
use portolan_netlink::rtnetlink::{
    Address, Changes, HardwareAddress, MAIN_TABLE, Route, RouteKind, Rtnetlink, Subject, VethEnd,
};

mod namespace;
use namespace::{Case, enter_user_namespace, in_network_namespace, unshare};

const HARDWARE: HardwareAddress = [2, 0, 0, 0, 0, 1];
const SOON: Duration = Duration::from_secs(10);

const CASES: [(&str, Case); 6] = [
    ("a namespace has loopback, and no policy routing", as_created),
    ("a bridge with a port whose peer is elsewhere", bridge_and_peer),
    ("addresses of both families come and go", addresses),
    ("routes with a gateway and without", routes),
    ("neighbours are set and forgotten", neighbours),
    ("what changes wakes who waits", changes),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    // SAFETY: no arguments, no failure.
    let root = unsafe { libc::geteuid() } == 0;
    if !root && let Err(error) = enter_user_namespace() {
        eprintln!("cannot enter a user namespace, which these tests need without root: {error}");
        return ExitCode::FAILURE;
    }
    let trials =
        CASES.into_iter().map(|(name, case)| Trial::test(name, move || in_network_namespace(case))).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn index(kernel: &mut Rtnetlink, name: &str) -> Result<u32, Failed> {
    Ok(kernel.link(name)?.ok_or_else(|| format!("there is no {name}"))?.index)
}

/// A pair `a` and `b` of this namespace, both up. Returns the index of `a`.
fn pair(kernel: &mut Rtnetlink) -> Result<u32, Failed> {
    let end = |name| VethEnd { name, address: None, namespace: None };
    kernel.add_veth(end("a"), end("b"))?;
    let (a, b) = (index(kernel, "a")?, index(kernel, "b")?);
    kernel.set_up(a, true)?;
    kernel.set_up(b, true)?;
    Ok(a)
}

fn as_created() -> Result<(), Failed> {
    let mut kernel = Rtnetlink::open()?;
    let links = kernel.links()?;
    let loopback = links.iter().find(|link| link.name == "lo").ok_or("every namespace has it")?;
    assert!(!loopback.up && !loopback.is_running(), "{loopback:?}");
    assert!(kernel.link("none")?.is_none());
    assert!(!kernel.policy_routing()?);
    assert!(kernel.routes()?.iter().all(|route| route.table != MAIN_TABLE));
    kernel.set_up(loopback.index, true)?;
    assert!(kernel.link("lo")?.is_some_and(|link| link.is_running()));
    let network: IpNet = "127.0.0.1/8".parse()?;
    assert!(kernel.addresses()?.contains(&Address { index: loopback.index, network }));
    Ok(())
}

fn bridge_and_peer() -> Result<(), Failed> {
    let (sender, elsewhere) = std::sync::mpsc::channel();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || -> Result<bool, std::io::Error> {
        unshare(libc::CLONE_NEWNET)?;
        let _ = sender.send(File::open("/proc/thread-self/ns/net")?);
        let _ = wait.recv();
        Ok(Rtnetlink::open()?.link("peer")?.is_some())
    });
    let elsewhere = elsewhere.recv_timeout(SOON)?;
    let mut kernel = Rtnetlink::open()?;
    kernel.add_bridge("br", HARDWARE)?;
    let exists = kernel.add_bridge("br", HARDWARE).expect_err("it is there").raw_os_error();
    assert_eq!(exists, Some(libc::EEXIST));
    let here = VethEnd { name: "port", address: Some([2, 0, 0, 0, 0, 9]), namespace: None };
    kernel.add_veth(here, VethEnd { name: "peer", address: None, namespace: Some(elsewhere.as_fd()) })?;
    let (bridge, port) = (index(&mut kernel, "br")?, index(&mut kernel, "port")?);
    kernel.set_controller(port, bridge)?;
    kernel.set_up(port, true)?;
    kernel.set_up(bridge, true)?;
    let link = kernel.link("port")?.ok_or("it is there")?;
    assert!(link.up && !link.is_running(), "its peer is down: {link:?}");
    let controller = std::fs::read_link("/proc/thread-self/root/sys/class/net/port/master");
    // Without a sysfs of this namespace there is nothing to compare with.
    assert!(controller.is_err() || controller?.ends_with("br"));
    kernel.set_up(port, false)?;
    assert!(kernel.link("port")?.is_some_and(|link| !link.up));
    done.send(())?;
    assert!(other.join().expect("no panic")?, "the peer is in the other namespace");
    assert!(kernel.delete_link(port)?);
    assert!(!kernel.delete_link(port)?, "it is gone");

    let end = |name| VethEnd { name, address: None, namespace: None };
    for (one, other) in [("g0", "g1"), ("g2", "g3"), ("stays", "too")] {
        kernel.add_veth(end(one), end(other))?;
    }
    for name in ["g0", "g2"] {
        let index = kernel.link(name)?.expect("there").index;
        kernel.set_group(index, 7)?;
    }
    assert!(kernel.delete_group(7)?);
    assert!(!kernel.delete_group(7)?, "they are gone");
    let mut names: Vec<String> = kernel.links()?.into_iter().map(|link| link.name).collect();
    names.retain(|name| ["g0", "g1", "g2", "g3", "stays", "too"].contains(&name.as_str()));
    names.sort();
    assert_eq!(names, ["stays", "too"]);
    Ok(())
}

fn addresses() -> Result<(), Failed> {
    let mut kernel = Rtnetlink::open()?;
    let index = pair(&mut kernel)?;
    for text in ["192.0.2.1/24", "2001:db8::1/64"] {
        let address = Address { index, network: text.parse()? };
        kernel.add_address(&address)?;
        assert!(kernel.addresses()?.contains(&address), "{text}");
        let again = kernel.add_address(&address).expect_err("it is there");
        assert_eq!(again.raw_os_error(), Some(libc::EEXIST), "{text}");
        kernel.delete_address(&address)?;
        assert!(!kernel.addresses()?.contains(&address), "{text}");
    }
    Ok(())
}

fn routes() -> Result<(), Failed> {
    let mut kernel = Rtnetlink::open()?;
    // Without any address there is no table of local ones, and the kernel takes no gateway.
    let loopback = index(&mut kernel, "lo")?;
    kernel.set_up(loopback, true)?;
    let index = pair(&mut kernel)?;
    for (network, via) in [("192.0.2.0/24", None), ("198.51.100.0/24", Some("169.254.9.2"))] {
        let (network, via): (IpNet, Option<IpAddr>) = (network.parse()?, via.map(str::parse).transpose()?);
        kernel.set_route(network, via, index)?;
        // Replaced, not refused.
        kernel.set_route(network, via, index)?;
        let expected = Route {
            table: MAIN_TABLE,
            kind: RouteKind::Unicast,
            destination: network,
            protocol: 3,
            metric: 0,
            interfaces: vec![index],
        };
        assert!(kernel.routes()?.contains(&expected), "{network}: {:?}", kernel.routes()?);
        kernel.delete_route(network, via, index)?;
        assert!(!kernel.routes()?.contains(&expected), "{network}");
    }
    Ok(())
}

fn neighbours() -> Result<(), Failed> {
    let mut kernel = Rtnetlink::open()?;
    let index = pair(&mut kernel)?;
    let address = "192.0.2.7".parse()?;
    assert!(!kernel.forget_neighbour(index, address)?, "never seen");
    kernel.set_neighbour(index, address, HARDWARE)?;
    assert!(kernel.forget_neighbour(index, address)?);
    Ok(())
}

fn changes() -> Result<(), Failed> {
    let mut kernel = Rtnetlink::open()?;
    let index = pair(&mut kernel)?;
    let mut links = Changes::of(&[Subject::Links])?;
    let mut addresses = Changes::of(&[Subject::Ipv4Addresses, Subject::Ipv6Addresses])?;
    // IPv6 gives each interface an address when it is up.
    while addresses.wait_for(Duration::from_millis(200))? {}
    for text in ["192.0.2.1/24", "2001:db8::1/64"] {
        kernel.add_address(&Address { index, network: text.parse()? })?;
        assert!(addresses.wait_for(SOON)?, "{text}");
    }
    while links.wait_for(Duration::ZERO)? {}
    kernel.set_up(index, false)?;
    assert!(links.wait_for(SOON)?);
    Ok(())
}
