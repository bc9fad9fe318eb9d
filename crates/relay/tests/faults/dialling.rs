//! Endpoints that cannot be reached, and addresses that cannot be listened on.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use portolan_netlink::rtnetlink::{Address, Rtnetlink, VethEnd};
use portolan_relay::{Error, Listener, Order, Protocol, Relay, Settings, Table};
use socket2::{Domain, SockRef, Socket, Type};

use crate::scene::{
    Scene, Script, ask_name, assert_refused, connect, descriptors, endpoint, name, nobody, settings,
};

/// An endpoint to which packets go, and from which none come back.
fn nowhere() -> Result<SocketAddr, Failed> {
    let mut kernel = Rtnetlink::open()?;
    let end = |name| VethEnd { name, address: None, namespace: None };
    kernel.add_veth(end("a"), end("b"))?;
    let mut index = 0;
    for name in ["b", "a"] {
        index = kernel.link(name)?.ok_or("it was made")?.index;
        kernel.set_up(index, true)?;
    }
    kernel.add_address(&Address { index, network: "10.9.9.1/24".parse()? })?;
    kernel.set_neighbour(index, "10.9.9.2".parse()?, [2, 0, 0, 0, 0, 9])?;
    Ok("10.9.9.2:80".parse()?)
}

pub(crate) fn dead_endpoint() -> Result<(), Failed> {
    let (dead, alive) = (nobody(), endpoint(name("alive")));
    let script = Arc::new(Script { endpoints: vec![dead, dead, alive], ..Script::default() });
    let picker = script.clone();
    let scene = Scene::with(Protocol::Tcp, &[], |_, listener| listener.picker = picker);
    assert_eq!(ask_name(&mut connect(scene.address)), "alive");
    let asked = script.asked.lock().unwrap().clone();
    assert_eq!(asked, [(0, vec![]), (1, vec![dead]), (2, vec![dead, dead])]);
    let counts = scene.counts();
    assert_eq!((counts.failed_dials, counts.retries, counts.total), (2, 2, 1));
    Ok(())
}

pub(crate) fn unreachable_endpoint() -> Result<(), Failed> {
    let (nowhere, alive) = (nowhere()?, endpoint(name("alive")));
    assert_eq!(Settings::default().dial, [250, 500, 1000, 2000].map(Duration::from_millis));
    let script = Arc::new(Script { endpoints: vec![nowhere, nowhere, alive], ..Script::default() });
    let scene = Scene::with(Protocol::Tcp, &[], |_, listener| listener.picker = script);
    let start = Instant::now();
    assert_eq!(ask_name(&mut connect(scene.address)), "alive");
    assert!(start.elapsed() >= Duration::from_millis(250 + 500), "{:?}", start.elapsed());
    let counts = scene.counts();
    assert_eq!((counts.failed_dials, counts.retries), (2, 2));
    Ok(())
}

pub(crate) fn none_reachable() -> Result<(), Failed> {
    let nowhere = nowhere()?;
    for endpoint in [nobody(), nowhere] {
        let scene = Scene::with(Protocol::Tcp, &[endpoint], |settings, _| {
            settings.dial = [20, 40, 80].map(Duration::from_millis).to_vec();
        });
        let before = descriptors();
        assert_refused(scene.address);
        let counts = scene.await_counts("it was given up", |counts| counts.open == 0);
        assert_eq!((counts.failed_dials, counts.retries, counts.refused_without_endpoint), (3, 2, 1));
        assert_eq!(descriptors(), before);
        scene.assert_quiet();
    }
    Ok(())
}

pub(crate) fn no_endpoint() -> Result<(), Failed> {
    let scene = Scene::new(Protocol::Tcp, &[]);
    let before = descriptors();
    for _ in 0..10 {
        assert_refused(scene.address);
    }
    let counts = scene.counts();
    assert_eq!((counts.total, counts.refused_without_endpoint, counts.failed_dials), (0, 10, 0));
    assert_eq!(descriptors(), before);
    Ok(())
}

pub(crate) fn impatient_client() -> Result<(), Failed> {
    let nowhere = nowhere()?;
    let scene = Scene::with(Protocol::Tcp, &[nowhere], |settings, _| {
        settings.dial = vec![Duration::from_mins(10)];
    });
    let before = descriptors();
    let client = connect(scene.address);
    scene.await_counts("it is dialled", |counts| counts.open == 1);
    SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
    drop(client);
    scene.await_counts("it has left", |counts| counts.open == 0);
    assert_eq!(descriptors(), before);
    Ok(())
}

pub(crate) fn port_taken() -> Result<(), Failed> {
    let relay = Relay::start(settings())?;
    let connections = TcpListener::bind("127.0.0.1:0")?;
    let datagrams = UdpSocket::bind("127.0.0.1:0")?;
    // Somebody who would share.
    let shared = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    shared.set_reuse_port(true)?;
    shared.bind(&"[::1]:0".parse::<SocketAddr>()?.into())?;
    let shared = UdpSocket::from(shared);
    let before = descriptors();
    for (protocol, address) in [
        (Protocol::Tcp, connections.local_addr()?),
        (Protocol::Udp, datagrams.local_addr()?),
        (Protocol::Udp, shared.local_addr()?),
    ] {
        let table = Arc::new(Table::new(Order::RoundRobin, None));
        let found = relay.add(Listener::new("shop/web:http", protocol, address, table));
        let Err(error) = found else { return Err(format!("{protocol} {address} is shared").into()) };
        assert!(
            matches!(&error, Error::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse)
        );
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("listener \"shop/web:http\": listening on {address}/{protocol}: ")),
            "{text}"
        );
        assert!(
            text.ends_with("see who listens there with ss -lnp, and stop it or give another port"),
            "{text}"
        );
    }
    assert_eq!((relay.counts().len(), descriptors()), (0, before));
    Ok(())
}
