//! Ports of a node that lead to a pod.

use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::objects::{HTTP, UDP};
use portolan_e2e::pod::Place;
use serde_json::json;

use super::expect::{each_answers, name, name_by_udp, succeed};
use crate::client::host_port;
use crate::{Case, Outcome};

pub(super) const CASES: &[Case] = &[(
    "HostPort validates that there is no conflict between pods with same hostPort but different hostIP and protocol",
    no_conflict,
)];

/// The port that upstream's test has.
const PORT: u16 = 54323;

/// One at 127.0.0.1, one at the node's address, and one there over UDP: all on one node.
fn no_conflict(cluster: &Cluster) -> Outcome {
    let node = cluster.node(0);
    let own = node.addresses[0];
    let loopback = "127.0.0.1".parse()?;
    for (pod, address, protocol, container_port) in [
        ("hostport-loopback", loopback, "TCP", HTTP),
        ("hostport-tcp", own, "TCP", HTTP),
        ("hostport-udp", own, "UDP", UDP),
    ] {
        let mut object = cluster.server(pod, "hostport", node);
        object["spec"]["containers"][0]["ports"] = json!([{
            "containerPort": container_port,
            "hostPort": PORT,
            "hostIP": address.to_string(),
            "protocol": protocol,
        }]);
        cluster.start(&object)?;
    }
    let scripts = [
        each_answers(&name(&host_port(loopback, PORT)), &["hostport-loopback"]),
        each_answers(&name(&host_port(own, PORT)), &["hostport-tcp"]),
        each_answers(&name_by_udp((own, PORT)), &["hostport-udp"]),
    ];
    succeed(cluster, Place::Host(node), &scripts)?;
    succeed(cluster, Place::Pod(cluster.node(1)), &scripts[1..])?;
    Ok(Completion::Completed)
}
