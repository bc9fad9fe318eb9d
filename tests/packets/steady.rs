//! No new connection fails while endpoints flap, and while proxies come and go. All pods answer all
//! the time, so that every failure is the rules'.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_dataplane::iptables::{self, Iptables, Options};
use portolan_dataplane::ipvs::{Ipvs, IpvsSettings, Timeouts};
use portolan_dataplane::nftables::Nftables;
use portolan_dataplane::{Dataplane, LocalDetector, Settings};
use portolan_lab::netns::Namespace;
use portolan_service::{
    Change, Endpoint, EndpointSlice, Family, LocalNode, ObjectName, PerFamily, Planner, Protocol, Service,
    ServicePort, SlicePort,
};
use portolan_tests::ask::{self, Flow, Outcome};
use portolan_tests::proxy::Proxy;

use crate::case::{Mode, Setting};
use crate::fixture::{PORT, TARGET, pod_address};
use crate::scene::{PLAIN, SOON, Scene, cluster_ip, eventually, plain};
use crate::tables;

const NUMBER: u8 = 1;
/// Endpoint lists to go through: one endpoint stays, others come and go in every way.
const LISTS: &[&[&str]] =
    &[&["a1", "a2", "b1"], &["a1", "b1"], &["a1"], &["a1", "a2"], &["a1", "b1", "a2"], &["a1", "b1"]];

/// What a stream of connections met.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    pub(crate) connections: usize,
    /// UDP flows that were answered only after their first datagram, or its answer, was lost.
    repeated: usize,
    pub(crate) failures: Vec<String>,
}

impl Stream {
    fn take(&mut self, protocol: Protocol, to: SocketAddr, begun: Instant) {
        self.connections += 1;
        let outcome = match protocol {
            Protocol::Udp => self.ask_udp(to),
            _ => ask::ask(protocol, to, None, ask::PATIENCE),
        };
        if outcome.pod().is_none() {
            self.failures.push(format!("{outcome} after {:?}", begun.elapsed()));
        }
    }

    /// Asks on one flow, a second time if nothing is heard: a datagram that is on its way to an
    /// endpoint when that goes loses its connection tracking entry (spec §8.2), so that the answer
    /// does not find back. What must not be is that the flow stays without answers, or is refused.
    fn ask_udp(&mut self, to: SocketAddr) -> Outcome {
        let flow = match Flow::open(to) {
            Ok(flow) => flow,
            Err(error) => return Outcome::Other(error.to_string()),
        };
        match flow.ask(ask::SILENCE) {
            Outcome::Silence => {
                self.repeated += 1;
                flow.ask(ask::PATIENCE)
            }
            outcome => outcome,
        }
    }
}

/// Connects from `namespace` one after the other until it is stopped.
pub(crate) fn stream(
    namespace: &Namespace,
    protocol: Protocol,
    to: SocketAddr,
    stop: &AtomicBool,
) -> anyhow::Result<Stream> {
    Ok(namespace.run(|| {
        let mut stream = Stream::default();
        let begun = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            stream.take(protocol, to, begun);
        }
        stream
    })?)
}

/// Does `disturb` while pod and node connect over TCP and UDP in both families.
pub(crate) fn undisturbed(scene: &Scene, disturb: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let stop = AtomicBool::new(false);
    let clients = [
        (scene.site.pod("client-a"), Protocol::Tcp, Family::V4),
        (scene.site.pod("client-a"), Protocol::Udp, Family::V4),
        (scene.site.pod("client-a"), Protocol::Tcp, Family::V6),
        (scene.site.node("host1"), Protocol::Tcp, Family::V4),
    ];
    // IPVS remembers a flow for five minutes, and drops the first datagram from its port after its
    // endpoint has gone (docs/ipvs.md).
    let loses = |protocol| scene.mode == Mode::Ipvs && protocol == Protocol::Udp;
    let (streams, disturbed) = thread::scope(|scope| {
        let mut running = Vec::new();
        for (client, protocol, family) in clients.into_iter().filter(|(_, protocol, _)| !loses(*protocol)) {
            let to = SocketAddr::new(cluster_ip(NUMBER, family), PORT);
            let stop = &stop;
            running.push((protocol, family, scope.spawn(move || stream(client, protocol, to, stop))));
        }
        let disturbed = disturb();
        stop.store(true, Ordering::Relaxed);
        let streams: Vec<_> = running
            .into_iter()
            .map(|(protocol, family, stream)| {
                (protocol, family, stream.join().expect("a stream does not panic"))
            })
            .collect();
        (streams, disturbed)
    });
    disturbed?;
    for (protocol, family, stream) in streams {
        let stream = stream?;
        ensure!(
            stream.failures.is_empty(),
            "{} of {} connections over {protocol} {family} failed: {:?}",
            stream.failures.len(),
            stream.connections,
            stream.failures.iter().take(10).collect::<Vec<_>>()
        );
        ensure!(
            stream.connections >= 100,
            "only {} connections over {protocol} {family}",
            stream.connections
        );
    }
    Ok(())
}

/// In mode userspace a UDP client has a descriptor of the proxy until it has been silent for so
/// long. Thousands come in a second, and there may be few descriptors.
fn further(mode: Mode) -> &'static [&'static str] {
    if mode.has_sockets() { &["--udp-timeout=1s"] } else { &[] }
}

fn scene(mode: Mode) -> anyhow::Result<Scene> {
    let scene = Scene::with_flags(mode, Setting::Default, further(mode))?;
    scene.service("steady", &plain("steady", NUMBER))?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        flap_endpoints(&scene, protocol, LISTS[0])?;
    }
    scene.settle()?;
    Ok(scene)
}

/// Endpoints flap in the manifests, thousands of times.
pub(crate) fn flapping_manifests(mode: Mode) -> anyhow::Result<()> {
    let flaps = match mode {
        Mode::Nftables | Mode::Ipvs => 2000,
        // Each is a run of iptables-restore for each family.
        Mode::Iptables => 300,
        // What changes is a list in the process.
        Mode::Userspace | Mode::Portals => 500,
    };
    let scene = scene(mode)?;
    let proxy = scene.site.proxy("host1")?;
    undisturbed(&scene, || {
        let mut tcp_lists = LISTS.iter().cycle().skip(1);
        let mut udp_lists = tcp_lists.clone();
        for flap in 0..flaps {
            // Each UDP endpoint that goes has all flows looked through; TCP endpoints flap faster
            // without that.
            let (protocol, lists) = if flap % 50 == 0 {
                (Protocol::Udp, &mut udp_lists)
            } else {
                (Protocol::Tcp, &mut tcp_lists)
            };
            let pods = lists.next().copied().unwrap_or_default();
            flap_endpoints(&scene, protocol, pods)?;
            // One by one: the next is written when this one is in force.
            in_force(proxy, protocol, pods).with_context(|| format!("flap {flap}"))?;
        }
        scene.settle()
    })
}

/// Writes the endpoints of one protocol.
fn flap_endpoints(scene: &Scene, protocol: Protocol, pods: &[&str]) -> anyhow::Result<()> {
    let port = protocol.to_string();
    scene.endpoints_in(&format!("steady-{port}"), "steady", &[(&port, protocol)], pods)
}

/// Waits until these are the endpoints that the proxy has in force.
fn in_force(proxy: &Proxy, protocol: Protocol, pods: &[&str]) -> anyhow::Result<()> {
    let wanted: BTreeSet<SocketAddr> = Family::ALL
        .iter()
        .flat_map(|family| pods.iter().map(|pod| SocketAddr::new(pod_address(pod, *family), TARGET)))
        .collect();
    eventually(SOON, || {
        let endpoints = proxy.endpoints(("default", "steady"), protocol)?;
        ensure!(endpoints == wanted, "in force over {protocol}: {endpoints:?}, and not {pods:?}");
        Ok(())
    })
}

/// The proxy is killed and started again while endpoints flap.
pub(crate) fn restarts(mode: Mode) -> anyhow::Result<()> {
    let mut scene = scene(mode)?;
    let launch = scene.site.launch("host1", mode.flags(Setting::Default));
    scene.site.stop_proxy("host1");
    undisturbed(&scene, || {
        for list in LISTS.iter().cycle().skip(1).take(12) {
            // One is ready, changes come, the next takes over.
            let proxy = launch.start(scene.site.node("host1"))?;
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                flap_endpoints(&scene, protocol, list)?;
            }
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                in_force(&proxy, protocol, list)?;
            }
        }
        Ok(())
    })
}

/// Each proxy is started while the one before still serves, waits for that to end, and gets its
/// sockets.
pub(crate) fn successors(mode: Mode) -> anyhow::Result<()> {
    let mut scene = scene(mode)?;
    let flags = mode.flags(Setting::Default).chain(further(mode).iter().copied());
    let launch = scene.site.launch("host1", flags);
    scene.site.stop_proxy("host1");
    let node = scene.site.node("host1");
    let mut proxy = launch.start(node)?;
    undisturbed(&scene, || {
        for list in LISTS.iter().cycle().skip(1).take(6) {
            let mut next = launch.begin(node)?;
            proxy.wait_for_log("waits for this one to end", SOON)?;
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                flap_endpoints(&scene, protocol, list)?;
            }
            proxy.ask_to_end()?;
            next.wait_until_ready(SOON)?;
            let code = proxy.wait()?;
            ensure!(code == Some(0), "SIGTERM: {code:?}{}", proxy.last_lines());
            proxy = next;
        }
        Ok(())
    })
}

/// The proxy is killed with SIGKILL at random moments of its start and work while endpoints flap.
pub(crate) fn killed_at_random_moments(mode: Mode) -> anyhow::Result<()> {
    const KILLS: usize = 40;
    let mut scene = scene(mode)?;
    let launch = scene.site.launch("host1", mode.flags(Setting::Default));
    scene.site.stop_proxy("host1");
    let random = RandomState::new();
    undisturbed(&scene, || {
        for (kill, list) in LISTS.iter().cycle().take(KILLS).enumerate() {
            let life = Duration::from_micros(random.hash_one(kill) % 120_000);
            let mut proxy = launch.begin(scene.site.node("host1"))?;
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                flap_endpoints(&scene, protocol, list)?;
            }
            thread::sleep(life); // the random moment
            proxy.kill();
        }
        let _proxy = launch.start(scene.site.node("host1"))?;
        scene.settle()
    })
}

/// The mode is changed and changed back while endpoints flap. Each time the rules of the mode
/// before are gone soon after those of the next are in force (spec §11.25).
pub(crate) fn switching() -> anyhow::Result<()> {
    let mut scene = scene(Mode::Nftables)?;
    scene.site.stop_proxy("host1");
    undisturbed(&scene, || {
        let node = scene.site.node("host1");
        let modes = [Mode::Iptables, Mode::Nftables].into_iter().cycle();
        for (mode, list) in modes.zip(LISTS.iter().cycle().skip(1)).take(6) {
            let proxy = scene.site.launch("host1", mode.flags(Setting::Default)).start(node)?;
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                flap_endpoints(&scene, protocol, list)?;
            }
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                in_force(&proxy, protocol, list)?;
            }
            eventually(SOON, || {
                let tables = tables::table_names(node)?.iter().any(|name| name == "ip portolan");
                let chains = !node.run(iptables::marked)??.is_empty();
                ensure!(
                    (tables, chains) == (mode == Mode::Nftables, mode == Mode::Iptables),
                    "mode {}: tables of mode nftables: {tables}, chains of mode iptables: {chains}",
                    mode.name()
                );
                Ok(())
            })?;
        }
        Ok(())
    })
}

/// Endpoints flap as fast as the dataplane commits, without a proxy in between.
pub(crate) fn flapping_dataplane(mode: Mode) -> anyhow::Result<()> {
    const FOR: Duration = Duration::from_secs(8);
    let at_least = match mode {
        Mode::Nftables | Mode::Userspace | Mode::Portals => 1000,
        // Its machine is emulated.
        Mode::Ipvs => 100,
        // Two programs run for each commit, beside the streams.
        Mode::Iptables => 20,
    };
    let mut scene = scene(mode)?;
    scene.site.stop_proxy("host1");
    undisturbed(&scene, || {
        let commits = scene.site.node("host1").run(|| flap(mode, FOR))??;
        ensure!(commits >= at_least, "{commits} commits in {FOR:?}: that was no flapping");
        Ok(())
    })
}

/// Commits one change of endpoints after the other, in the namespace of this thread, and says how
/// many.
fn flap(mode: Mode, duration: Duration) -> anyhow::Result<usize> {
    let local = PerFamily {
        v4: Some(LocalDetector::SourceNetwork("10.244.0.0/16".parse()?)),
        v6: Some(LocalDetector::SourceNetwork("fd00:244::/32".parse()?)),
    };
    let settings = Settings { local, ..Settings::default() };
    let mut dataplane: Box<dyn Dataplane> = match mode {
        Mode::Nftables | Mode::Userspace | Mode::Portals => Box::new(Nftables::new(settings)?),
        Mode::Ipvs => Box::new(Ipvs::new(IpvsSettings {
            rules: settings,
            bit: 1 << 14,
            scheduler: "rr".into(),
            timeouts: Timeouts::default(),
        })?),
        Mode::Iptables => Box::new(Iptables::new(&settings, &Options::default())?),
    };
    let mut planner = Planner::new(LocalNode { name: "host1".into(), ..LocalNode::default() });
    planner.apply(std::iter::once(Change::from(steady_service())).chain(all_slices(LISTS[0])));
    dataplane.sync(&mut planner.plans().map(|plan| &**plan))?;
    let begun = Instant::now();
    let mut commits = 0;
    for (number, list) in LISTS.iter().cycle().enumerate() {
        if begun.elapsed() > duration {
            break;
        }
        // Each UDP endpoint that goes has all flows looked through; TCP endpoints flap faster
        // without that.
        let protocols = if number % 50 == 0 { &[Protocol::Tcp, Protocol::Udp][..] } else { &[Protocol::Tcp] };
        let changes = planner.apply(protocols.iter().flat_map(|protocol| steady_slices(*protocol, list)));
        let outcome = dataplane.apply(&changes)?;
        ensure!(outcome.refused.is_empty(), "refused: {:?}", outcome.refused);
        commits += 1;
    }
    Ok(commits)
}

/// What [`plain`] writes, as the planner takes it.
fn steady_service() -> Service {
    Service {
        cluster_ip: Some(cluster_ip(NUMBER, Family::V4)),
        cluster_ips: Family::ALL.map(|family| cluster_ip(NUMBER, family)).to_vec(),
        ip_families: Family::ALL.to_vec(),
        ports: PLAIN
            .iter()
            .map(|(name, protocol)| ServicePort {
                name: (*name).into(),
                protocol: *protocol,
                port: PORT,
                node_port: None,
            })
            .collect(),
        ..Service::new(ObjectName::new("default", "steady"))
    }
}

fn all_slices(pods: &[&str]) -> Vec<Change> {
    [Protocol::Tcp, Protocol::Udp].iter().flat_map(|protocol| steady_slices(*protocol, pods)).collect()
}

/// One slice of each family with the endpoints of one protocol.
fn steady_slices(protocol: Protocol, pods: &[&str]) -> Vec<Change> {
    let slice = |family: Family| EndpointSlice {
        name: ObjectName::new("default", &format!("steady-{protocol}-{family}")),
        service: ObjectName::new("default", "steady"),
        family,
        ports: PLAIN
            .iter()
            .filter(|(_, of)| *of == protocol)
            .map(|(name, protocol)| SlicePort {
                name: (*name).into(),
                protocol: *protocol,
                port: Some(TARGET),
            })
            .collect(),
        endpoints: pods
            .iter()
            .map(|pod| Endpoint {
                node: Some(if pod.starts_with('a') { "host1" } else { "host2" }.into()),
                ..Endpoint::new(pod_address(pod, family))
            })
            .collect(),
    };
    Family::ALL.map(|family| Change::from(slice(family))).to_vec()
}
