//! What the proxy says of itself, asked on each node.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::node::Node;
use portolan_e2e::pod::Place;
use serde_json::{Value, json};

use crate::Outcome;
use crate::client::{WITHIN, got};

const HEALTH: &str = "127.0.0.1:10256";
const METRICS: &str = "127.0.0.1:10249";

pub(crate) fn health(cluster: &Cluster) -> Outcome {
    for node in cluster.nodes() {
        for path in ["/healthz", "/livez"] {
            let body = got(cluster, Place::Host(node), HEALTH, path)?;
            let body: Value =
                serde_json::from_str(&body).with_context(|| format!("{path} of {}: {body}", node.name))?;
            ensure!(body["healthy"] == json!(true), "{path} of {}: {body}", node.name);
        }
    }
    Ok(Completion::Completed)
}

/// The samples of a node's metrics: each series with its value.
fn samples(cluster: &Cluster, node: &Node) -> anyhow::Result<BTreeMap<String, f64>> {
    let text = got(cluster, Place::Host(node), METRICS, "/metrics")?;
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("not a sample: {line}"))?;
            Ok((series.to_owned(), value.parse()?))
        })
        .collect()
}

/// The sum of all series of a metric, or nothing if there are none.
fn total(samples: &BTreeMap<String, f64>, metric: &str) -> Option<f64> {
    let of_metric = |series: &&String| series.split('{').next() == Some(metric);
    samples
        .keys()
        .any(|series| of_metric(&series))
        .then(|| samples.iter().filter(|(series, _)| of_metric(series)).map(|(_, value)| value).sum())
}

pub(crate) fn metrics(cluster: &Cluster) -> Outcome {
    let before = samples(cluster, cluster.node(0))?;
    // Of slices that say when what they follow from changed; not all controllers say it.
    let timed = cluster.api().get("/apis/discovery.k8s.io/v1/endpointslices")?;
    let timed = timed.to_string().contains("endpoints.kubernetes.io/last-change-trigger-time");
    let programming = "kubeproxy_network_programming_duration_seconds_count";
    for metric in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
        "kubeproxy_sync_proxy_rules_service_changes_total",
        "kubeproxy_sync_proxy_rules_endpoint_changes_total",
        programming,
        "rest_client_requests_total",
        "process_resident_memory_bytes",
    ] {
        let value = total(&before, metric).with_context(|| format!("{metric} is missing"))?;
        ensure!(value > 0.0 || (metric == programming && !timed), "{metric} is {value}");
    }
    cluster.create_service("counted", "tier", "web", &json!({}))?;
    cluster.wait_for_endpoints("counted", &["server-a", "server-b"])?;
    let changed = |samples: &BTreeMap<String, f64>| {
        total(samples, "kubeproxy_sync_proxy_rules_service_changes_total").unwrap_or_default()
    };
    // The Service is there when it answers; then it has been counted.
    let service = cluster.api().get(&format!("{}/counted", cluster.path("services")))?;
    let target = crate::client::host_port(crate::client::cluster_ip(&service)?, 80);
    got(cluster, Place::Host(cluster.node(0)), &target, "/hostname")?;
    let after = samples(cluster, cluster.node(0))?;
    ensure!(changed(&after) > changed(&before), "a new Service was not counted: {}", changed(&after));
    let mode = mode(cluster)?;
    ensure!(["nftables", "iptables", "ipvs", "userspace"].contains(&mode.as_str()), "/proxyMode is {mode:?}");
    Ok(Completion::Completed)
}

fn mode(cluster: &Cluster) -> anyhow::Result<String> {
    got(cluster, Place::Host(cluster.node(0)), METRICS, "/proxyMode")
}

/// Connections end in the proxy, so that endpoints see its address in place of the client's.
pub(crate) fn ends_connections(cluster: &Cluster) -> anyhow::Result<bool> {
    Ok(mode(cluster)? == "userspace")
}

/// Services that a service proxy is responsible for (spec §1.1), of the whole cluster.
fn expected_services(cluster: &Cluster) -> anyhow::Result<usize> {
    let list = cluster.api().get(
        "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&fieldSelector=spec.clusterIP%21%3DNone",
    )?;
    let services = list["items"].as_array().context("a list without items")?;
    Ok(services.iter().filter(|service| service["spec"]["type"] != "ExternalName").count())
}

/// Other cases create Services at the same time: the count is compared as often as it takes, within
/// bounds.
pub(crate) fn headless(cluster: &Cluster) -> Outcome {
    cluster.create_service("headless", "tier", "web", &json!({"clusterIP": "None"}))?;
    let until = std::time::Instant::now() + WITHIN;
    loop {
        let before = expected_services(cluster)?;
        let samples = samples(cluster, cluster.node(0))?;
        let after = expected_services(cluster)?;
        let Some(found) = total(&samples, "portolan_services") else {
            return Ok(Completion::ignored_with("this proxy has no metric portolan_services"));
        };
        #[expect(clippy::cast_precision_loss, reason = "a number of Services is exact in a float")]
        let (low, high) = (before.min(after) as f64, before.max(after) as f64);
        if (low..=high).contains(&found) {
            return Ok(Completion::Completed);
        }
        if std::time::Instant::now() > until {
            bail!("portolan_services is {found}, and the API has {before} to {after} that are not headless");
        }
    }
}
