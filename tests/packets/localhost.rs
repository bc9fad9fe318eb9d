//! NodePorts on loopback addresses in mode nftables, where the proxy itself listens (KEP-6032).

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use anyhow::{Context, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Flow, Outcome, PATIENCE};
use portolan_tests::manifests::ServiceManifest;

use crate::case::{Mode, Setting};
use crate::fixture::PORT;
use crate::scene::{SOON, Scene, ask_in, ask_over, await_outcome_in, cluster_ip, eventually, pods};

const NODE_PORT: u16 = 31_300;

struct Localhost {
    scene: Scene,
    protocol: Protocol,
    family: Family,
}

impl Localhost {
    /// A Service `web` with a NodePort that has these endpoints.
    fn new(protocol: Protocol, family: Family, endpoints: &[&str]) -> anyhow::Result<Localhost> {
        Localhost::with(protocol, family, endpoints, |service| service)
    }

    fn with(
        protocol: Protocol,
        family: Family,
        endpoints: &[&str],
        change: fn(ServiceManifest) -> ServiceManifest,
    ) -> anyhow::Result<Localhost> {
        let scene = Scene::with(Mode::Nftables, Setting::NodePortLocalhost)?;
        let localhost = Localhost { scene, protocol, family };
        localhost.write(NODE_PORT, change)?;
        localhost.endpoints(endpoints)?;
        Ok(localhost)
    }

    fn write(&self, node_port: u16, change: fn(ServiceManifest) -> ServiceManifest) -> anyhow::Result<()> {
        let addresses = Family::ALL.map(|family| cluster_ip(1, family));
        let service = ServiceManifest::new("web", &addresses).kind("NodePort");
        let service = service.node_port("p", self.protocol, PORT, Some(node_port));
        self.scene.service("web", &change(service))
    }

    fn endpoints(&self, pods: &[&str]) -> anyhow::Result<()> {
        self.scene.endpoints("web", &[("p", self.protocol)], pods)
    }

    fn node(&self) -> &Namespace {
        self.scene.site.node("host1")
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(loopback(self.family), NODE_PORT)
    }

    fn await_outcome(&self, wanted: impl Fn(&Outcome) -> bool + Send + 'static) -> anyhow::Result<Outcome> {
        await_outcome_in(self.node(), self.protocol, self.address(), wanted)
    }

    fn await_pod(&self, pod: &'static str) -> anyhow::Result<Outcome> {
        self.await_outcome(move |outcome| outcome.pod() == Some(pod))
    }

    fn await_refusal(&self) -> anyhow::Result<Outcome> {
        self.await_outcome(|outcome| matches!(outcome, Outcome::Refused))
    }

    fn connect(&self) -> anyhow::Result<TcpStream> {
        let to = self.address();
        let connection = self.node().run(move || TcpStream::connect_timeout(&to, PATIENCE))??;
        connection.set_read_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    /// A connection that `pod` has answered on.
    fn open(&self, pod: &str) -> anyhow::Result<TcpStream> {
        let mut connection = self.connect()?;
        let answer = ask_over(&mut connection)?;
        ensure!(answer.contains(pod), "not {pod}: {answer}");
        Ok(connection)
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

/// All clients on the node have one address, and so share an endpoint, as in kube-proxy. They get
/// another one when it leaves.
pub(crate) fn affinity(protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let localhost = Localhost::with(protocol, family, &["a1", "a2", "b1"], |service| service.affinity(3600))?;
    let first = localhost.await_outcome(|outcome| outcome.pod().is_some())?;
    let first = first.pod().unwrap_or_default().to_owned();
    let to = localhost.address();
    let ask_all = || -> anyhow::Result<Vec<String>> {
        let ask = || ask::ask(protocol, to, None, PATIENCE);
        let outcomes = localhost.node().run(|| ask::series(10, ask))?;
        Ok(pods(&outcomes)?.into_iter().map(str::to_owned).collect())
    };
    let all = ask_all()?;
    ensure!(all.iter().all(|pod| *pod == first), "{first} at first, then {all:?}");
    let others: Vec<&str> = ["a1", "a2", "b1"].into_iter().filter(|pod| *pod != first).collect();
    localhost.endpoints(&others)?;
    let gone = first.clone();
    localhost.await_outcome(move |outcome| outcome.pod().is_some_and(|pod| pod != gone))?;
    let all = ask_all()?;
    ensure!(all.iter().all(|pod| *pod == all[0] && *pod != first), "{first} has left, then {all:?}");
    Ok(())
}

/// Endpoints that leave and come: the next client finds those of now, or is refused at once.
pub(crate) fn endpoints_change(protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let localhost = Localhost::new(protocol, family, &["a1"])?;
    localhost.await_pod("a1")?;
    let to = localhost.address();
    let flow = localhost.node().run(move || Flow::open(to))??;
    let open = if protocol == Protocol::Tcp {
        Some(localhost.open("a1")?)
    } else {
        let outcome = flow.ask(PATIENCE);
        ensure!(outcome.pod() == Some("a1"), "the flow: {outcome}");
        None
    };
    localhost.endpoints(&["b1"])?;
    localhost.await_pod("b1")?;
    localhost.endpoints(&[])?;
    localhost.await_refusal()?;
    localhost.endpoints(&["a2"])?;
    localhost.await_pod("a2")?;
    if let Some(mut open) = open {
        let answer = ask_over(&mut open)?;
        ensure!(answer.contains("a1"), "a connection that was open: {answer}");
    } else {
        let outcome = flow.ask(PATIENCE);
        ensure!(outcome.pod() == Some("a2"), "a flow that was there: {outcome}");
    }
    Ok(())
}

/// A program of the host that has the port keeps it, which the log says once, by the name of the
/// Service port, and `get status` and `check` as long as it is so. When it has ended, the NodePort
/// answers.
pub(crate) fn port_taken(protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let localhost = Localhost::new(protocol, family, &[])?;
    localhost.scene.settle()?;
    let at = localhost.address();
    let (tcp, udp) = match protocol {
        Protocol::Tcp => (Some(localhost.node().run(move || TcpListener::bind(at))??), None),
        _ => (None, Some(localhost.node().run(move || UdpSocket::bind(at))??)),
    };
    localhost.endpoints(&["a1"])?;
    let proxy = localhost.scene.site.proxy("host1")?;
    let socket = format!("{at}/{} of Service port default/web:p", protocol.to_string().to_uppercase());
    let said = format!("{socket} is not listened on: another program has the port");
    proxy.wait_for_log(&said, PATIENCE)?;
    eventually(SOON, || {
        let unserved = proxy.unserved()?;
        ensure!(matches!(&unserved[..], [one] if one.starts_with(&said)), "{unserved:?}");
        anyhow::Ok(())
    })?;
    let launch = localhost.scene.site.launch("host1", Mode::Nftables.flags(Setting::NodePortLocalhost));
    let owner = format!("(process {}) listens there and keeps the port", std::process::id());
    let (code, checked) = launch.check(localhost.node())?;
    ensure!(code == Some(1) && checked.contains(&format!("problem: {socket}: ")), "{code:?}: {checked}");
    ensure!(checked.contains(&owner), "{owner} in {checked}");
    if let Some(tcp) = &tcp {
        let client = localhost.connect()?;
        let (_, from) = tcp.accept()?;
        ensure!(from == client.local_addr()?, "{from} came to the host's program");
    }
    drop((tcp, udp));
    proxy.wait_for_log(&format!("solved: {at}"), 4 * PATIENCE)?;
    localhost.await_pod("a1")?;
    let times = proxy.log().matches("is not listened on").count();
    ensure!(times == 1, "it is said {times} times\n{}", proxy.last_lines());
    eventually(SOON, || {
        let unserved = proxy.unserved()?;
        ensure!(unserved.is_empty(), "{unserved:?}");
        anyhow::Ok(())
    })?;
    // The proxy itself is nobody else.
    let (code, checked) = launch.check(localhost.node())?;
    ensure!(code == Some(0) && checked.contains(" 0 problems"), "{code:?}: {checked}");
    Ok(())
}

/// What is lost when the process ends, killed or not: connections, and nothing that stays. The next
/// one serves again.
pub(crate) fn restart(protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let mut localhost = Localhost::new(protocol, family, &["a1"])?;
    localhost.await_pod("a1")?;
    localhost.scene.site.stop_proxy("host1");
    let launch = localhost.scene.site.launch("host1", Mode::Nftables.flags(Setting::NodePortLocalhost));
    for gently in [false, true] {
        let mut proxy = launch.start(localhost.node())?;
        localhost.await_pod("a1")?;
        let open = if protocol == Protocol::Tcp { Some(localhost.open("a1")?) } else { None };
        if gently {
            let code = proxy.end()?;
            ensure!(code == Some(0), "SIGTERM: {code:?}{}", proxy.last_lines());
        } else {
            proxy.kill();
        }
        let outcome = ask_in(localhost.node(), protocol, localhost.address())?;
        ensure!(matches!(outcome, Outcome::Refused), "without a proxy: {outcome}");
        if let Some(mut open) = open {
            let read = open.read(&mut [0]);
            ensure!(matches!(read, Err(_) | Ok(0)), "a connection of a process that has ended: {read:?}");
        }
        ensure!(localhost.scene.site.is_port_free("host1", NODE_PORT)?, "the port is not free");
    }
    let _proxy = launch.start(localhost.node())?;
    localhost.await_pod("a1").map(drop).context("after restarts")
}

/// The Service's port changes, then its type, and the old one is free at once. Counters are there.
pub(crate) fn counted_and_moved(protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let localhost = Localhost::new(protocol, family, &["a1"])?;
    localhost.await_pod("a1")?;
    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_249));
    let (_, text) = localhost.node().run(move || ask::http_get(metrics, "/metrics", PATIENCE))??;
    let labels = format!(
        "{{ip_family=\"{family}\",protocol=\"{}\",service_port=\"default/web:p\"}}",
        protocol.to_string().to_uppercase()
    );
    let count = |name: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(&format!("{name}{labels} ")));
        found.and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    ensure!(count("portolan_relay_clients_total") > 0, "{labels} in\n{text}");
    let listeners = format!("kubeproxy_nftables_localhost_nodeport_listeners{{ip_family=\"{family}\"}} 1");
    ensure!(text.lines().any(|line| line == listeners), "{listeners} in\n{text}");

    localhost.write(NODE_PORT + 1, |service| service)?;
    localhost.await_refusal()?;
    let moved = SocketAddr::new(loopback(family), NODE_PORT + 1);
    await_outcome_in(localhost.node(), protocol, moved, |outcome| outcome.pod() == Some("a1"))?;
    localhost.write(NODE_PORT + 1, |service| service.kind("ClusterIP").without_node_ports())?;
    await_outcome_in(localhost.node(), protocol, moved, |outcome| matches!(outcome, Outcome::Refused))?;
    Ok(())
}
