//! Names of Services and pods, asked by dig and by the resolver of the pod.

use std::net::IpAddr;

use anyhow::{Context, ensure};
use libtest_mimic::Completion;
use portolan_e2e::cluster::Cluster;
use portolan_e2e::objects::HTTP;
use portolan_e2e::pod::Place;
use serde_json::{Value, json};

use super::expect::{shows, succeed};
use crate::client::{WITHIN, cluster_ip, cluster_ips};
use crate::{Case, Outcome};

pub(super) const CASES: &[Case] = &[
    ("DNS should provide DNS for the cluster", of_the_cluster),
    ("DNS should provide DNS for services", of_services),
    ("DNS should resolve DNS of partial qualified names for services", partly_qualified),
    ("DNS should provide DNS for pods for Hostname", of_a_host_name),
    ("DNS should provide DNS for pods for Subdomain", of_a_subdomain),
    ("DNS should provide DNS for ExternalName services", external_name),
    ("DNS should provide /etc/hosts entries for the cluster", hosts_file),
    ("DNS should support configurable pod DNS nameservers", own_name_servers),
    ("DNS should support configurable pod resolv.conf", own_resolv_conf),
];

/// What a pod's resolver searches last.
pub(super) fn cluster_domain(cluster: &Cluster) -> anyhow::Result<String> {
    let output = cluster.run(Place::Pod(cluster.node(0)), "cat /etc/resolv.conf", WITHIN)?;
    let search = output.lines().into_iter().find_map(|line| line.strip_prefix("search "));
    let before = format!("{}.svc.", cluster.namespace());
    let domain =
        search.and_then(|search| search.split_whitespace().find_map(|one| one.strip_prefix(&before)));
    Ok(domain.with_context(|| format!("no domain of the cluster in {output:?}"))?.to_owned())
}

/// The records of a name as dig prints them, in order, in one line.
fn records(kind: &str, name: &str) -> String {
    format!("dig +short +tries=2 +time=2 {name} {kind} | sort | tr '\\n' ' ' | sed 's/ $//'")
}

fn kind_of(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "A" } else { "AAAA" }
}

fn of_the_cluster(cluster: &Cluster) -> Outcome {
    let domain = cluster_domain(cluster)?;
    let service = cluster.api().get("/api/v1/namespaces/default/services/kubernetes")?;
    let ip = cluster_ip(&service)?;
    let name = format!("kubernetes.default.svc.{domain}");
    let scripts = [shows(&records(kind_of(ip), &name), &ip.to_string())];
    for node in &cluster.nodes()[..cluster.nodes().len().min(2)] {
        succeed(cluster, Place::Pod(node), &scripts)?;
    }
    Ok(Completion::Completed)
}

/// A headless Service, one with ClusterIPs, and their ports.
fn of_services(cluster: &Cluster) -> Outcome {
    let domain = format!("{}.svc.{}", cluster.namespace(), cluster_domain(cluster)?);
    let spec = json!({"clusterIP": "None"});
    cluster.create_service("dns-headless", "tier", "web", &spec)?;
    let created =
        cluster.create_service("dns-test", "tier", "web", &json!({"ipFamilyPolicy": "PreferDualStack"}))?;
    let mut pods = [cluster.pod_ip("server-a")?, cluster.pod_ip("server-b")?].map(|ip| ip.to_string());
    pods.sort();
    let kind = kind_of(cluster.pod_ip("server-a")?);
    let mut scripts = vec![shows(&records(kind, &format!("dns-headless.{domain}")), &pods.join(" "))];
    for ip in cluster_ips(&created)? {
        scripts.push(shows(&records(kind_of(ip), &format!("dns-test.{domain}")), &ip.to_string()));
        scripts.push(shows(&format!("dig +short +tries=2 +time=2 -x {ip}"), &format!("dns-test.{domain}.")));
    }
    // Weight, port and target: one of the Service, one for each pod.
    let port = |service: &str| {
        let srv = records("SRV", &format!("_http._tcp.{service}.{domain}"));
        format!("{srv} | tr ' ' '\\n' | grep -x -c -e 80 -e {HTTP}")
    };
    scripts.push(shows(&port("dns-test"), "1"));
    scripts.push(shows(&port("dns-headless"), "2"));
    succeed(cluster, Place::Pod(cluster.node(0)), &scripts)?;
    Ok(Completion::Completed)
}

fn partly_qualified(cluster: &Cluster) -> Outcome {
    let created = cluster.create_service("dns-partial", "tier", "web", &json!({}))?;
    let (ip, namespace) = (cluster_ip(&created)?, cluster.namespace());
    let by_resolver =
        |name: &str| shows(&format!("getent hosts {name} | awk '{{print $1}}'"), &ip.to_string());
    let scripts = [
        "dns-partial".to_owned(),
        format!("dns-partial.{namespace}"),
        format!("dns-partial.{namespace}.svc"),
    ]
    .map(|name| by_resolver(&name));
    succeed(cluster, Place::Pod(cluster.node(1)), &scripts)?;
    Ok(Completion::Completed)
}

/// Starts a server with a host name in the domain of a headless Service, and returns that domain.
fn with_host_name(cluster: &Cluster, pod: &str, subdomain: &str) -> anyhow::Result<String> {
    let spec = json!({"clusterIP": "None"});
    cluster.create_service(subdomain, "tier", subdomain, &spec)?;
    let mut object = cluster.server(pod, subdomain, cluster.node(0));
    object["spec"]["hostname"] = json!("dns-querier");
    object["spec"]["subdomain"] = json!(subdomain);
    cluster.start(&object)?;
    Ok(format!("{subdomain}.{}.svc.{}", cluster.namespace(), cluster_domain(cluster)?))
}

fn of_a_host_name(cluster: &Cluster) -> Outcome {
    let domain = with_host_name(cluster, "dns-of-host-name", "dns-host-names")?;
    let ip = cluster.pod_ip("dns-of-host-name")?;
    let record = shows(&records(kind_of(ip), &format!("dns-querier.{domain}")), &ip.to_string());
    succeed(cluster, Place::Pod(cluster.node(1)), &[record])?;
    Ok(Completion::Completed)
}

/// The pod itself knows its whole name, and the domain has its address.
fn of_a_subdomain(cluster: &Cluster) -> Outcome {
    let domain = with_host_name(cluster, "dns-of-subdomain", "dns-subdomain")?;
    let ip = cluster.pod_ip("dns-of-subdomain")?;
    let mut scripts = vec![shows(&records(kind_of(ip), &domain), &ip.to_string())];
    // netexec runs a command for whoever asks.
    let target = crate::client::host_port(ip, HTTP);
    let look = format!(
        "curl --silent --max-time 5 'http://{target}/shell?cmd=hostname%20-f' | grep -o 'dns-[a-z0-9.-]*'"
    );
    scripts.push(shows(&look, &format!("dns-querier.{domain}")));
    succeed(cluster, Place::Pod(cluster.node(1)), &scripts)?;
    Ok(Completion::Completed)
}

/// The name changes, and then the type.
fn external_name(cluster: &Cluster) -> Outcome {
    let service = "dns-external";
    let spec = |name: &str| json!({"type": "ExternalName", "externalName": name});
    cluster.create_service(service, "tier", "web", &spec("foo.example.com"))?;
    let domain = format!("{service}.{}.svc.{}", cluster.namespace(), cluster_domain(cluster)?);
    let client = Place::Pod(cluster.node(0));
    let leads_to = |name: &str| shows(&records("CNAME", &domain), name);
    succeed(cluster, client, &[leads_to("foo.example.com.")])?;
    cluster.patch_service(service, &spec("bar.example.com"))?;
    succeed(cluster, client, &[leads_to("bar.example.com.")])?;
    let changed = cluster.patch_service(service, &json!({"type": "ClusterIP", "externalName": null}))?;
    let ip = cluster_ip(&changed)?;
    succeed(cluster, client, &[shows(&records(kind_of(ip), &domain), &ip.to_string())])?;
    Ok(Completion::Completed)
}

/// A client's own lines of a file.
fn file(
    cluster: &Cluster,
    name: &str,
    change: impl FnOnce(&mut Value),
    path: &str,
) -> anyhow::Result<String> {
    let mut pod = cluster.server(name, name, cluster.node(0));
    change(&mut pod);
    cluster.start(&pod)?;
    let target = crate::client::host_port(cluster.pod_ip(name)?, HTTP);
    let ask = format!("curl --silent --fail --max-time 5 'http://{target}/shell?cmd=cat%20{path}'");
    let output = cluster.run(Place::Pod(cluster.node(1)), &crate::client::until_success(&ask), WITHIN)?;
    let answer: Value = serde_json::from_str(&output.text).with_context(|| format!("{output:?}"))?;
    Ok(answer["output"].as_str().unwrap_or_default().to_owned())
}

fn hosts_file(cluster: &Cluster) -> Outcome {
    let hosts = file(cluster, "dns-hosts", |_| {}, "/etc/hosts")?;
    let ip = cluster.pod_ip("dns-hosts")?.to_string();
    let own = hosts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    ensure!(own.into_iter().any(|words| words == [ip.as_str(), "dns-hosts"]), "{hosts}");
    Ok(Completion::Completed)
}

fn own_name_servers(cluster: &Cluster) -> Outcome {
    let change = |pod: &mut Value| {
        pod["spec"]["dnsPolicy"] = json!("None");
        pod["spec"]["dnsConfig"] = json!({"nameservers": ["1.1.1.1"], "searches": ["resolv.conf.local"]});
    };
    let conf = file(cluster, "dns-name-servers", change, "/etc/resolv.conf")?;
    let lines: Vec<&str> = conf.lines().collect();
    ensure!(lines == ["search resolv.conf.local", "nameserver 1.1.1.1"], "{conf}");
    Ok(Completion::Completed)
}

/// What is configured comes beside what the pod has anyway.
fn own_resolv_conf(cluster: &Cluster) -> Outcome {
    let change = |pod: &mut Value| {
        pod["spec"]["dnsConfig"] =
            json!({"searches": ["resolv.conf.local"], "options": [{"name": "ndots", "value": "2"}]});
    };
    let conf = file(cluster, "dns-resolv-conf", change, "/etc/resolv.conf")?;
    let first = format!("{}.svc.", cluster.namespace());
    let search = conf.lines().find_map(|line| line.strip_prefix("search ")).unwrap_or_default();
    ensure!(search.starts_with(&first) && search.ends_with(" resolv.conf.local"), "{conf}");
    ensure!(conf.lines().any(|line| line == "options ndots:2"), "{conf}");
    Ok(Completion::Completed)
}
