//! A lab of its own for a test that changes things: the fixture's nodes and pods, and Services as
//! the test goes.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};
use portolan_tests::manifests::{EndpointManifest, ServiceManifest, slice};
use portolan_tests::site::Site;

use crate::case::{Mode, Setting};
use crate::fixture::{self, PODS, PORT, TARGET};

/// How soon a change of manifests must have reached the packets. Generous: it takes milliseconds.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// A lab with a proxy on each node and no Services yet.
pub(crate) struct Scene {
    pub(crate) site: Site,
    pub(crate) mode: Mode,
    settled: AtomicU8,
}

impl Scene {
    /// Default flags of this mode.
    pub(crate) fn new(mode: Mode) -> anyhow::Result<Scene> {
        Scene::with(mode, Setting::Default)
    }

    /// These flags.
    pub(crate) fn with(mode: Mode, setting: Setting) -> anyhow::Result<Scene> {
        Scene::with_flags(mode, setting, mode.patience())
    }

    /// These flags, and `further` ones.
    pub(crate) fn with_flags(
        mode: Mode,
        setting: Setting,
        further: &[&'static str],
    ) -> anyhow::Result<Scene> {
        let mut site = Site::build(&fixture::plan())?;
        for node in ["host1", "host2"] {
            site.start_proxy(node, mode.flags(setting).chain(further.iter().copied()))?;
        }
        Ok(Scene { site, mode, settled: AtomicU8::new(0) })
    }

    /// Writes a Service.
    pub(crate) fn service(&self, name: &str, service: &ServiceManifest) -> anyhow::Result<()> {
        self.site.manifests().write(name, &[service.object()])
    }

    /// Writes the endpoints of a Service: these pods on port 8080 for every port of `ports`.
    pub(crate) fn endpoints(
        &self,
        name: &str,
        ports: &[(&str, Protocol)],
        pods: &[&str],
    ) -> anyhow::Result<()> {
        self.endpoints_in(&format!("{name}-slices"), name, ports, pods)
    }

    /// The same in slices, and a file, of another name, so that one Service can have several.
    pub(crate) fn endpoints_in(
        &self,
        slices_name: &str,
        service: &str,
        ports: &[(&str, Protocol)],
        pods: &[&str],
    ) -> anyhow::Result<()> {
        let ports: Vec<_> = ports.iter().map(|(name, protocol)| (*name, *protocol, TARGET)).collect();
        let slices = Family::ALL.map(|family| {
            let members: Vec<_> = pods.iter().map(|pod| endpoint(pod, family)).collect();
            let name = format!("{slices_name}-{}", family.to_string().to_lowercase());
            slice(&name, service, family, &ports, &members)
        });
        self.site.manifests().write(slices_name, &slices)
    }

    /// Returns when everything written before is in force on both nodes: a Service written after it
    /// answers, in both families, which mode iptables brings into force one after the other.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        let number = self.settled.fetch_add(1, Ordering::Relaxed) + 1;
        ensure!(number < 200, "a scene can settle 199 times");
        let name = format!("settled-{number}");
        let addresses: [IpAddr; 2] =
            [[10, 96, 3, number].into(), [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x300 + u16::from(number)].into()];
        let service = ServiceManifest::new(&name, &addresses).port("tcp", Protocol::Tcp, PORT);
        self.service(&name, &service)?;
        self.endpoints(&name, &[("tcp", Protocol::Tcp)], &["a1"])?;
        for client in ["client-a", "client-b"] {
            for address in addresses {
                let address = SocketAddr::new(address, PORT);
                self.await_outcome(client, Protocol::Tcp, address, |outcome| outcome.pod().is_some())?;
            }
        }
        Ok(())
    }

    /// Asks from a pod.
    pub(crate) fn ask(&self, from: &str, protocol: Protocol, to: SocketAddr) -> anyhow::Result<Outcome> {
        ask_in(self.site.pod(from), protocol, to)
    }

    /// Asks from a pod until `wanted` says of an outcome that it is the one, which must be soon.
    pub(crate) fn await_outcome(
        &self,
        from: &str,
        protocol: Protocol,
        to: SocketAddr,
        wanted: impl Fn(&Outcome) -> bool + Send + 'static,
    ) -> anyhow::Result<Outcome> {
        await_outcome_in(self.site.pod(from), protocol, to, wanted)
    }
}

/// One connection from a namespace.
pub(crate) fn ask_in(namespace: &Namespace, protocol: Protocol, to: SocketAddr) -> anyhow::Result<Outcome> {
    Ok(namespace.run(move || ask::ask(protocol, to, None, ask::PATIENCE))?)
}

/// Asks over a connection, which stays open, and returns the body of the answer.
pub(crate) fn ask_over(connection: &mut TcpStream) -> anyhow::Result<String> {
    connection.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if body.len() >= length.context("a length")?.parse()? {
                return Ok(body.to_owned());
            }
        }
        let mut octet = [0];
        connection.read_exact(&mut octet).with_context(|| format!("after {text:?}"))?;
        answer.push(octet[0]);
    }
}

/// Asks from a namespace until the outcome is as wanted.
pub(crate) fn await_outcome_in(
    namespace: &Namespace,
    protocol: Protocol,
    to: SocketAddr,
    wanted: impl Fn(&Outcome) -> bool + Send + 'static,
) -> anyhow::Result<Outcome> {
    namespace
        .run(move || {
            eventually(SOON, || {
                let outcome = ask::ask_early(protocol, to, ask::SILENCE);
                if wanted(&outcome) { Ok(outcome) } else { Err(outcome.to_string()) }
            })
        })?
        .map_err(|last| anyhow!("{to} over {protocol}: still {last} after {SOON:?}"))
}

/// A time limit for a quiet machine, made longer by as much as more processes want to run here than
/// there are processors.
pub(crate) fn when_busy(limit: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|minute| minute.parse().ok()).unwrap_or_default();
    let processors = thread::available_parallelism()
        .map_or(1, |processors| u16::try_from(processors.get()).unwrap_or(u16::MAX));
    limit.mul_f64((load / f64::from(processors)).max(1.0))
}

/// Tries until it succeeds or patience, that of a quiet machine, ends; then gives the last failure.
pub(crate) fn eventually<T, E>(
    patience: Duration,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + when_busy(patience);
    loop {
        match attempt() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            done => return done,
        }
    }
}

/// A ready endpoint on its node.
pub(crate) fn endpoint(pod: &str, family: Family) -> EndpointManifest {
    let node = PODS.iter().find(|(name, ..)| *name == pod).map(|(_, node, _)| *node);
    EndpointManifest::new(fixture::pod_address(pod, family), node)
}

/// A Service on both families, its ClusterIPs made from `number`, 1-250, with TCP and UDP on port
/// 80.
pub(crate) fn plain(name: &str, number: u8) -> ServiceManifest {
    ServiceManifest::new(name, &Family::ALL.map(|family| cluster_ip(number, family)))
        .port("tcp", Protocol::Tcp, PORT)
        .port("udp", Protocol::Udp, PORT)
}

/// The ports of [`plain`].
pub(crate) const PLAIN: &[(&str, Protocol)] = &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];

/// The ClusterIP that [`plain`] makes from `number`.
pub(crate) fn cluster_ip(number: u8, family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 96, 2, number].into(),
        Family::V6 => [0xfd00, 0x10, 0x96, 0, 0, 0, 0, 0x200 + u16::from(number)].into(),
    }
}

/// Fails unless every outcome is an answer, and returns who answered.
pub(crate) fn pods(outcomes: &[Outcome]) -> anyhow::Result<Vec<&str>> {
    outcomes
        .iter()
        .enumerate()
        .map(|(index, outcome)| {
            ensure!(outcome.pod().is_some(), "connection {} of {}: {outcome}", index + 1, outcomes.len());
            Ok(outcome.pod().unwrap_or_default())
        })
        .collect()
}
