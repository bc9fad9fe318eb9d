//! Endpoints of pods that are ending: they are asked where there is no other.

use anyhow::{Context, ensure};
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::{Value, json};

use super::expect::{Kind, name, nobody_answers, succeed};
use crate::client::{WITHIN, get, got, host_port, node_port, until, until_success};
use crate::{Case, Outcome};

/// So long a pod goes on serving, in seconds. The cases need a part of it.
const LINGER: u32 = 60;

pub(super) const CASES: &[Case] = &[
    (
        "Services should fallback to terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Cluster",
        internal_cluster,
    ),
    (
        "Services should fallback to local terminating endpoints when there are no ready endpoints with internalTrafficPolicy=Local",
        internal_local,
    ),
    (
        "Services should fallback to terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Cluster",
        external_cluster,
    ),
    (
        "Services should fallback to local terminating endpoints when there are no ready endpoints with externalTrafficPolicy=Local",
        external_local,
    ),
    ("Services should fail health check node port if there are only terminating endpoints", health_check),
];

/// A Service whose only pod, on the first node, is ending. `before` is done while it is still
/// ready.
fn ending(
    cluster: &Cluster,
    kind: Kind,
    service: &str,
    spec: &Value,
    before: impl FnOnce(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<Value> {
    cluster.start_server(service, service, cluster.node(0), LINGER)?;
    let created = kind.create(cluster, service, ("tier", service), spec)?;
    cluster.wait_for_endpoints(service, &[service])?;
    before(&created)?;
    cluster.delete_pod(service)?;
    cluster.wait_for_slices(service, "its endpoint is terminating", |endpoints| {
        endpoints.iter().any(|endpoint| {
            let conditions = &endpoint["conditions"];
            conditions["terminating"] == json!(true) && conditions["serving"] == json!(true)
        })
    })?;
    Ok(created)
}

/// Five requests, a second apart, none of which may fail.
fn always(ask: &str) -> String {
    format!("({}) && for i in 1 2 3 4 5; do {ask} || exit 1; sleep 1; done", until_success(ask))
}

fn internal_cluster(cluster: &Cluster) -> Outcome {
    let service = ending(cluster, Kind::ClusterIp, "ending-cluster", &json!({}), |_| Ok(()))?;
    let ask = name(&Kind::ClusterIp.target(cluster, &service)?);
    for node in 0..cluster.nodes().len().min(2) {
        succeed(cluster, Place::Pod(cluster.node(node)), &[always(&ask)])?;
    }
    Ok(Completion::Completed)
}

fn internal_local(cluster: &Cluster) -> Outcome {
    let spec = json!({"internalTrafficPolicy": "Local"});
    let service = ending(cluster, Kind::ClusterIp, "ending-local", &spec, |_| Ok(()))?;
    let ask = name(&Kind::ClusterIp.target(cluster, &service)?);
    succeed(cluster, Place::Pod(cluster.node(0)), &[always(&ask)])?;
    if let [_, there, ..] = cluster.nodes() {
        succeed(cluster, Place::Pod(there), &[nobody_answers(&ask)])?;
    }
    Ok(Completion::Completed)
}

fn external_cluster(cluster: &Cluster) -> Outcome {
    let service = ending(cluster, Kind::NodePort, "ending-external", &json!({}), |_| Ok(()))?;
    let port = node_port(&service)?;
    for node in &cluster.nodes()[..cluster.nodes().len().min(2)] {
        let ask = name(&host_port(node.addresses[0], port));
        succeed(cluster, Place::Pod(cluster.node(1)), &[always(&ask)])?;
    }
    Ok(Completion::Completed)
}

fn external_local(cluster: &Cluster) -> Outcome {
    let [here, there, ..] = cluster.nodes() else {
        return Ok(Completion::ignored_with("the cluster has one node"));
    };
    let spec = json!({"externalTrafficPolicy": "Local"});
    let service = ending(cluster, Kind::NodePort, "ending-external-local", &spec, |_| Ok(()))?;
    let port = node_port(&service)?;
    // From a node's own network: it is outside of the cluster, unlike pods.
    let ask = |node: &portolan_e2e::node::Node| name(&host_port(node.addresses[0], port));
    succeed(cluster, Place::Host(there), &[always(&ask(here))])?;
    succeed(cluster, Place::Host(here), &[nobody_answers(&ask(there))])?;
    Ok(Completion::Completed)
}

fn health_check(cluster: &Cluster) -> Outcome {
    let spec = json!({
        "type": "LoadBalancer",
        "loadBalancerClass": "portolan.example/none",
        "externalTrafficPolicy": "Local",
    });
    let here = cluster.node(0);
    let target = |service: &Value| {
        let port = service["spec"]["healthCheckNodePort"].as_u64().context("no healthCheckNodePort")?;
        anyhow::Ok(host_port(here.addresses[0], port.try_into()?))
    };
    let service = ending(cluster, Kind::NodePort, "ending-health", &spec, |service| {
        let body = got(cluster, Place::Host(here), &target(service)?, "/")?;
        ensure!(body.contains("\"localEndpoints\""), "{body}");
        Ok(())
    })?;
    // 22: curl's exit code for an HTTP error; which one is in its message.
    let script = until(&get(&target(&service)?, "/"), 22);
    let output = cluster.run(Place::Host(here), &script, WITHIN)?;
    ensure!(output.code == 22 && output.text.contains("503"), "only terminating endpoints: {output:?}");
    Ok(Completion::Completed)
}
