//! The list of what is served says what is answered.

use std::collections::BTreeSet;

use portolan_names::wire::{Answers, Name, kind};
use portolan_names::{Listed, Names, Settings};
use portolan_service::ObjectName;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::notation::{Question, ask};
use crate::order::{settings, update};
use crate::scene::{NOW, Scene, external, named, service};

/// Everything that is listed, in the order of the Services' names.
fn listed(names: &Names) -> Vec<Listed> {
    let (mut all, mut from): (Vec<ObjectName>, _) = (Vec::new(), Some(0));
    while let Some(at) = from {
        from = names.services_at(at, 2, |name| all.push(name.clone()));
    }
    all.sort();
    let served = all.iter().map(|name| names.served(name).expect("it was listed"));
    served.flat_map(|served| served.records("cluster.local", true)).collect()
}

fn lines(names: &Names) -> Vec<String> {
    let line = |row: &Listed| match &row.absent {
        Some(absent) => format!("{}: {absent}", row.name),
        None => format!("{} {} {}", row.name, row.kind, row.data.join(" ")),
    };
    listed(names).iter().map(|row| line(row).replace("cluster.local", "Z")).collect()
}

#[test]
fn names_with_records_and_reasons() {
    let mut scene = Scene::new();
    scene.updates.truncate(3);
    scene.service("shop/web", "10.96.0.1", "http:tcp:80 :udp:81");
    scene.slice("shop/web", "a", "http:tcp:8080", "10.1.0.2=First 10.1.0.3!");
    scene.service("shop/db", "", "sql:tcp:5432");
    scene.slice("shop/db", "a", "sql:tcp:5432", "10.1.1.1=db-0 10.1.1.3=db-1~p1!");
    scene.slice("shop/db", "b", "sql:tcp:5432", "fd00:1::1=db-0");
    scene.service("shop/starting", "", "");
    scene.slice("shop/starting", "a", "", "10.1.1.4=s-0~s-0! 10.1.1.5!");
    scene.service("shop/idle", "", "");
    scene.put(external("shop/away", "outside.example."));
    scene.put(external("shop/wrong", "192.0.2.1"));
    let pending = portolan_service::Service { headless: false, ..service("shop/pending", "", "p:tcp:1") };
    scene.put(pending);
    let found = lines(&scene.names());
    assert_eq!(
        found,
        [
            "away.shop.svc.Z 5 outside.example",
            "db.shop.svc.Z 1 10.1.1.1",
            "db.shop.svc.Z 28 fd00:1::1",
            "_sql._tcp.db.shop.svc.Z 33 db-0.db.shop.svc.Z:5432",
            "db.shop.svc.Z 33 db-0.db.shop.svc.Z:5432",
            "db-0.db.shop.svc.Z 1 10.1.1.1",
            "db-0.db.shop.svc.Z 28 fd00:1::1",
            "db-1.db.shop.svc.Z: no endpoint is ready: p1 (10.1.1.3)",
            "idle.shop.svc.Z: it has no endpoints",
            "pending.shop.svc.Z: it has no ClusterIP yet",
            "starting.shop.svc.Z: no endpoint is ready: s-0 (10.1.1.4), 10.1.1.5",
            "10-1-1-5.starting.shop.svc.Z: no endpoint is ready: 10.1.1.5",
            "s-0.starting.shop.svc.Z: no endpoint is ready: s-0 (10.1.1.4)",
            "web.shop.svc.Z 1 10.96.0.1",
            "_http._tcp.web.shop.svc.Z 33 web.shop.svc.Z:80",
            "web.shop.svc.Z 33 web.shop.svc.Z:80 web.shop.svc.Z:81",
            "10-1-0-3.web.shop.svc.Z: no endpoint is ready: 10.1.0.3",
            "first.web.shop.svc.Z 1 10.1.0.2",
            "wrong.shop.svc.Z: externalName \"192.0.2.1\" is no name: give a domain name, and no address",
        ]
    );
}

#[test]
fn settings_that_leave_names_out_are_the_reason() {
    let names = |change: fn(&mut Settings)| {
        let mut scene = Scene::new();
        scene.updates.truncate(3);
        scene.service("shop/db", "", "");
        scene.service("shop/web", "10.96.0.1", "");
        change(&mut scene.settings);
        lines(&scene.names())
    };
    let off = names(|settings| settings.endpoints = false);
    assert_eq!(
        off,
        ["db.shop.svc.Z: noendpoints: no headless Service has a name", "web.shop.svc.Z 1 10.96.0.1"]
    );
    let ignored = names(|settings| settings.ignore_empty_service = true);
    assert_eq!(ignored[1], "web.shop.svc.Z: it has no endpoints");
    let listed = vec!["other".to_owned()];
    let other = portolan_names::NamespaceFilter::Listed(listed);
    let mut scene = Scene::new();
    scene.settings.namespaces = other;
    let names = scene.names();
    let web = names.served(&named("shop/web")).unwrap();
    assert!(!web.is_shown());
    let rows = web.records("cluster.local", true);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(names.domains(), ["cluster.local"]);
}

/// What is answered to a question for `row`, in its form. An alias is asked for as such: what it
/// leads to is another name.
fn answered(names: &Names, name: &str, of: u16) -> (String, BTreeSet<String>) {
    let text = match of {
        kind::A => "A",
        kind::AAAA => "AAAA",
        kind::SRV => "SRV",
        _ => "CNAME",
    };
    let (line, message) = ask(names, &Question::parse(&format!("{name} {text} tcp")), 1);
    let mut data = BTreeSet::new();
    for record in Answers::parse(&message).unwrap().map(Result::unwrap).filter(|record| record.answers(of)) {
        let name = |at| Name::read(&message, at).unwrap().0.to_string().trim_end_matches('.').to_owned();
        data.insert(match record.data {
            [a, b, c, d] if of == kind::A => format!("{a}.{b}.{c}.{d}"),
            octets if of == kind::AAAA => {
                std::net::Ipv6Addr::from(<[u8; 16]>::try_from(octets).unwrap()).to_string()
            }
            [_, _, _, _, high, low, ..] if of == kind::SRV => {
                format!("{}:{}", name(record.at + 6), u16::from_be_bytes([*high, *low]))
            }
            _ => name(record.at),
        });
    }
    (line, data)
}

proptest! {
    #[test]
    fn what_is_listed_is_what_is_answered(
        settings in settings(),
        updates in vec(update(), 0..40),
        pod_names in any::<bool>(),
    ) {
        let settings = Settings { endpoint_pod_names: pod_names, ..settings };
        let mut names = Names::new(settings, 3).unwrap();
        names.apply(updates, NOW);
        names.set_synced();
        for row in listed(&names) {
            if let Some(absent) = &row.absent {
                let (line, _) = answered(&names, &row.name, kind::A);
                let code = if absent.is_no_name() { "NXDOMAIN" } else { "NODATA" };
                prop_assert!(line.starts_with(code), "{:?}: {}", row, line);
                continue;
            }
            let (line, data) = answered(&names, &row.name, row.kind);
            let wanted: BTreeSet<String> = row.data.iter().cloned().collect();
            if row.kind == kind::CNAME {
                // One of several is drawn.
                prop_assert!(!data.is_empty() && data.is_subset(&wanted), "{:?}: {}", row, line);
            } else {
                prop_assert_eq!(&data, &wanted, "{:?}: {}", row, line);
            }
        }
    }
}
