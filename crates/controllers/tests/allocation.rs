//! Whatever happens to Services: no address or port is given twice, and what was given stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use portolan_controllers::{Controllers, InMemory, PortSpec, Ranges, ServiceSpec, TargetPort};
use portolan_service::{Change, ObjectName, Protocol, Service, ServiceType};
use proptest::prelude::*;

/// Few addresses and ports, so that they run out.
fn controllers() -> Controllers<InMemory> {
    let services = vec!["10.96.0.0/29".parse().unwrap()];
    Controllers::new(Ranges { services, node_ports: 30_000..=30_004 }, InMemory::default())
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("shop", name)
}

fn spec(asked_ip: Option<u8>, asked_port: Option<u16>, protocol: Protocol) -> ServiceSpec {
    ServiceSpec {
        kind: ServiceType::NodePort,
        cluster_ips: asked_ip.map(|last| [10, 96, 0, last].into()).into_iter().collect(),
        ports: vec![PortSpec {
            name: "".into(),
            protocol,
            port: 80,
            target: TargetPort::Number(80),
            node_port: asked_port,
        }],
        ..ServiceSpec::default()
    }
}

fn apply(state: &mut BTreeMap<ObjectName, Service>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Service(service) => {
                state.insert(service.name.clone(), Arc::unwrap_or_clone(service));
            }
            Change::ServiceRemoved(name) => drop(state.remove(&name)),
            other => panic!("{other:?}"),
        }
    }
}

/// A Service is declared, or gone.
fn step() -> impl Strategy<Value = (&'static str, Option<ServiceSpec>)> {
    let name = prop::sample::select(vec!["a", "b", "c", "d", "e", "f", "g", "h"]);
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp]);
    let spec = (prop::option::of(1_u8..4), prop::option::of(30_000_u16..30_003), protocol)
        .prop_map(|(ip, port, protocol)| spec(ip, port, protocol));
    (name, prop::option::weighted(0.7, spec))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_given_twice(batches in prop::collection::vec(prop::collection::vec(step(), 1..5), 1..12)) {
        let mut controllers = controllers();
        let (mut declared, mut state) = (BTreeMap::new(), BTreeMap::new());
        for batch in batches {
            for (name, spec) in batch {
                controllers.set_service(&self::name(name), spec.clone().map(Into::into));
                match spec {
                    Some(spec) => drop(declared.insert(self::name(name), spec)),
                    None => drop(declared.remove(&self::name(name))),
                }
            }
            apply(&mut state, controllers.reconcile().changes);
            let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
            for (name, service) in &state {
                let spec = &declared[name];
                for address in &service.cluster_ips {
                    prop_assert!(addresses.insert(*address), "{address} is given twice: {state:?}");
                }
                if let Some(asked) = spec.cluster_ips.first() {
                    prop_assert_eq!(service.cluster_ip, Some(*asked));
                }
                for port in &service.ports {
                    if let Some(number) = port.node_port {
                        prop_assert!(ports.insert((port.protocol, number)), "{number} is given twice: {state:?}");
                    }
                }
            }
            // Who is left out asks for what another has, and nobody is forgotten.
            for (name, spec) in declared.iter().filter(|(name, _)| !state.contains_key(*name)) {
                let asked = spec.cluster_ips.first();
                prop_assert!(asked.is_some_and(|asked| addresses.contains(asked)), "{name} is left out");
            }
        }
    }

    #[test]
    fn who_comes_back_has_the_same(first in prop::sample::subsequence(vec!["a", "b", "c", "d"], 1..5)) {
        let mut controllers = controllers();
        let mut state = BTreeMap::new();
        for name in &first {
            controllers.set_service(&self::name(name), Some(spec(None, None, Protocol::Tcp).into()));
            apply(&mut state, controllers.reconcile().changes);
        }
        let before = state.clone();
        for name in &first {
            controllers.set_service(&self::name(name), None);
        }
        apply(&mut state, controllers.reconcile().changes);
        prop_assert!(state.is_empty());
        // In another order.
        for name in first.iter().rev() {
            controllers.set_service(&self::name(name), Some(spec(None, None, Protocol::Tcp).into()));
            apply(&mut state, controllers.reconcile().changes);
        }
        prop_assert_eq!(state, before);
    }
}

#[test]
fn one_that_loses_its_address_is_left_out_and_says_why() {
    let mut controllers = controllers();
    let asking = || Some(spec(Some(1), None, Protocol::Tcp).into());
    controllers.set_service(&name("b"), asking());
    assert_eq!(controllers.reconcile().issues, []);
    controllers.set_service(&name("a"), asking());
    let outcome = controllers.reconcile();
    let [(loser, issues)] = &outcome.issues[..] else { panic!("{outcome:?}") };
    assert_eq!(loser, &name("b"), "the first by name has it");
    assert!(issues[0].message.starts_with("10.96.0.1 belongs to Service shop/a; "), "{issues:?}");
    assert!(outcome.changes.contains(&Change::ServiceRemoved(name("b"))));
    controllers.set_service(&name("a"), None);
    let outcome = controllers.reconcile();
    assert_eq!(outcome.issues, [(name("b"), Vec::new())], "nothing is wrong any more");
}
