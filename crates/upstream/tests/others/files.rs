//! Names with fixed addresses and servers out of files, which change.

use std::path::Path;
use std::time::{Duration, Instant};

use portolan_names::wire::{Query, Transport, kind};
use portolan_upstream::{Cache, Forward, Forwarder, Hosts, Target, Zone};

use crate::fake::{Fake, LONG, ask, forwarder, question, zone};

/// Asks until the reply is this one.
async fn becomes(forwarder: &Forwarder, name: &str, kind: u16, expected: &str) {
    let begun = Instant::now();
    loop {
        let reply = ask(forwarder, name, kind).await;
        if reply == expected {
            return;
        }
        assert!(begun.elapsed() < LONG, "{reply} in place of {expected}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Replaces a file at once, as editors do.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn with_hosts(fake: &Fake, hosts: Hosts) -> Zone {
    let mut zone = zone(fake);
    zone.hosts = Some(hosts);
    zone
}

#[tokio::test]
async fn fixed_addresses() {
    let fake = Fake::start(|asked| vec![asked.address(99, 60)]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hosts");
    let text = "# comment\n192.0.2.1 One.example uno.example # rest\n2001:db8::1 one.example\n\
                fe80::7%eth0 seven.example\nno-address x.example\n192.0.2.1\n";
    std::fs::write(&file, text).unwrap();
    let hosts = Hosts {
        file: Some(file.clone()),
        entries: vec![("192.0.2.2".parse().unwrap(), vec!["two.example".to_owned()])],
        ttl: 60,
        fallthrough: Some(Vec::new()),
        ..Hosts::default()
    };
    let forwarder = forwarder([with_hosts(&fake, hosts)]);
    let v6 = "[20, 01, 0d, b8, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 00, 01]";
    for (name, kind, expected) in [
        ("ONE.example", kind::A, "NOERROR aa; ONE.example. 60 A 192.0.2.1"),
        ("uno.example", kind::A, "NOERROR aa; uno.example. 60 A 192.0.2.1"),
        ("one.example", kind::AAAA, &format!("NOERROR aa; one.example. 60 28 {v6}")),
        ("two.example", kind::A, "NOERROR aa; two.example. 60 A 192.0.2.2"),
        ("two.example", kind::AAAA, "NOERROR aa"),
        ("two.example", kind::TXT, "NOERROR aa"),
        ("x.example", kind::A, "NOERROR; x.example. 60 A 192.0.2.99"),
        ("2.2.0.192.in-addr.arpa", kind::PTR, "NOERROR aa; 2.2.0.192.in-addr.arpa. 60 two.example."),
        (
            "1.2.0.192.in-addr.arpa",
            kind::PTR,
            "NOERROR aa; 1.2.0.192.in-addr.arpa. 60 One.example.; 1.2.0.192.in-addr.arpa. 60 uno.example.",
        ),
        ("02.2.0.192.in-addr.arpa", kind::PTR, "NOERROR; 02.2.0.192.in-addr.arpa. 60 A 192.0.2.99"),
        ("2.0.192.in-addr.arpa", kind::PTR, "NOERROR; 2.0.192.in-addr.arpa. 60 A 192.0.2.99"),
    ] {
        assert_eq!(ask(&forwarder, name, kind).await, expected, "{name} {kind}");
    }
    let reverse = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.e.f.ip6.arpa";
    let reply = ask(&forwarder, reverse, kind::PTR).await;
    assert_eq!(reply, format!("NOERROR aa; {reverse}. 60 seven.example."));

    replace(&file, "192.0.2.3 three.example\n");
    becomes(&forwarder, "three.example", kind::A, "NOERROR aa; three.example. 60 A 192.0.2.3").await;
    assert_eq!(ask(&forwarder, "uno.example", kind::A).await, "NOERROR; uno.example. 60 A 192.0.2.99");
    assert!(ask(&forwarder, "two.example", kind::A).await.starts_with("NOERROR aa;"), "inline ones stay");

    let message = question("three.example", kind::A);
    let (query, mut reply) = (Query::parse(&message).unwrap(), Vec::new());
    assert!(forwarder.fixed(&query, Transport::Udp, &mut reply));
    let message = question("other.example", kind::A);
    assert!(!forwarder.fixed(&Query::parse(&message).unwrap(), Transport::Udp, &mut reply));
}

#[tokio::test]
async fn who_is_asked_for_names_that_are_not_there() {
    let fake = Fake::start(|asked| vec![asked.address(99, 60)]).await;
    let entries = vec![("192.0.2.1".parse().unwrap(), vec!["a.in.example".to_owned()])];
    let hosts = Hosts { entries, ..Hosts::default() };
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let outside = |name: &str| format!("NOERROR; {name}. 60 A 192.0.2.99");
    for (case, hosts, name, expected) in [
        ("no fallthrough", hosts.clone(), "b.example", "SERVFAIL".to_owned()),
        (
            "fallthrough of a domain",
            Hosts { fallthrough: Some(texts(&["example"])), ..hosts.clone() },
            "b.example",
            outside("b.example"),
        ),
        (
            "fallthrough of another domain",
            Hosts { fallthrough: Some(texts(&["test"])), ..hosts.clone() },
            "b.example",
            "SERVFAIL".to_owned(),
        ),
        (
            "outside its domains",
            Hosts { domains: texts(&["in.example"]), ..hosts.clone() },
            "b.example",
            outside("b.example"),
        ),
        (
            "in its domains",
            Hosts { domains: texts(&["in.example"]), ..hosts },
            "b.in.example",
            "SERVFAIL".to_owned(),
        ),
    ] {
        let forwarder = forwarder([with_hosts(&fake, hosts)]);
        assert_eq!(ask(&forwarder, name, kind::A).await, expected, "{case}");
        assert!(ask(&forwarder, "a.in.example", kind::A).await.starts_with("NOERROR aa;"), "{case}");
    }
}

#[tokio::test]
async fn ttls_of_fixed_addresses_are_limited_as_a_cache_limits_them() {
    let fake = Fake::start(|asked| vec![asked.address(99, 60)]).await;
    let entries = vec![("192.0.2.1".parse().unwrap(), vec!["a.example".to_owned()])];
    let mut zone = with_hosts(&fake, Hosts { entries, ..Hosts::default() });
    zone.cache = Some(Cache::of(30));
    assert_eq!(ask(&forwarder([zone]), "a.example", kind::A).await, "NOERROR aa; a.example. 30 A 192.0.2.1");
}

#[tokio::test]
async fn servers_of_a_resolv_conf_are_followed() {
    let first = Fake::start(|asked| vec![asked.address(1, 60)]).await;
    let second = Fake::start(|asked| vec![asked.address(2, 60)]).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    std::fs::write(&file, format!("search x\nnameserver {}\noptions ndots:5\n", first.address)).unwrap();
    let mut zone = Zone::new(".");
    zone.forwards.push(Forward::new([Target::ResolvConf(file.clone())]));
    let forwarder = forwarder([zone]);
    assert_eq!(ask(&forwarder, "a.example", kind::A).await, "NOERROR; a.example. 60 A 192.0.2.1");
    replace(&file, &format!("nameserver {}\n", second.address));
    becomes(&forwarder, "a.example", kind::A, "NOERROR; a.example. 60 A 192.0.2.2").await;
    // Without the file the servers are as before; without servers there is nobody to ask.
    std::fs::remove_file(&file).unwrap();
    assert_eq!(ask(&forwarder, "b.example", kind::A).await, "NOERROR; b.example. 60 A 192.0.2.2");
    replace(&file, "# nobody\n");
    becomes(&forwarder, "a.example", kind::A, "SERVFAIL").await;
    replace(&file, &format!("nameserver {}\n", first.address));
    becomes(&forwarder, "a.example", kind::A, "NOERROR; a.example. 60 A 192.0.2.1").await;
}
