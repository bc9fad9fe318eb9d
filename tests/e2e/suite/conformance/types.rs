//! Services that change their type.

use anyhow::{Context, ensure};
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::{Value, json};

use super::expect::{Kind, each_answers, name, name_by_udp, nobody_answers, succeed};
use super::names::cluster_domain;
use crate::client::{cluster_ip, host_port, node_port};
use crate::{Case, Outcome};

const BOTH: [&str; 2] = ["server-a", "server-b"];

pub(super) const CASES: &[Case] = &[
    ("Services should be able to change the type from ExternalName to ClusterIP", |cluster| {
        from_external_name(cluster, Kind::ClusterIp, "externalname-clusterip")
    }),
    ("Services should be able to change the type from ExternalName to NodePort", |cluster| {
        from_external_name(cluster, Kind::NodePort, "externalname-nodeport")
    }),
    ("Services should be able to change the type from ClusterIP to ExternalName", |cluster| {
        to_external_name(cluster, Kind::ClusterIp, "clusterip-externalname")
    }),
    ("Services should be able to change the type from NodePort to ExternalName", |cluster| {
        to_external_name(cluster, Kind::NodePort, "nodeport-externalname")
    }),
    (
        "Services should be able to update service type to NodePort listening on same port number but different protocols",
        same_node_port,
    ),
    ("Services should work after the service has been recreated", recreated),
];

fn no_cluster_ip(service: &Value) -> bool {
    service["spec"]["clusterIP"].as_str().unwrap_or_default().is_empty()
}

fn from_external_name(cluster: &Cluster, kind: Kind, service: &str) -> Outcome {
    let spec = json!({"type": "ExternalName", "externalName": "example.com"});
    let created = cluster.create_service(service, "tier", "web", &spec)?;
    ensure!(no_cluster_ip(&created), "an ExternalName Service has a ClusterIP: {created}");
    let wanted = if kind == Kind::ClusterIp { "ClusterIP" } else { "NodePort" };
    let changed = cluster.patch_service(service, &json!({"type": wanted, "externalName": null}))?;
    cluster.wait_for_endpoints(service, &BOTH)?;
    let mut scripts = vec![
        each_answers(&name(&host_port(cluster_ip(&changed)?, 80)), &BOTH),
        each_answers(&name(service), &BOTH),
    ];
    if kind == Kind::NodePort {
        let port = node_port(&changed)?;
        let nodes = &cluster.nodes()[..cluster.nodes().len().min(2)];
        scripts
            .extend(nodes.iter().map(|node| each_answers(&name(&host_port(node.addresses[0], port)), &BOTH)));
    }
    succeed(cluster, Place::Pod(cluster.node(0)), &scripts)?;
    Ok(Completion::Completed)
}

fn to_external_name(cluster: &Cluster, kind: Kind, service: &str) -> Outcome {
    let other = format!("{service}-other");
    cluster.create_service(&other, "server", "server-b", &json!({}))?;
    let created = kind.create(cluster, service, ("server", "server-a"), &json!({}))?;
    cluster.wait_for_endpoints(service, &["server-a"])?;
    let asks = [name(&host_port(cluster_ip(&created)?, 80)), name(&kind.target(cluster, &created)?)];
    let client = Place::Pod(cluster.node(0));
    succeed(cluster, client, &asks.each_ref().map(|ask| each_answers(ask, &["server-a"])))?;
    let there = format!("{other}.{}.svc.{}", cluster.namespace(), cluster_domain(cluster)?);
    let changed = cluster.patch_service(service, &json!({"type": "ExternalName", "externalName": there}))?;
    ensure!(no_cluster_ip(&changed), "an ExternalName Service has a ClusterIP: {changed}");
    let port = &changed["spec"]["ports"][0]["nodePort"];
    ensure!(port.is_null(), "an ExternalName Service has a NodePort: {changed}");
    let mut scripts = asks.map(|ask| nobody_answers(&ask)).to_vec();
    // By its name the other one answers.
    scripts.push(each_answers(&name(service), &["server-b"]));
    succeed(cluster, client, &scripts)?;
    Ok(Completion::Completed)
}

fn same_node_port(cluster: &Cluster) -> Outcome {
    let service = "nodeport-update-service";
    cluster.create_service(service, "tier", "web", &json!({}))?;
    let changed = cluster.patch_service(service, &json!({"type": "NodePort"}))?;
    let port = node_port(&changed)?;
    let mut ports = changed["spec"]["ports"].clone();
    ports[1]["nodePort"] = json!(port);
    let changed = cluster.patch_service(service, &json!({"ports": ports}))?;
    ensure!(changed["spec"]["ports"][1]["nodePort"] == json!(port), "{changed}");
    cluster.wait_for_endpoints(service, &BOTH)?;
    let node = cluster.node(0).addresses[0];
    let scripts =
        [name(&host_port(node, port)), name_by_udp((node, port))].map(|ask| each_answers(&ask, &BOTH));
    succeed(cluster, Place::Pod(cluster.node(1)), &scripts)?;
    Ok(Completion::Completed)
}

/// With the address that the one before it had.
fn recreated(cluster: &Cluster) -> Outcome {
    let service = "recreated";
    let created = cluster.create_service(service, "tier", "web", &json!({}))?;
    let ip = created["spec"]["clusterIP"].as_str().context("no ClusterIP")?;
    let ask = name(&host_port(cluster_ip(&created)?, 80));
    let client = Place::Pod(cluster.node(0));
    succeed(cluster, client, &[each_answers(&ask, &BOTH)])?;
    cluster.delete_service(service)?;
    succeed(cluster, client, &[nobody_answers(&ask)])?;
    cluster.create_service(service, "tier", "web", &json!({"clusterIP": ip}))?;
    succeed(cluster, client, &[each_answers(&ask, &BOTH)])?;
    Ok(Completion::Completed)
}
