//! Pages of names.

use portolan_names::{Settings, Update};
use portolan_observe::control::{Table, Which};
use portolan_service::{Change, Endpoint, EndpointSlice, Family, Service};

use super::*;

fn names(settings: Settings, updates: Vec<Update>) -> Arc<RwLock<Names>> {
    let mut names = Names::new(settings, 1).unwrap();
    names.apply(updates, 1);
    names.set_synced();
    Arc::new(RwLock::new(names))
}

fn service(namespace: &str, name: &str) -> Update {
    let mut service = Service::new(ObjectName::new(namespace, name));
    service.cluster_ips = vec!["10.96.0.1".parse().unwrap()];
    Change::from(service).into()
}

/// A headless Service with so many endpoints.
fn headless(name: &str, endpoints: u32) -> [Update; 2] {
    let mut service = Service::new(ObjectName::new("shop", name));
    service.headless = true;
    let slice = EndpointSlice {
        name: ObjectName::new("shop", &format!("{name}-1")),
        service: service.name.clone(),
        family: Family::V4,
        ports: Vec::new(),
        endpoints: (0..endpoints)
            .map(|bits| Endpoint::new(std::net::Ipv4Addr::from_bits(bits).into()))
            .collect(),
    };
    [Change::from(service).into(), Change::from(slice).into()]
}

fn query(name: Option<&str>, all: bool) -> Query {
    let which = Which { name: name.map(str::to_owned), all, after: None };
    Query { which, ..Query::of(Table::Names) }
}

/// The pages with their rows, as long as there are any.
fn pages(served: &[Arc<RwLock<Names>>], mut query: Query) -> Vec<Vec<NameRow>> {
    let mut pages = Vec::new();
    loop {
        let Answered::Names(rows, next) = page(served, &query) else { panic!("no names") };
        pages.push(rows);
        query.which.after = next;
        if query.which.after.is_none() {
            return pages;
        }
    }
}

#[test]
fn every_name_is_on_one_page_in_order() {
    let numbers = (0..1234).map(|number| service("shop", &format!("s{}", number * 7 % 1234)));
    let served = [names(Settings::default(), numbers.collect())];
    let pages = pages(&served, query(None, false));
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 234]);
    let found: Vec<String> = pages.concat().into_iter().map(|row| row.name).collect();
    let mut expected: Vec<String> =
        (0..1234).map(|number| format!("s{number}.shop.svc.cluster.local")).collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_page_ends_within_a_large_service() {
    let mut updates = vec![service("shop", "a"), service("shop", "z")];
    updates.extend(headless("many", 4500));
    let served = [names(Settings::default(), updates)];
    let pages = pages(&served, query(None, true));
    assert!(pages.iter().all(|rows| rows.len() <= ROWS));
    let rows = pages.concat();
    // Each endpoint has a name; that of the Service has all addresses.
    assert_eq!(rows.len(), 1 + 1 + 4500 + 1);
    assert_eq!(rows[1].answers.len(), 4500);
    let names: HashSet<&String> = rows.iter().map(|row| &row.name).collect();
    assert_eq!(names.len(), rows.len(), "none twice");
    assert_eq!(rows.last().unwrap().service, "z");
}

#[test]
fn names_of_several_server_blocks_are_there_once() {
    let settings = |zone: &str| Settings { zones: vec![zone.to_owned()], ..Settings::default() };
    let served = ["a.example", "A.example", "b.example"].map(|zone| {
        let settings = settings(&zone.to_ascii_lowercase());
        names(settings, vec![service("shop", "web")])
    });
    let found: Vec<String> =
        pages(&served, query(None, false)).concat().into_iter().map(|row| row.name).collect();
    assert_eq!(found, ["web.shop.svc.a.example", "web.shop.svc.b.example"]);
}

#[test]
fn one_name_is_asked_for() {
    let mut updates = vec![service("shop", "web"), service("other", "web")];
    updates.extend(headless("db", 2));
    let served = [names(Settings::default(), updates)];
    for (name, namespace, expected) in [
        ("web", None, &["web.other.svc.cluster.local", "web.shop.svc.cluster.local"][..]),
        ("web", Some("shop"), &["web.shop.svc.cluster.local"]),
        ("WEB.shop", None, &["web.shop.svc.cluster.local"]),
        ("web.shop.svc", None, &["web.shop.svc.cluster.local"]),
        ("web.shop.svc.cluster.local.", None, &["web.shop.svc.cluster.local"]),
        ("0-0-0-1.db.shop", None, &["0-0-0-1.db.shop.svc.cluster.local"]),
        ("0-0-0-9.db.shop", None, &[]),
        ("web.nowhere", None, &[]),
        ("example.com", None, &[]),
    ] {
        let query = Query { namespace: namespace.map(str::to_owned), ..query(Some(name), false) };
        let found: Vec<String> = pages(&served, query).concat().into_iter().map(|row| row.name).collect();
        assert_eq!(found, expected, "{name} {namespace:?}");
    }
}

#[test]
fn a_namespace_that_is_left_out_shows_only_if_it_is_asked_for() {
    let namespaces = portolan_names::NamespaceFilter::Listed(vec!["other".to_owned()]);
    let served = [names(Settings { namespaces, ..Settings::default() }, vec![service("shop", "web")])];
    assert!(pages(&served, query(None, false)).concat().is_empty());
    let rows = pages(&served, query(Some("web"), false)).concat();
    assert_eq!((rows[0].rcode.as_str(), rows[0].kind.as_str()), ("NXDOMAIN", ""));
    assert!(rows[0].reason.as_ref().unwrap().contains("namespaces leaves it out"), "{rows:?}");
}

#[test]
fn without_names_there_is_a_remedy() {
    let unsynced = Arc::new(RwLock::new(Names::new(Settings::default(), 1).unwrap()));
    for (served, expected) in [(vec![], "`portolan dns` does"), (vec![unsynced], "ask again")] {
        let Answered::Unavailable(why) = page(&served, &query(None, false)) else { panic!("names") };
        assert!(why.contains(expected), "{why}");
    }
}
