//! What IPVS counts, as `portolan get` and the metrics show it (docs/ipvs.md).

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, ensure};
use portolan_lab::netns::Namespace;
use portolan_observe::rows::ServiceRow;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, PATIENCE};
use portolan_tests::manifests::ServiceManifest;

use crate::case::Mode;
use crate::fixture::{HOST1, PORT, underlay};
use crate::scene::{SOON, Scene, ask_over, cluster_ip, eventually};

const NUMBER: u8 = 1;
const NODE_PORT: u16 = 30080;

/// A connection that stays open, over which something was sent.
fn connect(from: &Namespace, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut open = from.run(move || TcpStream::connect_timeout(&to, PATIENCE))??;
    open.set_read_timeout(Some(PATIENCE))?;
    ask_over(&mut open)?;
    Ok(open)
}

/// What host1 shows of the port of Service `web`.
fn web(scene: &Scene) -> anyhow::Result<ServiceRow> {
    let rows = scene.site.proxy("host1")?.services("web")?;
    ensure!(rows.iter().all(|row| row.name == "web"), "{rows:?}");
    rows.into_iter().find(|row| row.family == "IPv4").context("no row")
}

/// Connections of pods and of clients from outside, which have virtual servers of their own, count
/// for their Service port and for their endpoints.
pub(crate) fn is_shown() -> anyhow::Result<()> {
    let scene = Scene::new(Mode::Ipvs)?;
    let service = ServiceManifest::new("web", &[cluster_ip(NUMBER, Family::V4)])
        .kind("NodePort")
        .spec("externalTrafficPolicy", "Local")
        .node_port("tcp", Protocol::Tcp, PORT, Some(NODE_PORT));
    scene.service("web", &service)?;
    scene.endpoints("web", &[("tcp", Protocol::Tcp)], &["a1", "b1"])?;
    scene.settle()?;
    let inside = SocketAddr::new(cluster_ip(NUMBER, Family::V4), PORT);
    let outside = SocketAddr::new(underlay(HOST1, Family::V4), NODE_PORT);
    scene.await_outcome("client-a", Protocol::Tcp, inside, |outcome| outcome.pod().is_some())?;
    let client = scene.site.pod("client-a");
    let open = [connect(client, inside)?, connect(client, inside)?, connect(scene.site.outside(), outside)?];

    // The kernel adds up every two seconds. It remembers a connection for longer than this takes.
    let (traffic, destinations) = eventually(SOON, || {
        let row = web(&scene)?;
        let traffic = row.traffic.context("nothing is shown")?;
        let remembered = traffic.active + traffic.inactive;
        let of_destinations: u64 = row.destinations.iter().map(|to| to.traffic.total.connections).sum();
        let counted = (traffic.active, traffic.total.connections, of_destinations);
        ensure!(counted == (3, remembered, remembered), "{row:?}");
        anyhow::Ok((traffic, row.destinations))
    })?;
    let (total, connections) = (traffic.total, traffic.total.connections);
    ensure!(connections > 3 && total.packets_in >= 3 * connections, "{traffic:?}");
    ensure!(total.bytes_out > 100 * connections, "{traffic:?}");
    ensure!(destinations.iter().all(|to| to.weight == 1), "{destinations:?}");

    let endpoints = scene.site.proxy("host1")?.endpoint_rows("web")?;
    let active: u64 = endpoints.iter().filter_map(|row| row.traffic).map(|traffic| traffic.active).sum();
    ensure!(active == 3 && endpoints.iter().all(|row| row.weight == Some(1)), "{endpoints:?}");

    let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_249));
    let node = scene.site.node("host1");
    let (_, text) = node.run(move || ask::http_get(metrics, "/metrics", PATIENCE))??;
    let labels = "ip_family=\"IPv4\",protocol=\"TCP\",service_port=\"default/web:tcp\"";
    let line = format!("portolan_ipvs_connections_total{{{labels}}} {connections}");
    ensure!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    drop(open);
    Ok(())
}
