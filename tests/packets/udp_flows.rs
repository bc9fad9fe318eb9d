//! Long-lived UDP flows and connection tracking (spec §8A, and issues §13.1 that must not be had
//! here).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Flow, Outcome};

use crate::case::Mode;
use crate::fixture::{self, HOST1, PORT, underlay};
use crate::scene::{PLAIN, SOON, Scene, cluster_ip, eventually, plain};

const NUMBER: u8 = 1;
/// Flows of a sample; that all are with one endpoint of three happens once in 10^9 runs.
const FLOWS: usize = 20;

/// A scene with Service `flows` over these pods, in force.
fn scene(mode: Mode, family: Family, pods: &[&str]) -> anyhow::Result<(Scene, SocketAddr)> {
    let scene = Scene::new(mode)?;
    scene.service("flows", &plain("flows", NUMBER))?;
    scene.endpoints("flows", PLAIN, pods)?;
    scene.settle()?;
    Ok((scene, SocketAddr::new(cluster_ip(NUMBER, family), PORT)))
}

/// Flows from client-a, and who answers each.
fn flows(scene: &Scene, to: SocketAddr) -> anyhow::Result<Vec<(Flow, String)>> {
    (0..FLOWS)
        .map(|_| {
            let flow = scene.site.pod("client-a").run(move || Flow::open(to))??;
            let pod = answering(&flow)?;
            Ok((flow, pod))
        })
        .collect()
}

fn answering(flow: &Flow) -> anyhow::Result<String> {
    answering_within(flow, ask::PATIENCE)
}

fn answering_within(flow: &Flow, patience: Duration) -> anyhow::Result<String> {
    let outcome = flow.ask(patience);
    outcome.pod().map(str::to_owned).ok_or_else(|| anyhow!("a flow that was answered has {outcome}"))
}

/// Spec §8.2: flows to an endpoint that goes move to another, the others keep theirs.
pub(crate) fn endpoint_removed(mode: Mode, family: Family) -> anyhow::Result<()> {
    let (scene, to) = scene(mode, family, &["a1", "a2", "b1"])?;
    let flows = flows(&scene, to)?;
    ensure!(flows.iter().any(|(_, pod)| pod == "a1"), "no flow of {FLOWS} chose a1");
    scene.endpoints("flows", PLAIN, &["a2", "b1"])?;
    for (flow, before) in &flows {
        // A datagram or its answer that is on its way while its flow is ended is lost. So is the
        // first one after its endpoint has gone with IPVS.
        let now = eventually(SOON, || match answering_within(flow, ask::SILENCE)? {
            pod if pod == "a1" => Err(anyhow!("a flow stays with a1, which is no endpoint any more")),
            pod => Ok(pod),
        })?;
        ensure!(before == "a1" || *before == now, "a flow moved from {before} to {now}, which had stayed");
    }
    Ok(())
}

/// Spec §8.2: an endpoint that terminates and still serves keeps its flows.
pub(crate) fn endpoint_terminating(mode: Mode, family: Family) -> anyhow::Result<()> {
    let (scene, to) = scene(mode, family, &["a1", "a2", "b1"])?;
    let flows = flows(&scene, to)?;
    let slices = Family::ALL.map(|family| {
        let members = [
            crate::scene::endpoint("a1", family).terminating(),
            crate::scene::endpoint("a2", family),
            crate::scene::endpoint("b1", family),
        ];
        let ports: Vec<_> =
            PLAIN.iter().map(|(name, protocol)| (*name, *protocol, fixture::TARGET)).collect();
        portolan_tests::manifests::slice(
            &format!("flows-slices-{}", family.to_string().to_lowercase()),
            "flows",
            family,
            &ports,
            &members,
        )
    });
    scene.site.manifests().write("flows-slices", &slices)?;
    scene.settle()?;
    for (flow, before) in &flows {
        let now = answering(flow)?;
        ensure!(*before == now, "a flow moved from {before} to {now}");
    }
    Ok(())
}

/// A Service scaled to zero refuses its old flows like new ones (§13.1 is a defect of the
/// reference).
pub(crate) fn scaled_to_zero(mode: Mode, family: Family) -> anyhow::Result<()> {
    let (scene, to) = scene(mode, family, &["a1", "b1"])?;
    let flows = flows(&scene, to)?;
    scene.endpoints("flows", PLAIN, &[])?;
    for (flow, before) in &flows {
        eventually(SOON, || match flow.ask(ask::SILENCE) {
            Outcome::Refused => Ok(()),
            other => Err(anyhow!("a flow to {before}: {other}, not refused")),
        })?;
    }
    scene.endpoints("flows", PLAIN, &["a2"])?;
    for (flow, _) in &flows {
        eventually(SOON, || match flow.ask(ask::SILENCE).pod() {
            Some("a2") => Ok(()),
            other => Err(anyhow!("an endpoint is there again, and a flow gets {other:?}")),
        })?;
    }
    Ok(())
}

/// Flows of a deleted Service end (§13.1 again); another Service's go on.
pub(crate) fn service_deleted(mode: Mode, family: Family) -> anyhow::Result<()> {
    let (scene, to) = scene(mode, family, &["a1", "b1"])?;
    scene.service("other", &plain("other", NUMBER + 1))?;
    scene.endpoints("other", PLAIN, &["a1", "a2", "b1"])?;
    scene.settle()?;
    let other_flows = flows(&scene, SocketAddr::new(cluster_ip(NUMBER + 1, family), PORT))?;
    let gone = flows(&scene, to)?;
    scene.site.manifests().remove("flows")?;
    scene.site.manifests().remove("flows-slices")?;
    scene.settle()?;
    for (flow, before) in &gone {
        eventually(SOON, || match flow.ask(ask::SILENCE).pod() {
            Some(pod) => Err(anyhow!("{pod} still answers for a Service that is gone (before: {before})")),
            None => Ok(()),
        })?;
    }
    for (flow, before) in &other_flows {
        let now = answering(flow)?;
        ensure!(*before == now, "a flow of another Service moved from {before} to {now}");
    }
    Ok(())
}

/// Spec §8.4: flows that were tracked while no rule was there reach an endpoint once there is one.
pub(crate) fn service_created_late(mode: Mode, family: Family) -> anyhow::Result<()> {
    const NODE_PORT: u16 = 31_500;
    let scene = Scene::new(mode)?;
    let to = SocketAddr::new(underlay(HOST1, family), NODE_PORT);
    let early = scene.site.outside().run(move || Flow::open(to))??;
    let outcome = early.ask(ask::PATIENCE);
    ensure!(outcome == Outcome::Refused, "nothing is there yet, and the answer is {outcome}");
    let address: IpAddr = cluster_ip(NUMBER, family);
    let service = portolan_tests::manifests::ServiceManifest::new("late", &[address])
        .kind("NodePort")
        .node_port("udp", Protocol::Udp, PORT, Some(NODE_PORT));
    scene.service("late", &service)?;
    scene.endpoints("late", &[("udp", Protocol::Udp)], &["a1"])?;
    eventually(SOON, || match early.ask(ask::SILENCE) {
        Outcome::Answered(answer) if answer.pod == "a1" => Ok(()),
        other => Err(anyhow!("an early flow: {other}")),
    })
    .context("after the Service appeared")
}

/// Spec §8.7: a restart that changes nothing flushes nothing.
pub(crate) fn restart_flushes_nothing(mode: Mode, family: Family) -> anyhow::Result<()> {
    let (mut scene, to) = scene(mode, family, &["a1", "a2", "b1"])?;
    let flows = flows(&scene, to)?;
    scene.site.restart_proxy("host1")?;
    scene.settle()?;
    for (flow, before) in &flows {
        let now = answering(flow)?;
        ensure!(*before == now, "a flow moved from {before} to {now} at a restart");
    }
    Ok(())
}
