//! Situations that need more than a row of the table.

use std::net::SocketAddr;

use anyhow::{Context, anyhow, ensure};
use portolan_dataplane::Variant;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};
use portolan_tests::manifests::ServiceManifest;
use portolan_tests::sctp;

use crate::case::{Client, Frontend, Mode, Setting};
use crate::chains;
use crate::fixture::{self, HEALTH_CHECK, HEALTH_CHECK_REMOTE, HOST1, HOST2, PORT, TARGET, underlay};
use crate::scene::{PLAIN, SOON, Scene, cluster_ip, eventually, plain};
use crate::world::{destination, node_addresses, world};

/// An SCTP INIT arrives at the endpoint, translated, with the right source and checksum (spec
/// §1.22, §4).
pub(crate) fn sctp_init(
    mode: Mode,
    frontend: Frontend,
    client: Client,
    masqueraded: bool,
    family: Family,
) -> anyhow::Result<()> {
    const SOURCE_PORT: u16 = 5555;
    let world = world(mode, Setting::Default).map_err(anyhow::Error::msg)?;
    let to = destination(&fixture::service("sctp"), frontend, family);
    let receiver = world.site.pod("a1").run(move || sctp::Receiver::new(family == Family::V4))??;
    // Trials share the endpoint: each knows its own packet.
    let tag = 1 + (frontend as u32) * 64 + (client as u32) * 4 + u32::from(family == Family::V6);
    let source_port = SOURCE_PORT + u16::try_from(tag)?;
    world.namespace(client).run(move || sctp::send_init(to, source_port, tag))??;
    let received =
        receiver.init(tag, ask::PATIENCE)?.with_context(|| format!("no INIT to {to} arrived at a1"))?;
    ensure!(received.to_port == TARGET, "{received:?}: not to port {TARGET}");
    ensure!(received.checksum, "{received:?}: the checksum is wrong");
    let from = received.from.ip();
    if masqueraded {
        ensure!(node_addresses(family).contains(&from), "{received:?}: not masqueraded");
    } else {
        ensure!(from == fixture::pod_address("client-a", family), "{received:?}: not the pod's own address");
    }
    Ok(())
}

/// A NodePort answers on an address that the node gets while the proxy runs, and stops when it goes
/// (spec §3.8).
pub(crate) fn address_at_run_time(mode: Mode, family: Family) -> anyhow::Result<()> {
    const NODE_PORT: u16 = 31_200;
    let scene = Scene::with(mode, Setting::NodePortAll)?;
    let addresses = Family::ALL.map(|family| cluster_ip(1, family));
    let service = ServiceManifest::new("web", &addresses).kind("NodePort").node_port(
        "tcp",
        Protocol::Tcp,
        PORT,
        Some(NODE_PORT),
    );
    scene.service("web", &service)?;
    scene.endpoints("web", &[("tcp", Protocol::Tcp)], &["a1"])?;
    scene.settle()?;
    let new = underlay(77, family);
    let length = if family == Family::V4 { 24 } else { 64 };
    let network = ipnet::IpNet::new(new, length)?;
    scene.site.add_address("host1", network)?;
    let to = SocketAddr::new(new, NODE_PORT);
    let ask = || scene.site.outside().run(move || ask::ask(Protocol::Tcp, to, None, ask::SILENCE));
    eventually(SOON, || match ask()? {
        Outcome::Answered(answer) if answer.pod == "a1" => Ok(()),
        other => Err(anyhow!("on a new address: {other}")),
    })?;
    scene.site.remove_address("host1", network)?;
    // The machine outside still knows where it was; host1 does not forward for it any more.
    eventually(SOON, || match ask()? {
        Outcome::Answered(answer) => Err(anyhow!("on an address that is gone: {}", answer.pod)),
        _ => Ok(()),
    })
}

/// Where iptables drops what is forwarded, `--accept-forwarded` lets connections to Services pass,
/// by a rule that stays the last one and goes with the flag; without it the log names cause and
/// flag.
pub(crate) fn accept_forwarded(mode: Mode, variant: Variant, family: Family) -> anyhow::Result<()> {
    const OURS: &str = "-j PORTOLAN-FORWARD";
    let mut scene = Scene::new(mode)?;
    scene.service("web", &plain("web", 1))?;
    scene.endpoints("web", PLAIN, &["b1"])?;
    scene.settle()?;
    let to = SocketAddr::new(cluster_ip(1, family), PORT);
    let forward = |scene: &Scene| chains::forward(scene.site.node("host1"), variant, family);
    let ask = |scene: &Scene| {
        scene.site.pod("client-a").run(move || ask::ask(Protocol::Tcp, to, None, ask::SILENCE))
    };
    ensure!(ask(&scene)?.pod() == Some("b1"), "before anybody drops: {}", ask(&scene)?);

    chains::refuse_forwarded(scene.site.node("host1"), variant, family)?;
    scene.site.restart_proxy("host1")?;
    scene
        .site
        .proxy("host1")?
        .wait_for_log("--accept-forwarded (acceptForwarded: true) lets them pass", SOON)?;
    ensure!(ask(&scene)? == Outcome::Silence, "without the flag: {}", ask(&scene)?);
    ensure!(!forward(&scene)?.concat().contains(OURS), "without the flag there is no rule");

    scene.site.stop_proxy("host1");
    scene.site.start_proxy("host1", mode.flags(Setting::AcceptForwarded))?;
    let answers = |outcome: &Outcome| outcome.pod() == Some("b1");
    scene.await_outcome("client-a", Protocol::Tcp, to, answers)?;
    // Somebody comes behind it.
    chains::append_to_forward(scene.site.node("host1"), variant, family)?;
    eventually(SOON * 3, || {
        let rules = forward(&scene)?;
        let last = rules.last().is_some_and(|rule| rule.contains(OURS));
        let once = rules.iter().filter(|rule| rule.contains(OURS)).count() == 1;
        if last && once { Ok(()) } else { Err(anyhow!("it is not the last rule: {rules:?}")) }
    })?;
    scene.await_outcome("client-a", Protocol::Tcp, to, answers)?;

    scene.site.stop_proxy("host1");
    let launch = scene.site.launch("host1", mode.flags(Setting::AcceptForwarded));
    let (code, output) = launch.cleanup(scene.site.node("host1"))?;
    ensure!(code == Some(0), "cleanup: {code:?} {output}");
    ensure!(!forward(&scene)?.concat().contains("PORTOLAN"), "cleanup leaves {:?}", forward(&scene)?);
    scene.site.start_proxy("host1", mode.flags(Setting::AcceptForwarded))?;
    scene.await_outcome("client-a", Protocol::Tcp, to, answers)?;
    scene.site.stop_proxy("host1");
    scene.site.start_proxy("host1", mode.flags(Setting::Default))?;
    ensure!(!forward(&scene)?.concat().contains("PORTOLAN"), "without the flag it goes");
    ensure!(ask(&scene)? == Outcome::Silence, "without the flag: {}", ask(&scene)?);
    Ok(())
}

/// Sources equal to the Service's own LB addresses are allowed where the ranges hold the node's
/// address (spec §3.18): cloud agents make the addresses local to the node, which then uses them as
/// source.
pub(crate) fn source_ranges_self_access(mode: Mode, family: Family) -> anyhow::Result<()> {
    let scene = Scene::new(mode)?;
    let service = |name: &str, number: u8, ranges: &[&str]| {
        let service = ServiceManifest::new(name, &Family::ALL.map(|family| cluster_ip(number, family)))
            .kind("LoadBalancer")
            .port("tcp", Protocol::Tcp, PORT)
            .spec("loadBalancerSourceRanges", serde_json::json!(ranges));
        Family::ALL.iter().fold(service, |service, family| service.ingress(vip(number, *family), "VIP"))
    };
    for (name, number, ranges) in [
        ("node-in-ranges", 1, &["192.168.50.1/32", "fd00:50::1/128"]),
        ("node-not-in-ranges", 2, &["192.168.50.77/32", "fd00:50::77/128"]),
    ] {
        scene.service(name, &service(name, number, ranges))?;
        scene.endpoints(name, &[("tcp", Protocol::Tcp)], &["a1", "b1"])?;
        let length = if family == Family::V4 { 32 } else { 128 };
        scene.site.add_address("host1", ipnet::IpNet::new(vip(number, family), length)?)?;
    }
    scene.settle()?;
    for (number, expected) in [(1, true), (2, false)] {
        let to = SocketAddr::new(vip(number, family), PORT);
        let own = Some(to.ip());
        let outcome = scene.site.node("host1").run(move || ask::ask(Protocol::Tcp, to, own, ask::SILENCE))?;
        ensure!(outcome.pod().is_some() == expected, "from the VIP {to} itself: {outcome}");
        ensure!(expected || outcome == Outcome::Silence, "refused ranges are silent, this is {outcome}");
    }
    Ok(())
}

fn vip(number: u8, family: Family) -> std::net::IpAddr {
    match family {
        Family::V4 => [203, 0, 113, 200 + number].into(),
        Family::V6 => [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x200 + u16::from(number)].into(),
    }
}

/// The health-check port says whether this node has endpoints (spec §11.10).
pub(crate) fn health_check_port(mode: Mode, family: Family) -> anyhow::Result<()> {
    let world = world(mode, Setting::Default).map_err(anyhow::Error::msg)?;
    for (node, port, expected) in [
        (HOST1, HEALTH_CHECK, 200),
        (HOST2, HEALTH_CHECK, 200),
        (HOST1, HEALTH_CHECK_REMOTE, 503),
        (HOST2, HEALTH_CHECK_REMOTE, 200),
    ] {
        let to = SocketAddr::new(underlay(node, family), port);
        // The ports are opened when the rules are in force, by another thread.
        let status = eventually(SOON, || world.site.http_status(world.site.outside(), to, SOON))?;
        ensure!(status == expected, "{to}: {status}, not {expected}");
    }
    Ok(())
}

/// The health-check port is answered where everything else that comes to the node is dropped (spec
/// §3.14, §5.18).
pub(crate) fn health_check_port_behind_a_firewall() -> anyhow::Result<()> {
    const HEALTH: u16 = 32_010;
    let scene = Scene::new(Mode::Iptables)?;
    let service = ServiceManifest::new("checked", &Family::ALL.map(|family| cluster_ip(1, family)))
        .kind("LoadBalancer")
        .port("tcp", Protocol::Tcp, PORT)
        .spec("externalTrafficPolicy", serde_json::json!("Local"))
        .spec("healthCheckNodePort", serde_json::json!(HEALTH))
        .ingress(vip(1, Family::V4), "VIP");
    scene.service("checked", &service)?;
    scene.endpoints("checked", &[("tcp", Protocol::Tcp)], &["a1"])?;
    scene.settle()?;
    let node = scene.site.node("host1");
    let address = underlay(HOST1, Family::V4);
    let _own = scene.site.respond_on_node("host1", "own", SocketAddr::new(address, 8765))?;
    let own = SocketAddr::new(address, 8765);
    let ask = || scene.site.outside().run(move || ask::ask(Protocol::Tcp, own, None, ask::SILENCE));
    ensure!(ask()?.pod() == Some("own"), "before the firewall: {}", ask()?);
    crate::chains::refuse_input(node)?;
    ensure!(ask()? == Outcome::Silence, "behind the firewall: {}", ask()?);
    let to = SocketAddr::new(address, HEALTH);
    let status = eventually(SOON, || scene.site.http_status(scene.site.outside(), to, SOON))?;
    ensure!(status == 200, "the health-check port: {status}");
    Ok(())
}
