//! Addresses that clients outside of the cluster use.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::pod::Place;
use serde_json::{Value, json};

use crate::Outcome;
use crate::client::{TIMED_OUT, answering, ends_with, get, got, host_port, names, node_port, until};
use crate::observed::ends_connections;

/// For documentation (RFC 5737): nobody has these addresses, so only the proxy can answer for them.
const EXTERNAL_IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 201));
const LOAD_BALANCER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 202));
const WITH_RANGES: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 203));

pub(crate) fn node_port_answers(cluster: &Cluster) -> Outcome {
    let service = cluster.create_service("node-port", "tier", "web", &json!({"type": "NodePort"}))?;
    cluster.wait_for_endpoints("node-port", &["server-a", "server-b"])?;
    let port = node_port(&service)?;
    for node in &cluster.nodes()[..cluster.nodes().len().min(3)] {
        let target = host_port(node.addresses[0], port);
        for place in [Place::Pod(cluster.node(0)), Place::Host(cluster.node(1))] {
            let answered = answering(cluster, place, &target, 40)?;
            ensure!(
                answered == names(&["server-a", "server-b"]),
                "{target} from {place:?}: {answered:?} answered"
            );
        }
    }
    Ok(Completion::Completed)
}

pub(crate) fn local_policy(cluster: &Cluster) -> Outcome {
    let [here, there, ..] = cluster.nodes() else {
        return Ok(Completion::ignored_with("the cluster has one node"));
    };
    let spec = json!({"type": "NodePort", "externalTrafficPolicy": "Local"});
    let service = cluster.create_service("local-policy", "server", "server-a", &spec)?;
    cluster.wait_for_endpoints("local-policy", &["server-a"])?;
    let port = node_port(&service)?;
    // server-a is on the first node.
    let target = host_port(here.addresses[0], port);
    let seen = got(cluster, Place::Host(there), &target, "/clientip")?;
    let source = seen.rsplit_once(':').map_or(seen.as_str(), |(ip, _)| ip).trim_matches(['[', ']']);
    let source: IpAddr = source.parse().with_context(|| format!("{target}/clientip answered {seen:?}"))?;
    let stays = there.addresses.contains(&source) || ends_connections(cluster)?;
    ensure!(stays, "the server saw {source}, not {}'s address", there.name);
    ends_with(cluster, Place::Host(here), &host_port(there.addresses[0], port), TIMED_OUT)?;
    Ok(Completion::Completed)
}

pub(crate) fn external_ip(cluster: &Cluster) -> Outcome {
    let spec = json!({"externalIPs": [EXTERNAL_IP.to_string()]});
    if let Err(error) = cluster.create_service("external-ip", "tier", "web", &spec) {
        // An admission controller may deny them.
        return if portolan_e2e::api::is_status(&error, 403) {
            Ok(Completion::ignored_with("the cluster forbids external IPs"))
        } else {
            Err(error)
        };
    }
    cluster.wait_for_endpoints("external-ip", &["server-a", "server-b"])?;
    let target = host_port(EXTERNAL_IP, 80);
    let answered = answering(cluster, Place::Pod(cluster.node(0)), &target, 40)?;
    ensure!(answered == names(&["server-a", "server-b"]), "{target}: {answered:?} answered");
    Ok(Completion::Completed)
}

/// A Service whose load balancer has `address`, as its status says; no controller is responsible
/// for it.
fn with_load_balancer(cluster: &Cluster, name: &str, address: IpAddr, spec: &Value) -> anyhow::Result<Value> {
    let mut whole = json!({"type": "LoadBalancer", "loadBalancerClass": "portolan.example/none"});
    for (field, value) in spec.as_object().into_iter().flatten() {
        whole[field] = value.clone();
    }
    let service = cluster.create_service(name, "server", "server-a", &whole)?;
    cluster.wait_for_endpoints(name, &["server-a"])?;
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address.to_string()}]}}});
    cluster.api().patch(&format!("{}/{name}/status", cluster.path("services")), &status)?;
    Ok(service)
}

pub(crate) fn load_balancer(cluster: &Cluster) -> Outcome {
    with_load_balancer(cluster, "load-balancer", LOAD_BALANCER, &json!({}))?;
    for place in [Place::Pod(cluster.node(0)), Place::Host(cluster.node(1))] {
        let name = got(cluster, place, &host_port(LOAD_BALANCER, 80), "/hostname")?;
        ensure!(name == "server-a", "{place:?}: {name} answered");
    }
    Ok(Completion::Completed)
}

pub(crate) fn source_ranges(cluster: &Cluster) -> Outcome {
    // For documentation (RFC 5737), so that no client is in it.
    let spec = json!({"loadBalancerSourceRanges": ["198.51.100.0/24"]});
    let service = with_load_balancer(cluster, "source-ranges", WITH_RANGES, &spec)?;
    let target = host_port(WITH_RANGES, 80);
    let client = Place::Pod(cluster.node(0));
    // Nobody answers at this address before the rules are there either. An answer at the ClusterIP
    // shows that they are.
    got(cluster, client, &host_port(crate::client::cluster_ip(&service)?, 80), "/hostname")?;
    ends_with(cluster, client, &target, TIMED_OUT)?;
    let open = json!({"spec": {"loadBalancerSourceRanges": ["0.0.0.0/0"]}});
    cluster.api().patch(&format!("{}/source-ranges", cluster.path("services")), &open)?;
    got(cluster, client, &target, "/hostname")?;
    // Now that it has been reached, closing it again differs from nobody being there.
    let closed = json!({"spec": {"loadBalancerSourceRanges": ["198.51.100.0/24"]}});
    cluster.api().patch(&format!("{}/source-ranges", cluster.path("services")), &closed)?;
    ends_with(cluster, client, &target, TIMED_OUT)?;
    Ok(Completion::Completed)
}

pub(crate) fn health_check_node_port(cluster: &Cluster) -> Outcome {
    let spec = json!({"externalTrafficPolicy": "Local"});
    let address = "192.0.2.204".parse()?;
    let service = with_load_balancer(cluster, "health-check", address, &spec)?;
    let port =
        service["spec"]["healthCheckNodePort"].as_u64().context("no healthCheckNodePort was allocated")?;
    let port = u16::try_from(port)?;
    let here = cluster.node(0);
    let body = got(cluster, Place::Host(here), &host_port(here.addresses[0], port), "/")?;
    let body: Value = serde_json::from_str(&body).with_context(|| format!("not JSON: {body}"))?;
    ensure!(
        body["localEndpoints"] == 1 && body["service"]["name"] == "health-check",
        "{}: {body}",
        here.name
    );
    let Some(there) = cluster.nodes().get(1) else {
        return Ok(Completion::Completed);
    };
    // 22: curl's exit code for an HTTP error; which one is in its message.
    let script = until(&get(&host_port(there.addresses[0], port), "/"), 22);
    let output = cluster.run(Place::Host(there), &script, crate::client::WITHIN)?;
    ensure!(output.code == 22 && output.text.contains("503"), "{} has no endpoint: {output:?}", there.name);
    Ok(Completion::Completed)
}
