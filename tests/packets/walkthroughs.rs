//! Five public articles about Services and what their readers can do, done here: nodes, pods and
//! addresses as in the articles, endpoints from selectors and pods as a cluster would have them.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use anyhow::{anyhow, ensure};
use portolan_service::{Family, Protocol};
use portolan_tests::ask::{self, Outcome};
use portolan_tests::manifests::{EndpointManifest, PodManifest, slice};
use portolan_tests::site::{Plan, PlanNode, Site};
use portolan_tests::spread::assert_even;
use serde_json::{Value, json};

use crate::case::{Mode, Setting};
use crate::scene::{SOON, ask_in, await_outcome_in, eventually, pods};

const SAMPLE: usize = 600;
/// So many connections in a row to the new version, which is one of four endpoints, are no chance.
const MOVED: usize = 50;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn at(text: &str) -> SocketAddr {
    text.parse().expect("an address with port")
}

/// A site with a proxy on each node that takes `cluster` as pods' network and `services` as
/// Services'.
pub(crate) fn site(
    mode: Mode,
    plan: &Plan,
    cluster: &str,
    services: &str,
    flags: &[&str],
) -> anyhow::Result<Site> {
    let mut site = Site::build(plan)?;
    let cluster = format!("--cluster-cidr={cluster}");
    let services = format!("--service-cluster-ip-range={services}");
    for node in &plan.nodes {
        let own = mode.flags(Setting::NoDetector).collect::<Vec<&str>>();
        let flags = [cluster.as_str(), services.as_str()].into_iter().chain(own).chain(flags.iter().copied());
        site.start_proxy(&node.name, flags)?;
    }
    Ok(site)
}

/// Who answers `SAMPLE` connections from a namespace.
fn sample(namespace: &portolan_lab::netns::Namespace, to: SocketAddr) -> anyhow::Result<Vec<Outcome>> {
    Ok(namespace.run(move || ask::series(SAMPLE, || ask::ask(Protocol::Tcp, to, None, ask::PATIENCE)))?)
}

/// W1: a NodePort nobody listens on is answered, and so is a forward made by hand: a Service
/// without selector and an EndpointSlice to an address of another interface of the node.
pub(crate) fn w1_port_nobody_listens_on(mode: Mode) -> anyhow::Result<()> {
    let plan = Plan {
        nodes: vec![PlanNode::new("node", "10.0.0.5", "10.244.5.0/24")],
        pods: vec![
            PodManifest::new("karmaweb", "node", "10.244.5.241")
                .labels(&[("app", "karmaweb")])
                .port("http", 3000),
        ],
        outside: vec![ip("10.0.0.100")],
        through: "node".into(),
        load_balancers: vec![],
    };
    let site = site(mode, &plan, "10.244.0.0/16", "10.110.0.0/16", &["--nodeport-addresses=0.0.0.0/0"])?;
    let node = site.node("node");
    site.add_address("node", "15.0.0.1/24".parse()?)?;
    let forwarded = site.respond_on_node("node", "by-hand", at("15.0.0.1:8765"))?;
    site.manifests().write(
        "karmaweb",
        &[json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "karmaweb"},
            "spec": {
                "type": "NodePort", "clusterIP": "10.110.199.177", "selector": {"app": "karmaweb"},
                "ports": [{"name": "http", "port": 3000, "targetPort": "http", "nodePort": 32264}],
            },
        })],
    )?;
    site.manifests().write(
        "forward",
        &[
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "forward"},
                "spec": {
                    "clusterIP": "10.110.199.178", "externalIPs": ["10.0.0.5"],
                    "ports": [{"name": "web", "port": 8909}],
                },
            }),
            slice(
                "forward",
                "forward",
                Family::V4,
                &[("web", Protocol::Tcp, 8765)],
                &[EndpointManifest::new(ip("15.0.0.1"), Some("node"))],
            ),
        ],
    )?;
    let by = |pod: &'static str| move |outcome: &Outcome| outcome.pod() == Some(pod);
    await_outcome_in(node, Protocol::Tcp, at("10.0.0.5:32264"), by("karmaweb"))?;
    await_outcome_in(site.outside(), Protocol::Tcp, at("10.0.0.5:32264"), by("karmaweb"))?;
    let answer = await_outcome_in(site.outside(), Protocol::Tcp, at("10.110.199.177:3000"), by("karmaweb"))?;
    let Outcome::Answered(answer) = answer else { return Err(anyhow!("unreachable: {answer}")) };
    ensure!(answer.client != ip("10.0.0.100"), "traffic to the ClusterIP from outside is not masqueraded");
    await_outcome_in(node, Protocol::Tcp, at("10.0.0.5:8909"), by("by-hand"))?;
    await_outcome_in(site.outside(), Protocol::Tcp, at("10.0.0.5:8909"), by("by-hand"))?;
    // No socket listens on either port.
    for port in [32264, 8909] {
        ensure!(site.is_port_free("node", port)?, "something listens on {port}");
    }
    drop(forwarded);
    Ok(())
}

/// W2: a request to either node's NodePort reaches one of two pods with probability 1/2, wherever
/// the pod is.
pub(crate) fn w2_two_pods_behind_a_node_port(mode: Mode) -> anyhow::Result<()> {
    let hello = |name, node, address| {
        PodManifest::new(name, node, address).labels(&[("app", "hello-app")]).port("http", 8080)
    };
    let plan = Plan {
        nodes: vec![
            PlanNode::new("host1", "192.168.1.11", "172.16.166.0/24"),
            PlanNode::new("host2", "192.168.1.12", "172.16.192.0/24"),
        ],
        pods: vec![hello("hello-1", "host1", "172.16.166.130"), hello("hello-2", "host2", "172.16.192.89")],
        outside: vec![ip("192.168.1.100")],
        through: "host1".into(),
        load_balancers: vec![],
    };
    let site = site(mode, &plan, "172.16.0.0/16", "10.104.0.0/16", &[])?;
    site.manifests().write(
        "hello-app",
        &[json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello-app-service"},
            "spec": {
                "type": "NodePort", "clusterIP": "10.104.81.240", "selector": {"app": "hello-app"},
                "ports": [{"protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": 30811}],
            },
        })],
    )?;
    for (client, to) in [
        (site.outside(), "192.168.1.11:30811"),
        (site.outside(), "192.168.1.12:30811"),
        (site.pod("hello-1"), "10.104.81.240:80"),
    ] {
        await_outcome_in(client, Protocol::Tcp, at(to), |outcome| outcome.pod().is_some())?;
        let outcomes = sample(client, at(to))?;
        assert_even(pods(&outcomes)?, &["hello-1", "hello-2"]).map_err(|error| anyhow!("{to}: {error}"))?;
    }
    Ok(())
}

fn hello_world(policy: &str, ranges: Option<&[&str]>) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello-world"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": "10.19.240.7", "externalTrafficPolicy": policy,
            "selector": {"app": "hello-world"},
            "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 30510}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "35.199.0.10"}]}},
    });
    if policy == "Local" {
        service["spec"]["healthCheckNodePort"] = json!(31999);
    }
    if let Some(ranges) = ranges {
        service["spec"]["loadBalancerSourceRanges"] = json!(ranges);
    }
    service
}

/// W3: a load balancer in front; policy Local keeps the source address; source ranges drop
/// strangers; pods on the host network are reached on the node's own address.
pub(crate) fn w3_load_balancer(mode: Mode) -> anyhow::Result<()> {
    let hello = |name, node, address| {
        PodManifest::new(name, node, address).labels(&[("app", "hello-world")]).port("http", 8080)
    };
    let plan = Plan {
        nodes: vec![
            PlanNode::new("gke-1", "10.138.15.2", "10.16.0.0/24"),
            PlanNode::new("gke-2", "10.138.15.3", "10.16.1.0/24"),
            PlanNode::new("gke-3", "10.138.15.4", "10.16.2.0/24"),
        ],
        pods: vec![hello("hello-1", "gke-1", "10.16.0.11"), hello("hello-2", "gke-2", "10.16.1.8")],
        outside: vec![ip("10.138.15.100"), ip("10.138.15.200")],
        through: "gke-1".into(),
        load_balancers: vec![],
    };
    let site = site(mode, &plan, "10.16.0.0/14", "10.19.240.0/20", &[])?;
    let outside = site.outside();
    let lb = at("35.199.0.10:80");
    site.manifests().write("hello-world", &[hello_world("Cluster", None)])?;
    await_outcome_in(outside, Protocol::Tcp, lb, |outcome| outcome.pod().is_some())?;
    let outcomes = sample(outside, lb)?;
    assert_even(pods(&outcomes)?, &["hello-1", "hello-2"]).map_err(|error| anyhow!("{error}"))?;
    for outcome in &outcomes {
        let Outcome::Answered(answer) = outcome else { continue };
        ensure!(
            answer.client != ip("10.138.15.100"),
            "policy Cluster masquerades; {} saw the client",
            answer.pod
        );
    }

    site.manifests().write("hello-world", &[hello_world("Local", None)])?;
    eventually(SOON, || {
        for outcome in sample(outside, lb)? {
            let local = matches!(&outcome, Outcome::Answered(answer)
                if answer.pod == "hello-1" && is_seen(mode, answer.client, "10.138.15.100"));
            ensure!(local, "policy Local: {outcome}");
        }
        Ok(())
    })?;
    await_outcome_in(outside, Protocol::Tcp, at("10.138.15.4:30510"), |outcome| {
        *outcome == Outcome::Silence
    })?;
    for (node, status) in [("10.138.15.2", 200), ("10.138.15.3", 200), ("10.138.15.4", 503)] {
        let to = SocketAddr::new(ip(node), 31999);
        let answered = eventually(SOON, || site.http_status(outside, to, SOON))?;
        ensure!(answered == status, "health check of {node}: {answered}, not {status}");
    }

    site.manifests().write("hello-world", &[hello_world("Cluster", Some(&["10.138.15.64/26"]))])?;
    let stranger = Some(ip("10.138.15.200"));
    eventually(SOON, || match outside.run(move || ask::ask(Protocol::Tcp, lb, stranger, ask::SILENCE))? {
        Outcome::Silence => Ok(()),
        other => Err(anyhow!("a source outside of the ranges: {other}")),
    })?;
    let welcome = ask_in(outside, Protocol::Tcp, lb)?;
    ensure!(welcome.pod().is_some(), "a source inside the ranges: {welcome}");

    host_network_is_reached(&site)
}

/// The endpoint sees the client's own address. In mode userspace it sees the proxy's.
fn is_seen(mode: Mode, seen: IpAddr, client: &str) -> bool {
    (seen == ip(client)) != mode.has_sockets()
}

/// A pod on the host network is reached on the node's own address.
fn host_network_is_reached(site: &Site) -> anyhow::Result<()> {
    let host_network = site.respond_on_node("gke-3", "host-pod", at("10.138.15.4:9100"))?;
    let pod = PodManifest::new("host-pod", "gke-3", "10.138.15.4")
        .labels(&[("app", "exporter")])
        .port("metrics", 9100);
    site.manifests().write(
        "exporter",
        &[
            pod.on_host_network().object(),
            json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": "exporter"},
                "spec": {
                    "clusterIP": "10.19.240.8", "selector": {"app": "exporter"},
                    "ports": [{"port": 9100, "targetPort": "metrics"}],
                },
            }),
        ],
    )?;
    for client in [site.pod("hello-1"), site.node("gke-1"), site.node("gke-3"), site.outside()] {
        await_outcome_in(client, Protocol::Tcp, at("10.19.240.8:9100"), |outcome| {
            outcome.pod() == Some("host-pod")
        })?;
    }
    drop(host_network);
    Ok(())
}

/// W4: a process on the node that opens the NodePort itself does not get the traffic.
pub(crate) fn w4_node_port_in_use(mode: Mode) -> anyhow::Result<()> {
    let labels = [("app.kubernetes.io/instance", "prometheus"), ("app.kubernetes.io/name", "grafana")];
    let grafana = PodManifest::new("grafana", "cc-sauron", "10.244.0.115")
        .namespace("monitoring")
        .labels(&labels)
        .port("", 3000);
    let plan = Plan {
        nodes: vec![PlanNode::new("cc-sauron", "192.168.4.10", "10.244.0.0/24")],
        pods: vec![grafana],
        outside: vec![ip("192.168.4.100")],
        through: "cc-sauron".into(),
        load_balancers: vec![],
    };
    let site = site(mode, &plan, "10.244.0.0/16", "10.111.0.0/16", &[])?;
    let usurper = site.respond_on_node("cc-sauron", "usurper", at("192.168.4.10:31577"))?;
    let node_port = at("192.168.4.10:31577");
    let alone = ask_in(site.outside(), Protocol::Tcp, node_port)?;
    ensure!(alone.pod() == Some("usurper"), "before there is a Service: {alone}");
    site.manifests().write(
        "grafana",
        &[json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "grafana-example-service", "namespace": "monitoring"},
            "spec": {
                "type": "NodePort", "clusterIP": "10.111.189.177", "clusterIPs": ["10.111.189.177"],
                "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster",
                "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack", "sessionAffinity": "None",
                "ports": [{"nodePort": 31577, "port": 3000, "protocol": "TCP", "targetPort": 3000}],
                "selector": {"app.kubernetes.io/instance": "prometheus", "app.kubernetes.io/name": "grafana"},
            },
        })],
    )?;
    for client in [site.outside(), site.node("cc-sauron"), site.pod("grafana")] {
        await_outcome_in(client, Protocol::Tcp, node_port, |outcome| outcome.pod() == Some("grafana"))?;
        let again = ask_in(client, Protocol::Tcp, node_port)?;
        ensure!(again.pod() == Some("grafana"), "once in force: {again}");
    }
    drop(usurper);
    Ok(())
}

pub(crate) fn web(name: &str, node: &str, address: &str, version: &str, port: u16) -> PodManifest {
    PodManifest::new(name, node, address)
        .labels(&[("app", "web-front-end"), ("version", version)])
        .port("web-port", port)
}

fn svc_test(selector: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "svc-test-1"},
        "spec": {
            "clusterIP": "10.11.12.125", "selector": selector,
            "ports": [{"protocol": "TCP", "port": 80, "targetPort": "web-port"}],
        },
    })
}

/// The first nodes of W5.
pub(crate) fn w5_nodes(count: u8) -> Vec<PlanNode> {
    let node = |n: u8| {
        PlanNode::new(
            &format!("ubuntu-{n}"),
            &format!("10.20.30.{}", 70 + n),
            &format!("10.100.{}.0/24", n - 1),
        )
    };
    (1..=count).map(node).collect()
}

/// W5: five nodes; named target ports, scaling to three, moving to a new version without an error,
/// and the affinity of `kubernetes`.
pub(crate) fn w5_from_pod_to_service(mode: Mode) -> anyhow::Result<()> {
    let v1 = [
        web("v1-a", "ubuntu-4", "10.100.3.8", "v1", 8080),
        web("v1-b", "ubuntu-1", "10.100.0.12", "v1", 8080),
        web("v1-c", "ubuntu-3", "10.100.2.14", "v1", 8080),
    ];
    let v2 = web("v2-a", "ubuntu-2", "10.100.1.9", "v2", 9090);
    let api = |name, node, address| {
        PodManifest::new(name, node, address).labels(&[("component", "apiserver")]).port("https", 6443)
    };
    let apis = [
        api("api-1", "ubuntu-1", "10.100.0.20"),
        api("api-2", "ubuntu-2", "10.100.1.20"),
        api("api-3", "ubuntu-3", "10.100.2.20"),
    ];
    let mut plan = Plan {
        nodes: w5_nodes(5),
        pods: vec![PodManifest::new("net-test", "ubuntu-3", "10.100.2.9"), v1[0].clone()],
        outside: vec![ip("10.20.30.100")],
        through: "ubuntu-1".into(),
        load_balancers: vec![],
    };
    plan.pods.extend(apis);
    let mut site = site(mode, &plan, "10.100.0.0/16", "10.11.12.0/24", &[])?;
    site.manifests().write("svc-test-1", &[svc_test(&json!({"app": "web-front-end"}))])?;
    let service = at("10.11.12.125:80");
    let answered = |outcome: &Outcome| outcome.pod().is_some();
    await_outcome_in(site.pod("net-test"), Protocol::Tcp, service, answered)?;
    // The node itself, too: the OUTPUT hook.
    await_outcome_in(site.node("ubuntu-3"), Protocol::Tcp, service, answered)?;
    // The reply comes from the Service's address, or the connection would not stand; the pod sees
    // the client's.
    let Outcome::Answered(answer) = ask_in(site.pod("net-test"), Protocol::Tcp, service)? else {
        return Err(anyhow!("net-test is not answered"));
    };
    ensure!(is_seen(mode, answer.client, "10.100.2.9") && answer.port == 8080, "{answer:?}");

    // Scaled to three.
    site.add_pod(&v1[1])?;
    site.add_pod(&v1[2])?;
    await_outcome_in(site.pod("net-test"), Protocol::Tcp, service, |outcome| outcome.pod() == Some("v1-c"))?;
    await_outcome_in(site.pod("net-test"), Protocol::Tcp, service, |outcome| outcome.pod() == Some("v1-b"))?;
    let outcomes = sample(site.pod("net-test"), service)?;
    assert_even(pods(&outcomes)?, &["v1-a", "v1-b", "v1-c"]).map_err(|error| anyhow!("{error}"))?;

    // Both versions behind one Service at the same time, on different ports.
    site.add_pod(&v2)?;
    let outcome = await_outcome_in(site.pod("net-test"), Protocol::Tcp, service, |outcome| {
        outcome.pod() == Some("v2-a")
    })?;
    ensure!(matches!(&outcome, Outcome::Answered(answer) if answer.port == 9090), "{outcome}");
    let outcomes = sample(site.pod("net-test"), service)?;
    assert_even(pods(&outcomes)?, &["v1-a", "v1-b", "v1-c", "v2-a"]).map_err(|error| anyhow!("{error}"))?;

    move_to_v2(&site, service)?;
    api_has_affinity(&site)
}

/// Narrows the selector, which moves all new connections without an error in between.
fn move_to_v2(site: &Site, service: SocketAddr) -> anyhow::Result<()> {
    let (started, has_started) = mpsc::channel();
    let outcomes = thread::scope(|scope| {
        let stream = scope.spawn(move || {
            site.pod("net-test").run(|| {
                let deadline = Instant::now() + 2 * SOON;
                let mut outcomes = Vec::new();
                let mut new_in_a_row = 0;
                while new_in_a_row < MOVED && Instant::now() < deadline {
                    let outcome = ask::ask(Protocol::Tcp, service, None, ask::PATIENCE);
                    new_in_a_row = if outcome.pod() == Some("v2-a") { new_in_a_row + 1 } else { 0 };
                    outcomes.push(outcome);
                    // Nobody listens after the first.
                    let _ = started.send(());
                }
                outcomes
            })
        });
        has_started.recv()?;
        let selector = json!({"app": "web-front-end", "version": "v2"});
        site.manifests().write("svc-test-1", &[svc_test(&selector)])?;
        anyhow::Ok(stream.join().expect("the stream does not panic")?)
    })?;
    let answered = pods(&outcomes)?;
    ensure!(
        answered.len() >= MOVED && answered.iter().rev().take(MOVED).all(|pod| *pod == "v2-a"),
        "not moved: {:?}",
        answered.iter().rev().take(MOVED).collect::<Vec<_>>()
    );
    Ok(())
}

/// The API's own Service has affinity.
fn api_has_affinity(site: &Site) -> anyhow::Result<()> {
    site.manifests().write("kubernetes", &[json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "kubernetes"},
        "spec": {
            "clusterIP": "10.11.12.1", "selector": {"component": "apiserver"},
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
            "ports": [{"name": "https", "port": 443, "targetPort": 6443}],
        },
    })])?;
    let api = at("10.11.12.1:443");
    for client in [site.pod("net-test"), site.node("ubuntu-5"), site.pod("v1-a")] {
        let first = await_outcome_in(client, Protocol::Tcp, api, |outcome| outcome.pod().is_some())?;
        for _ in 0..30 {
            let next = ask_in(client, Protocol::Tcp, api)?;
            ensure!(next.pod() == first.pod(), "{:?} after {:?}", next.pod(), first.pod());
        }
    }
    Ok(())
}
