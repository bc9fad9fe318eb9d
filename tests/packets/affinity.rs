//! Session affinity by client address (spec §3.20-3.23).

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};
use portolan_tests::manifests::ServiceManifest;

use crate::case::{Mode, Setting};
use crate::fixture::{HOST1, underlay};
use crate::scene::{Scene, cluster_ip, eventually, pods};

/// Each port has an affinity of its own (spec §3.20), so that one Service gives a sample: that 20
/// ports stay with their pod of three by chance happens once in 3 * 10^9 runs.
const PORTS: u16 = 20;
const FIRST_PORT: u16 = 1000;
const FIRST_NODE_PORT: u16 = 31_000;
const NUMBER: u8 = 1;
const PODS: &[&str] = &["a1", "a2", "b1"];

struct Sticky {
    mode: Mode,
    scene: Scene,
    protocol: Protocol,
    family: Family,
}

impl Sticky {
    fn new(mode: Mode, timeout: u32, protocol: Protocol, family: Family) -> anyhow::Result<Sticky> {
        let sticky = Sticky { mode, scene: Scene::new(mode)?, protocol, family };
        let mut service =
            ServiceManifest::new("sticky", &Family::ALL.map(|family| cluster_ip(NUMBER, family)))
                .kind("NodePort")
                .affinity(timeout);
        for port in 0..PORTS {
            service = service.node_port(
                &format!("p{port}"),
                protocol,
                FIRST_PORT + port,
                Some(FIRST_NODE_PORT + port),
            );
        }
        sticky.scene.service("sticky", &service)?;
        sticky.endpoints(PODS)?;
        // No other Service shows that it is in force: in one transaction with another one it would
        // be more than iptables-nft can send without privileges over the machine.
        let first = SocketAddr::new(cluster_ip(NUMBER, family), FIRST_PORT);
        sticky.scene.await_outcome("client-a", protocol, first, |outcome| outcome.pod().is_some())?;
        Ok(sticky)
    }

    fn endpoints(&self, members: &[&str]) -> anyhow::Result<()> {
        let names: Vec<_> = (0..PORTS).map(|port| format!("p{port}")).collect();
        let ports: Vec<_> = names.iter().map(|name| (name.as_str(), self.protocol)).collect();
        self.scene.endpoints("sticky", &ports, members)
    }

    /// Asks every port once: who answered, port by port.
    fn who(&self) -> anyhow::Result<Vec<String>> {
        self.who_at(self.scene.site.pod("client-a"), cluster_ip(NUMBER, self.family), FIRST_PORT)
    }

    fn who_at(
        &self,
        client: &Namespace,
        address: std::net::IpAddr,
        first: u16,
    ) -> anyhow::Result<Vec<String>> {
        let protocol = self.protocol;
        let outcomes: Vec<Outcome> = client.run(move || {
            (0..PORTS)
                .map(|port| ask::ask(protocol, SocketAddr::new(address, first + port), None, ask::PATIENCE))
                .collect()
        })?;
        Ok(pods(&outcomes)?.into_iter().map(str::to_owned).collect())
    }
}

/// Spec §3.20: a client stays with its endpoint, port by port, from inside and outside.
pub(crate) fn client_stays(mode: Mode, protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let sticky = Sticky::new(mode, 10_800, protocol, family)?;
    for (client, address, first) in [
        (sticky.scene.site.pod("client-a"), cluster_ip(NUMBER, family), FIRST_PORT),
        (sticky.scene.site.node("host1"), cluster_ip(NUMBER, family), FIRST_PORT),
        (sticky.scene.site.outside(), underlay(HOST1, family), FIRST_NODE_PORT),
    ] {
        let first_time = sticky.who_at(client, address, first)?;
        for _ in 0..5 {
            let now = sticky.who_at(client, address, first)?;
            ensure!(now == first_time, "a client moved from {first_time:?} to {now:?}");
        }
        // IPVS takes endpoints in turn, and begins with the same one at every port.
        ensure!(
            mode == Mode::Ipvs || first_time.iter().any(|pod| *pod != first_time[0]),
            "all {PORTS} ports chose {}: that is no random choice",
            first_time[0]
        );
    }
    Ok(())
}

/// Spec §3.20: all frontends of a Service port share what is remembered.
pub(crate) fn frontends_share(mode: Mode, protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let sticky = Sticky::new(mode, 10_800, protocol, family)?;
    let client = sticky.scene.site.pod("client-a");
    let at_cluster_ip = sticky.who_at(client, cluster_ip(NUMBER, family), FIRST_PORT)?;
    let at_node_port = sticky.who_at(client, underlay(HOST1, family), FIRST_NODE_PORT)?;
    ensure!(
        at_node_port == at_cluster_ip,
        "at the ClusterIP {at_cluster_ip:?} answered, at the NodePort {at_node_port:?}"
    );
    Ok(())
}

/// Spec §3.20: it ends when the timeout has passed since the last new connection.
pub(crate) fn affinity_expires(mode: Mode, protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let sticky = Sticky::new(mode, 1, protocol, family)?;
    let before = sticky.who()?;
    thread::sleep(Duration::from_millis(1500)); // the clock is what is tested
    let after = sticky.who()?;
    ensure!(before != after, "all {PORTS} ports have the endpoints of before the timeout: {after:?}");
    Ok(())
}

/// Spec §3.20: every new connection starts the timeout anew.
pub(crate) fn use_renews(mode: Mode, protocol: Protocol, family: Family) -> anyhow::Result<()> {
    // A machine that is too busy to use it often enough gets longer timeouts.
    for seconds in [3, 12, 48] {
        if stays_in_use(mode, seconds, protocol, family)? {
            return Ok(());
        }
    }
    bail!("this machine is too busy to test timeouts")
}

/// Uses an affinity for longer than its timeout, or gives up if the timeout passes between two
/// uses.
fn stays_in_use(mode: Mode, seconds: u32, protocol: Protocol, family: Family) -> anyhow::Result<bool> {
    let timeout = Duration::from_secs(seconds.into());
    let sticky = Sticky::new(mode, seconds, protocol, family)?;
    let mut last = Instant::now();
    let first_time = sticky.who()?;
    let end = last + timeout + timeout / 2;
    while Instant::now() < end {
        thread::sleep(timeout / 6); // the clock is what is tested
        let now = sticky.who()?;
        let done = Instant::now();
        if done - last >= timeout {
            return Ok(false);
        }
        last = done;
        ensure!(now == first_time, "moved from {first_time:?} to {now:?} although in use");
    }
    Ok(true)
}

/// Spec §3.23: the state outlives the proxy, killed or replaced.
pub(crate) fn survives_restart(mode: Mode, protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let mut sticky = Sticky::new(mode, 10_800, protocol, family)?;
    let first_time = sticky.who()?;
    sticky.scene.site.stop_proxy("host1");
    ensure!(sticky.who()? == first_time, "moved when the proxy was killed");
    sticky.scene.site.start_proxy("host1", sticky.mode.flags(Setting::Default))?;
    ensure!(sticky.who()? == first_time, "moved when the proxy was started again");
    sticky.scene.site.restart_proxy("host1")?;
    ensure!(sticky.who()? == first_time, "moved at the second start");
    Ok(())
}

/// docs/userspace.md, "What is lost": it ends with the process, and begins anew with the next one.
pub(crate) fn ends_with_the_process(mode: Mode, protocol: Protocol, family: Family) -> anyhow::Result<()> {
    let mut sticky = Sticky::new(mode, 10_800, protocol, family)?;
    let before = sticky.who()?;
    sticky.scene.site.restart_proxy("host1")?;
    let after = sticky.who()?;
    ensure!(before != after, "all {PORTS} ports have the endpoints of before the restart: {after:?}");
    ensure!(sticky.who()? == after, "clients do not stay where they went");
    Ok(())
}

/// Spec §3.21: when an endpoint goes, its clients move, the others stay.
pub(crate) fn removed_endpoint_loses_its_clients(
    mode: Mode,
    protocol: Protocol,
    family: Family,
) -> anyhow::Result<()> {
    let sticky = Sticky::new(mode, 10_800, protocol, family)?;
    let before = sticky.who()?;
    sticky.endpoints(&["a1", "a2"])?;
    eventually(crate::scene::SOON, || {
        ensure!(!sticky.who()?.iter().any(|pod| pod == "b1"), "b1 still answers");
        Ok(())
    })?;
    sticky.scene.settle()?;
    let after = sticky.who()?;
    for (port, (before, after)) in before.iter().zip(&after).enumerate() {
        ensure!(
            before == "b1" || before == after,
            "port {port} moved from {before} to {after}, which had stayed"
        );
    }
    ensure!(sticky.who()? == after, "clients that had to move do not stay where they went");
    sticky.endpoints(PODS)?;
    sticky.scene.settle()?;
    ensure!(sticky.who()? == after, "clients moved because an endpoint came");
    Ok(())
}
