//! Who reaches a Service, and with what.

use anyhow::ensure;
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::json;

use super::expect::{Kind, each_answers, name, name_by_udp, nobody_answers, succeed};
use crate::client::{REFUSED, WITHIN, cluster_ip, ends_with, get, host_port, until_success};
use crate::observed::ends_connections;
use crate::{Case, Outcome};

const BOTH: [&str; 2] = ["server-a", "server-b"];

pub(super) const CASES: &[Case] = &[
    ("Networking Granular Checks: Services should function for pod-Service: http", |cluster| {
        reaches(cluster, "pod-service-http", Place::Pod(cluster.node(0)), false)
    }),
    ("Networking Granular Checks: Services should function for pod-Service: udp", |cluster| {
        reaches(cluster, "pod-service-udp", Place::Pod(cluster.node(0)), true)
    }),
    ("Networking Granular Checks: Services should function for node-Service: http", |cluster| {
        reaches(cluster, "node-service-http", Place::Host(cluster.node(0)), false)
    }),
    ("Networking Granular Checks: Services should function for node-Service: udp", |cluster| {
        reaches(cluster, "node-service-udp", Place::Host(cluster.node(0)), true)
    }),
    ("Networking Granular Checks: Services should update endpoints: http", |cluster| {
        updates(cluster, "update-endpoints-http", false)
    }),
    ("Networking Granular Checks: Services should update endpoints: udp", |cluster| {
        updates(cluster, "update-endpoints-udp", true)
    }),
    ("Networking Granular Checks: Services should be able to handle large requests: http", |cluster| {
        large(cluster, "large-http", false)
    }),
    ("Networking Granular Checks: Services should be able to handle large requests: udp", |cluster| {
        large(cluster, "large-udp", true)
    }),
    (
        "Networking Granular Checks: Services should function for service endpoints using hostNetwork",
        on_hosts,
    ),
    (
        "Networking Granular Checks: Services should function for multiple endpoint-Services with same selector",
        same_selector,
    ),
    ("Services should serve a basic endpoint from pods", basic_endpoint),
    ("Services should be able to up and down services", up_and_down),
    ("Services should preserve source pod IP for traffic thru service cluster IP", source_stays),
];

/// By ClusterIP and by NodePort.
fn reaches(cluster: &Cluster, service: &str, client: Place<'_>, udp: bool) -> Outcome {
    let created = Kind::NodePort.create(cluster, service, ("tier", "web"), &json!({}))?;
    let mut scripts = Vec::new();
    for kind in [Kind::ClusterIp, Kind::NodePort] {
        let ask = if udp {
            name_by_udp(kind.udp(cluster, &created)?)
        } else {
            name(&kind.target(cluster, &created)?)
        };
        scripts.push(each_answers(&ask, &BOTH));
    }
    succeed(cluster, client, &scripts)?;
    Ok(Completion::Completed)
}

/// One of two pods is deleted.
fn updates(cluster: &Cluster, service: &str, udp: bool) -> Outcome {
    let (first, second) = (format!("{service}-1"), format!("{service}-2"));
    cluster.start_server(&first, service, cluster.node(0), 0)?;
    cluster.start_server(&second, service, cluster.node(1), 0)?;
    let created = cluster.create_service(service, "tier", service, &json!({}))?;
    let ask = if udp {
        name_by_udp(Kind::ClusterIp.udp(cluster, &created)?)
    } else {
        name(&Kind::ClusterIp.target(cluster, &created)?)
    };
    let client = Place::Pod(cluster.node(0));
    succeed(cluster, client, &[each_answers(&ask, &[&first, &second])])?;
    cluster.delete_pod(&first)?;
    succeed(cluster, client, &[each_answers(&ask, &[&second])])?;
    Ok(Completion::Completed)
}

/// 1,200 characters: they fit into one packet of UDP, and take two segments of TCP with the head.
fn large(cluster: &Cluster, service: &str, udp: bool) -> Outcome {
    let created = cluster.create_service(service, "tier", "web", &json!({}))?;
    cluster.wait_for_endpoints(service, &BOTH)?;
    let text = "x".repeat(1200);
    let ask = if udp {
        crate::client::datagram(cluster_ip(&created)?, 80, &format!("echo {text}"))
    } else {
        get(&Kind::ClusterIp.target(cluster, &created)?, &format!("/echo?msg={text}"))
    };
    let script = until_success(&format!("{ask} | grep -x {text}"));
    let output = cluster.run(Place::Pod(cluster.node(0)), &script, WITHIN)?;
    ensure!(output.code == 0, "{service}: {output:?}");
    Ok(Completion::Completed)
}

/// The port of servers on a node's own network: hardly anything else has it.
const HOST_PORT: u16 = 10181;

fn on_hosts(cluster: &Cluster) -> Outcome {
    let service = "host-endpoints";
    let nodes = &cluster.nodes()[..cluster.nodes().len().min(2)];
    for (number, node) in nodes.iter().enumerate() {
        let mut pod = cluster.server(&format!("{service}-{number}"), service, node);
        pod["spec"]["hostNetwork"] = json!(true);
        let container = &mut pod["spec"]["containers"][0];
        container["args"][1] = json!(format!("--http-port={HOST_PORT}"));
        container["args"][2] = json!(format!("--udp-port={HOST_PORT}"));
        container["readinessProbe"]["httpGet"]["port"] = json!(HOST_PORT);
        cluster.start(&pod)?;
    }
    let ports = json!([
        {"name": "http", "protocol": "TCP", "port": 80, "targetPort": HOST_PORT},
        {"name": "udp", "protocol": "UDP", "port": 80, "targetPort": HOST_PORT},
    ]);
    let created = Kind::NodePort.create(cluster, service, ("tier", service), &json!({"ports": ports}))?;
    let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
    let mut scripts = Vec::new();
    for kind in [Kind::ClusterIp, Kind::NodePort] {
        scripts.push(each_answers(&name(&kind.target(cluster, &created)?), &names));
        scripts.push(each_answers(&name_by_udp(kind.udp(cluster, &created)?), &names));
    }
    for place in [Place::Pod(cluster.node(0)), Place::Host(cluster.node(0))] {
        succeed(cluster, place, &scripts)?;
    }
    Ok(Completion::Completed)
}

fn same_selector(cluster: &Cluster) -> Outcome {
    let [one, other] = ["same-selector-1", "same-selector-2"];
    let mut asks = Vec::new();
    for service in [one, other] {
        let created = cluster.create_service(service, "tier", "web", &json!({}))?;
        asks.push(name(&Kind::ClusterIp.target(cluster, &created)?));
    }
    let client = Place::Pod(cluster.node(0));
    succeed(cluster, client, &[each_answers(&asks[0], &BOTH), each_answers(&asks[1], &BOTH)])?;
    cluster.delete_service(other)?;
    succeed(cluster, client, &[nobody_answers(&asks[1]), each_answers(&asks[0], &BOTH)])?;
    Ok(Completion::Completed)
}

/// No pod, one, two, one, and none again.
fn basic_endpoint(cluster: &Cluster) -> Outcome {
    let service = "basic-endpoint";
    let created = cluster.create_service(service, "tier", service, &json!({}))?;
    let target = Kind::ClusterIp.target(cluster, &created)?;
    let (ask, client) = (name(&target), Place::Pod(cluster.node(1)));
    ends_with(cluster, client, &target, REFUSED)?;
    cluster.start_server("basic-1", service, cluster.node(0), 0)?;
    succeed(cluster, client, &[each_answers(&ask, &["basic-1"])])?;
    cluster.start_server("basic-2", service, cluster.node(1), 0)?;
    succeed(cluster, client, &[each_answers(&ask, &["basic-1", "basic-2"])])?;
    cluster.delete_pod("basic-1")?;
    succeed(cluster, client, &[each_answers(&ask, &["basic-2"])])?;
    cluster.delete_pod("basic-2")?;
    ends_with(cluster, client, &target, REFUSED)?;
    Ok(Completion::Completed)
}

fn up_and_down(cluster: &Cluster) -> Outcome {
    let ask = |service: &str| {
        let created = Kind::NodePort.create(cluster, service, ("tier", "web"), &json!({}))?;
        let both = [Kind::ClusterIp, Kind::NodePort].map(|kind| kind.target(cluster, &created));
        both.into_iter().map(|target| Ok(name(&target?))).collect::<anyhow::Result<Vec<_>>>()
    };
    let client = Place::Host(cluster.node(0));
    let up = |asks: &[String]| asks.iter().map(|ask| each_answers(ask, &BOTH)).collect::<Vec<_>>();
    let down = |asks: &[String]| asks.iter().map(|ask| nobody_answers(ask)).collect::<Vec<_>>();
    let (first, second) = (ask("up-down-1")?, ask("up-down-2")?);
    succeed(cluster, client, &[up(&first), up(&second)].concat())?;
    cluster.delete_service("up-down-1")?;
    succeed(cluster, client, &[down(&first), up(&second)].concat())?;
    let third = ask("up-down-3")?;
    succeed(cluster, client, &[up(&second), up(&third)].concat())?;
    Ok(Completion::Completed)
}

fn source_stays(cluster: &Cluster) -> Outcome {
    if ends_connections(cluster)? {
        return Ok(Completion::ignored_with("in mode userspace, endpoints see the proxy's address"));
    }
    let service = "sourceip-test";
    let created = cluster.create_service(service, "server", "server-a", &json!({}))?;
    let target = host_port(cluster_ip(&created)?, 80);
    let script = until_success(&get(&target, "/clientip"));
    for node in &cluster.nodes()[..cluster.nodes().len().min(2)] {
        let client = format!("{service}-{}", node.name);
        let output = cluster.run_as(&client, Place::Pod(node), &script, WITHIN)?;
        let own = cluster.pod_ip(&client)?;
        let seen: std::net::SocketAddr = output.text.trim().parse()?;
        ensure!(seen.ip() == own, "the server saw {seen}, and the client is {own}");
    }
    Ok(Completion::Completed)
}
