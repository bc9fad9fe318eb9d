//! Faults that kube-proxy's mode ipvs is known for, and this one must not have. Those that other
//! modes could have too are rows of the packet table, and tests of UDP flows.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};

use anyhow::ensure;
use portolan_lab::netns::Namespace;
use portolan_netfilter::ipvs::{Destination, Ipvs, Request, Scheduling, ServerKey, VirtualServer};
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, PATIENCE};
use socket2::{Domain, Socket, Type};

use crate::case::{Mode, Setting};
use crate::fixture::{PORT, pod_address};
use crate::scene::{PLAIN, SOON, Scene, ask_over, cluster_ip, eventually, plain};

const NUMBER: u8 = 1;

fn web(pods: &[&str]) -> anyhow::Result<Scene> {
    let scene = Scene::new(Mode::Ipvs)?;
    scene.service("web", &plain("web", NUMBER))?;
    scene.endpoints("web", PLAIN, pods)?;
    scene.settle()?;
    Ok(scene)
}

fn vip(family: Family) -> SocketAddr {
    SocketAddr::new(cluster_ip(NUMBER, family), PORT)
}

fn server(family: Family) -> ServerKey {
    let protocol = Protocol::Tcp.number();
    ServerKey::Address(VirtualServer { protocol, address: vip(family).ip(), port: PORT })
}

/// The weight of a pod at the ClusterIP on host1; `None`: it is not there.
fn weight(scene: &Scene, pod: &str, family: Family) -> anyhow::Result<Option<u32>> {
    let address = pod_address(pod, family);
    let held = scene.site.node("host1").run(move || Ipvs::open()?.destinations(&server(family)))??;
    let found = held.into_iter().find(|held| held.destination.address == address);
    Ok(found.map(|held| held.destination.weight))
}

fn await_weight(scene: &Scene, pod: &str, family: Family, expected: Option<u32>) -> anyhow::Result<()> {
    eventually(SOON, || {
        let found = weight(scene, pod, family)?;
        ensure!(found == expected, "{pod} has weight {found:?} and not {expected:?}");
        Ok(())
    })
}

/// A connection of client-a, which stays open, and who answers it.
fn connection(scene: &Scene, family: Family) -> anyhow::Result<(TcpStream, String)> {
    let to = vip(family);
    let mut open = scene.site.pod("client-a").run(move || TcpStream::connect_timeout(&to, PATIENCE))??;
    open.set_read_timeout(Some(PATIENCE))?;
    let answer = ask_over(&mut open)?;
    Ok((open, answer))
}

/// A connection from a port of one's own choice, which is used again and again: who answers.
fn from_port(client: &Namespace, port: u16, to: SocketAddr) -> anyhow::Result<String> {
    client.run(move || {
        let domain = if to.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
        let socket = Socket::new(domain, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        let any: IpAddr = if to.is_ipv4() { [0, 0, 0, 0].into() } else { Ipv6Addr::UNSPECIFIED.into() };
        socket.bind(&SocketAddr::new(any, port).into())?;
        socket.connect_timeout(&to.into(), PATIENCE)?;
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        ask_over(&mut stream)
    })?
}

/// Kubernetes 81775: after a roll-out, clients that use a port again went to a dead pod for as long
/// as IPVS remembered the old connection.
pub(crate) fn port_reused_after_a_roll_out(family: Family) -> anyhow::Result<()> {
    let scene = web(&["a1"])?;
    let client = scene.site.pod("client-a");
    // IPVS remembers the connection when it has ended. The client does not, so that it may have the
    // port again.
    client.run(|| std::fs::write("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0"))??;
    let first = from_port(client, 45_000, vip(family))?;
    ensure!(first.starts_with("hello from a1"), "{first}");
    scene.endpoints("web", PLAIN, &["b1"])?;
    scene.settle()?;
    for _ in 0..3 {
        let next = eventually(SOON, || from_port(client, 45_000, vip(family)))?;
        ensure!(next.starts_with("hello from b1"), "{next}");
    }
    Ok(())
}

/// An endpoint that leaves keeps its connections, and gets new ones when it is back before these
/// have ended.
pub(crate) fn back_while_it_drains(family: Family) -> anyhow::Result<()> {
    let scene = web(&["a1"])?;
    let (mut open, first) = connection(&scene, family)?;
    for _ in 0..2 {
        scene.endpoints("web", PLAIN, &["b1"])?;
        await_weight(&scene, "a1", family, Some(0))?;
        ensure!(ask_over(&mut open)? == first, "the open connection is elsewhere");
        scene.endpoints("web", PLAIN, &["a1"])?;
        await_weight(&scene, "a1", family, Some(1))?;
        ensure!(ask_over(&mut open)? == first, "the open connection is elsewhere");
        // The other one leaves after it has come.
        eventually(SOON, || {
            let of_b1 = weight(&scene, "b1", family)?;
            ensure!(of_b1 != Some(1), "b1 has weight {of_b1:?}");
            Ok(())
        })?;
        let (_, new) = connection(&scene, family)?;
        ensure!(new.starts_with("hello from a1"), "{new}");
    }
    Ok(())
}

/// Kubernetes 92019, 108319: what had weight 0 when the proxy ended had it for ever.
pub(crate) fn weights_after_a_restart(family: Family) -> anyhow::Result<()> {
    let mut scene = web(&["a1"])?;
    let (mut open, first) = connection(&scene, family)?;
    scene.endpoints("web", PLAIN, &["b1"])?;
    await_weight(&scene, "a1", family, Some(0))?;

    // Still gone: its connection goes on, and then nothing of it is left.
    scene.site.restart_proxy("host1")?;
    await_weight(&scene, "a1", family, Some(0))?;
    ensure!(ask_over(&mut open)? == first, "the open connection is elsewhere");

    // Back while nobody looked.
    scene.site.stop_proxy("host1");
    scene.endpoints("web", PLAIN, &["a1", "b1"])?;
    scene.site.start_proxy("host1", Mode::Ipvs.flags(Setting::Default))?;
    await_weight(&scene, "a1", family, Some(1))?;
    ensure!(ask_over(&mut open)? == first, "the open connection is elsewhere");
    Ok(())
}

/// Kubernetes 72236: a program that listens on all addresses of the node was reached at addresses
/// of Services.
pub(crate) fn host_ports_at_a_vip(family: Family) -> anyhow::Result<()> {
    const HOST_PORT: u16 = 9_901;
    let scene = web(&["a1"])?;
    let any: IpAddr = match family {
        Family::V4 => [0, 0, 0, 0].into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let _program = scene.site.respond_on_node("host1", "host1", SocketAddr::new(any, HOST_PORT))?;
    let to = SocketAddr::new(vip(family).ip(), HOST_PORT);
    for (name, from) in [
        ("a pod", scene.site.pod("client-a")),
        ("the node", scene.site.node("host1")),
        ("outside", scene.site.outside()),
    ] {
        let outcome = from.run(move || ask::ask(Protocol::Tcp, to, None, ask::SILENCE))?;
        ensure!(outcome.pod().is_none(), "{name}: {to} answers: {outcome}");
    }
    Ok(())
}

/// Cleanup of kube-proxy flushes all of IPVS.
pub(crate) fn cleanup_leaves_others(family: Family) -> anyhow::Result<()> {
    let mut scene = web(&["a1"])?;
    let foreign: IpAddr = match family {
        Family::V4 => [192, 0, 2, 200].into(),
        Family::V6 => "2001:db8::200".parse()?,
    };
    let key =
        ServerKey::Address(VirtualServer { protocol: Protocol::Tcp.number(), address: foreign, port: 8443 });
    let to = Destination { address: pod_address("b1", family), port: 8443, weight: 7 };
    let scheduling = Scheduling { scheduler: "wlc".into(), flags: 0, persistence: None };
    let requests = move || {
        let new = [Request::NewServer(&key, &scheduling), Request::NewDestination(&key, to)];
        Ipvs::open()?.request(&new)
    };
    let failed = scene.site.node("host1").run(requests)??;
    ensure!(failed.is_empty(), "{failed:?}");
    scene.site.restart_proxy("host1")?;
    scene.settle()?;

    let launch = scene.site.launch("host1", Mode::Ipvs.flags(Setting::Default));
    scene.site.stop_proxy("host1");
    let (code, said) = launch.cleanup(scene.site.node("host1"))?;
    ensure!(code == Some(0), "{code:?} {said}");
    let left = scene.site.node("host1").run(|| Ipvs::open()?.servers())??;
    ensure!(matches!(&left[..], [only] if only.key == key), "{left:?}");
    let to_there = scene.site.node("host1").run(move || Ipvs::open()?.destinations(&key))??;
    ensure!(matches!(to_there[..], [held] if held.destination == to), "{to_there:?}");
    Ok(())
}
