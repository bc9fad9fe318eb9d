//! The fifth walkthrough by name: `curl http://svc-test-1` from a pod, whose DNS is a Service over
//! two pods. On a node, names mean nothing.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_lab::netns::Namespace;
use portolan_service::Protocol;
use portolan_tests::ask;
use portolan_tests::manifests::PodManifest;
use portolan_tests::site::{self, Plan, PlanNode, Site};
use serde_json::json;

use crate::case::Mode;
use crate::scene::{SOON, await_outcome_in, eventually};
use crate::walkthroughs;

/// Nobody waits so long unless a question or an answer was lost, or is disliked.
const AT_ONCE: Duration = Duration::from_secs(2);
/// So many names are looked up; that none of them is asked of one of two pods is no chance.
const LOOKUPS: usize = 40;
/// No program takes this long.
const LIMIT: &str = "30";
const DNS: [&str; 2] = ["10.100.0.9", "10.100.1.7"];

const RESOLV_CONF: &str = "search default.svc.cluster.local svc.cluster.local cluster.local\n\
                           nameserver 10.11.12.254\noptions ndots:5\n";

const COREFILE: &str = "
cluster.local:53 {
    kubernetes
    prometheus :9153
}
.:53 {
    template ANY ANY {
        rcode NXDOMAIN
    }
}
";

/// The article's site with the DNS servers in its pods, which end with this.
struct Named {
    site: Site,
    servers: Vec<Child>,
    resolv_conf: PathBuf,
}

impl Drop for Named {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // It may have ended by itself.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Whether the program that the article uses is on this machine.
pub(crate) fn has_curl() -> bool {
    has("curl")
}

fn has(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

pub(crate) fn w5_by_name(mode: Mode, dual: bool) -> anyhow::Result<()> {
    let named = Named::new(mode, dual)?;
    let pod = named.site.pod("net-test");
    eventually(SOON, || named.curl(pod, &["http://svc-test-1"]).and_then(|ran| answered(&ran)))?;
    for name in [
        "svc-test-1",
        "svc-test-1.default",
        "svc-test-1.default.svc",
        "svc-test-1.default.svc.cluster.local",
        "svc-test-1.default.svc.cluster.local.",
        "SVC-TEST-1",
    ] {
        named.curl(pod, &[&format!("http://{name}/")]).and_then(|ran| answered(&ran)).context(name)?;
    }
    for (family, answers) in [("-4", true), ("-6", dual)] {
        let ran = named.curl(pod, &[family, "http://svc-test-1"])?;
        ensure!((ran.code == 0) == answers, "curl {family}: {}: {}", ran.code, ran.output);
    }
    for name in ["svc-test-2", "www.example.com", "svc-test-1.other"] {
        let ran = named.curl(pod, &[&format!("http://{name}")])?;
        ensure!(ran.code == 6, "{name}, which is nowhere: {}: {}", ran.code, ran.output);
    }
    if has("busybox") {
        named
            .run(pod, true, &["busybox", "wget", "-q", "-O", "-", "http://svc-test-1"])
            .and_then(|ran| answered(&ran))?;
    } else {
        eprintln!("busybox is not installed: SKIPPED");
    }
    named.both_servers_are_asked()?;
    named.nodes_know_no_names()
}

/// A program that has ended.
struct Ran {
    code: i32,
    output: String,
}

fn answered(ran: &Ran) -> anyhow::Result<()> {
    ensure!(ran.code == 0 && ran.output.contains("hello from v1-a"), "{}: {}", ran.code, ran.output);
    Ok(())
}

impl Named {
    fn new(mode: Mode, dual: bool) -> anyhow::Result<Named> {
        let pods = [
            ("net-test", "ubuntu-3", "10.100.2.9"),
            ("dns-1", "ubuntu-1", DNS[0]),
            ("dns-2", "ubuntu-2", DNS[1]),
        ];
        let mut pods: Vec<PodManifest> =
            pods.iter().map(|(name, node, address)| PodManifest::new(name, node, address)).collect();
        for dns in &mut pods[1..] {
            *dns = dns.clone().namespace("kube-system").labels(&[("k8s-app", "kube-dns")]);
        }
        pods.push(walkthroughs::web("v1-a", "ubuntu-4", "10.100.3.8", "v1", 8080));
        let mut plan = Plan {
            nodes: walkthroughs::w5_nodes(4),
            pods,
            outside: vec!["10.20.30.100".parse()?],
            through: "ubuntu-1".into(),
            load_balancers: vec![],
        };
        if dual {
            add_ipv6(&mut plan)?;
        }
        let (cluster, services) = if dual {
            ("10.100.0.0/16,fd00:100::/32", "10.11.12.0/24,fd00:11:12::/112")
        } else {
            ("10.100.0.0/16", "10.11.12.0/24")
        };
        let site = walkthroughs::site(mode, &plan, cluster, services, &[])?;
        let web = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc-test-1"},
            "spec": {
                "clusterIPs": if dual { json!(["10.11.12.125", "fd00:11:12::125"]) } else { json!(["10.11.12.125"]) },
                "ipFamilyPolicy": if dual { "RequireDualStack" } else { "SingleStack" },
                "selector": {"app": "web-front-end"},
                "ports": [{"protocol": "TCP", "port": 80, "targetPort": "web-port"}],
            },
        });
        let dns = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kube-dns", "namespace": "kube-system"},
            "spec": {
                "clusterIP": "10.11.12.254", "selector": {"k8s-app": "kube-dns"},
                "ports": [
                    {"name": "dns", "protocol": "UDP", "port": 53},
                    {"name": "dns-tcp", "protocol": "TCP", "port": 53},
                ],
            },
        });
        site.manifests().write("svc-test-1", &[web])?;
        site.manifests().write("kube-dns", &[dns])?;
        let [corefile, resolv_conf] =
            ["Corefile", "resolv.conf"].map(|name| site.manifests().path().with_file_name(name));
        fs::write(&corefile, COREFILE)?;
        fs::write(&resolv_conf, RESOLV_CONF)?;
        let mut named = Named { site, servers: Vec::new(), resolv_conf };
        for pod in ["dns-1", "dns-2"] {
            let mut command = Command::new(site::binary());
            command.args(["dns", "--quiet", "--threads=1", "--state-dir=", "--conf"]).arg(&corefile);
            command.arg("--manifests").arg(named.site.manifests().path()).stdin(Stdio::null());
            named.servers.push(named.site.pod(pod).spawn(&mut command)?);
        }
        Ok(named)
    }

    fn curl(&self, pod: &Namespace, arguments: &[&str]) -> anyhow::Result<Ran> {
        self.run(pod, true, &[&["curl", "-sS"], arguments].concat())
    }

    /// Runs a program, with the resolv.conf of a pod or with the node's.
    fn run(&self, at: &Namespace, in_pod: bool, words: &[&str]) -> anyhow::Result<Ran> {
        let put = if in_pod { "mount --bind \"$0\" /etc/resolv.conf && " } else { "" };
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &format!("{put}exec timeout {LIMIT} \"$@\" 2>&1")]);
        command.arg(&self.resolv_conf).args(words).stdin(Stdio::null()).stdout(Stdio::piped());
        let begun = Instant::now();
        let output = at.spawn(&mut command)?.wait_with_output()?;
        let ran = Ran {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
        };
        ensure!(begun.elapsed() < AT_ONCE, "{words:?} waits for {:?}: {}", begun.elapsed(), ran.output);
        Ok(ran)
    }

    fn both_servers_are_asked(&self) -> anyhow::Result<()> {
        let pod = self.site.pod("net-test");
        for _ in 0..LOOKUPS {
            let ran = self.run(pod, true, &["getent", "ahosts", "svc-test-1"])?;
            ensure!(ran.code == 0 && ran.output.contains("10.11.12.125"), "{}: {}", ran.code, ran.output);
        }
        for address in DNS {
            let at = format!("{address}:9153").parse()?;
            let (_, page) = pod.run(move || ask::http_get(at, "/metrics", SOON))??;
            let asked = page.lines().any(|line| line.starts_with("coredns_dns_requests_total{"));
            ensure!(asked, "{address} was never asked:\n{page}");
        }
        Ok(())
    }

    /// The Service answers there, but not by its name.
    fn nodes_know_no_names(&self) -> anyhow::Result<()> {
        let node = self.site.node("ubuntu-3");
        await_outcome_in(node, Protocol::Tcp, "10.11.12.125:80".parse()?, |outcome| {
            outcome.pod() == Some("v1-a")
        })?;
        for name in ["svc-test-1", "svc-test-1.default.svc.cluster.local"] {
            let ran = self.run(node, false, &["curl", "-sS", &format!("http://{name}")])?;
            ensure!(ran.code == 6, "{name} on a node: {}: {}", ran.code, ran.output);
        }
        Ok(())
    }
}

/// Gives nodes and pods addresses of IPv6, which the article has none of.
fn add_ipv6(plan: &mut Plan) -> anyhow::Result<()> {
    let number = |node: &PlanNode| node.name.trim_start_matches("ubuntu-").to_owned();
    for node in &mut plan.nodes {
        let number = number(node);
        node.addresses.push(format!("fd00:20:30::{number}").parse()?);
        node.pod_networks.push(format!("fd00:100:{number}::/64").parse()?);
    }
    for pod in &mut plan.pods {
        let number = pod.node.trim_start_matches("ubuntu-");
        *pod = pod.clone().address(format!("fd00:100:{number}::9").parse()?);
    }
    plan.outside.push("fd00:20:30::100".parse()?);
    Ok(())
}
