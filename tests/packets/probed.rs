//! Pods whose probes the proxy carries out (docs/manifests.md#probes): servers that go bad and come
//! back.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, PATIENCE};
use portolan_tests::manifests::ServiceManifest;
use serde_json::json;

use crate::case::{Mode, Setting};
use crate::fixture::{PORT, TARGET, pod_address};
use crate::scene::{Scene, ask_over, cluster_ip, pods};

/// Where the servers say how they are.
const HEALTH: u16 = 9300;
const CONNECTIONS: usize = 40;

/// A server that says how it is. It ends with the process.
fn health(pod: &Namespace) -> anyhow::Result<Arc<AtomicBool>> {
    let listener = pod.run(|| TcpListener::bind((Ipv6Addr::UNSPECIFIED, HEALTH)))??;
    let is_good = Arc::new(AtomicBool::new(true));
    let answers = Arc::clone(&is_good);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // Whoever does not listen has asked in vain.
            let _ = stream.read(&mut [0; 1024]);
            let status = if answers.load(Ordering::Acquire) { "200 OK" } else { "503 Bad" };
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes());
        }
    });
    Ok(is_good)
}

struct Probed {
    scene: Scene,
    family: Family,
    to: SocketAddr,
    a1: Arc<AtomicBool>,
    b1: Arc<AtomicBool>,
}

impl Probed {
    /// A Service `web` over pods at a1 and b1, which have a readiness probe and no condition.
    fn new(mode: Mode, family: Family) -> anyhow::Result<Probed> {
        let scene = Scene::new(mode)?;
        let (a1, b1) = (health(scene.site.pod("a1"))?, health(scene.site.pod("b1"))?);
        let pod = |name: &str| {
            let probe = json!({"httpGet": {"port": "health", "path": "/"}, "periodSeconds": 1, "failureThreshold": 2,
                "timeoutSeconds": 30});
            let ports = json!([{"name": "health", "containerPort": HEALTH}]);
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": format!("web-{name}"), "labels": {"app": "probed"}},
                "spec": {"containers": [{"name": "web", "ports": ports, "readinessProbe": probe}]},
                "status": {"podIP": pod_address(name, family)},
            })
        };
        scene.site.manifests().write("pods", &[pod("a1"), pod("b1")])?;
        let service = ServiceManifest::new("web", &[cluster_ip(1, family)])
            .port("", Protocol::Tcp, PORT)
            .spec("selector", json!({"app": "probed"}));
        let mut service = service.object();
        service["spec"]["ports"][0]["targetPort"] = json!(TARGET);
        scene.site.manifests().write("web", &[service])?;
        Ok(Probed { scene, family, to: SocketAddr::new(cluster_ip(1, family), PORT), a1, b1 })
    }

    /// The proxies of both nodes have these endpoints in force soon, and no others answer then.
    fn at(&self, expected: &[&str]) -> anyhow::Result<()> {
        let wanted =
            expected.iter().map(|pod| SocketAddr::new(pod_address(pod, self.family), TARGET)).collect();
        let proxy = self.scene.site.proxy("host1")?;
        let begun = std::time::Instant::now();
        loop {
            let found = proxy.endpoints(("default", "web"), Protocol::Tcp)?;
            if found == wanted {
                break;
            }
            ensure!(begun.elapsed() < PATIENCE, "{found:?} and not {wanted:?}");
            thread::yield_now();
        }
        let to = self.to;
        // The kernel refuses a client once a second, and leaves others without an answer.
        let count = if expected.is_empty() { 1 } else { CONNECTIONS };
        let asked = move || ask::series(count, || ask::ask(Protocol::Tcp, to, None, PATIENCE));
        let outcomes = self.scene.site.pod("client-a").run(asked)?;
        if expected.is_empty() {
            ensure!(outcomes.iter().all(|outcome| outcome.pod().is_none()), "{outcomes:?}");
            return Ok(());
        }
        let mut found = pods(&outcomes)?;
        found.sort_unstable();
        found.dedup();
        ensure!(found == expected, "{found:?} and not {expected:?}");
        Ok(())
    }
}

/// A server that goes bad gets no new connections, and keeps those that it has. It comes back, also
/// after a restart of the proxy.
pub(crate) fn good_and_bad(mode: Mode, family: Family) -> anyhow::Result<()> {
    let mut probed = Probed::new(mode, family)?;
    probed.at(&["a1", "b1"])?;
    let to = probed.to;
    let connect = move || TcpStream::connect_timeout(&to, PATIENCE);
    let mut open = probed.scene.site.pod("client-a").run(connect)??;
    open.set_read_timeout(Some(PATIENCE))?;
    let first = ask_over(&mut open)?;

    probed.a1.store(false, Ordering::Release);
    probed.at(&["b1"])?;
    let why = "Pod default/web-a1 is not ready, and gets no new connections: readiness probe of container web: \
               HTTP probe failed with statuscode: 503";
    let log = probed.scene.site.proxy("host1")?.wait_for_log(why, PATIENCE)?;
    ensure!(log.contains("WARN"), "{log}");
    ensure!(ask_over(&mut open)? == first, "the open connection is elsewhere");
    let found = probed.scene.site.proxy("host1")?.probed_pods()?;
    let [a1, b1] = &found[..] else { anyhow::bail!("{found:?}") };
    let failure = a1.probes[0].last_failure.as_ref().context("a failure")?;
    ensure!((a1.ready, b1.ready) == (Some(false), Some(true)) && !failure.over, "{found:?}");

    // What the first probes say is in force with the first commit.
    probed.scene.site.restart_proxy("host1")?;
    let found = probed.scene.site.proxy("host1")?.endpoints(("default", "web"), Protocol::Tcp)?;
    ensure!(found.len() == 1, "after a restart: {found:?}");
    probed.at(&["b1"])?;

    probed.a1.store(true, Ordering::Release);
    probed.at(&["a1", "b1"])?;
    for server in [&probed.a1, &probed.b1] {
        server.store(false, Ordering::Release);
    }
    probed.at(&[])
}

/// With `--probe-pods=false`, the condition counts.
pub(crate) fn switched_off() -> anyhow::Result<()> {
    let mut probed = Probed::new(Mode::Nftables, Family::V4)?;
    probed.at(&["a1", "b1"])?;
    probed.scene.site.stop_proxy("host1");
    let flags = Mode::Nftables.flags(Setting::Default).chain(["--probe-pods=false"]);
    probed.scene.site.start_proxy("host1", flags)?;
    probed.at(&[])?;
    ensure!(probed.scene.site.proxy("host1")?.probed_pods()?.is_empty());
    Ok(())
}
