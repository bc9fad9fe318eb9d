//! Mode userspace (docs/userspace.md): what ends with the process, what goes on, and what is never
//! written.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Flow, Outcome, PATIENCE};
use portolan_tests::manifests::{ServiceManifest, node};
use portolan_tests::proxy::{Launch, Proxy};
use portolan_tests::sctp;

use crate::case::{Mode, Setting};
use crate::fixture::{HOST1, PORT, underlay};
use crate::scene::{PLAIN, SOON, Scene, ask_over, cluster_ip, eventually, plain};
use crate::tables;

const NUMBER: u8 = 1;
const ENDPOINTS: &[&str] = &["a1", "a2", "b1"];

/// A Service `web` and the proxy of host1, which the test has in its hands.
struct Served {
    scene: Scene,
    family: Family,
    launch: Launch,
    proxy: Proxy,
}

impl Served {
    fn new(family: Family) -> anyhow::Result<Served> {
        Served::with(family, Setting::Default)
    }

    fn with(family: Family, setting: Setting) -> anyhow::Result<Served> {
        let mut scene = Scene::with(Mode::Userspace, setting)?;
        scene.service("web", &plain("web", NUMBER))?;
        scene.endpoints("web", PLAIN, ENDPOINTS)?;
        scene.settle()?;
        scene.site.stop_proxy("host1");
        let flags = Mode::Userspace.flags(setting).chain(Mode::Userspace.patience().iter().copied());
        let launch = scene.site.launch("host1", flags);
        let proxy = launch.start(scene.site.node("host1"))?;
        Ok(Served { scene, family, launch, proxy })
    }

    fn to(&self) -> SocketAddr {
        SocketAddr::new(cluster_ip(NUMBER, self.family), PORT)
    }

    /// A connection that a pod has answered on.
    fn open(&self) -> anyhow::Result<TcpStream> {
        let to = self.to();
        let connect = move || TcpStream::connect_timeout(&to, PATIENCE);
        let mut connection = self.scene.site.pod("client-a").run(connect)??;
        connection.set_read_timeout(Some(PATIENCE))?;
        ask_over(&mut connection)?;
        Ok(connection)
    }

    /// A UDP client, and the pod that has answered it.
    fn flow(&self) -> anyhow::Result<(Flow, String)> {
        let to = self.to();
        let flow = self.scene.site.pod("client-a").run(move || Flow::open(to))??;
        let pod = answering(&flow)?;
        Ok((flow, pod))
    }

    fn await_outcome(
        &self,
        protocol: Protocol,
        wanted: impl Fn(&Outcome) -> bool + Send + 'static,
    ) -> anyhow::Result<()> {
        self.scene.await_outcome("client-a", protocol, self.to(), wanted).map(drop)
    }
}

/// Asks until it is answered, and returns by whom.
fn answering(flow: &Flow) -> anyhow::Result<String> {
    eventually(SOON, || {
        let outcome = flow.ask(ask::SILENCE);
        outcome.pod().map(str::to_owned).with_context(|| format!("a flow: {outcome}"))
    })
}

/// The process is killed while clients are there: connections end, clients are refused until the
/// next one serves, and then a UDP client goes on with the same socket.
pub(crate) fn killed(family: Family) -> anyhow::Result<()> {
    let mut served = Served::new(family)?;
    for _ in 0..2 {
        let mut connection = served.open()?;
        let (flow, _) = served.flow()?;
        served.proxy.kill();
        let read = connection.read(&mut [0]);
        ensure!(matches!(read, Err(_) | Ok(0)), "a connection of a process that has ended: {read:?}");
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let outcome = served.scene.ask("client-a", protocol, served.to())?;
            ensure!(matches!(outcome, Outcome::Refused), "without a proxy, over {protocol}: {outcome}");
        }
        served.proxy = served.launch.start(served.scene.site.node("host1"))?;
        let outcome = served.scene.ask("client-a", Protocol::Tcp, served.to())?;
        ensure!(outcome.pod().is_some(), "after the start: {outcome}");
        answering(&flow).context("a flow of before")?;
    }
    Ok(())
}

/// The process is asked to end while clients are there: new ones are refused, connections go on
/// until they end, and then the process does.
pub(crate) fn ends_gently(family: Family) -> anyhow::Result<()> {
    // A machine that is too busy to do that in the time that connections have tries again.
    for _ in 0..5 {
        let mut served = Served::new(family)?;
        let mut open = [served.open()?, served.open()?];
        served.proxy.ask_to_end()?;
        served.await_outcome(Protocol::Tcp, |outcome| matches!(outcome, Outcome::Refused))?;
        let answers = open.iter_mut().map(ask_over).collect::<anyhow::Result<Vec<_>>>();
        drop(open);
        let code = served.proxy.wait()?;
        ensure!(code == Some(0), "SIGTERM: {code:?}{}", served.proxy.last_lines());
        if !served.proxy.log().contains("ended before") {
            return answers.map(drop).context("connections of before SIGTERM");
        }
    }
    bail!("this machine is too busy to test what must happen within 5 s")
}

/// Connections that do not end are cut, and the process ends.
pub(crate) fn ends_though_connections_stay(family: Family) -> anyhow::Result<()> {
    let mut served = Served::new(family)?;
    let mut open = served.open()?;
    let code = served.proxy.end()?;
    ensure!(code == Some(0), "SIGTERM: {code:?}{}", served.proxy.last_lines());
    served.proxy.wait_for_log("1 relayed client ended before their time", PATIENCE)?;
    let read = open.read(&mut [0]).map_err(|error| error.kind());
    ensure!(read == Err(std::io::ErrorKind::ConnectionReset), "a connection that was cut: {read:?}");
    Ok(())
}

/// Settings change while clients are there: the sockets pass to the next dataplane, and nobody
/// notices.
pub(crate) fn settings_change(family: Family) -> anyhow::Result<()> {
    let served = Served::with(family, Setting::NodeCidr)?;
    let mut connection = served.open()?;
    let (flow, pod) = served.flow()?;
    for network in ["10.244.0.0/16", "10.244.1.0/24"] {
        let addresses = Family::ALL.map(|family| underlay(HOST1, family));
        let networks = [network.parse()?, "fd00:244:1::/64".parse()?];
        let changed = node("host1", Some("z1"), &addresses, &networks);
        // The other node is of no matter to this one.
        served.scene.site.manifests().write("the-nodes", &[changed])?;
        let said = format!("SourceNetwork({network})");
        eventually(SOON, || {
            let log = served.proxy.log();
            let after = log.rsplit_once("settings changed").map(|(_, after)| after.to_owned());
            let after = after.context("settings have not changed")?;
            ensure!(after.contains(&said), "no {said} after: {after}");
            ensure!(after.contains("everything is in force"), "not in force: {after}");
            Ok(())
        })?;
        ask_over(&mut connection).context("a connection of before")?;
        let outcome = flow.ask(PATIENCE);
        ensure!(outcome.pod() == Some(&pod), "a flow that {pod} has answered: {outcome}");
        served.open().context("a new connection")?;
    }
    Ok(())
}

/// Clients and endpoints come and go, and nothing is written: no rule knows an endpoint.
pub(crate) fn nothing_is_written(family: Family) -> anyhow::Result<()> {
    let served = Served::new(family)?;
    let host = served.scene.site.node("host1");
    let before = tables::generation(host)?;
    for endpoints in [&["a1"][..], &["a2", "b1"], ENDPOINTS, &["b1"]] {
        served.scene.endpoints("web", PLAIN, endpoints)?;
        let members: Vec<&str> = endpoints.to_vec();
        let gone: Vec<&str> = ENDPOINTS.iter().copied().filter(|pod| !members.contains(pod)).collect();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            eventually(SOON, || {
                let known = served.proxy.endpoints(("default", "web"), protocol)?;
                ensure!(known.len() == 2 * members.len(), "{known:?}");
                anyhow::Ok(())
            })?;
            for _ in 0..10 {
                let outcome = served.scene.ask("client-a", protocol, served.to())?;
                let pod = outcome.pod().with_context(|| format!("over {protocol}: {outcome}"))?;
                ensure!(!gone.contains(&pod), "{pod} has left");
            }
        }
    }
    let after = tables::generation(host)?;
    ensure!(before == after, "{} transactions for changes of endpoints", after - before);
    Ok(())
}

/// No socket takes SCTP: an INIT is refused with an ICMP error, and the log names the Service port.
pub(crate) fn sctp_is_refused(family: Family) -> anyhow::Result<()> {
    let served = Served::new(family)?;
    let address = cluster_ip(NUMBER + 1, family);
    let service = ServiceManifest::new("old", &[address]).port("s", Protocol::Sctp, PORT);
    served.scene.service("old", &service)?;
    served.scene.endpoints("old", &[("s", Protocol::Sctp)], &["a1"])?;
    let said = "Service default/old: port \"s\": SCTP is not served in mode userspace";
    served.proxy.wait_for_log(said, PATIENCE)?;
    let to = SocketAddr::new(address, PORT);
    let refused = move || -> anyhow::Result<bool> {
        let errors = sctp::Refusals::new(to)?;
        for _ in 0..20 {
            sctp::send_init(to, 5555, 7)?;
            if errors.wait(Duration::from_secs(1))? {
                return Ok(true);
            }
        }
        Ok(false)
    };
    ensure!(served.scene.site.pod("client-a").run(refused)??, "no ICMP error for an INIT to {to}");
    Ok(())
}
