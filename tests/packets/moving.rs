//! From kube-proxy's mode ipvs to ours and back, and from ours to mode nftables and back, while
//! clients connect. Connections go on as long as IPVS forwards them, and the log says which will
//! end before they do.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, ensure};
use portolan_dataplane::kube_proxy::{self, Search};
use portolan_dataplane::{InUse, Part};
use portolan_lab::netns::Namespace;
use portolan_netfilter::ipvs::Ipvs;
use portolan_service::{Family, Protocol};
use portolan_tests::ask;

use crate::case::{Mode, Setting};
use crate::fixture::PORT;
use crate::kube_proxy_ipvs::{self, At, Server};
use crate::scene::{PLAIN, SOON, Scene, ask_over, cluster_ip, eventually, plain};
use crate::steady::{Stream, stream};
use crate::tables;

const NUMBER: u8 = 1;
/// What kube-proxy serves of the Service of these tests.
const SERVED: &[Server] =
    &[Server { at: At::ClusterIp([10, 96, 2, NUMBER]), to: &[("a1", 1), ("b1", 1)], persistent: false }];
/// How many connections there are at least while something changes: the machine is emulated.
const LEAST: usize = 10;

/// A Service with endpoints on both nodes.
fn scene() -> anyhow::Result<Scene> {
    let scene = Scene::new(Mode::Ipvs)?;
    scene.service("moving", &plain("moving", NUMBER))?;
    scene.endpoints("moving", PLAIN, &["a1", "b1"])?;
    scene.settle()?;
    Ok(scene)
}

fn frontend() -> SocketAddr {
    SocketAddr::new(cluster_ip(NUMBER, Family::V4), PORT)
}

/// A connection, over which something was asked.
fn connected(client: &Namespace) -> anyhow::Result<TcpStream> {
    let mut connection = client.run(|| TcpStream::connect_timeout(&frontend(), SOON))??;
    connection.set_read_timeout(Some(ask::PATIENCE))?;
    ask_over(&mut connection).context("a new connection")?;
    Ok(connection)
}

/// Does `change` while a pod and a machine outside connect. Returns how many connections failed, at
/// each of them.
fn under_a_stream(
    scene: &Scene,
    change: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<Vec<Vec<String>>> {
    let stop = AtomicBool::new(false);
    let clients = [scene.site.pod("client-a"), scene.site.outside()];
    let (streams, changed) = thread::scope(|scope| {
        let stop = &stop;
        let running: Vec<_> = clients
            .into_iter()
            .map(|client| scope.spawn(move || stream(client, Protocol::Tcp, frontend(), stop)))
            .collect();
        let changed = change();
        stop.store(true, Ordering::Relaxed);
        let ended = running.into_iter().map(|stream| stream.join().expect("a stream does not panic"));
        (ended.collect::<anyhow::Result<Vec<Stream>>>(), changed)
    });
    changed?;
    let streams = streams?;
    for Stream { connections, failures, .. } in &streams {
        ensure!(*connections >= LEAST, "only {connections} connections, {failures:?}");
    }
    Ok(streams.into_iter().map(|stream| stream.failures).collect())
}

/// From kube-proxy's mode ipvs to ours, and back.
pub(crate) fn kube_proxy_and_back() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let node_name = "host1";
    scene.site.stop_proxy(node_name);
    let launch = scene.site.launch(node_name, Mode::Ipvs.flags(Setting::Default));
    let node = scene.site.node(node_name);
    cleaned_up(&launch.cleanup(node)?)?;
    kube_proxy_ipvs::serve(node, SERVED)?;
    kube_proxy_ipvs::install(node, SERVED)?;
    let mut connection = connected(scene.site.pod("client-a"))?;
    let failures = under_a_stream(&scene, || {
        let mut proxy = launch.start(node)?;
        // As a proxy in a cluster does it once its rules are in force.
        let beside = InUse { virtual_servers: true, ..InUse::default() };
        node.run(move || Search { beside, ..Search::default() }.remove())??;
        ask_over(&mut connection).context("when kube-proxy is gone")?;
        // kube-proxy finds its virtual servers there.
        kube_proxy_ipvs::install(node, SERVED)?;
        proxy.kill();
        cleaned_up(&launch.cleanup(node)?)?;
        ask_over(&mut connection).context("when kube-proxy is back").map(drop)
    })?;
    ensure!(failures.iter().all(Vec::is_empty), "failed: {failures:?}");
    Ok(())
}

fn cleaned_up((status, said): &(Option<i32>, String)) -> anyhow::Result<()> {
    ensure!(*status == Some(0), "portolan cleanup: {status:?} {said}");
    Ok(())
}

/// Removing by hand what kube-proxy left keeps the virtual servers that both had: they are ours.
pub(crate) fn kube_proxy_cleaned_up_beside() -> anyhow::Result<()> {
    let mut scene = scene()?;
    scene.site.stop_proxy("host1");
    let launch = scene.site.launch("host1", Mode::Ipvs.flags(Setting::Default));
    let node = scene.site.node("host1");
    cleaned_up(&launch.cleanup(node)?)?;
    kube_proxy_ipvs::serve(node, SERVED)?;
    kube_proxy_ipvs::install(node, SERVED)?;
    let _proxy = launch.start(node)?;
    let servers = || anyhow::Ok(node.run(|| Ipvs::open()?.servers())??.len());
    let before = servers()?;
    let removed = node.run(kube_proxy::remove)??;
    ensure!(removed.parts.contains(&Part::Device), "{removed:?}");
    ensure!(servers()? == before, "{} of {before} virtual servers are left: {removed:?}", servers()?);
    ask_over(&mut connected(scene.site.pod("client-a"))?).map(drop)
}

/// From our mode ipvs to mode nftables, and back.
pub(crate) fn nftables_and_back() -> anyhow::Result<()> {
    let mut scene = scene()?;
    let node_name = "host1";
    scene.site.stop_proxy(node_name);
    let node = scene.site.node(node_name);
    let start = |mode: Mode| scene.site.launch(node_name, mode.flags(Setting::Default)).start(node);
    let failures = under_a_stream(&scene, || {
        let proxy = start(Mode::Nftables)?;
        let log = proxy.log();
        let said = log.find("virtual servers end now").context("what ends is said")?;
        let done = log.find("is in force").context("it is in force")?;
        ensure!(said < done, "what ends is said after it has ended:\n{log}");
        eventually(SOON, || {
            let tables = tables::table_names(node)?;
            ensure!(!tables.iter().any(|name| name.ends_with(" portolan-ipvs")), "{tables:?}");
            Ok(())
        })?;
        let mut translated = connected(scene.site.pod("client-a"))?;
        drop(proxy);
        let proxy = start(Mode::Ipvs)?;
        ask_over(&mut translated).context("what rules translated, in mode ipvs")?;
        ensure!(!proxy.log().contains("end now"), "nothing ends:\n{}", proxy.log());
        ask_over(&mut connected(scene.site.pod("client-a"))?).map(drop)
    })?;
    // The one that IPVS forwarded when mode nftables took over.
    ensure!(failures.iter().all(|failed| failed.len() <= 1), "failed: {failures:?}");
    Ok(())
}
