//! Ports of Services: their numbers, protocols and names.

use anyhow::{Context, bail, ensure};
use libtest_mimic::Completion;
use portolan_e2e::api::is_status;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::objects::{HTTP, UDP};
use portolan_e2e::pod::Place;
use serde_json::{Value, json};

use super::expect::{Kind, each_answers, name, name_by_udp, nobody_answers, succeed};
use crate::client::{cluster_ip, host_port, node_port};
use crate::{Case, Outcome};

const BOTH: [&str; 2] = ["server-a", "server-b"];

pub(super) const CASES: &[Case] = &[
    ("Services should serve endpoints on same port and different protocols", same_port),
    ("Services should serve multiport endpoints from pods", multiport),
    ("Services should be updated after adding or deleting ports", added_and_deleted),
    (
        "Services should support named targetPorts that resolve to different ports on different endpoints",
        named,
    ),
    ("Services should be able to create a functioning NodePort service", functioning_node_port),
    ("Services should prevent NodePort collisions", collisions),
    ("Services should check NodePort out-of-range", out_of_range),
    ("Services should release NodePorts on delete", released),
];

/// TCP and UDP at port 80, then one of them alone.
fn same_port(cluster: &Cluster) -> Outcome {
    let service = "multiprotocol";
    let created = cluster.create_service(service, "tier", "web", &json!({}))?;
    cluster.wait_for_endpoints(service, &BOTH)?;
    let ip = cluster_ip(&created)?;
    let (tcp, udp) = (name(&host_port(ip, 80)), name_by_udp((ip, 80)));
    let client = Place::Pod(cluster.node(0));
    let answers = |ask: &str| each_answers(ask, &BOTH);
    succeed(cluster, client, &[answers(&tcp), answers(&udp)])?;
    let one = |protocol: &str, target: u16| json!({"ports": [{"name": "one", "protocol": protocol, "port": 80, "targetPort": target}]});
    cluster.patch_service(service, &one("TCP", HTTP))?;
    succeed(cluster, client, &[answers(&tcp), nobody_answers(&udp)])?;
    cluster.patch_service(service, &one("UDP", UDP))?;
    succeed(cluster, client, &[answers(&udp), nobody_answers(&tcp)])?;
    Ok(Completion::Completed)
}

/// A server whose port over TCP has this name and number.
fn with_port(cluster: &Cluster, name: &str, tier: &str, port: &str, number: u16) -> Value {
    let mut pod = cluster.server(name, tier, cluster.node(0));
    let container = &mut pod["spec"]["containers"][0];
    container["args"][1] = json!(format!("--http-port={number}"));
    container["ports"] = json!([{"name": port, "containerPort": number}]);
    container["readinessProbe"]["httpGet"]["port"] = json!(number);
    pod
}

/// Two ports, each of which one pod has.
fn multiport(cluster: &Cluster) -> Outcome {
    let service = "multi-endpoint";
    cluster.start(&with_port(cluster, "multi-one", service, "one", 8080))?;
    cluster.start(&with_port(cluster, "multi-two", service, "two", 8090))?;
    let ports = json!([
        {"name": "first", "port": 80, "targetPort": "one"},
        {"name": "second", "port": 81, "targetPort": "two"},
    ]);
    let created = cluster.create_service(service, "tier", service, &json!({"ports": ports}))?;
    let ip = cluster_ip(&created)?;
    let (first, second) = (name(&host_port(ip, 80)), name(&host_port(ip, 81)));
    let client = Place::Pod(cluster.node(1));
    succeed(cluster, client, &[each_answers(&first, &["multi-one"]), each_answers(&second, &["multi-two"])])?;
    cluster.delete_pod("multi-one")?;
    succeed(cluster, client, &[nobody_answers(&first), each_answers(&second, &["multi-two"])])?;
    Ok(Completion::Completed)
}

fn added_and_deleted(cluster: &Cluster) -> Outcome {
    let service = "edit-port";
    let created = cluster.create_service(service, "tier", "web", &json!({}))?;
    let ip = cluster_ip(&created)?;
    let (old, new) = (name(&host_port(ip, 80)), name(&host_port(ip, 81)));
    let client = Place::Pod(cluster.node(0));
    let port = |name: &str, number: u16| json!({"name": name, "port": number, "targetPort": HTTP});
    for (ports, scripts) in [
        (json!([port("old", 80), port("new", 81)]), [each_answers(&old, &BOTH), each_answers(&new, &BOTH)]),
        (json!([port("new", 81)]), [nobody_answers(&old), each_answers(&new, &BOTH)]),
        (json!([port("old", 80)]), [nobody_answers(&new), each_answers(&old, &BOTH)]),
    ] {
        cluster.patch_service(service, &json!({"ports": ports}))?;
        succeed(cluster, client, &scripts)?;
    }
    Ok(Completion::Completed)
}

fn named(cluster: &Cluster) -> Outcome {
    let service = "named-target";
    cluster.start(&with_port(cluster, "named-one", service, "web-port", 8080))?;
    cluster.start(&with_port(cluster, "named-two", service, "web-port", 9090))?;
    let ports = json!([{"name": "http", "port": 80, "targetPort": "web-port"}]);
    let created = Kind::NodePort.create(cluster, service, ("tier", service), &json!({"ports": ports}))?;
    let mut scripts = Vec::new();
    for kind in [Kind::ClusterIp, Kind::NodePort] {
        scripts.push(each_answers(&name(&kind.target(cluster, &created)?), &["named-one", "named-two"]));
    }
    succeed(cluster, Place::Pod(cluster.node(1)), &scripts)?;
    Ok(Completion::Completed)
}

/// By its name, its ClusterIP, and its port on each node.
fn functioning_node_port(cluster: &Cluster) -> Outcome {
    let service = "nodeport-test";
    let created = Kind::NodePort.create(cluster, service, ("tier", "web"), &json!({}))?;
    let port = node_port(&created)?;
    let mut targets = vec![service.to_owned(), host_port(cluster_ip(&created)?, 80)];
    let nodes = &cluster.nodes()[..cluster.nodes().len().min(3)];
    targets.extend(nodes.iter().map(|node| host_port(node.addresses[0], port)));
    let scripts: Vec<String> = targets.iter().map(|target| each_answers(&name(target), &BOTH)).collect();
    succeed(cluster, Place::Pod(cluster.node(1)), &scripts)?;
    Ok(Completion::Completed)
}

/// What the API server says to a Service with this NodePort.
fn refused(cluster: &Cluster, service: &str, port: u64) -> anyhow::Result<String> {
    let ports = json!([{"name": "http", "port": 80, "targetPort": HTTP, "nodePort": port}]);
    match Kind::NodePort.create(cluster, service, ("tier", "web"), &json!({"ports": ports})) {
        Err(error) if is_status(&error, 422) => Ok(format!("{error:#}")),
        Err(error) => Err(error),
        Ok(created) => bail!("NodePort {port} was given: {created}"),
    }
}

fn taken(cluster: &Cluster, service: &str) -> anyhow::Result<u64> {
    let created = Kind::NodePort.create(cluster, service, ("tier", "web"), &json!({}))?;
    created["spec"]["ports"][0]["nodePort"].as_u64().context("no NodePort")
}

fn collisions(cluster: &Cluster) -> Outcome {
    let port = taken(cluster, "nodeport-collision-1")?;
    let said = refused(cluster, "nodeport-collision-2", port)?;
    ensure!(said.contains("provided port is already allocated"), "{said}");
    Ok(Completion::Completed)
}

fn out_of_range(cluster: &Cluster) -> Outcome {
    let said = refused(cluster, "nodeport-range", 80)?;
    ensure!(said.contains("not in the valid range"), "{said}");
    Ok(Completion::Completed)
}

fn released(cluster: &Cluster) -> Outcome {
    let port = taken(cluster, "nodeport-reuse")?;
    cluster.delete_service("nodeport-reuse")?;
    let ports = json!([{"name": "http", "port": 80, "targetPort": HTTP, "nodePort": port}]);
    let created =
        Kind::NodePort.create(cluster, "nodeport-reuse-2", ("tier", "web"), &json!({"ports": ports}))?;
    let ask = name(&Kind::NodePort.target(cluster, &created)?);
    succeed(cluster, Place::Pod(cluster.node(0)), &[each_answers(&ask, &BOTH)])?;
    Ok(Completion::Completed)
}
