//! Whatever happens to Services and pools: no address is given to two Services that do not share
//! it, none is lost, and a restart changes nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;

use portolan_controllers::Labels;
use portolan_controllers::load_balancer::{Grant, LoadBalancers, Request, Wishes};
use portolan_service::{AddressPool, Family, LabelSelector, ObjectName, PoolAllocation, Protocol};
use proptest::prelude::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect(text)
}

fn pool(name: &str, ranges: &[&str]) -> AddressPool {
    AddressPool::new(name, ranges.iter().map(|range| range.parse().expect(range)).collect())
}

fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').expect(text);
    ObjectName::new(namespace, name)
}

/// A Service with one IPv4 address and port 80.
fn request() -> Request {
    Request {
        families: vec![Family::V4],
        every_family: false,
        wishes: Wishes::default(),
        ports: [(Protocol::Tcp, 80)].into(),
        local: None,
        labels: Labels::new(),
        recorded: Vec::new(),
    }
}

fn with_annotations(annotations: &[(&str, &str)]) -> Request {
    let annotations = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Request { wishes: Wishes::read(&annotations.collect(), None), ..request() }
}

fn dual(every_family: bool) -> Request {
    Request { families: vec![Family::V4, Family::V6], every_family, ..request() }
}

/// The pools, and what has been granted.
#[derive(Default)]
struct World {
    load_balancers: LoadBalancers,
    granted: BTreeMap<String, Grant>,
}

impl World {
    fn new(pools: Vec<AddressPool>) -> World {
        let mut world = World::default();
        assert_eq!(world.load_balancers.set_pools(pools), Vec::<String>::new());
        world
    }

    fn set(&mut self, service: &str, request: Option<Request>) {
        self.load_balancers.set_service(&name(service), request, Vec::new());
        self.settle();
    }

    fn settle(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, grant) in self.load_balancers.settle(&|_| false) {
            self.granted.insert(name.to_string(), grant);
            names.push(name.to_string());
        }
        names
    }

    /// The addresses of a Service, or what is wrong.
    fn of(&self, service: &str) -> String {
        let Some(grant) = self.granted.get(service) else { return String::new() };
        let addresses: Vec<String> = grant.addresses.iter().map(ToString::to_string).collect();
        let issues = grant.issues.iter().map(|issue| format!("{}: {}", issue.field, issue.message));
        addresses.into_iter().chain(issues).collect::<Vec<_>>().join(" ")
    }
}

#[test]
fn addresses_are_given_in_order_and_given_back() {
    let mut world = World::new(vec![pool("lan", &["192.0.2.10-192.0.2.11"])]);
    for service in ["shop/b", "shop/a", "shop/c"] {
        world.set(service, Some(request()));
    }
    assert_eq!((world.of("shop/b"), world.of("shop/a")), ("192.0.2.10".into(), "192.0.2.11".into()));
    assert_eq!(
        world.of("shop/c"),
        "spec.type: no IPv4 address is left in pool lan (192.0.2.10/31); add a range to it, or delete a Service \
         that has one"
    );
    world.set("shop/a", None);
    assert_eq!((world.of("shop/a"), world.of("shop/c")), (String::new(), "192.0.2.11".into()));
    // Another port changes no address.
    world.set("shop/c", Some(Request { ports: [(Protocol::Udp, 53)].into(), ..request() }));
    assert_eq!(world.of("shop/c"), "192.0.2.11");
}

#[test]
fn a_restart_keeps_what_is_recorded_before_it_gives_anything() {
    let mut world = World::new(vec![pool("lan", &["192.0.2.10-192.0.2.12"])]);
    world.load_balancers.set_service(&name("shop/a"), Some(request()), Vec::new());
    let asks = with_annotations(&[("metallb.io/loadBalancerIPs", "192.0.2.10")]);
    world.load_balancers.set_service(&name("shop/b"), Some(asks), Vec::new());
    let recorded = Request { recorded: vec![address("192.0.2.10")], ..request() };
    world.load_balancers.set_service(&name("shop/c"), Some(recorded), Vec::new());
    world.settle();
    assert_eq!((world.of("shop/c"), world.of("shop/a")), ("192.0.2.10".into(), "192.0.2.11".into()));
    assert_eq!(
        world.of("shop/b"),
        "metadata.annotations.metallb.io/loadBalancerIPs: 192.0.2.10 belongs to Service shop/c; ask for another or \
         for none, or have both share it with metallb.io/allow-shared-ip"
    );
    world.set("shop/c", None);
    assert_eq!(world.of("shop/b"), "192.0.2.10");
}

#[test]
fn ones_own_record_is_no_news() {
    let mut world = World::new(vec![pool("lan", &["192.0.2.10-192.0.2.12"])]);
    world.set("shop/a", Some(request()));
    let recorded = Request { recorded: vec![address("192.0.2.10")], ..request() };
    world.load_balancers.set_service(&name("shop/a"), Some(recorded), Vec::new());
    assert_eq!(world.settle(), Vec::<String>::new());
}

#[test]
fn two_families() {
    let lan = || pool("lan", &["192.0.2.10-192.0.2.11", "2001:db8::10"]);
    let mut world = World::new(vec![lan()]);
    let v6_first = Request { families: vec![Family::V6, Family::V4], ..dual(true) };
    world.set("shop/a", Some(v6_first));
    assert_eq!(world.of("shop/a"), "2001:db8::10 192.0.2.10");
    // One is enough for PreferDualStack, and nothing for RequireDualStack.
    world.set("shop/b", Some(dual(true)));
    assert!(
        world.of("shop/b").starts_with("spec.type: no IPv4 and IPv6 address is left"),
        "{}",
        world.of("shop/b")
    );
    world.set("shop/c", Some(dual(false)));
    assert_eq!(world.of("shop/c"), "192.0.2.11");
    // It has the other as soon as there is one.
    world.set("shop/b", None);
    world.set("shop/a", None);
    assert_eq!(world.of("shop/c"), "192.0.2.11 2001:db8::10");
    // A Service that needs a second family now keeps what it has.
    world.set("shop/d", Some(request()));
    world.set("shop/d", Some(dual(true)));
    assert!(
        world.of("shop/d").starts_with("192.0.2.10 spec.type: no IPv6 address is left in"),
        "{}",
        world.of("shop/d")
    );
    world.set("shop/c", Some(request()));
    assert_eq!(
        (world.of("shop/c"), world.of("shop/d")),
        ("192.0.2.11".into(), "192.0.2.10 2001:db8::10".into())
    );
}

#[test]
fn pools_by_priority_namespace_and_labels() {
    let of = |allocation| Some(allocation);
    let selector = |value: &str| LabelSelector {
        labels: Labels::from([("tier".to_owned(), value.to_owned())]),
        ..LabelSelector::default()
    };
    let all = pool("all", &["192.0.2.1"]);
    let late = AddressPool {
        allocation: of(PoolAllocation { priority: 20, ..PoolAllocation::default() }),
        ..pool("late", &["192.0.2.2"])
    };
    let shop = AddressPool {
        allocation: of(PoolAllocation {
            priority: 10,
            namespaces: ["shop".to_owned()].into(),
            ..PoolAllocation::default()
        }),
        ..pool("shop", &["192.0.2.3"])
    };
    let by_namespace = AddressPool {
        allocation: of(PoolAllocation {
            priority: 1,
            namespace_selectors: vec![selector("gold")],
            ..PoolAllocation::default()
        }),
        ..pool("gold", &["192.0.2.4"])
    };
    let by_service = AddressPool {
        allocation: of(PoolAllocation {
            priority: 1,
            service_selectors: vec![selector("front")],
            ..PoolAllocation::default()
        }),
        ..pool("front", &["192.0.2.5"])
    };
    let asked = AddressPool { auto_assign: false, ..pool("asked", &["192.0.2.6"]) };
    let mut world = World::new(vec![all, late, shop, by_namespace, by_service, asked]);
    let gold = Labels::from([("tier".to_owned(), "gold".to_owned())]);
    world.load_balancers.set_namespace("bank", Some(gold));
    let front = Request { labels: Labels::from([("tier".to_owned(), "front".to_owned())]), ..request() };
    for (service, request, expected) in [
        ("shop/1", request(), "192.0.2.3"),
        ("shop/2", request(), "192.0.2.2"),
        ("shop/3", request(), "192.0.2.1"),
        ("bank/1", request(), "192.0.2.4"),
        ("bank/2", front, "192.0.2.5"),
        ("bank/3", with_annotations(&[("metallb.io/address-pool", "asked")]), "192.0.2.6"),
        (
            "bank/4",
            with_annotations(&[("metallb.io/address-pool", "shop")]),
            "metadata.annotations.metallb.io/address-pool: pool shop is for other namespaces or for Services with \
             other labels; ask for another",
        ),
        (
            "bank/5",
            with_annotations(&[("metallb.io/address-pool", "none")]),
            "metadata.annotations.metallb.io/address-pool: there is no pool none; the pools are all, late, shop, \
             gold, front, asked",
        ),
    ] {
        world.set(service, Some(request));
        assert_eq!(world.of(service), expected, "{service}");
    }
    // A namespace that loses its label loses the pool.
    world.load_balancers.set_namespace("bank", None);
    world.settle();
    assert!(
        world.of("bank/1").starts_with("spec.type: no IPv4 address is left in pool late ("),
        "{}",
        world.of("bank/1")
    );
}

#[test]
fn what_is_asked_for_and_cannot_be() {
    let asked = AddressPool {
        auto_assign: false,
        avoid_buggy: true,
        ..pool("asked", &["198.51.100.0/24", "2001:db8::/64"])
    };
    let shop = AddressPool {
        allocation: Some(PoolAllocation {
            namespaces: ["shop".to_owned()].into(),
            ..PoolAllocation::default()
        }),
        ..pool("shop", &["192.0.2.0/30"])
    };
    let mut world = World::new(vec![asked, shop]);
    world.set("bank/0", Some(with_annotations(&[("metallb.io/loadBalancerIPs", "198.51.100.1")])));
    assert_eq!(world.of("bank/0"), "198.51.100.1", "that a pool is not automatic does not matter");
    let ips = "metallb.io/loadBalancerIPs";
    // What it asks for, its families, what is wrong
    let table = [
        (vec![(ips, "198.51.100.0")], request(), "198.51.100.0 is in no pool; ask for one of asked, shop"),
        (vec![(ips, "203.0.113.1")], request(), "203.0.113.1 is in no pool"),
        (vec![(ips, "198.51.100.1")], request(), "198.51.100.1 belongs to Service bank/0"),
        (vec![(ips, "192.0.2.1")], request(), "pool shop is for other namespaces"),
        (vec![(ips, "2001:db8::1")], request(), "2001:db8::1 cannot be had by a Service without IPv6"),
        (
            vec![(ips, "198.51.100.2")],
            dual(true),
            "no IPv6 address is asked for, which RequireDualStack needs",
        ),
        (
            vec![(ips, "192.0.2.1,2001:db8::1")],
            dual(false),
            "2001:db8::1 is not in pool shop as 192.0.2.1 is",
        ),
        (
            vec![(ips, "198.51.100.2"), ("metallb.io/address-pool", "shop")],
            request(),
            "198.51.100.2 is in pool asked, and not in shop",
        ),
        (vec![(ips, "me")], request(), "\"me\" is not an IP address"),
        (vec![], request(), "none of the pools (asked, shop) is for this Service by itself"),
    ];
    for (annotations, request, expected) in table {
        let request = Request { wishes: with_annotations(&annotations).wishes, ..request };
        world.set("bank/1", Some(request));
        assert!(
            world.of("bank/1").contains(&format!(": {expected}")),
            "{annotations:?}: {}",
            world.of("bank/1")
        );
        world.set("bank/1", None);
    }
}

#[test]
fn sharing_by_a_key() {
    let share = |port: u16, key: &str, local: Option<&str>| Request {
        ports: [(Protocol::Tcp, port)].into(),
        local: local.map(|app| Labels::from([("app".to_owned(), app.to_owned())])),
        ..with_annotations(&[("metallb.io/allow-shared-ip", key)])
    };
    let mut world = World::new(vec![pool("lan", &["192.0.2.1-192.0.2.4"])]);
    for (service, request, expected) in [
        ("shop/first", share(80, "k", None), "192.0.2.1"),
        ("shop/other-port", share(443, "k", None), "192.0.2.1"),
        ("shop/same-port", share(80, "k", None), "192.0.2.2"),
        ("shop/other-key", share(25, "l", None), "192.0.2.3"),
        ("shop/local", share(25, "k", Some("web")), "192.0.2.4"),
        ("shop/same-pods", share(26, "k", Some("web")), "192.0.2.4"),
    ] {
        world.set(service, Some(request));
        assert_eq!(world.of(service), expected, "{service}");
    }
    world.set("shop/other-pods", Some(share(27, "k", Some("db"))));
    assert!(
        world.of("shop/other-pods").contains("no IPv4 address is left"),
        "{}",
        world.of("shop/other-pods")
    );
    // Two exchange their ports at once.
    world.load_balancers.set_service(&name("shop/first"), Some(share(443, "k", None)), Vec::new());
    world.load_balancers.set_service(&name("shop/other-port"), Some(share(80, "k", None)), Vec::new());
    world.settle();
    assert_eq!(
        (world.of("shop/first"), world.of("shop/other-port")),
        ("192.0.2.1".into(), "192.0.2.1".into())
    );
    // Who waits for a port gets it with its address.
    let asks = |port: u16| Request {
        ports: [(Protocol::Tcp, port)].into(),
        ..with_annotations(&[
            ("metallb.io/allow-shared-ip", "k"),
            ("metallb.io/loadBalancerIPs", "192.0.2.1"),
        ])
    };
    world.set("shop/waits", Some(asks(80)));
    assert_eq!(
        world.of("shop/waits"),
        "metadata.annotations.metallb.io/loadBalancerIPs: 192.0.2.1 has port 80/tcp for Service shop/other-port; \
         change one of the two ports"
    );
    world.set("shop/other-port", Some(share(8080, "k", None)));
    assert_eq!(
        (world.of("shop/waits"), world.of("shop/other-port")),
        ("192.0.2.1".into(), "192.0.2.1".into())
    );
    // Who no longer shares has to go.
    world.set("shop/other-pods", None);
    world.set("shop/other-key", None);
    world.set("shop/other-port", Some(request()));
    assert_eq!(world.of("shop/other-port"), "192.0.2.3");
}

#[test]
fn pools_that_change() {
    let mut world = World::new(vec![pool("lan", &["192.0.2.1-192.0.2.2"])]);
    world.set("shop/a", Some(request()));
    world.set("shop/b", Some(request()));
    let wrong = world.load_balancers.set_pools(vec![
        pool("lan", &["192.0.2.2", "192.0.2.9"]),
        pool("lan", &["192.0.2.20"]),
        pool("wan", &["192.0.2.0/29"]),
    ]);
    assert_eq!(
        wrong,
        [
            "pool lan is there twice, and the second is not used; rename it",
            "pool wan has addresses that pool lan has, and is not used; leave them out of one"
        ]
    );
    world.settle();
    assert_eq!((world.of("shop/a"), world.of("shop/b")), ("192.0.2.9".into(), "192.0.2.2".into()));
}

#[test]
fn addresses_that_services_have_anyway_are_given_to_nobody() {
    let mut world = World::new(vec![pool("lan", &["192.0.2.1"])]);
    world.load_balancers.set_service(&name("shop/given"), None, vec![address("192.0.2.1")]);
    world.set("shop/a", Some(request()));
    assert!(world.of("shop/a").contains("no IPv4 address is left"), "{}", world.of("shop/a"));
    world.load_balancers.set_service(&name("shop/given"), None, Vec::new());
    world.settle();
    assert_eq!(world.of("shop/a"), "192.0.2.1");
}

#[test]
fn a_network_of_any_size_takes_no_room() {
    let mut world = World::new(vec![pool("all", &["::/0", "10.0.0.0/8"])]);
    for n in 0..2000 {
        let service = format!("shop/{n}");
        world.set(&service, Some(dual(true)));
        assert!(world.of(&service).starts_with("10."), "{}", world.of(&service));
    }
}

/// One of a few Services is like this now, or gone; or there are other pools.
#[derive(Debug, Clone)]
enum Step {
    Service(&'static str, Option<Box<Request>>, Vec<IpAddr>),
    Pools(usize),
    Namespace(&'static str, bool),
}

/// Few addresses, so that they run out.
fn pools(variant: usize) -> Vec<AddressPool> {
    let lan = pool("lan", &["192.0.2.1-192.0.2.3", "2001:db8::1-2001:db8::2"]);
    let shop = AddressPool {
        allocation: Some(PoolAllocation {
            priority: 1,
            namespace_selectors: vec![LabelSelector {
                labels: Labels::from([("kind".to_owned(), "shop".to_owned())]),
                ..LabelSelector::default()
            }],
            ..PoolAllocation::default()
        }),
        ..pool("shop", &["192.0.2.8", "2001:db8::8"])
    };
    let asked = AddressPool { auto_assign: false, ..pool("asked", &["192.0.2.16"]) };
    match variant {
        0 => vec![lan, shop, asked],
        1 => vec![shop, pool("lan", &["192.0.2.2", "2001:db8::2-2001:db8::3"])],
        _ => vec![lan, asked],
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let families = prop::sample::select(vec![
        vec![Family::V4],
        vec![Family::V6],
        vec![Family::V4, Family::V6],
        vec![Family::V6, Family::V4],
    ]);
    let asked = prop::sample::select(vec![
        "",
        "",
        "",
        "192.0.2.2",
        "192.0.2.16",
        "2001:db8::2",
        "192.0.2.1,2001:db8::1",
        "203.0.113.1",
        "me",
    ]);
    let pool = prop::sample::select(vec!["", "", "", "lan", "shop", "asked", "none"]);
    let key = prop::sample::select(vec!["", "", "k", "l"]);
    let ports = prop::sample::subsequence(vec![80, 443, 25], 1..3);
    let local = prop::sample::select(vec![None, None, Some("a"), Some("b")]);
    (families, any::<bool>(), asked, pool, key, ports, local).prop_map(
        |(families, every_family, asked, pool, key, ports, local)| Request {
            families,
            every_family,
            ports: ports.into_iter().map(|port| (Protocol::Tcp, port)).collect(),
            local: local.map(|app| Labels::from([("app".to_owned(), app.to_owned())])),
            ..with_annotations(&[
                ("metallb.io/loadBalancerIPs", asked),
                ("metallb.io/address-pool", pool),
                ("metallb.io/allow-shared-ip", key),
            ])
        },
    )
}

/// One that shares, and nothing else, so that ports are often in the way.
fn sharing_request() -> impl Strategy<Value = Request> {
    prop::sample::subsequence(vec![80, 443, 25], 1..3).prop_map(|ports| Request {
        ports: ports.into_iter().map(|port| (Protocol::Tcp, port)).collect(),
        ..with_annotations(&[("metallb.io/allow-shared-ip", "k")])
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let names =
        vec!["bank/a", "bank/b", "shop/a", "shop/b", "shop/c", "shop/d", "shop/e", "shop/f", "shop/g"];
    let fixed = prop::option::weighted(0.1, prop::sample::select(vec!["192.0.2.1", "2001:db8::2"]));
    let fixed = fixed.prop_map(|fixed| fixed.into_iter().map(address).collect());
    let service = (
        prop::sample::select(names),
        prop::option::weighted(0.8, prop_oneof![any_request(), sharing_request()]),
        fixed,
    )
        .prop_map(|(name, request, fixed)| Step::Service(name, request.map(Box::new), fixed));
    prop_oneof![
        20 => service,
        1 => (0_usize..3).prop_map(Step::Pools),
        1 => (prop::sample::select(vec!["shop", "bank"]), any::<bool>())
            .prop_map(|(name, labelled)| Step::Namespace(name, labelled)),
    ]
}

/// What there is, so that a new process can begin with it.
#[derive(Default)]
struct Model {
    pools: usize,
    services: BTreeMap<&'static str, (Option<Box<Request>>, Vec<IpAddr>)>,
    namespaces: BTreeMap<&'static str, Option<Labels>>,
}

impl Model {
    fn take(&mut self, step: Step, world: &mut World) {
        match step {
            Step::Service(service, request, fixed) => {
                let recorded = world.granted.get(service).map(|grant| grant.addresses.clone());
                let recorded = recorded.unwrap_or_default();
                let observed = request.clone().map(|request| Request { recorded, ..*request });
                world.load_balancers.set_service(&name(service), observed, fixed.clone());
                self.services.insert(service, (request, fixed));
            }
            Step::Pools(variant) => {
                world.load_balancers.set_pools(pools(variant));
                self.pools = variant;
            }
            Step::Namespace(namespace, labelled) => {
                let labels = labelled.then(|| Labels::from([("kind".to_owned(), "shop".to_owned())]));
                world.load_balancers.set_namespace(namespace, labels.clone());
                self.namespaces.insert(namespace, labels);
            }
        }
    }

    /// What a new process makes of it, given what was granted.
    fn restart(&self, granted: &BTreeMap<String, Grant>) -> World {
        let mut world = World::new(pools(self.pools));
        for (namespace, labels) in &self.namespaces {
            world.load_balancers.set_namespace(namespace, labels.clone());
        }
        for (service, (request, fixed)) in &self.services {
            let recorded = granted.get(*service).map(|grant| grant.addresses.clone()).unwrap_or_default();
            let observed = request.clone().map(|request| Request { recorded, ..*request });
            world.load_balancers.set_service(&name(service), observed, fixed.clone());
        }
        world.settle();
        world
    }
}

fn share(a: &Request, b: &Request) -> bool {
    a.wishes.sharing.is_some()
        && a.wishes.sharing == b.wishes.sharing
        && a.local == b.local
        && a.ports.is_disjoint(&b.ports)
}

fn given(granted: &BTreeMap<String, Grant>) -> BTreeMap<&String, &Vec<IpAddr>> {
    let some = granted.iter().filter(|(_, grant)| !grant.addresses.is_empty());
    some.map(|(name, grant)| (name, &grant.addresses)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_given_twice_or_lost(
        batches in prop::collection::vec(prop::collection::vec(any_step(), 1..4), 1..16)
    ) {
        let mut world = World::new(pools(0));
        let mut model = Model::default();
        for batch in batches {
            for step in batch {
                model.take(step, &mut world);
            }
            world.settle();
            let mut users: BTreeMap<IpAddr, Vec<(&str, &Request)>> = BTreeMap::new();
            for (service, grant) in &world.granted {
                let request = model.services.get(service.as_str()).and_then(|(request, _)| request.as_deref());
                prop_assert!(request.is_some() || *grant == Grant::default(), "{service}: {grant:?}");
                let Some(request) = request else { continue };
                let families: Vec<Family> = grant.addresses.iter().map(|address| Family::of(*address)).collect();
                let in_order = request.families.iter().filter(|family| families.contains(family));
                prop_assert!(families.iter().eq(in_order), "{service}: {grant:?}");
                let asked = &request.wishes.addresses;
                if !asked.is_empty() && !grant.addresses.is_empty() {
                    prop_assert!(asked.iter().all(|asked| grant.addresses.contains(asked)), "{service}: {grant:?}");
                }
                let pools = pools(model.pools);
                for address in &grant.addresses {
                    let pool = pools.iter().find(|pool| pool.contains(*address)).map(|pool| &pool.name);
                    prop_assert_eq!(pool, grant.pool.as_ref());
                    prop_assert!(request.wishes.pool.as_ref().is_none_or(|asked| Some(asked) == pool));
                    users.entry(*address).or_default().push((service, request));
                }
            }
            for (address, users) in users {
                for (i, (a, of_a)) in users.iter().enumerate() {
                    for (b, of_b) in &users[i + 1..] {
                        prop_assert!(share(of_a, of_b), "{address} is given to {a} and {b}");
                    }
                }
            }
            // Nothing is lost: a new process finds nothing to give that this one has not given.
            let again = model.restart(&world.granted);
            prop_assert_eq!(given(&again.granted), given(&world.granted));
            prop_assert_eq!(world.settle(), Vec::<String>::new());
        }
    }
}
