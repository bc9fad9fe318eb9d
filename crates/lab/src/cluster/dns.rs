//! The cluster's DNS: the Service `kube-system/kube-dns`, and pods in which `portolan dns` answers.
//! Files may bring the one, or both.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use portolan_apiserver::{Objects, Resource};
use serde_json::{Value, json};

use crate::Error;
use crate::applied::Applied;

const NAMESPACE: &str = "kube-system";
const SERVICE: &str = "kube-dns";
/// What the lab's own pods are called.
const PODS: &str = "portolan-dns";
/// How many there are.
const REPLICAS: u32 = 2;
/// The Service's number in the network of ClusterIPs, as kubeadm has it.
const NUMBER: usize = 10;
/// kubeadm's, but for names outside, which are nowhere: the lab has no outside. NXDOMAIN is the
/// only answer to them that no resolver waits after: after REFUSED or SERVFAIL, musl's asks again
/// and again for 5 s.
const COREFILE: &str = "\
cluster.local:53 in-addr.arpa:53 ip6.arpa:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        ttl 5
    }
    prometheus :9153
    loadbalance
}
.:53 {
    template ANY ANY {
        rcode NXDOMAIN
    }
    prometheus :9153
}
";

/// What runs in a pod whose image is a DNS server for clusters.
pub(super) fn command(program: &OsStr, state: &Path, kubeconfig: &Path) -> Result<Vec<OsString>, Error> {
    let conf = state.join("Corefile");
    fs::write(&conf, COREFILE).map_err(Error::io(format!("writing {}", conf.display())))?;
    let mut command = vec![program.to_owned()];
    command.extend(["dns", "--threads", "1", "--state-dir", "", "--socket", ""].map(OsString::from));
    command.extend([OsString::from("--conf"), conf.into(), "--kubeconfig".into(), kubeconfig.into()]);
    Ok(command)
}

/// Creates what files do not bring.
pub(super) fn create(objects: &Objects, applied: &Applied) -> Result<(), Error> {
    let is_service = |object: &&Value| {
        object["kind"] == "Service"
            && object["metadata"]["namespace"] == NAMESPACE
            && object["metadata"]["name"] == SERVICE
    };
    let given = applied.objects().find(is_service);
    let failed = |failure| Error::Api { what: "creating the cluster's DNS".to_owned(), failure };
    let selector = match given {
        Some(given) => labels(&given["spec"]["selector"]),
        None => BTreeMap::from([("k8s-app".to_owned(), SERVICE.to_owned())]),
    };
    if given.is_none() {
        let address = address(objects, &applied.services());
        objects.create(service(&selector, address)).map_err(failed)?;
    }
    // Without a selector, its endpoints are given by hand.
    let is_run = applied.objects().any(|object| is_selected(object, &selector));
    if !selector.is_empty() && !is_run {
        objects.create(deployment(&selector)).map_err(failed)?;
    }
    Ok(())
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Whether the Service leads to the pod, or to pods of the workload.
fn is_selected(object: &Value, selector: &BTreeMap<String, String>) -> bool {
    let of_pods = if object["kind"] == "Pod" {
        &object["metadata"]["labels"]
    } else {
        &object["spec"]["template"]["metadata"]["labels"]
    };
    object["metadata"]["namespace"] == NAMESPACE
        && object["kind"] != "Service"
        && !selector.is_empty()
        && selector.iter().all(|(key, value)| of_pods[key] == value.as_str())
}

/// kubeadm's: the tenth of the network, or the next that nobody asks for.
fn address(objects: &Objects, asked: &[IpAddr]) -> Option<IpAddr> {
    let cidr = objects.get(Resource::ServiceCidrs, "", "kubernetes")?;
    let network: IpNet = cidr["spec"]["cidrs"][0].as_str()?.parse().ok()?;
    let first = usize::from(network.addr().is_ipv4());
    network.hosts().skip(NUMBER - first).take(200).find(|address| !asked.contains(address))
}

fn service(selector: &BTreeMap<String, String>, address: Option<IpAddr>) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": SERVICE,
            "namespace": NAMESPACE,
            "labels": { "k8s-app": SERVICE, "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS" },
        },
        "spec": {
            "clusterIP": address,
            "selector": selector,
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
                { "name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153 },
            ],
        },
    })
}

fn deployment(labels: &BTreeMap<String, String>) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": PODS, "namespace": NAMESPACE, "labels": labels },
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "dnsPolicy": "Default",
                    "priorityClassName": "system-cluster-critical",
                    "containers": [{
                        "name": "dns",
                        "image": PODS,
                        "ports": [
                            { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                            { "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" },
                            { "name": "metrics", "containerPort": 9153, "protocol": "TCP" },
                        ],
                        "readinessProbe": { "httpGet": { "path": "/ready", "port": 8181 } },
                    }],
                },
            },
        },
    })
}
