//! A node with two pods that answer, one that asks, and an API server that only the node can reach.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use portolan_apiserver::{Credentials, Double, Options, Resource, State};
use portolan_lab::netns::Namespace;
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};
use portolan_tests::manifests::{EndpointManifest, PodManifest, ServiceManifest, node, slice};
use portolan_tests::proxy::{Launch, Objects, Proxy};
use portolan_tests::site::{Plan, PlanNode, Site};
use serde_json::Value;
use tempfile::TempDir;

/// The node.
pub(crate) const NODE: &str = "host1";
/// How long what takes milliseconds may take on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(10);
/// How long the proxy may take to notice that an API server that was away is back, on a machine
/// that is busy with other tests: its longest pause is under 2 s.
pub(crate) const RECOVERY: Duration = Duration::from_secs(15);

const PODS: [(&str, &str); 3] = [("a", "10.244.1.11"), ("b", "10.244.1.12"), ("client", "10.244.1.13")];

/// The node and its API server.
pub(crate) struct Scene {
    site: Site,
    pub(crate) server: Double,
    folder: TempDir,
    settled: AtomicU8,
}

impl Scene {
    /// With an API server that works, and knows the node.
    pub(crate) fn new() -> anyhow::Result<Scene> {
        Scene::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> anyhow::Result<Scene> {
        let host = PlanNode::new(NODE, "192.168.50.1", "10.244.1.0/24");
        let object = node(NODE, None, &host.addresses, &host.pod_networks);
        let pod = |(name, address): &(&str, &str)| PodManifest::new(name, NODE, address).port("", 8080);
        let site = Site::build(&Plan {
            nodes: vec![host],
            pods: PODS.iter().map(pod).collect(),
            outside: vec!["192.168.50.100".parse()?],
            through: NODE.to_owned(),
            load_balancers: Vec::new(),
        })?;
        let server = site.node(NODE).run(|| Double::start(options))??;
        server.apply(object)?;
        let folder = TempDir::new_in("/run").context("a folder for the kubeconfig")?;
        Ok(Scene { site, server, folder, settled: AtomicU8::new(0) })
    }

    /// A file of this scene's own.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The node's namespace.
    pub(crate) fn node(&self) -> &Namespace {
        self.site.node(NODE)
    }

    /// How to start the proxy.
    pub(crate) fn launch(&self, credentials: &Credentials) -> anyhow::Result<Launch> {
        let kubeconfig = self.file("kubeconfig");
        self.server.kubeconfig(&kubeconfig, credentials)?;
        Ok(Launch { objects: Objects::Cluster(kubeconfig), ..self.site.launch(NODE, []) })
    }

    /// The proxy, once it is ready.
    pub(crate) fn start(&self) -> anyhow::Result<Proxy> {
        self.launch(&Credentials::None)?.start(self.node())
    }

    /// The proxy, wherever it is on its way.
    pub(crate) fn begin(&self) -> anyhow::Result<Proxy> {
        self.launch(&Credentials::None)?.begin(self.site.node(NODE))
    }

    pub(crate) fn start_as(&self, credentials: &Credentials) -> anyhow::Result<Proxy> {
        self.launch(credentials)?.start(self.site.node(NODE))
    }

    /// A Service at 10.96.0.`number` with these pods behind it.
    pub(crate) fn service(&self, number: u8, pods: &[&str]) -> anyhow::Result<()> {
        self.server.load([service(number).object(), endpoints(number, pods)])?;
        Ok(())
    }

    /// Other pods behind a Service.
    pub(crate) fn endpoints(&self, number: u8, pods: &[&str]) -> anyhow::Result<()> {
        self.server.apply(endpoints(number, pods))?;
        Ok(())
    }

    /// The Service is deleted, and its slice.
    pub(crate) fn delete(&self, number: u8) -> anyhow::Result<()> {
        let deleted = self.server.delete(Resource::Services, "default", &format!("s{number}"))
            && self.server.delete(Resource::EndpointSlices, "default", &format!("s{number}-1"));
        ensure!(deleted, "Service {number} was not there");
        Ok(())
    }

    /// One connection from the client pod.
    pub(crate) fn ask(&self, number: u8) -> anyhow::Result<Outcome> {
        self.ask_within(number, ask::PATIENCE)
    }

    fn ask_within(&self, number: u8, patience: Duration) -> anyhow::Result<Outcome> {
        let to = SocketAddr::from(([10, 96, 0, number], 80));
        Ok(self.site.pod("client").run(move || ask::ask(Protocol::Tcp, to, None, patience))?)
    }

    /// A Service is answered by this pod, now.
    pub(crate) fn answered_by(&self, number: u8, pod: &str) -> anyhow::Result<()> {
        let outcome = self.ask(number)?;
        ensure!(outcome.pod() == Some(pod), "Service {number}: {outcome}, not {pod}");
        Ok(())
    }

    /// A Service comes to be answered by this pod.
    pub(crate) fn becomes(&self, number: u8, pod: &str, patience: Duration) -> anyhow::Result<()> {
        self.until(number, patience, |outcome| outcome.pod() == Some(pod))
    }

    /// A Service comes to be answered by nobody.
    pub(crate) fn vanishes(&self, number: u8, patience: Duration) -> anyhow::Result<()> {
        self.until(number, patience, |outcome| outcome.pod().is_none())
    }

    fn until(&self, number: u8, patience: Duration, wanted: impl Fn(&Outcome) -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            // What is not forwarded is heard of as silence: asking paces itself.
            let outcome = self.ask_within(number, ask::SILENCE)?;
            if wanted(&outcome) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "Service {number}: still {outcome} after {patience:?}");
        }
    }

    /// Returns when everything that was changed before is in force: a Service made after it
    /// answers.
    pub(crate) fn settle(&self) -> anyhow::Result<()> {
        let number = 200 + self.settled.fetch_add(1, Ordering::Relaxed);
        self.service(number, &["a"])?;
        self.becomes(number, "a", SOON)
    }

    /// `/healthz`: its status, and its body.
    pub(crate) fn health(&self) -> anyhow::Result<(u16, Value)> {
        let at = SocketAddr::from(([127, 0, 0, 1], 10_256));
        let (status, body) = self
            .site
            .node(NODE)
            .run(|| ask::http_get(at, "/healthz", ask::PATIENCE))?
            .map_err(|error| anyhow!("{at}/healthz: {error}"))?;
        Ok((status, serde_json::from_str(&body).with_context(|| body.clone())?))
    }

    /// The API server sees something, or has seen it.
    pub(crate) fn server_sees(
        &self,
        what: &str,
        patience: Duration,
        holds: impl FnMut(&State) -> bool,
    ) -> anyhow::Result<()> {
        ensure!(self.server.wait_for(holds, patience), "not within {patience:?}: {what}");
        Ok(())
    }

    /// The proxy watches Services and slices.
    pub(crate) fn watched(&self, patience: Duration) -> anyhow::Result<()> {
        self.server_sees("watches of Services and slices", patience, |state| {
            state.watchers(Resource::Services) > 0 && state.watchers(Resource::EndpointSlices) > 0
        })
    }

    /// How many requests of this resource there have been that list it all: lists, and watches that
    /// begin with one.
    pub(crate) fn lists(&self, resource: Resource) -> usize {
        self.server.look(|state| {
            let requests = state.requests().iter().filter(|request| request.resource == Some(resource));
            requests
                .filter(|request| request.code == Some(200))
                // One object is asked for to learn the server's version.
                .filter(|request| request.parameter("limit") != Some("1"))
                .filter(|request| !request.is_watch() || request.parameter("sendInitialEvents").is_some())
                .count()
        })
    }
}

pub(crate) fn service(number: u8) -> ServiceManifest {
    ServiceManifest::new(&format!("s{number}"), &[[10, 96, 0, number].into()]).port("http", Protocol::Tcp, 80)
}

pub(crate) fn endpoints(number: u8, pods: &[&str]) -> Value {
    let members: Vec<_> = pods
        .iter()
        .map(|pod| {
            let (_, address) = PODS.iter().find(|(name, _)| name == pod).expect("a pod of the scene");
            EndpointManifest::new(address.parse().expect("an address"), Some(NODE))
        })
        .collect();
    let ports = [("http", Protocol::Tcp, 8080)];
    slice(&format!("s{number}-1"), &format!("s{number}"), Family::V4, &ports, &members)
}
