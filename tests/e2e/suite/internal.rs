//! Addresses inside of the cluster.

use std::net::IpAddr;

use anyhow::ensure;
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::json;

use crate::Outcome;
use crate::client::{
    REFUSED, WITHIN, answering, cluster_ip, cluster_ips, datagram, ends_with, host_port, names, until_success,
};

/// With two endpoints, as many connections miss one of them once in 2^39 times.
const CONNECTIONS: usize = 40;
const BOTH: [&str; 2] = ["server-a", "server-b"];

pub(crate) fn cluster_ip_of_both(cluster: &Cluster, name: &str) -> anyhow::Result<IpAddr> {
    let service = cluster.create_service(name, "tier", "web", &json!({}))?;
    cluster.wait_for_endpoints(name, &BOTH)?;
    cluster_ip(&service)
}

pub(crate) fn cluster_ip_answers(cluster: &Cluster) -> Outcome {
    let target = host_port(cluster_ip_of_both(cluster, "cluster-ip")?, 80);
    for i in 0..cluster.nodes().len().min(2) {
        for place in [Place::Pod(cluster.node(i)), Place::Host(cluster.node(i))] {
            let answered = answering(cluster, place, &target, CONNECTIONS)?;
            ensure!(answered == names(&BOTH), "{target} from {place:?}: {answered:?} answered");
        }
    }
    Ok(Completion::Completed)
}

pub(crate) fn udp(cluster: &Cluster) -> Outcome {
    let ip = cluster_ip_of_both(cluster, "udp")?;
    // Each has a port of its own, and so its own draw.
    let ask = datagram(ip, 80, "hostname");
    let script = format!(
        "({}) >/dev/null || exit 1; for i in $(seq 20); do {ask}; echo; done; true",
        until_success(&ask)
    );
    let output = cluster.run(Place::Pod(cluster.node(0)), &script, WITHIN)?;
    let answered = output.lines().into_iter().map(str::to_owned).collect();
    ensure!(output.code == 0 && names(&BOTH) == answered, "UDP to {ip}:80: {output:?}");
    Ok(Completion::Completed)
}

pub(crate) fn dual_stack(cluster: &Cluster) -> Outcome {
    let service =
        cluster.create_service("dual-stack", "tier", "web", &json!({"ipFamilyPolicy": "PreferDualStack"}))?;
    let ips = cluster_ips(&service)?;
    if ips.len() < 2 {
        return Ok(Completion::ignored_with("the cluster has one family"));
    }
    cluster.wait_for_endpoints("dual-stack", &BOTH)?;
    for ip in ips {
        let target = host_port(ip, 80);
        let answered = answering(cluster, Place::Pod(cluster.node(0)), &target, CONNECTIONS)?;
        ensure!(answered == names(&BOTH), "{target}: {answered:?} answered");
    }
    Ok(Completion::Completed)
}

pub(crate) fn hairpin(cluster: &Cluster) -> Outcome {
    let service = cluster.create_service("hairpin", "server", "server-a", &json!({}))?;
    cluster.wait_for_endpoints("hairpin", &["server-a"])?;
    let target = host_port(cluster_ip(&service)?, 80);
    // netexec runs a command for whoever asks: so the server itself is the client.
    let inner = format!("curl --silent --max-time 3 http://{target}/hostname");
    let command = format!(
        "curl --silent --fail --max-time 5 --get --data-urlencode 'cmd={inner}' 'http://{target}/shell' | grep server-a"
    );
    let output = cluster.run(Place::Pod(cluster.node(1)), &until_success(&command), WITHIN)?;
    ensure!(output.code == 0, "server-a to itself by {target}: {output:?}");
    Ok(Completion::Completed)
}

pub(crate) fn no_endpoints(cluster: &Cluster) -> Outcome {
    let service = cluster.create_service("no-endpoints", "tier", "none", &json!({}))?;
    let target = host_port(cluster_ip(&service)?, 80);
    for place in [Place::Pod(cluster.node(0)), Place::Host(cluster.node(0))] {
        ends_with(cluster, place, &target, REFUSED)?;
    }
    Ok(Completion::Completed)
}
