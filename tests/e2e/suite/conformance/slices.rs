//! EndpointSlices: those of the API server, and those that people make.

use anyhow::{Context, ensure};
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::objects::HTTP;
use portolan_e2e::pod::Place;
use serde_json::{Value, json};

use super::expect::{Kind, each_answers, name, nobody_answers, shows, succeed};
use crate::client::{cluster_ip, host_port};
use crate::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    (
        "EndpointSlice should support a Service with multiple ports specified in multiple EndpointSlices",
        multiple_ports,
    ),
    (
        "EndpointSlice should support a Service with multiple endpoint IPs specified in multiple EndpointSlices",
        multiple_addresses,
    ),
    ("EndpointSlice should have Endpoints and EndpointSlices pointing to API Server", api_server),
    ("Services should provide secure master service", api_server_answers),
    (
        "EndpointSlice should create and delete Endpoints and EndpointSlices for a Service with a selector specified",
        of_a_selector,
    ),
    ("Services should implement service.kubernetes.io/headless", headless_slices),
];

/// Creates a slice of a Service without a selector, to `server`'s HTTP.
fn create(cluster: &Cluster, service: &str, port: &str, server: &str, labels: &Value) -> anyhow::Result<()> {
    let ip = cluster.pod_ip(server)?;
    let mut slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{server}"),
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "portolan-e2e",
            },
        },
        "addressType": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [ip.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": port, "port": HTTP, "protocol": "TCP"}],
    });
    for (label, value) in labels.as_object().into_iter().flatten() {
        slice["metadata"]["labels"][label] = value.clone();
    }
    cluster.api().create(&cluster.path("endpointslices"), &slice).map(drop)
}

fn without_selector(cluster: &Cluster, service: &str, ports: &Value) -> anyhow::Result<Value> {
    cluster.create_service(service, "tier", "web", &json!({"selector": null, "ports": ports}))
}

fn multiple_ports(cluster: &Cluster) -> Outcome {
    let service = "custom-ports";
    let ports = json!([{"name": "first", "port": 80}, {"name": "second", "port": 81}]);
    let created = without_selector(cluster, service, &ports)?;
    create(cluster, service, "first", "server-a", &json!({}))?;
    create(cluster, service, "second", "server-b", &json!({}))?;
    let ip = cluster_ip(&created)?;
    let ask = |port| name(&host_port(ip, port));
    let scripts = [each_answers(&ask(80), &["server-a"]), each_answers(&ask(81), &["server-b"])];
    succeed(cluster, Place::Pod(cluster.node(0)), &scripts)?;
    Ok(Completion::Completed)
}

fn multiple_addresses(cluster: &Cluster) -> Outcome {
    let service = "custom-addresses";
    let created = without_selector(cluster, service, &json!([{"name": "http", "port": 80}]))?;
    let ask = name(&Kind::ClusterIp.target(cluster, &created)?);
    let client = Place::Pod(cluster.node(0));
    create(cluster, service, "http", "server-a", &json!({}))?;
    succeed(cluster, client, &[each_answers(&ask, &["server-a"])])?;
    create(cluster, service, "http", "server-b", &json!({}))?;
    succeed(cluster, client, &[each_answers(&ask, &["server-a", "server-b"])])?;
    cluster.api().delete(&format!("{}/{service}-server-a", cluster.path("endpointslices")))?;
    succeed(cluster, client, &[each_answers(&ask, &["server-b"])])?;
    Ok(Completion::Completed)
}

fn api_server(cluster: &Cluster) -> Outcome {
    let slices = cluster.api().get(
        "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes",
    )?;
    let all = slices["items"].as_array().context("a list without items")?;
    let in_slices: Vec<&Value> = all.iter().map(|slice| &slice["endpoints"][0]["addresses"][0]).collect();
    let endpoints = cluster.api().get("/api/v1/namespaces/default/endpoints/kubernetes")?;
    let address = &endpoints["subsets"][0]["addresses"][0]["ip"];
    ensure!(address.is_string() && in_slices.contains(&address), "{endpoints} and {slices}");
    Ok(Completion::Completed)
}

/// Whoever is unknown is answered, too: by a refusal.
fn api_server_answers(cluster: &Cluster) -> Outcome {
    let service = cluster.api().get("/api/v1/namespaces/default/services/kubernetes")?;
    let port = service["spec"]["ports"][0]["port"].as_u64().context("no port")?;
    let target = host_port(cluster_ip(&service)?, port.try_into()?);
    let look = format!(
        "curl --silent --insecure --max-time 5 --output /dev/null --write-out '%{{http_code}}' https://{target}/version \
         | sed -E 's/^(200|401|403)$/answered/'"
    );
    for node in &cluster.nodes()[..cluster.nodes().len().min(2)] {
        for place in [Place::Pod(node), Place::Host(node)] {
            succeed(cluster, place, &[shows(&look, "answered")])?;
        }
    }
    Ok(Completion::Completed)
}

/// Slices and Endpoints come with a Service, and go with it.
fn of_a_selector(cluster: &Cluster) -> Outcome {
    let service = "of-a-selector";
    cluster.create_service(service, "tier", "web", &json!({}))?;
    cluster.wait_for_endpoints(service, &["server-a", "server-b"])?;
    let within = crate::client::WITHIN;
    let endpoints = cluster.path("endpoints");
    cluster.api().wait(&endpoints, service, "both are in its Endpoints", within, |endpoints| {
        let both = endpoints.and_then(|one| one["subsets"][0]["addresses"].as_array()).map(Vec::len);
        Ok((both == Some(2)).then_some(()))
    })?;
    cluster.delete_service(service)?;
    cluster.api().wait(&endpoints, service, "its Endpoints are gone", within, |endpoints| {
        Ok(endpoints.is_none().then_some(()))
    })?;
    let selector = format!("labelSelector=kubernetes.io%2Fservice-name%3D{service}");
    cluster.api().wait_for_any(
        &cluster.path("endpointslices"),
        &selector,
        "no slices",
        within,
        |slices| Ok(slices.is_empty().then_some(())),
    )?;
    Ok(Completion::Completed)
}

/// The label is on the slices of headless Services. A service proxy passes over them.
fn headless_slices(cluster: &Cluster) -> Outcome {
    let service = "headless-label";
    let created = without_selector(cluster, service, &json!([{"name": "http", "port": 80}]))?;
    let label = "service.kubernetes.io/headless";
    create(cluster, service, "http", "server-a", &json!({label: ""}))?;
    create(cluster, service, "http", "server-b", &json!({}))?;
    let ask = name(&Kind::ClusterIp.target(cluster, &created)?);
    let client = Place::Pod(cluster.node(0));
    succeed(cluster, client, &[each_answers(&ask, &["server-b"])])?;
    let labelled = |server: &str, value: Value| {
        let path = format!("{}/{service}-{server}", cluster.path("endpointslices"));
        cluster.api().patch(&path, &json!({"metadata": {"labels": {label: value}}}))
    };
    labelled("server-a", json!(null))?;
    succeed(cluster, client, &[each_answers(&ask, &["server-a", "server-b"])])?;
    labelled("server-a", json!(""))?;
    labelled("server-b", json!(""))?;
    succeed(cluster, client, &[nobody_answers(&ask)])?;
    Ok(Completion::Completed)
}
