//! Services that are another proxy's.

use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::json;

use super::expect::{Kind, each_answers, name, nobody_answers, succeed};
use crate::{Case, Outcome};

pub(super) const CASES: &[Case] =
    &[("Services should implement service.kubernetes.io/service-proxy-name", other_proxy)];

fn other_proxy(cluster: &Cluster) -> Outcome {
    let service = "service-proxy-name";
    let label = "service.kubernetes.io/service-proxy-name";
    let created = cluster.create_service(service, "tier", "web", &json!({}))?;
    let ask = name(&Kind::ClusterIp.target(cluster, &created)?);
    let path = format!("{}/{service}", cluster.path("services"));
    let client = Place::Pod(cluster.node(0));
    let ours = each_answers(&ask, &["server-a", "server-b"]);
    succeed(cluster, client, std::slice::from_ref(&ours))?;
    cluster.api().patch(&path, &json!({"metadata": {"labels": {label: "another"}}}))?;
    succeed(cluster, client, &[nobody_answers(&ask)])?;
    cluster.api().patch(&path, &json!({"metadata": {"labels": {label: null}}}))?;
    succeed(cluster, client, &[ours])?;
    Ok(Completion::Completed)
}
