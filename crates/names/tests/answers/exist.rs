//! §1: what exists.

use portolan_names::{LabelValue, NamespaceFilter, PodMode, Requirement};
use portolan_service::{NamesChange, PodPhase, further};

use crate::scene::{Scene, namespace, pod, service, slice, targets};
use crate::{as_is, run};

fn one_slice_of_nine(scene: &mut Scene) {
    let endpoints = "10.1.2.1 10.1.2.2 10.1.2.3 10.1.2.4 10.1.2.5 10.1.2.6 10.1.2.7 10.1.2.8=Far 10.1.2.9!";
    scene.slice("shop/db", "c", "", endpoints);
}

fn no_endpoints(scene: &mut Scene) {
    scene.settings.endpoints = false;
}

fn pod_names(scene: &mut Scene) {
    scene.settings.endpoint_pod_names = true;
    scene.slice("shop/web", "p", "http:tcp:8080", "10.1.0.9~web-7d9f-x2x 10.1.0.8=named~web-7d9f-y3y");
}

fn verified(scene: &mut Scene) {
    scene.settings.pods = PodMode::Verified;
    for (name, addresses, phase, leaving) in [
        ("shop/a", "10.1.2.3 fd00:10::1", PodPhase::Running, false),
        ("shop/b", "10.1.2.4", PodPhase::Succeeded, false),
        ("shop/c", "10.1.2.5", PodPhase::Failed, false),
        ("shop/d", "10.1.2.6", PodPhase::Unknown, false),
        ("shop/e", "10.1.2.7", PodPhase::Running, true),
        ("shop/f", "10.1.2.8", PodPhase::Pending, false),
    ] {
        scene.updates.push(pod(name, addresses, phase, leaving));
    }
}

fn disabled(scene: &mut Scene) {
    scene.settings.pods = PodMode::Disabled;
}

fn listed(scene: &mut Scene) {
    scene.settings.namespaces = NamespaceFilter::Listed(vec!["kube-system".to_owned()]);
}

fn labelled(scene: &mut Scene) {
    let requirement = |key: &str, value| Requirement { key: key.to_owned(), value };
    scene.settings.namespaces = NamespaceFilter::Labelled(vec![
        requirement("tier", LabelValue::In(vec!["shop".to_owned(), "empty".to_owned()])),
        requirement("tier", LabelValue::NotIn(vec!["empty".to_owned()])),
        requirement("other", LabelValue::Absent),
    ]);
}

fn ignore_empty(scene: &mut Scene) {
    scene.settings.ignore_empty_service = true;
}

#[test]
fn services() {
    run(&[
        ("a ClusterIP", as_is, "web.shop.svc.Z A", "NOERROR | web.shop.svc.Z A 10.96.0.1"),
        ("both families", as_is, "dual.shop.svc.Z A", "NOERROR | dual.shop.svc.Z A 10.96.0.2"),
        ("both families", as_is, "dual.shop.svc.Z AAAA", "NOERROR | dual.shop.svc.Z AAAA fd00:96::2"),
        (
            "readiness does not matter",
            |s| s.slice("shop/web", "a", "http:tcp:8080", "10.1.0.1!"),
            "web.shop.svc.Z A",
            "NOERROR | web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "external and load-balancer addresses are not in the DNS",
            |s| {
                let mut service = service("shop/web", "10.96.0.1", "http:tcp:80");
                service.external_ips = vec!["203.0.113.1".parse().unwrap()];
                s.put(service);
            },
            "web.shop.svc.Z A",
            "NOERROR | web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "a Service that has no address yet",
            |s| {
                let mut service = service("shop/new", "", "http:tcp:80");
                service.headless = false;
                s.put(service);
            },
            "new.shop.svc.Z A",
            "NODATA ; soa Z",
        ),
        (
            "headless: ready endpoints",
            as_is,
            "db.shop.svc.Z A",
            "NOERROR | db.shop.svc.Z A 10.1.1.1 | db.shop.svc.Z A 10.1.1.2",
        ),
        ("headless, IPv6", as_is, "db.shop.svc.Z AAAA", "NOERROR | db.shop.svc.Z AAAA fd00:1::1"),
        (
            "headless: duplicates once",
            |s| s.slice("shop/db", "c", "sql:tcp:5432", "10.1.1.1=db-0 10.1.1.2=db-1"),
            "db.shop.svc.Z A",
            "NOERROR | db.shop.svc.Z A 10.1.1.1 | db.shop.svc.Z A 10.1.1.2",
        ),
        (
            "headless: all addresses of an endpoint",
            |s| {
                let mut more = slice("shop/db", "a", "sql:tcp:5432", "10.1.1.9=db-0");
                more.name = further(&more.name);
                s.updates.push(NamesChange::Further(more.into()).into());
            },
            "db-0.db.shop.svc.Z A",
            "NOERROR | db-0.db.shop.svc.Z A 10.1.1.1 | db-0.db.shop.svc.Z A 10.1.1.9",
        ),
        (
            "a slice without a Service",
            |s| s.slice("shop/gone", "a", "p:tcp:1", "10.1.0.7=x"),
            "x.gone.shop.svc.Z A",
            "NXDOMAIN ; soa Z",
        ),
        ("no wildcards", as_is, "*.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("another namespace's", as_is, "web.empty.svc.Z A", "NXDOMAIN ; soa Z"),
    ]);
}

#[test]
fn endpoints_that_are_names() {
    run(&[
        (
            "a CNAME of endpoints that are names",
            |s| {
                s.service("shop/named", "", "http:tcp:80");
                s.updates.push(targets("shop/named", "a", "late.example! early.example 10.9.9.9"));
            },
            "named.shop.svc.Z CNAME",
            "NOERROR | named.shop.svc.Z CNAME early.example",
        ),
        (
            "followed inside",
            |s| {
                s.service("shop/named", "", "http:tcp:80");
                s.updates.push(targets("shop/named", "a", "web.shop.svc.cluster.local"));
            },
            "web-shop-svc-cluster-local.named.shop.svc.Z A",
            "NOERROR | web-shop-svc-cluster-local.named.shop.svc.Z CNAME web.shop.svc.Z \
             | web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "they have no SRV records",
            |s| {
                s.service("shop/named", "", "http:tcp:80");
                s.updates.push(targets("shop/named", "a", "early.example"));
            },
            "named.shop.svc.Z SRV",
            "NODATA ; soa Z",
        ),
    ]);
}

#[test]
fn endpoints() {
    run(&[
        ("headless, by hostname", as_is, "db-1.db.shop.svc.Z A", "NOERROR | db-1.db.shop.svc.Z A 10.1.1.2"),
        (
            "by hostname in the other family",
            as_is,
            "db-0.db.shop.svc.Z AAAA",
            "NOERROR | db-0.db.shop.svc.Z AAAA fd00:1::1",
        ),
        ("of one family only", as_is, "db-1.db.shop.svc.Z AAAA", "NODATA ; soa Z"),
        (
            "of a ClusterIP Service",
            as_is,
            "first.web.shop.svc.Z A",
            "NOERROR | first.web.shop.svc.Z A 10.1.0.2",
        ),
        ("by address", as_is, "10-1-0-1.web.shop.svc.Z A", "NOERROR | 10-1-0-1.web.shop.svc.Z A 10.1.0.1"),
        ("one name only", as_is, "10-1-0-2.web.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("not ready", as_is, "10-1-0-3.web.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("one of many", one_slice_of_nine, "far.db.shop.svc.Z A", "NOERROR | far.db.shop.svc.Z A 10.1.2.8"),
        (
            "one of many by address",
            one_slice_of_nine,
            "10-1-2-7.db.shop.svc.Z A",
            "NOERROR | 10-1-2-7.db.shop.svc.Z A 10.1.2.7",
        ),
        ("one of many that is not ready", one_slice_of_nine, "10-1-2-9.db.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        (
            "IPv6 by address",
            |s| s.slice("shop/db", "c", "sql:tcp:5432", "fd00:10::"),
            "fd00-10--0.db.shop.svc.Z AAAA",
            "NOERROR | fd00-10--0.db.shop.svc.Z AAAA fd00:10::",
        ),
        (
            "a name that several have",
            |s| s.slice("shop/db", "c", "sql:tcp:5432", "10.1.1.7=db-0"),
            "db-0.db.shop.svc.Z A",
            "NOERROR | db-0.db.shop.svc.Z A 10.1.1.1 | db-0.db.shop.svc.Z A 10.1.1.7",
        ),
        (
            "endpoint_pod_names",
            pod_names,
            "web-7d9f-x2x.web.shop.svc.Z A",
            "NOERROR | web-7d9f-x2x.web.shop.svc.Z A 10.1.0.9",
        ),
        (
            "endpoint_pod_names: then not by address",
            pod_names,
            "10-1-0-9.web.shop.svc.Z A",
            "NXDOMAIN ; soa Z",
        ),
        (
            "endpoint_pod_names: hostname first",
            pod_names,
            "web-7d9f-y3y.web.shop.svc.Z A",
            "NXDOMAIN ; soa Z",
        ),
        ("below an endpoint", as_is, "a.b.db-1.db.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        (
            "addresses of those that have a port",
            as_is,
            "_stats._tcp.db.shop.svc.Z A",
            "NOERROR | _stats._tcp.db.shop.svc.Z A 10.1.1.1 | _stats._tcp.db.shop.svc.Z A 10.1.1.2",
        ),
        ("a port that the other family has not", as_is, "_stats._tcp.db.shop.svc.Z AAAA", "NODATA ; soa Z"),
        (
            "a port of a ClusterIP Service",
            as_is,
            "_https._tcp.web.shop.svc.Z A",
            "NOERROR | _https._tcp.web.shop.svc.Z A 10.96.0.1",
        ),
        ("no such port", as_is, "_ftp._tcp.web.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("noendpoints: no endpoint", no_endpoints, "first.web.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("noendpoints: no headless Service", no_endpoints, "db.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("noendpoints: ClusterIPs", no_endpoints, "web.shop.svc.Z A", "NOERROR | web.shop.svc.Z A 10.96.0.1"),
        ("noendpoints: no PTR", no_endpoints, "1.1.1.10.in-addr.arpa PTR", "NXDOMAIN ; soa in-addr.arpa"),
    ]);
}

#[test]
fn zones_of_endpoints() {
    run(&[
        ("pin", as_is, "a.pin._zone.db.shop.svc.Z A", "NOERROR | a.pin._zone.db.shop.svc.Z A 10.1.1.1"),
        (
            "a zone with dots",
            as_is,
            "b.eu.pin._zone.db.shop.svc.Z A",
            "NOERROR | b.eu.pin._zone.db.shop.svc.Z A 10.1.1.2",
        ),
        ("pin, none there", as_is, "c.pin._zone.db.shop.svc.Z A", "NODATA ; soa Z"),
        ("a part of a zone", as_is, "b.pin._zone.db.shop.svc.Z A", "NODATA ; soa Z"),
        (
            "prefer",
            as_is,
            "a.prefer._zone.db.shop.svc.Z A",
            "NOERROR | a.prefer._zone.db.shop.svc.Z A 10.1.1.1",
        ),
        (
            "prefer, none there",
            as_is,
            "c.prefer._zone.db.shop.svc.Z A",
            "NOERROR | c.prefer._zone.db.shop.svc.Z A 10.1.1.1 | c.prefer._zone.db.shop.svc.Z A 10.1.1.2",
        ),
        ("another word", as_is, "a.near._zone.db.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("a ClusterIP Service", as_is, "a.pin._zone.web.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        (
            "without the option",
            |s| s.settings.zonal = false,
            "a.pin._zone.db.shop.svc.Z A",
            "NXDOMAIN ; soa Z",
        ),
        ("no zone", as_is, "pin._zone.db.shop.svc.Z A", "NXDOMAIN ; soa Z"),
    ]);
}

#[test]
fn pods() {
    run(&[
        ("insecure", as_is, "10-1-2-3.shop.pod.Z A", "NOERROR | 10-1-2-3.shop.pod.Z A 10.1.2.3"),
        (
            "insecure, IPv6",
            as_is,
            "fd00-10--1.shop.pod.Z AAAA",
            "NOERROR | fd00-10--1.shop.pod.Z AAAA fd00:10::1",
        ),
        ("the other family", as_is, "10-1-2-3.shop.pod.Z AAAA", "NODATA ; soa Z"),
        ("leading zeros", as_is, "10-01-2-3.shop.pod.Z A", "NXDOMAIN ; soa Z"),
        ("no namespace", as_is, "10-1-2-3.none.pod.Z A", "NXDOMAIN ; soa Z"),
        ("labels to the left", as_is, "a.10-1-2-3.shop.pod.Z A", "NXDOMAIN ; soa Z"),
        ("no address", as_is, "web.shop.pod.Z A", "NXDOMAIN ; soa Z"),
        ("verified", verified, "10-1-2-3.shop.pod.Z A", "NOERROR | 10-1-2-3.shop.pod.Z A 10.1.2.3"),
        (
            "verified: the second address",
            verified,
            "fd00-10--1.shop.pod.Z AAAA",
            "NOERROR | fd00-10--1.shop.pod.Z AAAA fd00:10::1",
        ),
        (
            "verified: spelled otherwise",
            verified,
            "fd00-10-0-0-0-0-0-1.shop.pod.Z AAAA",
            "NOERROR | fd00-10-0-0-0-0-0-1.shop.pod.Z AAAA fd00:10::1",
        ),
        ("verified: another namespace", verified, "10-1-2-3.empty.pod.Z A", "NXDOMAIN ; soa Z"),
        ("verified: Succeeded", verified, "10-1-2-4.shop.pod.Z A", "NXDOMAIN ; soa Z"),
        ("verified: Failed", verified, "10-1-2-5.shop.pod.Z A", "NXDOMAIN ; soa Z"),
        ("verified: Unknown", verified, "10-1-2-6.shop.pod.Z A", "NXDOMAIN ; soa Z"),
        ("verified: being deleted", verified, "10-1-2-7.shop.pod.Z A", "NXDOMAIN ; soa Z"),
        ("verified: Pending", verified, "10-1-2-8.shop.pod.Z A", "NOERROR | 10-1-2-8.shop.pod.Z A 10.1.2.8"),
        ("disabled", disabled, "10-1-2-3.shop.pod.Z A", "NXDOMAIN ; soa Z"),
    ]);
}

#[test]
fn parents() {
    run(&[
        ("the zone", as_is, "Z A", "NODATA ; soa Z"),
        ("svc", as_is, "svc.Z A", "NODATA ; soa Z"),
        ("pod", as_is, "pod.Z A", "NODATA ; soa Z"),
        ("pod, disabled", disabled, "pod.Z A", "NODATA ; soa Z"),
        ("a namespace", as_is, "shop.svc.Z A", "NODATA ; soa Z"),
        ("a namespace without Services", as_is, "empty.svc.Z A", "NODATA ; soa Z"),
        (
            "a namespace without an object",
            |s| s.service("bare/web", "10.96.0.9", ""),
            "bare.svc.Z A",
            "NODATA ; soa Z",
        ),
        ("no namespace", as_is, "none.svc.Z A", "NXDOMAIN ; soa Z"),
        ("a namespace of pods", as_is, "empty.pod.Z A", "NODATA ; soa Z"),
        ("a namespace of pods, disabled", disabled, "empty.pod.Z A", "NXDOMAIN ; soa Z"),
        ("anything else", as_is, "www.Z A", "NXDOMAIN ; soa Z"),
    ]);
}

#[test]
fn filters() {
    run(&[
        (
            "a listed namespace",
            listed,
            "kube-dns.kube-system.svc.Z A",
            "NOERROR | kube-dns.kube-system.svc.Z A 10.96.0.10",
        ),
        ("a namespace that is not listed", listed, "web.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("itself", listed, "shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("its pods", listed, "10-1-2-3.shop.pod.Z A", "NXDOMAIN ; soa Z"),
        ("backwards, a Service", listed, "1.0.96.10.in-addr.arpa PTR", "NXDOMAIN ; soa in-addr.arpa"),
        ("backwards, an endpoint", listed, "1.1.1.10.in-addr.arpa PTR", "NXDOMAIN ; soa in-addr.arpa"),
        ("labels that match", labelled, "web.shop.svc.Z A", "NOERROR | web.shop.svc.Z A 10.96.0.1"),
        ("labels that do not", labelled, "empty.svc.Z A", "NXDOMAIN ; soa Z"),
        (
            "labels that no longer match",
            |s| {
                labelled(s);
                s.updates.push(namespace("shop", &[("tier", "shop"), ("other", "")]));
            },
            "web.shop.svc.Z A",
            "NXDOMAIN ; soa Z",
        ),
        (
            "ignore empty_service: endpoints",
            ignore_empty,
            "web.shop.svc.Z A",
            "NOERROR | web.shop.svc.Z A 10.96.0.1",
        ),
        ("ignore empty_service: none", ignore_empty, "dual.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        (
            "ignore empty_service: none ready",
            |s| {
                ignore_empty(s);
                s.updates
                    .push(portolan_service::Change::from(slice("shop/dual", "a", "", "10.1.0.4!")).into());
            },
            "dual.shop.svc.Z AAAA",
            "NXDOMAIN ; soa Z",
        ),
    ]);
}

#[test]
fn the_zone_itself() {
    run(&[
        ("SOA", as_is, "Z SOA", "NOERROR | Z SOA ns.dns.Z hostmaster.Z 1700000000 7200 1800 86400 5"),
        (
            "NS: the Service that the server is an endpoint of",
            as_is,
            "Z NS",
            "NOERROR | Z NS kube-dns.kube-system.svc.Z + kube-dns.kube-system.svc.Z A 10.96.0.10",
        ),
        (
            "NS: no Service",
            |s| s.settings.own_addresses = vec!["192.0.2.1".parse().unwrap()],
            "Z NS",
            "NOERROR | Z NS ns.dns.Z + ns.dns.Z A 192.0.2.1",
        ),
        (
            "NS: a headless Service",
            |s| {
                s.settings.own_addresses = vec!["10.1.1.1".parse().unwrap(), "fd00:1::1".parse().unwrap()];
            },
            "Z NS",
            "NOERROR | Z NS db-0.db.shop.svc.Z + db-0.db.shop.svc.Z A 10.1.1.1 \
             + db-0.db.shop.svc.Z AAAA fd00:1::1",
        ),
        ("the server", as_is, "ns.dns.Z A", "NOERROR | ns.dns.Z A 10.96.0.10"),
        ("the server, other types", as_is, "ns.dns.Z TXT", "NODATA ; soa Z"),
        ("above the server", as_is, "dns.Z A", "NXDOMAIN ; soa Z"),
        ("the version", as_is, "dns-version.Z TXT", "NOERROR | dns-version.Z 28800 TXT \"1.1.0\""),
        ("the version, other types", as_is, "dns-version.Z A", "NODATA ; soa Z"),
        ("a TTL", |s| s.settings.ttl = 30, "web.shop.svc.Z A", "NOERROR | web.shop.svc.Z 30 A 10.96.0.1"),
        (
            "a limit of all TTLs",
            |s| (s.settings.ttl, s.settings.ttl_limit) = (60, Some(30)),
            "web.shop.svc.Z A",
            "NOERROR | web.shop.svc.Z 30 A 10.96.0.1",
        ),
        (
            "and of the version's",
            |s| s.settings.ttl_limit = Some(30),
            "dns-version.Z TXT",
            "NOERROR | dns-version.Z 30 TXT \"1.1.0\"",
        ),
        (
            "a TTL of its own for what is absent",
            |s| (s.settings.ttl, s.settings.negative_ttl, s.settings.minimum) = (30, Some(5), Some(5)),
            "none.shop.svc.Z A",
            "NXDOMAIN ; soa Z",
        ),
        (
            "MINIMUM is not limited",
            |s| {
                (s.settings.ttl, s.settings.ttl_limit) = (30, Some(30));
                (s.settings.negative_ttl, s.settings.minimum) = (Some(20), Some(60));
            },
            "none.shop.svc.Z A",
            "NXDOMAIN ; Z 20 SOA ns.dns.Z hostmaster.Z 1700000000 7200 1800 86400 60",
        ),
        (
            "a SOA record that is asked for has the TTL of others",
            |s| (s.settings.ttl, s.settings.negative_ttl) = (30, Some(20)),
            "Z SOA",
            "NOERROR | Z 30 SOA ns.dns.Z hostmaster.Z 1700000000 7200 1800 86400 30",
        ),
        (
            "and at most 300 s",
            |s| s.settings.ttl = 3600,
            "Z SOA",
            "NOERROR | Z 300 SOA ns.dns.Z hostmaster.Z 1700000000 7200 1800 86400 3600",
        ),
        (
            "where it says no, too",
            |s| s.settings.ttl = 3600,
            "web.shop.svc.Z AAAA",
            "NODATA ; Z 300 SOA ns.dns.Z hostmaster.Z 1700000000 7200 1800 86400 3600",
        ),
    ]);
}
