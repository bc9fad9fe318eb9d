//! The cluster's DNS: the Service `kube-system/kube-dns`, and pods in which `portolan dns` answers.
//! Manifests may bring the one, or both.

mod server;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::folder::Taken;
use super::workload::{Count, Wanted, WantedPods};
use super::{DNS_NAMESPACE, DNS_SERVICE};
pub(super) use server::{DnsLaunch, DnsServer};

/// What the lab's own pods are called.
const PODS: &str = "portolan-dns";
/// How many there are.
const REPLICAS: u32 = 2;
/// Where `portolan dns` listens: DNS, health, readiness, metrics.
const PORTS: [u16; 4] = [53, 8080, 8181, 9153];
/// kubeadm's, but for names outside, which are nowhere: the lab has no outside. NXDOMAIN is the
/// only answer to them that no resolver waits after (spec §7): after REFUSED or SERVFAIL, musl's
/// asks again and again for 5 s.
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

/// Adds what manifests do not bring, and marks the pods in which the DNS answers. Returns the
/// objects of the lab's own.
pub(super) fn complete(taken: &mut Taken, ipv4: bool) -> Vec<Value> {
    let own = taken.services.iter().find(|it| (&*it.namespace, &*it.name) == (DNS_NAMESPACE, DNS_SERVICE));
    let (selector, objects) = if let Some(given) = own {
        (given.selector.clone(), Vec::new())
    } else {
        let selector = BTreeMap::from([("k8s-app".to_owned(), DNS_SERVICE.to_owned())]);
        let taken: Vec<IpAddr> = taken.services.iter().flat_map(|it| it.addresses.clone()).collect();
        (selector.clone(), vec![service(&selector, &taken, ipv4)])
    };
    // Its endpoints may be given by hand.
    if selector.is_empty() {
        return objects;
    }
    let is_selected = |pods: &WantedPods| {
        pods.namespace == DNS_NAMESPACE
            && selector.iter().all(|(key, value)| pods.labels[key] == value.as_str())
    };
    let mut any = false;
    for item in &mut taken.wanted {
        if let Wanted::Pods(pods) = item
            && is_selected(pods)
        {
            any = true;
            pods.runs_dns = true;
            pods.ports.retain(|port| !PORTS.contains(port));
        }
    }
    if !any {
        taken.wanted.push(Wanted::Pods(pods(&selector)));
    }
    objects
}

/// kubeadm's Service: the tenth address of the range, or the next that nobody asks for.
fn service(selector: &BTreeMap<String, String>, taken: &[IpAddr], ipv4: bool) -> Value {
    let address = |number: u8| -> IpAddr {
        if ipv4 { [10, 96, 0, number].into() } else { [0xfd00, 0x10, 0x96, 0, 0, 0, 0, number.into()].into() }
    };
    let free = (10..=250).map(address).find(|address| !taken.contains(address));
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": DNS_SERVICE, "namespace": DNS_NAMESPACE},
        "spec": {
            "clusterIP": free,
            "selector": selector,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
                {"name": "metrics", "port": 9153, "protocol": "TCP"},
            ],
        },
    })
}

fn pods(labels: &BTreeMap<String, String>) -> WantedPods {
    WantedPods {
        namespace: DNS_NAMESPACE.to_owned(),
        name: PODS.to_owned(),
        count: Count::Replicas(REPLICAS),
        labels: json!(labels),
        node: None,
        addresses: Vec::new(),
        host_network: false,
        containers: json!([]),
        ports: Vec::new(),
        ready: true,
        naming: Box::default(),
        naming_fields: json!({"dnsPolicy": "Default"}),
        runs_dns: true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::workload::Declared;
    use super::*;

    fn declared(name: &str, selector: &[(&str, &str)], address: &str) -> Declared {
        Declared {
            namespace: DNS_NAMESPACE.to_owned(),
            name: name.to_owned(),
            selector: selector.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            addresses: address.parse().into_iter().collect(),
        }
    }

    #[test]
    fn what_manifests_do_not_bring_is_added() {
        let own = || WantedPods {
            name: "coredns".to_owned(),
            ports: vec![53, 9153, 80],
            runs_dns: false,
            ..pods(&BTreeMap::from([("a".to_owned(), "b".to_owned())]))
        };
        for (situation, services, wanted, ipv4, address, names) in [
            ("nothing", vec![], vec![], true, Some("10.96.0.10"), "portolan-dns"),
            ("IPv6 only", vec![], vec![], false, Some("fd00:10:96::a"), "portolan-dns"),
            (
                "its address",
                vec![declared("a", &[], "10.96.0.10")],
                vec![],
                true,
                Some("10.96.0.11"),
                "portolan-dns",
            ),
            (
                "the Service",
                vec![declared("kube-dns", &[("a", "b")], "")],
                vec![],
                true,
                None,
                "portolan-dns",
            ),
            ("both", vec![declared("kube-dns", &[("a", "b")], "")], vec![own()], true, None, "coredns"),
            ("no selector", vec![declared("kube-dns", &[], "")], vec![], true, None, ""),
        ] {
            let wanted = wanted.into_iter().map(Wanted::Pods).collect();
            let mut taken = Taken { wanted, services, ..Taken::default() };
            let objects = complete(&mut taken, ipv4);
            let given = objects.first().map(|service| service["spec"]["clusterIP"].clone());
            assert_eq!(given, address.map(|address| json!(address)), "{situation}");
            let all: Vec<&WantedPods> = taken
                .wanted
                .iter()
                .filter_map(|item| if let Wanted::Pods(pods) = item { Some(pods) } else { None })
                .collect();
            let found: Vec<&str> = all.iter().map(|pods| pods.name.as_str()).collect();
            assert_eq!(found.join(" "), names, "{situation}");
            assert!(
                all.iter().all(|pods| pods.runs_dns && !pods.ports.contains(&53)),
                "{situation}: {all:?}"
            );
        }
    }
}
