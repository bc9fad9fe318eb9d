//! Weights of endpoints, by annotation (docs/configuration.md).

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use anyhow::{Context, ensure};
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, PATIENCE};
use portolan_tests::manifests::slice;
use serde_json::{Value, json};

use crate::case::Mode;
use crate::fixture::{TARGET, pod_address};
use crate::scene::{Scene, ask_over, cluster_ip, endpoint, plain, pods};
use crate::traced::output;

const ANNOTATION: &str = "portolan.dev/endpoint-weights";
const NUMBER: u8 = 1;
const CONNECTIONS: usize = 400;

struct Weighted {
    scene: Scene,
    family: Family,
    to: SocketAddr,
}

impl Weighted {
    /// A Service `web` whose endpoints are pods `web-v1-0` (a1) and `web-v2-0` (b1).
    fn new(mode: Mode, family: Family, weights: &str) -> anyhow::Result<Weighted> {
        let to = SocketAddr::new(cluster_ip(NUMBER, family), 80);
        let weighted = Weighted { scene: Scene::new(mode)?, family, to };
        weighted.annotate(weights)?;
        let members = [("a1", "web-v1-0"), ("b1", "web-v2-0")];
        let members = members.map(|(pod, name)| endpoint(pod, family).pod(name));
        let ports = [("tcp", Protocol::Tcp, TARGET), ("udp", Protocol::Udp, TARGET)];
        let slice = slice("web", "web", family, &ports, &members);
        weighted.scene.site.manifests().write("web-slice", &[slice])?;
        weighted.scene.settle()?;
        Ok(weighted)
    }

    fn annotate(&self, weights: &str) -> anyhow::Result<()> {
        self.scene.service("web", &plain("web", NUMBER).annotation(ANNOTATION, weights))
    }

    /// How many of so many connections a1 gets; b1 gets the others.
    fn at_a1(&self, count: usize, protocol: Protocol) -> anyhow::Result<usize> {
        let to = self.to;
        let asked = move || ask::series(count, || ask::ask(protocol, to, None, PATIENCE));
        let outcomes = self.scene.site.pod("client-a").run(asked)?;
        Ok(pods(&outcomes)?.into_iter().filter(|pod| *pod == "a1").count())
    }

    /// The chance that `portolan trace` gives a1, from the rules that are in force.
    fn traced(&self) -> anyhow::Result<f64> {
        let client = pod_address("client-a", self.family).to_string();
        let packet =
            json!({"to": self.to.to_string(), "protocol": "tcp", "from": client, "in_interface": "cbr0"});
        let folder = tempfile::tempdir()?;
        let packets = folder.path().join("packets");
        std::fs::write(&packets, packet.to_string())?;
        let mut command = Command::new(&self.scene.site.launch("host1", []).binary);
        command.arg("trace").arg("--packets").arg(&packets).args(["-o", "json"]);
        let (_, text, said) = output(self.scene.site.node("host1"), &mut command)?;
        let answer: Value = serde_json::from_str(&text).with_context(|| format!("{text}{said}"))?;
        let a1 = pod_address("a1", self.family).to_string();
        let of_a1 =
            answer["endpoints"].as_array().into_iter().flatten().find(|traced| traced["ip"] == a1.as_str());
        of_a1.and_then(|traced| traced["probability"].as_f64()).with_context(|| answer.to_string())
    }
}

/// 3 to 1 are three quarters, whoever chooses.
pub(crate) fn shares(mode: Mode, family: Family) -> anyhow::Result<()> {
    let weighted = Weighted::new(mode, family, "web-v1-*: 3, web-v2-*: 1")?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        // Six standard deviations: by chance, more happens once in 500 million times.
        let found = weighted.at_a1(CONNECTIONS, protocol)?;
        ensure!((248..=352).contains(&found), "{protocol}: {found} of {CONNECTIONS} at a1");
    }
    if matches!(mode, Mode::Nftables | Mode::Iptables) {
        let chance = weighted.traced()?;
        ensure!((chance - 0.75).abs() < 1e-6, "traced {chance}");
    }
    Ok(())
}

/// With weight 0 there are no new connections, and those that there are go on; with another weight
/// there are some again.
pub(crate) fn rest(mode: Mode, family: Family) -> anyhow::Result<()> {
    let a1 = pod_address("a1", family);
    let weighted = Weighted::new(mode, family, &format!("{a1}: 1, *: 0"))?;
    ensure!(weighted.at_a1(20, Protocol::Tcp)? == 20, "others than a1 answer");
    let to = weighted.to;
    let connect = move || TcpStream::connect_timeout(&to, PATIENCE);
    let mut open = weighted.scene.site.pod("client-a").run(connect)??;
    open.set_read_timeout(Some(PATIENCE))?;
    let first = ask_over(&mut open)?;

    weighted.annotate(&format!("{a1}: 0"))?;
    weighted.scene.settle()?;
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        ensure!(weighted.at_a1(20, protocol)? == 0, "{protocol}: a1 answers though it rests");
    }
    ensure!(ask_over(&mut open)? == first, "the open connection is elsewhere");

    // A mistake has no effect but a report.
    weighted.annotate(&format!("{a1}: none"))?;
    weighted.scene.settle()?;
    let found = weighted.at_a1(60, Protocol::Tcp)?;
    ensure!((7..=53).contains(&found), "{found} of 60 at a1");
    ensure!(ask_over(&mut open)? == first, "the open connection is elsewhere");
    let place =
        format!("Service default/web: metadata.annotations: {ANNOTATION}: \"{a1}: none\" has no weight");
    let log = weighted.scene.site.proxy("host1")?.log();
    ensure!(log.lines().filter(|line| line.contains(&place)).count() == 1, "{log}");
    Ok(())
}
