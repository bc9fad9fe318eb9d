//! §3: SRV records.

use crate::scene::Scene;
use crate::{as_is, run};

fn unnamed(scene: &mut Scene) {
    scene.service("shop/one", "10.96.0.7", ":tcp:80");
}

fn both_protocols(scene: &mut Scene) {
    scene.service("shop/dns", "10.96.0.8", "dns:udp:53 dns-tcp:tcp:53");
}

fn without_ports(scene: &mut Scene) {
    scene.service("shop/bare", "", "");
    scene.slice("shop/bare", "a", "", "10.1.7.1=bare-0");
}

fn without_number(scene: &mut Scene) {
    scene.service("shop/any", "", "p:tcp:1");
    scene.slice("shop/any", "a", "p:tcp:0 q:tcp:2", "10.1.7.2=any-0");
}

fn three(scene: &mut Scene) {
    scene.service("shop/many", "", "p:tcp:1");
    scene.slice("shop/many", "a", "p:tcp:1", "10.1.8.1=a 10.1.8.2=b 10.1.8.3=c");
}

#[test]
fn services() {
    run(&[
        (
            "a port",
            as_is,
            "_http._tcp.web.shop.svc.Z SRV",
            "NOERROR | _http._tcp.web.shop.svc.Z SRV 0 100 80 web.shop.svc.Z + web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "dual-stack: two pairs, one record",
            as_is,
            "_http._tcp.dual.shop.svc.Z SRV",
            "NOERROR | _http._tcp.dual.shop.svc.Z SRV 0 50 80 dual.shop.svc.Z \
             + dual.shop.svc.Z A 10.96.0.2 + dual.shop.svc.Z AAAA fd00:96::2",
        ),
        (
            "without regard to case",
            as_is,
            "_HTTP._Tcp.web.shop.svc.Z SRV",
            "NOERROR | _HTTP._Tcp.web.shop.svc.Z SRV 0 100 80 web.shop.svc.Z + web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "without underscores",
            as_is,
            "https.tcp.web.shop.svc.Z SRV",
            "NOERROR | https.tcp.web.shop.svc.Z SRV 0 100 443 web.shop.svc.Z + web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "an underscore alone: any port",
            unnamed,
            "_._tcp.one.shop.svc.Z SRV",
            "NOERROR | _._tcp.one.shop.svc.Z SRV 0 100 80 one.shop.svc.Z + one.shop.svc.Z A 10.96.0.7",
        ),
        ("another protocol", as_is, "_http._udp.web.shop.svc.Z SRV", "NXDOMAIN ; soa Z"),
        ("another port", as_is, "_ftp._tcp.web.shop.svc.Z SRV", "NXDOMAIN ; soa Z"),
        ("numbers are not names", as_is, "_80._tcp.web.shop.svc.Z SRV", "NXDOMAIN ; soa Z"),
        (
            "a bare Service: all ports",
            as_is,
            "web.shop.svc.Z SRV",
            "NOERROR | web.shop.svc.Z SRV 0 50 80 web.shop.svc.Z | web.shop.svc.Z SRV 0 50 443 web.shop.svc.Z \
             + web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "the same port once, whatever the protocol",
            both_protocols,
            "dns.shop.svc.Z SRV",
            "NOERROR | dns.shop.svc.Z SRV 0 50 53 dns.shop.svc.Z + dns.shop.svc.Z A 10.96.0.8",
        ),
    ]);
}

#[test]
fn endpoints() {
    run(&[
        (
            "headless: the slices' ports",
            as_is,
            "_stats._tcp.db.shop.svc.Z SRV",
            "NOERROR | _stats._tcp.db.shop.svc.Z SRV 0 50 9000 db-0.db.shop.svc.Z \
             | _stats._tcp.db.shop.svc.Z SRV 0 50 9000 db-1.db.shop.svc.Z \
             + db-0.db.shop.svc.Z A 10.1.1.1 + db-1.db.shop.svc.Z A 10.1.1.2",
        ),
        (
            "both families of a target",
            as_is,
            "_sql._tcp.db.shop.svc.Z SRV",
            "NOERROR | _sql._tcp.db.shop.svc.Z SRV 0 33 5432 db-0.db.shop.svc.Z \
             | _sql._tcp.db.shop.svc.Z SRV 0 33 5432 db-1.db.shop.svc.Z \
             + db-0.db.shop.svc.Z A 10.1.1.1 + db-0.db.shop.svc.Z AAAA fd00:1::1 \
             + db-1.db.shop.svc.Z A 10.1.1.2",
        ),
        (
            "an endpoint: all its ports",
            as_is,
            "db-1.db.shop.svc.Z SRV",
            "NOERROR | db-1.db.shop.svc.Z SRV 0 50 5432 db-1.db.shop.svc.Z \
             | db-1.db.shop.svc.Z SRV 0 50 9000 db-1.db.shop.svc.Z + db-1.db.shop.svc.Z A 10.1.1.2",
        ),
        (
            "weights are rounded down",
            three,
            "_p._tcp.many.shop.svc.Z SRV",
            "NOERROR | _p._tcp.many.shop.svc.Z SRV 0 33 1 a.many.shop.svc.Z \
             | _p._tcp.many.shop.svc.Z SRV 0 33 1 b.many.shop.svc.Z \
             | _p._tcp.many.shop.svc.Z SRV 0 33 1 c.many.shop.svc.Z \
             + a.many.shop.svc.Z A 10.1.8.1 + b.many.shop.svc.Z A 10.1.8.2 + c.many.shop.svc.Z A 10.1.8.3",
        ),
        (
            "a slice twice: records once",
            |s| {
                three(s);
                s.slice("shop/many", "b", "p:tcp:1", "10.1.8.1=a");
                s.slice("shop/many", "a", "p:tcp:1", "10.1.8.1=a");
            },
            "_p._tcp.many.shop.svc.Z SRV",
            "NOERROR | _p._tcp.many.shop.svc.Z SRV 0 50 1 a.many.shop.svc.Z + a.many.shop.svc.Z A 10.1.8.1",
        ),
        (
            "the zone is spelled as asked",
            three,
            "C.maNy.shop.svc.CLUSTER.Local SRV",
            "NOERROR | C.maNy.shop.svc.CLUSTER.Local SRV 0 100 1 c.many.shop.svc.CLUSTER.Local \
             + c.many.shop.svc.CLUSTER.Local A 10.1.8.3",
        ),
        ("no ports: addresses", without_ports, "bare.shop.svc.Z A", "NOERROR | bare.shop.svc.Z A 10.1.7.1"),
        ("no ports: no SRV", without_ports, "bare.shop.svc.Z SRV", "NODATA ; soa Z"),
        ("no ports: no port by name", without_ports, "_p._tcp.bare.shop.svc.Z SRV", "NXDOMAIN ; soa Z"),
        (
            "a port without a number: addresses",
            without_number,
            "_p._tcp.any.shop.svc.Z A",
            "NOERROR | _p._tcp.any.shop.svc.Z A 10.1.7.2",
        ),
        ("a port without a number: no SRV", without_number, "_p._tcp.any.shop.svc.Z SRV", "NODATA ; soa Z"),
        (
            "a port without a number counts",
            without_number,
            "any.shop.svc.Z SRV",
            "NOERROR | any.shop.svc.Z SRV 0 50 2 any-0.any.shop.svc.Z + any-0.any.shop.svc.Z A 10.1.7.2",
        ),
        (
            "endpoints of a ClusterIP Service",
            as_is,
            "first.web.shop.svc.Z SRV",
            "NOERROR | first.web.shop.svc.Z SRV 0 100 8080 first.web.shop.svc.Z \
             + first.web.shop.svc.Z A 10.1.0.2",
        ),
    ]);
}
