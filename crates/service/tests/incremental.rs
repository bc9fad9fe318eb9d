//! However the observed state came about, the plan is the same: step by step, in batches, or from a
//! fresh start.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use portolan_service::{
    AskedProxyProtocol, AskedScheduler, Change, ChangeSet, Endpoint, EndpointNames, EndpointSlice,
    ExternalPolicy, Family, Hints, IngressMode, InternalPolicy, LoadBalancerIngress, LocalNode, ObjectName,
    PerFamily, Planner, Protocol, Service, ServicePlan, ServicePort, ServiceType, SlicePort, Weights,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A step of the observed state. There are few names and addresses, so that they collide.
#[derive(Debug, Clone)]
enum Step {
    Object(Change),
    Node(LocalNode),
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The node before anything is known of it. What its mode can do never changes.
fn first_node() -> LocalNode {
    LocalNode { has_schedulers: true, ..LocalNode::default() }
}

fn service_name() -> impl Strategy<Value = ObjectName> {
    select(vec!["a", "b", "c"]).prop_map(|name| ObjectName::new("ns", name))
}

fn slice_name() -> impl Strategy<Value = ObjectName> {
    select(vec!["s1", "s2", "s3"]).prop_map(|name| ObjectName::new("ns", name))
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp])
}

fn port_name() -> impl Strategy<Value = Arc<str>> {
    select(vec!["", "p", "q"]).prop_map(Arc::from)
}

fn ports() -> impl Strategy<Value = Vec<ServicePort>> {
    let port =
        (port_name(), protocol(), select(vec![80u16, 81]), select(vec![None, Some(30001u16), Some(30002)]));
    vec(port, 1..4).prop_map(|ports| {
        // Names and numbers may repeat: no Kubernetes API lets that through, other sources may.
        ports
            .into_iter()
            .map(|(name, protocol, port, node_port)| ServicePort { name, protocol, port, node_port })
            .collect()
    })
}

prop_compose! {
    fn service()(
        name in service_name(),
        kind in select(vec![
            ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer, ServiceType::ExternalName,
        ]),
        v4 in select(vec!["10.96.0.1", "10.96.0.2"]),
        v6 in select(vec![None, Some("fd00::1"), Some("fd00::2")]),
        ports in ports(),
        external_ips in subsequence(vec!["10.96.0.1", "203.0.113.1", "192.0.2.1", "127.0.0.1"], 0..4),
        load_balancer in subsequence(vec!["203.0.113.1", "203.0.113.2"], 0..3),
        source_ranges in subsequence(vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "0.0.0.0/0"], 0..4),
        affinity in select(vec![None, Some(10u32)]),
        internal_local in any::<bool>(),
        external_local in any::<bool>(),
        health_check_node_port in select(vec![None, Some(31000u16)]),
        other_proxy in prop::bool::weighted(0.1),
        for_names in (any::<bool>(), any::<bool>(), select(vec![None, Some("a.example")])),
        (proxy_protocol, scheduler, weights) in (
            select(vec![None, None, Some("v1"), Some("v2"), Some("v3")]),
            select(vec![None, None, Some("lc"), Some("dh"), Some("")]),
            select(vec![None, None, Some("10.1.0.1: 3"), Some("10.1.0.1: 0, *: 2"), Some("po*: 0"), Some("?")]),
        ),
    ) -> Change {
        let cluster_ips: Vec<IpAddr> = std::iter::once(v4).chain(v6).map(ip).collect();
        Change::from(Service {
            name,
            kind,
            cluster_ip: Some(cluster_ips[0]),
            ip_families: cluster_ips.iter().map(|ip| Family::of(*ip)).collect(),
            cluster_ips,
            ports,
            external_ips: external_ips.into_iter().map(ip).collect(),
            load_balancer: load_balancer
                .into_iter()
                .map(|address| LoadBalancerIngress { ip: ip(address), mode: IngressMode::Vip })
                .collect(),
            load_balancer_class: None,
            source_ranges: source_ranges.into_iter().map(|range| range.parse().unwrap()).collect(),
            affinity,
            internal_policy: if internal_local { InternalPolicy::Local } else { InternalPolicy::Cluster },
            external_policy: if external_local { ExternalPolicy::Local } else { ExternalPolicy::Cluster },
            health_check_node_port: health_check_node_port.into(),
            other_proxy,
            headless: for_names.0,
            publish_not_ready: for_names.1,
            external_name: for_names.2.map(Arc::from),
            proxy_protocol: proxy_protocol.map(AskedProxyProtocol::parse),
            scheduler: AskedScheduler::parse(scheduler, None),
            weights: weights.map(Weights::parse),
        })
    }
}

prop_compose! {
    fn endpoint()(
        address in select(vec!["10.1.0.1", "10.1.0.2", "fd00:1::1"]),
        ready in any::<bool>(),
        serving in any::<bool>(),
        terminating in any::<bool>(),
        node in select(vec![None, Some("n1"), Some("n2")]),
        zone_hints in subsequence(vec!["z1", "z2"], 0..3),
        node_hints in subsequence(vec!["n1", "n2"], 0..3),
        zone in select(vec![None, Some("z1")]),
        hostname in select(vec![None, Some("web-0")]),
    ) -> Endpoint {
        Endpoint {
            address: ip(address),
            ready,
            serving,
            terminating,
            node: node.map(Arc::from),
            zone: zone.map(Arc::from),
            names: EndpointNames::new(hostname, Some("pod")),
            hints: Hints::new(
                zone_hints.into_iter().map(Arc::from),
                node_hints.into_iter().map(Arc::from),
            ),
        }
    }
}

prop_compose! {
    fn slice()(
        name in slice_name(),
        service in service_name(),
        v6 in any::<bool>(),
        ports in vec((port_name(), protocol(), select(vec![8080u16, 8081])), 0..3),
        endpoints in vec(endpoint(), 0..4),
    ) -> Change {
        let family = if v6 { Family::V6 } else { Family::V4 };
        Change::from(EndpointSlice {
            name,
            service,
            family,
            ports: ports.into_iter().map(|(name, protocol, port)| SlicePort { name, protocol, port: Some(port) }).collect(),
            endpoints: endpoints.into_iter().filter(|endpoint| Family::of(endpoint.address) == family).collect(),
        })
    }
}

prop_compose! {
    fn node()(
        name in select(vec!["n1", "n2"]),
        zone in select(vec![None, Some("z1"), Some("z2")]),
        known in any::<bool>(),
        nodeport_addresses in subsequence(vec!["192.0.2.1", "192.0.2.2"], 0..3),
        addresses in subsequence(vec!["192.0.2.1", "192.0.2.2"], 0..3),
    ) -> LocalNode {
        LocalNode {
            name: name.into(),
            zone: zone.map(Arc::from),
            ips: PerFamily { v4: known.then(|| ip("192.0.2.1")), v6: None },
            nodeport_addresses: nodeport_addresses.into_iter().map(ip).collect(),
            addresses: addresses.into_iter().map(ip).collect(),
            ..first_node()
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => service().prop_map(Step::Object),
        6 => slice().prop_map(Step::Object),
        2 => service_name().prop_map(Change::ServiceRemoved).prop_map(Step::Object),
        2 => slice_name().prop_map(Change::SliceRemoved).prop_map(Step::Object),
        1 => node().prop_map(Step::Node),
    ]
}

type Plans = BTreeMap<ObjectName, Arc<ServicePlan>>;

fn plans(planner: &Planner) -> Plans {
    planner.plans().map(|plan| (plan.name.clone(), plan.clone())).collect()
}

/// What a dataplane would hold after `changes`.
fn fold(plans: &mut Plans, changes: ChangeSet) -> Result<(), TestCaseError> {
    prop_assert!(changes.services.is_sorted_by(|one, other| one.name < other.name));
    for change in changes.services {
        prop_assert_ne!(&change.before, &change.after);
        let before = match change.after {
            Some(after) => plans.insert(change.name, after),
            None => plans.remove(&change.name),
        };
        prop_assert_eq!(before, change.before);
    }
    Ok(())
}

/// Every address, protocol and port has one owner, and every list that is used has a member.
fn check(plans: &Plans) -> Result<(), TestCaseError> {
    let mut owners = HashMap::new();
    for plan in plans.values() {
        for port in &plan.ports {
            for frontend in &port.frontends {
                let owner = owners.insert((frontend.address, port.protocol, frontend.port), &plan.name);
                prop_assert_eq!(owner, None);
                for verdict in [frontend.inside, frontend.outside] {
                    if let portolan_service::Verdict::Forward(list) = verdict {
                        prop_assert!(!port.backends(list).is_empty());
                    }
                }
            }
        }
    }
    Ok(())
}

/// The state that `steps` lead to.
fn end_of(steps: &[Step]) -> (LocalNode, Vec<Change>) {
    let mut node = first_node();
    let (mut services, mut slices) = (BTreeMap::new(), BTreeMap::new());
    for step in steps {
        match step.clone() {
            Step::Node(changed) => node = changed,
            Step::Object(Change::Service(service)) => drop(services.insert(service.name.clone(), service)),
            Step::Object(Change::ServiceRemoved(name)) => drop(services.remove(&name)),
            Step::Object(Change::Slice(slice)) => drop(slices.insert(slice.name.clone(), slice)),
            Step::Object(Change::SliceRemoved(name)) => drop(slices.remove(&name)),
            Step::Object(Change::Node(_) | Change::NodeRemoved(_)) => {}
        }
    }
    let slices = slices.into_values().map(Change::Slice);
    (node, slices.chain(services.into_values().rev().map(Change::Service)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_way_leads_to_the_same_plan(steps in vec(step(), 1..40), batch in 1usize..6) {
        let mut one_by_one = Planner::new(first_node());
        let mut held = Plans::new();
        for step in steps.clone() {
            let changes = match step {
                Step::Object(change) => one_by_one.apply([change]),
                Step::Node(node) => one_by_one.set_node(node),
            };
            fold(&mut held, changes)?;
        }
        prop_assert_eq!(&held, &plans(&one_by_one));
        check(&held)?;

        let mut batched = Planner::new(first_node());
        let mut held = Plans::new();
        for steps in steps.chunks(batch) {
            let (objects, nodes): (Vec<Step>, Vec<Step>) =
                steps.iter().cloned().partition(|step| matches!(step, Step::Object(_)));
            let objects = objects.into_iter().filter_map(|step| match step {
                Step::Object(change) => Some(change),
                Step::Node(_) => None,
            });
            fold(&mut held, batched.apply(objects))?;
            for node in nodes {
                if let Step::Node(node) = node {
                    fold(&mut held, batched.set_node(node))?;
                }
            }
        }
        prop_assert_eq!(&held, &plans(&one_by_one));
        prop_assert_eq!(batched.problems(), one_by_one.problems());

        let (node, objects) = end_of(&steps);
        let mut fresh = Planner::new(node);
        fresh.apply(objects);
        prop_assert_eq!(plans(&fresh), plans(&one_by_one));
        prop_assert_eq!(fresh.problems(), one_by_one.problems());
    }
}
