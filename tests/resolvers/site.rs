//! A network namespace in which `portolan dns` answers, and programs look names up.

use std::fmt::Write;
use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::Family;
use portolan_tests::{ask, site};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::outside;

/// Where `portolan dns` is asked.
const SERVER: [&str; 2] = ["10.53.0.10", "fd00:53::10"];
/// The server of names outside.
const OUTSIDE: &str = "10.53.0.20";
const READY: &str = "127.0.0.1:8181";
const METRICS: &str = "127.0.0.1:9153";
/// Nothing takes this long unless it is broken.
const LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at a process of which nothing can be awaited.
const LOOK: Duration = Duration::from_millis(10);
/// Every resolver here waits longer than this before it asks again: whoever is slower has not been
/// answered, or could not use the answer.
const AT_ONCE: Duration = Duration::from_secs(2);

const COREFILE: &str = ".:53 {
    bind 10.53.0.10 fd00:53::10
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 5
    }
    prometheus 127.0.0.1:9153
    forward . 10.53.0.20
}
";

/// As in the lab, which has no outside: names there are nowhere.
pub(crate) const NOTHING_OUTSIDE: &str = "cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
    bind 10.53.0.10 fd00:53::10
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa ip6.arpa
}
.:53 {
    bind 10.53.0.10 fd00:53::10
    template ANY ANY {
        rcode NXDOMAIN
    }
}
";

/// The objects that there are names for. `large` is added to them.
const MANIFESTS: &str = "
kind: Namespace
apiVersion: v1
metadata: {name: shop}
---
kind: Service
apiVersion: v1
metadata: {name: web, namespace: shop}
spec: {clusterIPs: [10.96.0.80, 'fd00:10:96::80'], ports: [{name: http, port: 80}]}
---
kind: Service
apiVersion: v1
metadata: {name: four, namespace: shop}
spec: {clusterIP: 10.96.0.4, ports: [{port: 80}]}
---
kind: Service
apiVersion: v1
metadata: {name: six, namespace: shop}
spec: {clusterIP: 'fd00:10:96::6', ports: [{port: 80}]}
---
kind: Service
apiVersion: v1
metadata: {name: api, namespace: other}
spec: {clusterIPs: [10.96.0.70, 'fd00:10:96::70'], ports: [{port: 80}]}
---
kind: Service
apiVersion: v1
metadata: {name: out, namespace: shop}
spec: {type: ExternalName, externalName: www.example.com}
---
kind: Service
apiVersion: v1
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: api.other.svc.cluster.local}
---
kind: Service
apiVersion: v1
metadata: {name: down, namespace: shop}
spec: {clusterIP: None, ports: [{port: 80}]}
---
kind: Service
apiVersion: v1
metadata: {name: large, namespace: shop}
spec: {clusterIP: None, ports: [{port: 80}]}
---
";

/// How many addresses `large` has, all of IPv4.
pub(crate) const LARGE: usize = 300;

/// The namespace. Everything in it ends with this.
pub(crate) struct Site {
    namespace: Namespace,
    folder: TempDir,
    server: Child,
    /// Other programs that were started.
    others: Vec<Child>,
}

/// A program that has ended.
pub(crate) struct Ran {
    pub(crate) stdout: String,
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
}

/// How many questions the server has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Questions {
    pub(crate) udp: u64,
    pub(crate) tcp: u64,
}

impl Site {
    /// A site whose programs are to ask over `family`, with the search list of a pod.
    pub(crate) fn new(family: Family) -> anyhow::Result<Site> {
        Site::with(family, COREFILE)
    }

    /// The same with this Corefile.
    pub(crate) fn with(family: Family, corefile: &str) -> anyhow::Result<Site> {
        let namespace = Namespace::new("the resolvers")?;
        let folder = TempDir::new_in("/run")?;
        // systemd-resolved asks nobody while there is only loopback.
        let mut script = "ip link set lo up; ip link add eth0 type veth peer eth1; ip link set eth0 up; \
                          ip link set eth1 up"
            .to_owned();
        for address in SERVER.iter().chain([&OUTSIDE]) {
            // Without looking whether another host has it: it can be bound at once.
            let at_once = if address.contains(':') { "nodad" } else { "" };
            write!(script, "; ip address add {address} dev eth0 {at_once}")?;
        }
        run(&namespace, "sh", &["-ec", &script])?;
        outside::answer(&namespace, SocketAddr::new(OUTSIDE.parse()?, 53))?;
        fs::create_dir(folder.path().join("manifests"))?;
        fs::write(folder.path().join("manifests/all.yaml"), MANIFESTS.to_owned() + &large())?;
        fs::write(folder.path().join("Corefile"), corefile)?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new(site::binary());
        command.args(["dns", "--state-dir=", "--threads=2", "--conf"]).arg(folder.path().join("Corefile"));
        command.arg("--manifests").arg(folder.path().join("manifests"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = namespace.spawn(&mut command)?;
        let site = Site { namespace, folder, server, others: Vec::new() };
        let ready: SocketAddr = READY.parse()?;
        site.until("the server is ready", || {
            let page = site.namespace.run(|| ask::http_get(ready, "/ready", LIMIT))?;
            Ok(page.is_ok_and(|(code, _)| code == 200))
        })?;
        site.resolver(self::server(family)?)?;
        Ok(site)
    }

    /// Has programs ask `server` from now on.
    pub(crate) fn resolver(&self, server: IpAddr) -> anyhow::Result<()> {
        let text = format!(
            "search shop.svc.cluster.local svc.cluster.local cluster.local corp.example\n\
             nameserver {server}\noptions ndots:5\n"
        );
        Ok(fs::write(self.resolv_conf(), text)?)
    }

    fn resolv_conf(&self) -> PathBuf {
        self.folder.path().join("resolv.conf")
    }

    /// Runs a program that looks something up.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> anyhow::Result<Ran> {
        // In a mount namespace of its own, with the site's resolv.conf in place of the machine's.
        const AS_IN_A_POD: &str = "mount --bind \"$0\" /etc/resolv.conf && exec timeout 60 \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", AS_IN_A_POD]).arg(self.resolv_conf());
        command.arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let begun = Instant::now();
        let output = self.namespace.spawn(&mut command)?.wait_with_output()?;
        Ok(Ran {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            code: output.status.code(),
            took: begun.elapsed(),
        })
    }

    /// Starts a program that goes on until the site ends.
    pub(crate) fn start(&mut self, command: &mut Command) -> anyhow::Result<()> {
        self.others.push(self.namespace.spawn(command)?);
        Ok(())
    }

    /// Waits until something is so that sends no event.
    pub(crate) fn until(
        &self,
        what: &str,
        mut holds: impl FnMut() -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while !holds()? {
            if begun.elapsed() > LIMIT {
                bail!("not within {LIMIT:?}: {what}\n{}", self.log());
            }
            std::thread::sleep(LOOK);
        }
        Ok(())
    }

    /// The questions that the server has answered so far.
    pub(crate) fn questions(&self) -> anyhow::Result<Questions> {
        let at: SocketAddr = METRICS.parse()?;
        let (_, page) = self.namespace.run(|| ask::http_get(at, "/metrics", LIMIT))??;
        let mut questions = Questions::default();
        for line in page.lines().filter(|line| line.starts_with("coredns_dns_requests_total{")) {
            let (_, count) = line.rsplit_once(' ').context("a metric without a value")?;
            let count: u64 = count.parse()?;
            let by_tcp = line.contains("proto=\"tcp\"");
            *if by_tcp { &mut questions.tcp } else { &mut questions.udp } += count;
        }
        Ok(questions)
    }

    /// What the server has written.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for child in self.others.iter_mut().chain([&mut self.server]) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Ran {
    /// Fails if the program has waited for an answer.
    pub(crate) fn at_once(&self) -> anyhow::Result<()> {
        ensure!(self.took < AT_ONCE, "took {:?}; it printed\n{}", self.took, self.stdout);
        Ok(())
    }
}

/// The address of `portolan dns`.
pub(crate) fn server(family: Family) -> anyhow::Result<IpAddr> {
    Ok(SERVER[usize::from(family == Family::V6)].parse()?)
}

/// The EndpointSlices of `large`, as a cluster has them: of 100 endpoints each.
fn large() -> String {
    let slice = |number: usize| {
        let endpoints: Vec<Value> =
            (0..100).map(|last| json!({"addresses": [format!("10.1.{number}.{last}")]})).collect();
        json!({
            "kind": "EndpointSlice",
            "apiVersion": "discovery.k8s.io/v1",
            "metadata": {
                "name": format!("large-{number}"),
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "large"},
            },
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": endpoints,
        })
    };
    let documents: Vec<String> = (0..LARGE / 100).map(|number| slice(number).to_string()).collect();
    documents.join("\n---\n")
}

fn run(namespace: &Namespace, program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status = namespace.spawn(Command::new(program).args(arguments))?.wait()?;
    ensure!(status.success(), "{program} {arguments:?}: {status}");
    Ok(())
}
