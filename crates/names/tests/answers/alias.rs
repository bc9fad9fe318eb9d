//! §4: ExternalName.

use portolan_names::wire::{kind, rcode};
use portolan_names::{Next, Outcome, Outside, Reply};

use crate::notation::{Question, name, show};
use crate::scene::Scene;
use crate::{as_is, run};

fn inside(scene: &mut Scene) {
    for (name, target) in [
        ("shop/alias", "web.shop.svc.cluster.local"),
        ("shop/second", "Alias.Shop.svc.cluster.local."),
        ("shop/v6", "web.shop.svc.cluster.local"),
        ("shop/nowhere", "none.shop.svc.cluster.local"),
        ("shop/self", "self.shop.svc.cluster.local"),
        ("shop/ping", "pong.shop.svc.cluster.local"),
        ("shop/pong", "ping.shop.svc.cluster.local"),
        ("shop/address", "192.0.2.1"),
        ("shop/address6", "2001:db8::1"),
        ("shop/out", "www.example.com"),
        ("shop/far", "out.shop.svc.cluster.local"),
        ("shop/bad", "a..b"),
    ] {
        scene.external(name, target);
    }
    for number in 0..12 {
        let next = format!("chain-{}.shop.svc.cluster.local", number + 1);
        scene.external(&format!("shop/chain-{number}"), &next);
    }
    scene.service("shop/chain-12", "10.96.0.12", "p:tcp:1");
}

#[test]
fn inside_the_cluster() {
    run(&[
        (
            "A",
            inside,
            "alias.shop.svc.Z A",
            "NOERROR | alias.shop.svc.Z CNAME web.shop.svc.Z | web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "two aliases",
            inside,
            "second.shop.svc.Z A",
            "NOERROR | second.shop.svc.Z CNAME Alias.Shop.svc.Z | Alias.Shop.svc.Z CNAME web.shop.svc.Z \
             | web.shop.svc.Z A 10.96.0.1",
        ),
        (
            "CNAME: that alone",
            inside,
            "second.shop.svc.Z CNAME",
            "NOERROR | second.shop.svc.Z CNAME Alias.Shop.svc.Z",
        ),
        ("SRV", inside, "alias.shop.svc.Z SRV", "NODATA ; soa Z"),
        ("TXT", inside, "alias.shop.svc.Z TXT", "NODATA ; soa Z"),
        ("MX", inside, "alias.shop.svc.Z MX", "NODATA ; soa Z"),
        ("HTTPS", inside, "alias.shop.svc.Z HTTPS", "NODATA ; soa Z"),
        ("ANY", inside, "alias.shop.svc.Z ANY", "NODATA ; soa Z"),
        ("below it", inside, "a.alias.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("ports", inside, "_http._tcp.alias.shop.svc.Z SRV", "NXDOMAIN ; soa Z"),
        ("an IPv4 address", inside, "address.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        ("an IPv6 address", inside, "address6.shop.svc.Z CNAME", "NXDOMAIN ; soa Z"),
        ("what is no name", inside, "bad.shop.svc.Z A", "NXDOMAIN ; soa Z"),
        (
            "slices of such a Service give no names",
            |s| {
                inside(s);
                s.slice("shop/alias", "a", "p:tcp:1", "10.1.9.9=x");
            },
            "9.9.1.10.in-addr.arpa PTR",
            "NXDOMAIN ; soa in-addr.arpa",
        ),
        // What the reference answers without the alias, or with another code.
        (
            "a target that lacks the type",
            inside,
            "alias.shop.svc.Z AAAA",
            "NOERROR | alias.shop.svc.Z CNAME web.shop.svc.Z ; soa Z",
        ),
        (
            "a target that is absent",
            inside,
            "nowhere.shop.svc.Z A",
            "NXDOMAIN | nowhere.shop.svc.Z CNAME none.shop.svc.Z ; soa Z",
        ),
        ("itself", inside, "self.shop.svc.Z A", "SERVFAIL | self.shop.svc.Z CNAME self.shop.svc.Z"),
        (
            "a loop",
            inside,
            "ping.shop.svc.Z A",
            "SERVFAIL | ping.shop.svc.Z CNAME pong.shop.svc.Z | pong.shop.svc.Z CNAME ping.shop.svc.Z",
        ),
        ("outside", inside, "out.shop.svc.Z A", "outside: www.example.com"),
        ("outside, in two steps", inside, "far.shop.svc.Z AAAA", "outside: www.example.com"),
        ("outside, CNAME", inside, "out.shop.svc.Z CNAME", "NOERROR | out.shop.svc.Z CNAME www.example.com"),
        ("no alias", as_is, "web.shop.svc.Z CNAME", "NODATA ; soa Z"),
    ]);
}

#[test]
fn eleven_aliases_and_no_more() {
    let mut scene = Scene::new();
    inside(&mut scene);
    let names = scene.names();
    let most = crate::notation::answer(&names, "chain-1.shop.svc.Z A tcp");
    assert!(most.starts_with("NOERROR") && most.ends_with("| chain-12.shop.svc.Z A 10.96.0.12"), "{most}");
    assert_eq!(most.matches("CNAME").count(), 11);
    let more = crate::notation::answer(&names, "chain-0.shop.svc.Z A tcp");
    assert!(more.starts_with("SERVFAIL |"), "{more}");
    assert_eq!(more.matches("CNAME").count(), 11);
}

/// What is left to be asked for `far.shop.svc.Z`.
fn continuation(question: &str) -> Outside {
    let mut scene = Scene::new();
    inside(&mut scene);
    let question = Question::parse(question);
    let mut reply = Reply::new();
    match scene.names().answer(&question.message, question.transport, 1, &mut reply) {
        Outcome::Outside(outside) => *outside,
        other => panic!("{other:?}"),
    }
}

/// An answer of another server: code, flags, records `OWNER TTL TYPE DATA`. Authority after `;`.
fn upstream(code: u16, flags: u16, records: &[(&str, u32, u16, &[u8])], authority: usize) -> Vec<u8> {
    let mut message = vec![0, 1];
    message.extend((0x8180 | flags | code).to_be_bytes());
    let (answers, authority) = (records.len() - authority, authority);
    message.extend([0, 0, 0, u8::try_from(answers).unwrap(), 0, u8::try_from(authority).unwrap(), 0, 0]);
    for (owner, ttl, kind, data) in records {
        message.extend_from_slice(name(owner).as_wire());
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        message.extend(ttl.to_be_bytes());
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend_from_slice(data);
    }
    message
}

const ALIASES: &str = "| far.shop.svc.Z CNAME out.shop.svc.Z | out.shop.svc.Z CNAME www.example.com";

const WWW: &str = "www.example.com";

#[test]
fn outside_the_cluster() {
    let cdn = name("cdn.example.net");
    let soa = [name("ns.example.com").as_wire(), name("root.example.com").as_wire(), &[0; 20]].concat();
    let a: &[u8] = &[192, 0, 2, 7];
    for (case, answer, expected) in [
        (
            "an address",
            Some(upstream(0, 0, &[(WWW, 300, kind::A, a)], 0)),
            format!("NOERROR {ALIASES} | www.example.com A 192.0.2.7"),
        ),
        (
            "the lowest TTL for all",
            Some(upstream(0, 0, &[(WWW, 2, kind::A, a)], 0)),
            "NOERROR | far.shop.svc.Z 2 CNAME out.shop.svc.Z | out.shop.svc.Z 2 CNAME www.example.com \
             | www.example.com 2 A 192.0.2.7"
                .to_owned(),
        ),
        (
            "further aliases, and records of others",
            Some(upstream(
                0,
                0,
                &[
                    ("other.example", 300, kind::A, a),
                    ("cdn.example.NET", 300, kind::A, a),
                    ("WWW.example.com", 300, kind::CNAME, cdn.as_wire()),
                ],
                0,
            )),
            format!(
                "NOERROR {ALIASES} | www.example.com CNAME cdn.example.net | cdn.example.net A 192.0.2.7"
            ),
        ),
        (
            "no data",
            Some(upstream(0, 0, &[("example.com", 60, kind::SOA, &soa)], 1)),
            format!("NOERROR {ALIASES} ; example.com SOA ns.example.com root.example.com 0 0 0 0 0"),
        ),
        (
            "no such name",
            Some(upstream(rcode::NXDOMAIN, 0, &[("example.com", 3, kind::SOA, &soa)], 1)),
            format!("NXDOMAIN {ALIASES} ; example.com 3 SOA ns.example.com root.example.com 0 0 0 0 0"),
        ),
        ("failure", Some(upstream(rcode::SERVFAIL, 0, &[], 0)), format!("SERVFAIL {ALIASES}")),
        ("refusal", Some(upstream(rcode::REFUSED, 0, &[], 0)), format!("REFUSED {ALIASES}")),
        (
            "cut",
            Some(upstream(0, 0x0200, &[(WWW, 300, kind::A, a)], 0)),
            format!("NOERROR tc {ALIASES} | www.example.com A 192.0.2.7"),
        ),
        ("silence", None, format!("SERVFAIL {ALIASES}")),
        ("nonsense", Some(vec![0; 11]), format!("SERVFAIL {ALIASES}")),
    ] {
        let outside = continuation("far.shop.svc.Z A");
        assert_eq!((outside.name(), outside.kind()), (&name(WWW), kind::A));
        let mut reply = Reply::new();
        outside.finish(answer.as_deref(), &mut reply);
        assert_eq!(show(reply.message()), expected, "{case}");
    }
}

#[test]
fn outside_loops_end() {
    let (one, other) = (name("www.example.com"), name("b.example.com"));
    let records = [
        ("www.example.com", 300, kind::CNAME, other.as_wire()),
        ("b.example.com", 300, kind::CNAME, one.as_wire()),
    ];
    let mut reply = Reply::new();
    continuation("far.shop.svc.Z A tcp").finish(Some(&upstream(0, 0, &records, 0)), &mut reply);
    assert!(show(reply.message()).starts_with("SERVFAIL |"), "{}", show(reply.message()));
}

/// Aliases outside that lead back to names of the cluster: what is there is the answer.
#[test]
fn back_into_the_cluster() {
    let mut scene = Scene::new();
    inside(&mut scene);
    let names = scene.names();
    let outside = || continuation("far.shop.svc.Z A");
    let back = "| www.example.com CNAME";
    for (case, target, ttl, expected) in [
        (
            "an address",
            "Web.shop.svc.cluster.local",
            300,
            format!("NOERROR {ALIASES} {back} Web.shop.svc.Z | Web.shop.svc.Z A 10.96.0.1"),
        ),
        (
            "the lowest TTL for all",
            "web.shop.svc.cluster.local",
            2,
            "NOERROR | far.shop.svc.Z 2 CNAME out.shop.svc.Z | out.shop.svc.Z 2 CNAME www.example.com \
             | www.example.com 2 CNAME web.shop.svc.Z | web.shop.svc.Z 2 A 10.96.0.1"
                .to_owned(),
        ),
        (
            "no such name",
            "none.shop.svc.cluster.local",
            300,
            format!("NXDOMAIN {ALIASES} {back} none.shop.svc.Z ; soa Z"),
        ),
        (
            "an alias again",
            "alias.shop.svc.cluster.local",
            300,
            format!(
                "NOERROR {ALIASES} {back} alias.shop.svc.Z | alias.shop.svc.Z CNAME web.shop.svc.Z \
                 | web.shop.svc.Z A 10.96.0.1"
            ),
        ),
    ] {
        let target = name(target);
        let answer = upstream(rcode::NXDOMAIN, 0, &[(WWW, ttl, kind::CNAME, target.as_wire())], 0);
        let mut reply = Reply::new();
        let next = names.finish(&outside(), Some(&answer), 1, &mut reply);
        assert!(matches!(next, Next::Reply), "{case}");
        assert_eq!(show(reply.message()), expected, "{case}");
    }
}

/// In and out again, until there are too many aliases: each time others are asked for a name at the
/// end of a longer chain.
#[test]
fn back_and_forth_ends() {
    let mut scene = Scene::new();
    inside(&mut scene);
    let names = scene.names();
    let target = name("far.shop.svc.cluster.local");
    let answer = upstream(0, 0, &[(WWW, 300, kind::CNAME, target.as_wire())], 0);
    let (mut outside, mut rounds) = (continuation("far.shop.svc.Z A tcp"), 0);
    let mut reply = Reply::new();
    while let Next::Outside(next) = names.finish(&outside, Some(&answer), 1, &mut reply) {
        (outside, rounds) = (*next, rounds + 1);
    }
    assert_eq!(rounds, 3);
    let found = show(reply.message());
    assert!(found.starts_with("SERVFAIL |") && found.matches("CNAME").count() == 11, "{found}");
}
