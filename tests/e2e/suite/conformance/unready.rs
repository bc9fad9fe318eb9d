//! Pods that are not ready, or not any more.

use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::{Value, json};

use super::expect::{Kind, each_answers, name, nobody_answers, succeed};
use crate::{Case, Outcome};

/// So long the pods go on serving, in seconds.
const LINGER: u32 = 60;

pub(super) const CASES: &[Case] = &[
    (
        "Services should be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is true",
        |cluster| published(cluster, true),
    ),
    (
        "Services should not be able to connect to terminating and unready endpoints if PublishNotReadyAddresses is false",
        |cluster| published(cluster, false),
    ),
];

/// A pod that serves and is never ready is asked, or is not, and when it is to end, too.
fn published(cluster: &Cluster, publish: bool) -> Outcome {
    let service = if publish { "unready-published" } else { "unready-unpublished" };
    let mut pod = cluster.server(service, service, cluster.node(0));
    pod["spec"]["terminationGracePeriodSeconds"] = json!(LINGER + 1);
    let container = &mut pod["spec"]["containers"][0];
    container["args"][3] = json!(format!("--delay-shutdown={LINGER}"));
    container["readinessProbe"] = json!({"exec": {"command": ["false"]}, "periodSeconds": 1});
    cluster.api().create(&cluster.path("pods"), &pod)?;
    let spec = json!({"publishNotReadyAddresses": publish});
    let created = Kind::NodePort.create(cluster, service, ("tier", service), &spec)?;
    let asks = [Kind::ClusterIp, Kind::NodePort].map(|kind| kind.target(cluster, &created));
    let asks = asks.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let script = |target: &String| {
        if publish { each_answers(&name(target), &[service]) } else { nobody_answers(&name(target)) }
    };
    let scripts: Vec<String> = asks.iter().map(script).collect();
    let client = Place::Pod(cluster.node(1));
    let seen = |what: &str, met: fn(&Value) -> bool| {
        cluster.wait_for_slices(service, what, |endpoints| endpoints.iter().any(met))
    };
    seen("an endpoint", |endpoint| endpoint["targetRef"]["name"].is_string())?;
    succeed(cluster, client, &scripts)?;
    cluster.delete_pod(service)?;
    seen("a terminating endpoint", |endpoint| endpoint["conditions"]["terminating"] == json!(true))?;
    succeed(cluster, client, &scripts)?;
    Ok(Completion::Completed)
}
