//! Whatever changes come in whatever portions: what is removed was there, what is added was not,
//! and the end is what a fresh start renders.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use portolan_service::{Family, FrontendKind, List, PortPlan, Protocol, ServicePlan, Verdict};
use proptest::prelude::*;

use crate::nftables::affinity::{self, Content};
use crate::nftables::chain::Chain;
use crate::nftables::element::{Data, ElementStep, Key, difference, render};
use crate::nftables::inventory::{Inventory, Tally};
use crate::nftables::layout::Layout;
use crate::nftables::schema::Features;
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, port, service};

const SERVICES: u8 = 4;

/// A port of Service number `service`: frontends of different Services differ, ClusterIPs and
/// endpoints need not.
fn a_port(service: u8) -> impl Strategy<Value = PortPlan> {
    let verdict = prop_oneof![Just(CLUSTER), Just(LOCAL), Just(Verdict::Reject), Just(Verdict::Drop)];
    let kind = prop_oneof![
        Just(FrontendKind::ClusterIp),
        Just(FrontendKind::ExternalIp),
        Just(FrontendKind::LoadBalancer),
        Just(FrontendKind::NodePort)
    ];
    let frontend = (kind, 0..3u8, 0..2u16, verdict.clone(), verdict, proptest::option::of(0..3usize));
    (
        any::<bool>(),
        prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)],
        proptest::collection::btree_map(0..6u8, (any::<bool>(), 1..4u16), 0..5),
        proptest::option::of(prop_oneof![Just(60u32), Just(10800)]),
        proptest::collection::vec(frontend, 0..4),
        0..2u8,
    )
        .prop_map(move |(v6, protocol, endpoints, affinity, frontends, name)| {
            let address = |net: u8, host: u8| -> IpAddr {
                if v6 {
                    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, net.into(), host.into()).into()
                } else {
                    Ipv4Addr::new(10, net, 0, host).into()
                }
            };
            let endpoints: Vec<String> = endpoints
                .iter()
                .map(|(host, (local, weight))| {
                    let socket = std::net::SocketAddr::new(address(1, *host), 8080);
                    format!("{socket}={weight}{}", if *local { "*" } else { "" })
                })
                .collect();
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            let mut plan = port(["", "http"][usize::from(name)], protocol, &endpoints);
            plan.family = if v6 { Family::V6 } else { Family::V4 };
            plan.affinity = affinity;
            let mut taken = BTreeSet::new();
            for (kind, host, number, inside, outside, sources) in frontends {
                // Frontends of different Services and protocols have different ports: the planner
                // sees to that.
                let number = 1000 + u16::from(service) * 10 + number;
                if !taken.insert((host, number)) {
                    continue;
                }
                plan = plan.at(kind, &address(2, host).to_string(), number, inside, outside);
                let networks: &[&str] =
                    if v6 { &["fd00::/16", "fd01::/16"] } else { &["10.0.0.0/8", "192.168.0.0/24"] };
                if let Some(count) = sources {
                    plan = plan.allowing(&networks[..count]);
                }
            }
            plan
        })
}

/// A plan for Service number `service`, at most one port for each protocol and family.
fn a_plan(service_number: u8) -> impl Strategy<Value = Option<Arc<ServicePlan>>> {
    proptest::option::of(proptest::collection::vec(a_port(service_number), 0..4)).prop_map(move |ports| {
        let ports: BTreeMap<_, _> =
            ports?.into_iter().map(|port| ((port.family, port.protocol), port)).collect();
        Some(Arc::new(service(&format!("s{service_number}"), ports.into_values().collect())))
    })
}

type Kernel = HashMap<Key, (Data, Option<String>)>;

fn fresh(plans: &BTreeMap<u8, Arc<ServicePlan>>, family: Family) -> Kernel {
    let mut kernel = Kernel::new();
    for plan in plans.values() {
        let mut elements = Vec::new();
        render(&Layout::Translate, plan, family, &mut elements);
        kernel.extend(
            elements
                .iter()
                .map(|element| (element.key, (element.data.clone(), element.port_name.map(str::to_owned)))),
        );
    }
    kernel
}

/// The sets of remembered clients, and the rules of chains of Service ports.
#[derive(Debug, Default, PartialEq)]
struct Affinity {
    /// With the rules that look into each.
    sets: HashMap<String, usize>,
    /// The sets that each looks into, and what it does with what it finds.
    chains: BTreeMap<Chain, (Vec<String>, String)>,
}

impl Affinity {
    fn of(plans: &BTreeMap<u8, Arc<ServicePlan>>, family: Family) -> Affinity {
        let mut affinity = Affinity::default();
        for plan in plans.values() {
            let mut tally = Tally::default();
            affinity::difference(None, Some(plan), family, |step| affinity.take(step, &mut tally));
        }
        affinity
    }

    /// What the kernel would refuse fails here.
    fn take(&mut self, step: affinity::AffinityStep<'_>, tally: &mut Tally) {
        match step {
            affinity::AffinityStep::AddSet(name, _) => {
                tally.count_use(affinity::chain_of_set(&name), 1);
                tally.affinity_set(name.clone(), true);
                assert_eq!(self.sets.insert(name, 0), None, "the set is there");
            }
            affinity::AffinityStep::Rewrite(chain, content) => {
                let (sets, does) = match content {
                    Content::Nothing => (Vec::new(), String::new()),
                    Content::Endpoint(port, endpoint) => {
                        (vec![port.set_of(endpoint)], format!("{endpoint:?} {}", port.seconds()))
                    }
                    Content::List(port, list) => {
                        let backends = port.port.backends(list).iter();
                        let endpoints: Vec<_> =
                            backends.map(|backend| (backend.address, backend.port)).collect();
                        (
                            endpoints.iter().map(|endpoint| port.set_of(*endpoint)).collect(),
                            format!("{list:?}"),
                        )
                    }
                };
                tally.rewrite(chain.clone(), (!sets.is_empty()).then_some(0));
                for set in self.chains.remove(&chain).into_iter().flat_map(|(sets, _)| sets) {
                    *self.sets.get_mut(&set).expect("a set with rules stays") -= 1;
                }
                for set in &sets {
                    *self.sets.get_mut(set).expect("sets come before rules that look into them") += 1;
                }
                if !sets.is_empty() {
                    self.chains.insert(chain, (sets, does));
                }
            }
            affinity::AffinityStep::DeleteSet(name) => {
                tally.count_use(affinity::chain_of_set(&name), -1);
                tally.affinity_set(name.clone(), false);
                assert_eq!(self.sets.remove(&name), Some(0), "no rule looks into a set that goes");
            }
        }
    }
}

/// One transaction as the dataplane makes it: all that goes, then all that comes.
fn transact(
    kernel: &mut Kernel,
    sticky: &mut Affinity,
    inventory: &mut Inventory,
    changes: &[(Option<&ServicePlan>, Option<&ServicePlan>)],
    family: Family,
) {
    let mut tally = Tally::default();
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for (before, after) in changes {
        affinity::difference(*before, *after, family, |step| sticky.take(step, &mut tally));
        let (mut old, mut new) = (Vec::new(), Vec::new());
        before.inspect(|plan| render(&Layout::Translate, plan, family, &mut old));
        after.inspect(|plan| render(&Layout::Translate, plan, family, &mut new));
        difference(&old, &new, |step| match step {
            ElementStep::Remove(element) => {
                if tally.count(element, -1) {
                    removed.push(element.key);
                }
            }
            ElementStep::Add(element) => {
                if tally.count(element, 1) {
                    added.push((element.key, (element.data.clone(), element.port_name.map(str::to_owned))));
                }
            }
        });
    }
    tally.shared(inventory, |key, comes| {
        if comes {
            added.push((key, (Data::None, None)));
        } else {
            removed.push(key);
        }
    });
    for key in removed {
        assert!(kernel.remove(&key).is_some(), "removes {key}, which is not there");
    }
    for (key, value) in added {
        assert!(kernel.insert(key, value).is_none(), "adds {key}, which is there");
    }
    inventory.features = inventory.features.union(tally.needs(inventory));
    inventory.merge(&tally);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_end_where_a_fresh_start_begins(
        batches in proptest::collection::vec(
            proptest::collection::vec((0..SERVICES).prop_flat_map(|number| (Just(number), a_plan(number))), 1..4),
            1..8,
        )
    ) {
        for family in Family::ALL {
            let mut plans = BTreeMap::<u8, Arc<ServicePlan>>::new();
            let (mut kernel, mut inventory) = (Kernel::new(), Inventory::default());
            let mut sticky = Affinity::default();
            // The last batch takes everything away again.
            let farewell = (0..SERVICES).map(|number| (number, None)).collect();
            for batch in batches.iter().chain([&farewell]) {
                let before = plans.clone();
                let mut touched = BTreeSet::new();
                for (number, plan) in batch {
                    touched.insert(*number);
                    match plan {
                        Some(plan) => plans.insert(*number, plan.clone()),
                        None => plans.remove(number),
                    };
                }
                let changes: Vec<_> = touched
                    .iter()
                    .map(|number| (before.get(number).map(|plan| &**plan), plans.get(number).map(|plan| &**plan)))
                    .collect();
                transact(&mut kernel, &mut sticky, &mut inventory, &changes, family);
                prop_assert_eq!(&kernel, &fresh(&plans, family));
                for set in Layout::Translate.sets().iter().copied() {
                    let count = kernel.keys().filter(|key| key.set() == set).count();
                    prop_assert_eq!(inventory.len(set), count, "{}", set.name());
                }
                let fresh = Affinity::of(&plans, family);
                prop_assert_eq!(&sticky, &fresh);
                prop_assert_eq!(inventory.affinity_sets(), &fresh.sets.keys().cloned().collect::<HashSet<_>>());
                let mut used: BTreeSet<Chain> = kernel
                    .values()
                    .filter_map(|(data, _)| match data {
                        Data::Target(target) => target.chain().filter(|chain| chain.comes_and_goes()).cloned(),
                        _ => None,
                    })
                    .collect();
                used.extend(fresh.sets.keys().map(|set| affinity::chain_of_set(set)));
                let idle: BTreeSet<_> = inventory.idle_chains().cloned().collect();
                prop_assert_eq!(&inventory.chains().filter(|chain| !idle.contains(chain)).cloned().collect::<BTreeSet<_>>(), &used);
            }
            prop_assert_eq!(inventory.needs(), Features::default());
            for chain in inventory.idle_chains().cloned().collect::<Vec<_>>() {
                inventory.chain_deleted(&chain);
            }
            inventory.features = inventory.needs();
            prop_assert_eq!(inventory, Inventory::default());
        }
    }
}

#[test]
fn lists_are_named() {
    // The order by which `render` knows which lists are used.
    assert_eq!((List::Cluster as usize, List::Local as usize), (0, 1));
}
