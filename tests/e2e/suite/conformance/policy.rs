//! `internalTrafficPolicy: Local`: a client is served by the endpoints of its own node or not at
//! all.

use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::node::Node;
use portolan_e2e::pod::Place;
use serde_json::json;

use super::expect::{Kind, each_answers, name, nobody_answers, succeed};
use crate::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    ("Services should respect internalTrafficPolicy=Local Pod to Pod", |cluster| {
        local(cluster, "itp-pod", false, &[pod_of])
    }),
    ("Services should respect internalTrafficPolicy=Local Pod (hostNetwork: true) to Pod", |cluster| {
        local(cluster, "itp-host", false, &[host_of])
    }),
    (
        "Services should respect internalTrafficPolicy=Local Pod and Node, to Pod (hostNetwork: true)",
        |cluster| local(cluster, "itp-to-host", true, &[pod_of, host_of]),
    ),
];

/// The port of a server on a node's own network: hardly anything else has it.
const HOST_PORT: u16 = 10180;

fn pod_of(node: &Node) -> Place<'_> {
    Place::Pod(node)
}

fn host_of(node: &Node) -> Place<'_> {
    Place::Host(node)
}

fn local(cluster: &Cluster, service: &str, on_host: bool, clients: &[fn(&Node) -> Place<'_>]) -> Outcome {
    let [here, there, ..] = cluster.nodes() else {
        return Ok(Completion::ignored_with("the cluster has one node"));
    };
    let mut pod = cluster.server(service, service, here);
    let mut spec = json!({"internalTrafficPolicy": "Local"});
    let mut answers = service.to_owned();
    if on_host {
        pod["spec"]["hostNetwork"] = json!(true);
        let container = &mut pod["spec"]["containers"][0];
        container["args"][1] = json!(format!("--http-port={HOST_PORT}"));
        container["args"][2] = json!("--udp-port=-1");
        container["readinessProbe"]["httpGet"]["port"] = json!(HOST_PORT);
        spec["ports"] = json!([{"name": "http", "port": 80, "targetPort": HOST_PORT}]);
        // It says its host name.
        answers.clone_from(&here.name);
    }
    cluster.start(&pod)?;
    let created = Kind::ClusterIp.create(cluster, service, ("tier", service), &spec)?;
    cluster.wait_for_endpoints(service, &[service])?;
    let ask = name(&Kind::ClusterIp.target(cluster, &created)?);
    for client in clients {
        succeed(cluster, client(here), &[each_answers(&ask, &[&answers])])?;
        succeed(cluster, client(there), &[nobody_answers(&ask)])?;
    }
    Ok(Completion::Completed)
}
