//! §2: response codes, sections and flags.

use portolan_names::Fallthrough;

use crate::notation::name;
use crate::scene::Scene;
use crate::{as_is, run};

fn starting(scene: &mut Scene) {
    scene.synced = false;
}

fn none_ready(scene: &mut Scene) {
    scene.service("shop/late", "", "http:tcp:80");
    scene.slice("shop/late", "a", "http:tcp:80", "10.1.5.1=late-0! 10.1.5.2=late-1!");
}

#[test]
fn what_is_not_there() {
    run(&[
        ("AAAA of an IPv4 Service", as_is, "web.shop.svc.Z AAAA", "NODATA ; soa Z"),
        ("ANY", as_is, "web.shop.svc.Z ANY", "NODATA ; soa Z"),
        ("MX", as_is, "web.shop.svc.Z MX", "NODATA ; soa Z"),
        ("HTTPS", as_is, "web.shop.svc.Z HTTPS", "NODATA ; soa Z"),
        ("SVCB", as_is, "web.shop.svc.Z SVCB", "NODATA ; soa Z"),
        ("CAA", as_is, "db.shop.svc.Z CAA", "NODATA ; soa Z"),
        ("NAPTR", as_is, "db.shop.svc.Z NAPTR", "NODATA ; soa Z"),
        ("an unknown type", as_is, "db.shop.svc.Z TYPE65280", "NODATA ; soa Z"),
        ("TXT", as_is, "web.shop.svc.Z TXT", "NODATA ; soa Z"),
        ("NS of a Service", as_is, "web.shop.svc.Z NS", "NODATA ; soa Z"),
        ("PTR of a Service", as_is, "web.shop.svc.Z PTR", "NODATA ; soa Z"),
        ("CNAME of a Service", as_is, "web.shop.svc.Z CNAME", "NODATA ; soa Z"),
        ("headless, none ready: A", none_ready, "late.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("headless, none ready: TXT", none_ready, "late.shop.svc.Z TXT", "NXDOMAIN ; soa Z"),
        ("headless, none ready: SRV", none_ready, "_http._tcp.late.shop.svc.Z SRV", "NXDOMAIN ; soa Z"),
        ("headless, none ready: zones", none_ready, "a.pin._zone.late.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("too many labels", as_is, "a._http._tcp.web.shop.svc.Z SRV", "NXDOMAIN ; soa Z"),
        ("the zone twice", as_is, "web.shop.svc.cluster.local.Z A", "NXDOMAIN ; soa Z"),
        (
            "the zone twice, through a search list",
            as_is,
            "web.shop.svc.cluster.local.svc.Z A",
            "NXDOMAIN ; soa Z",
        ),
        ("an outside name through a search list", as_is, "example.com.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("AXFR", as_is, "Z AXFR tcp", "REFUSED -aa"),
        ("IXFR", as_is, "Z IXFR", "REFUSED -aa"),
        ("no zone of ours", as_is, "example.com A", "others: example.com"),
        ("the root", as_is, ". NS", "others: ."),
    ]);
}

/// Bugs of the reference that are not repeated.
#[test]
fn better() {
    run(&[
        ("TXT of a namespace", as_is, "shop.svc.Z TXT", "NODATA ; soa Z"),
        ("TXT of svc", as_is, "svc.Z TXT", "NODATA ; soa Z"),
        ("TXT of pod", as_is, "pod.Z TXT", "NODATA ; soa Z"),
        ("TXT of the zone", as_is, "Z TXT", "NODATA ; soa Z"),
        ("SOA of an absent name", as_is, "none.shop.svc.Z SOA", "NXDOMAIN ; soa Z"),
        (
            "NS in mixed case",
            as_is,
            "CLUSTER.loCal NS",
            "NOERROR | CLUSTER.loCal NS kube-dns.kube-system.svc.CLUSTER.loCal + kube-dns.kube-system.svc.CLUSTER.loCal A 10.96.0.10",
        ),
        (
            "NS of a reverse zone",
            as_is,
            "in-addr.arpa NS",
            "NOERROR | in-addr.arpa NS kube-dns.kube-system.svc.Z + kube-dns.kube-system.svc.Z A 10.96.0.10",
        ),
        (
            "SOA of a reverse zone",
            as_is,
            "ip6.arpa SOA",
            "NOERROR | ip6.arpa SOA ns.dns.ip6.arpa hostmaster.ip6.arpa 1700000000 7200 1800 86400 5",
        ),
    ]);
}

#[test]
fn before_all_is_known() {
    run(&[
        ("a Service that is known", starting, "web.shop.svc.Z A", "SERVFAIL"),
        ("one that is not", starting, "none.shop.svc.Z A", "SERVFAIL"),
        ("PTR", starting, "1.0.96.10.in-addr.arpa PTR", "SERVFAIL"),
        (
            "PTR with fallthrough",
            |s| {
                starting(s);
                s.settings.fallthrough = Fallthrough::Everything;
            },
            "9.9.9.9.in-addr.arpa PTR",
            "SERVFAIL",
        ),
        ("names of others", starting, "example.com A", "others: example.com"),
    ]);
}

#[test]
fn falling_through() {
    run(&[
        (
            "everything",
            |s| s.settings.fallthrough = Fallthrough::Everything,
            "none.shop.svc.Z A",
            "others: none.shop.svc.Z",
        ),
        (
            "below a Service, and more labels than any name has",
            |s| s.settings.fallthrough = Fallthrough::Everything,
            "_http.web.shop.svc.Z A",
            "others: _http.web.shop.svc.Z",
        ),
        (
            "an endpoint that is not ready",
            |s| s.settings.fallthrough = Fallthrough::Everything,
            "none.db.shop.svc.Z A",
            "others: none.db.shop.svc.Z",
        ),
        (
            "what is there does not",
            |s| s.settings.fallthrough = Fallthrough::Everything,
            "web.shop.svc.Z AAAA",
            "NODATA ; soa Z",
        ),
        (
            "some domains",
            |s| s.settings.fallthrough = Fallthrough::Domains(vec!["shop.svc.cluster.local".to_owned()]),
            "none.shop.svc.Z A",
            "others: none.shop.svc.Z",
        ),
        (
            "other domains",
            |s| s.settings.fallthrough = Fallthrough::Domains(vec!["shop.svc.cluster.local".to_owned()]),
            "none.empty.svc.Z A",
            "NXDOMAIN ; soa Z",
        ),
    ]);
}

#[test]
fn flags() {
    run(&[
        ("RD and CD are repeated", as_is, "web.shop.svc.Z AAAA rd cd", "NODATA rd cd ; soa Z"),
        ("AD is not", as_is, "web.shop.svc.Z AAAA ad", "NODATA ; soa Z"),
    ]);
}

/// §8: NXDOMAIN of what is starting has a reason that can be logged.
#[test]
fn why_a_name_is_absent() {
    let mut scene = Scene::new();
    none_ready(&mut scene);
    scene.service("shop/none", "", "http:tcp:80");
    let names = scene.names();
    for (asked, expected) in [
        ("late.shop.svc.Z", Some("shop/late 10.1.5.1 10.1.5.2")),
        ("_http._tcp.late.shop.svc.Z", Some("shop/late 10.1.5.1 10.1.5.2")),
        ("none.shop.svc.Z", Some("shop/none")),
        ("10-1-0-3.web.shop.svc.Z", Some("shop/web 10.1.0.3")),
        ("10-1-0-1.web.shop.svc.Z", None),
        ("10-1-0-9.web.shop.svc.Z", None),
        ("web.shop.svc.Z", None),
        ("absent.shop.svc.Z", None),
        ("example.com", None),
    ] {
        let found = names.unready(&name(asked)).map(|unready| {
            let addresses = unready.endpoints.iter().map(|endpoint| format!(" {}", endpoint.address));
            format!("{}{}", unready.service, addresses.collect::<String>())
        });
        assert_eq!(found.as_deref(), expected, "{asked}");
    }
}
