//! §5: names of addresses.

use portolan_names::Fallthrough;

use crate::scene::{Scene, node};
use crate::{as_is, run};

fn forwarding(scene: &mut Scene) {
    scene.settings.fallthrough = Fallthrough::Domains(vec!["in-addr.arpa".to_owned(), "ip6.arpa".to_owned()]);
    scene.settings.own_networks = vec!["10.96.0.0/12".parse().unwrap(), "fd00:96::/64".parse().unwrap()];
    scene.updates.push(node("n1", "10.1.0.0/16"));
}

fn shared(scene: &mut Scene) {
    scene.service("shop/b", "10.96.1.2", "p:tcp:1");
    scene.service("shop/a", "", "p:tcp:1");
    scene.slice("shop/b", "x", "p:tcp:1", "192.0.2.1");
    scene.slice("shop/a", "x", "p:tcp:1", "192.0.2.1=host");
    scene.slice("shop/absent", "x", "p:tcp:1", "192.0.2.1");
}

#[test]
fn addresses() {
    run(&[
        (
            "a ClusterIP",
            as_is,
            "1.0.96.10.in-addr.arpa PTR",
            "NOERROR | 1.0.96.10.in-addr.arpa PTR web.shop.svc.Z",
        ),
        (
            "a ClusterIP that an endpoint has too",
            |s| s.slice("shop/db", "c", "sql:tcp:1", "10.96.0.1=x"),
            "1.0.96.10.in-addr.arpa PTR",
            "NOERROR | 1.0.96.10.in-addr.arpa PTR web.shop.svc.Z",
        ),
        (
            "an endpoint by hostname",
            as_is,
            "1.1.1.10.in-addr.arpa PTR",
            "NOERROR | 1.1.1.10.in-addr.arpa PTR db-0.db.shop.svc.Z",
        ),
        (
            "an endpoint by address",
            as_is,
            "1.0.1.10.in-addr.arpa PTR",
            "NOERROR | 1.0.1.10.in-addr.arpa PTR 10-1-0-1.web.shop.svc.Z",
        ),
        (
            "IPv6, in upper case",
            as_is,
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.D.F.IP6.arpa PTR",
            "NOERROR | 1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.D.F.IP6.arpa PTR \
             db-0.db.shop.svc.Z",
        ),
        ("not ready", as_is, "3.1.1.10.in-addr.arpa PTR", "NXDOMAIN ; soa in-addr.arpa"),
        (
            "an endpoint of several Services; slices of absent ones do not count",
            shared,
            "1.2.0.192.in-addr.arpa PTR",
            "NOERROR | 1.2.0.192.in-addr.arpa PTR host.a.shop.svc.Z \
             | 1.2.0.192.in-addr.arpa PTR 192-0-2-1.b.shop.svc.Z",
        ),
        ("unknown", as_is, "1.2.0.192.in-addr.arpa PTR", "NXDOMAIN ; soa in-addr.arpa"),
        ("no address", as_is, "x.in-addr.arpa PTR", "NXDOMAIN ; soa in-addr.arpa"),
        ("another type at a known address", as_is, "1.0.96.10.in-addr.arpa A", "NODATA ; soa in-addr.arpa"),
        (
            "another type at an endpoint's",
            forwarding,
            "1.1.1.10.in-addr.arpa TXT",
            "NODATA ; soa in-addr.arpa",
        ),
    ]);
}

#[test]
fn others_are_asked() {
    run(&[
        ("an unknown one", forwarding, "1.2.0.192.in-addr.arpa PTR", "others: 1.2.0.192.in-addr.arpa"),
        ("a part of one", forwarding, "10.in-addr.arpa NS", "others: 10.in-addr.arpa"),
        (
            "not for Services' networks",
            forwarding,
            "9.9.96.10.in-addr.arpa PTR",
            "NXDOMAIN ; soa in-addr.arpa",
        ),
        ("not for nodes' pods", forwarding, "9.9.1.10.in-addr.arpa PTR", "NXDOMAIN ; soa in-addr.arpa"),
        (
            "nor for a part of an address there",
            forwarding,
            "9.1.10.in-addr.arpa PTR",
            "NODATA ; soa in-addr.arpa",
        ),
        (
            "a node that is gone",
            |s| {
                forwarding(s);
                s.updates.push(portolan_service::Change::NodeRemoved("n1".into()).into());
            },
            "9.9.1.10.in-addr.arpa PTR",
            "others: 9.9.1.10.in-addr.arpa",
        ),
    ]);
}
