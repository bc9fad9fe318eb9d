//! Whatever the plans and their order: changes one by one, and a fresh look, lead to the same
//! rules.

use std::collections::BTreeSet;
use std::sync::Arc;

use portolan_service::FrontendKind::{ClusterIp, ExternalIp, LoadBalancer, NodePort};
use portolan_service::{Family, ObjectName, PortPlan, Protocol, ServicePlan, Verdict};
use proptest::prelude::*;

use super::super::chains::{Counts, Style, style};
use super::super::change::change;
use super::super::compare::{Comparison, Tables, Wanted, compare, removal};
use super::super::script::Script;
use super::simulated::Simulated;
use crate::dataplane::Difference;
use crate::iptables::Layout;
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, port, service, settings};

/// What may differ between two states of one Service port.
fn port_plans(service: usize) -> impl Strategy<Value = PortPlan> {
    let endpoints = proptest::collection::btree_set(1_u8..6, 0..5);
    let shape = (0_u8..4, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), 0_u8..3);
    (endpoints, shape).prop_map(move |(endpoints, shape)| {
        let (policy, load_balancer, external_ip, node_port, sticky, ranges) = shape;
        let endpoints: Vec<String> = endpoints
            .into_iter()
            .map(|number| {
                format!("10.244.{}.{number}:8080{}", number % 2, if number % 2 == 1 { "*" } else { "" })
            })
            .collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        let mut port = port("http", if service == 2 { Protocol::Udp } else { Protocol::Tcp }, &endpoints);
        let (none, no_local) = (port.cluster.is_empty(), port.local.is_empty());
        let cluster = if none { Verdict::Reject } else { CLUSTER };
        let local = match (none, no_local) {
            (true, _) => Verdict::Reject,
            (false, true) => Verdict::Drop,
            (false, false) => LOCAL,
        };
        let internal = if policy & 1 == 1 { local } else { cluster };
        let outside = if policy & 2 == 2 { local } else { cluster };
        let n = u16::try_from(service).expect("a few") + 1;
        port = port.at(ClusterIp, &format!("10.96.0.{n}"), 80, internal, internal);
        if external_ip {
            port = port.at(ExternalIp, &format!("203.0.113.{n}"), 80, cluster, outside);
        }
        if load_balancer {
            port = port.at(LoadBalancer, &format!("203.0.114.{n}"), 80, cluster, outside);
            port = match ranges {
                0 => port,
                1 => port.allowing(&["192.0.2.0/24"]),
                _ => port.allowing(&["192.0.2.0/24", "198.51.100.0/24", "203.0.114.0/24"]),
            };
        }
        if node_port {
            port = port.at(NodePort, "192.168.50.1", 30000 + n, cluster, outside);
        }
        if sticky {
            port = port.sticky(600);
        }
        let uses = |verdict| {
            port.frontends.iter().any(|frontend| frontend.inside == verdict || frontend.outside == verdict)
        };
        let (uses_cluster, uses_local) = (uses(CLUSTER), uses(LOCAL));
        if !uses_cluster {
            port.cluster = [].into();
        }
        if !uses_local {
            port.local = [].into();
        }
        port
    })
}

const SERVICES: usize = 4;

/// The states that a few Services go through, one after the other.
fn histories() -> impl Strategy<Value = Vec<(usize, Option<ServicePlan>)>> {
    let step = (0..SERVICES).prop_flat_map(|number| {
        let plan = port_plans(number).prop_map(move |port| service(&format!("s{number}"), vec![port]));
        (Just(number), proptest::option::weighted(0.8, plan))
    });
    proptest::collection::vec(step, 1..12)
}

fn compared(
    tables: &Simulated,
    style: &Style,
    plans: &[Option<Arc<ServicePlan>>],
    ahead: bool,
) -> Comparison {
    let plans: Vec<&ServicePlan> = plans.iter().flatten().map(|plan| &**plan).collect();
    let wanted =
        Wanted { style, plans: &plans, left_out: &BTreeSet::new(), whole: false, ahead, differences: true };
    compare(&wanted, &Tables::read(&tables.print()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 2000 }))]

    #[test]
    fn changes_lead_where_a_fresh_look_does(history in histories(), ahead: bool, portals: bool) {
        let style = of(if portals { Layout::Portals } else { Layout::Services });
        let mut tables = Simulated::new(Family::V4);
        // Of somebody else, before, between and after.
        tables.add_foreign("nat", "PREROUTING", "-i docker0 -j RETURN");
        tables.add_foreign("nat", "DOCKER", "-p tcp -m tcp --dport 80 -j DNAT --to-destination 172.17.0.2:80");
        let mut plans: Vec<Option<Arc<ServicePlan>>> = vec![None; SERVICES];
        tables.restore(&compared(&tables, &style, &plans, ahead).script.text());
        let mut synced = tables.clone();
        let mut counts = compared(&tables, &style, &plans, ahead).rules;
        for (number, after) in history {
            let after = after.map(Arc::new);
            let before = std::mem::replace(&mut plans[number], after.clone());
            let mut script = Script::default();
            change(&mut script, &mut counts, &style, before.as_deref(), after.as_deref(), 0);
            prop_assert!(before != after || script.is_empty());
            tables.restore(&script.text());
            let comparison = compared(&tables, &style, &plans, ahead);
            prop_assert_eq!(comparison.rules, counts);
            prop_assert!(comparison.script.is_empty(), "{}", comparison.script.text());
            prop_assert_eq!(comparison.differences, vec![]);
            // Another process that finds the state before.
            synced.restore(&compared(&synced, &style, &plans, ahead).script.text());
            prop_assert!(compared(&synced, &style, &plans, ahead).script.is_empty());
        }
        let removal = removal(Family::V4, &Tables::read(&tables.print()));
        tables.restore(&removal.text());
        prop_assert_eq!(tables.rules("nat", "PREROUTING"), ["-i docker0 -j RETURN"]);
        prop_assert_eq!(tables.rules("nat", "DOCKER").len(), 1);
        prop_assert_eq!(
            tables.chains("nat"),
            ["DOCKER", "INPUT", "OUTPUT", "POSTROUTING", "PREROUTING"]
        );
        let mut filter = tables.chains("filter");
        // Kubelet's too.
        filter.retain(|chain| chain != "KUBE-FIREWALL");
        prop_assert_eq!(filter, ["FORWARD", "INPUT", "OUTPUT"]);
        prop_assert!(tables.chains("mangle").iter().all(|chain| !chain.starts_with("KUBE-")));
    }
}

fn of(layout: Layout) -> Style {
    let mut style = style(Family::V4, settings());
    style.options.layout = layout;
    style
}

fn one_service() -> Vec<Option<Arc<ServicePlan>>> {
    let endpoints = ["10.244.1.1:80*", "10.244.2.1:80"];
    vec![Some(Arc::new(service(
        "web",
        vec![port("http", Protocol::Tcp, &endpoints).cluster_ip("10.96.0.1")],
    )))]
}

fn synced(layout: Layout, plans: &[Option<Arc<ServicePlan>>]) -> (Style, Simulated) {
    let style = of(layout);
    let mut tables = Simulated::new(Family::V4);
    tables.restore(&compared(&tables, &style, plans, false).script.text());
    (style, tables)
}

type Damage = fn(&mut Simulated);

#[test]
fn what_others_do_to_our_rules_is_found_and_repaired() {
    let plans = one_service();
    let cases: [(&str, Layout, Damage); 11] = [
        ("a jump is gone", Layout::Services, |tables| {
            tables.restore("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n");
        }),
        ("a chain was emptied", Layout::Services, |tables| {
            tables.restore("*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n");
        }),
        ("somebody wrote behind the last rule", Layout::Services, |tables| {
            tables.add_foreign("nat", "KUBE-SERVICES", "-j LOG");
        }),
        ("a rule was added", Layout::Services, |tables| {
            tables.add_foreign("nat", "KUBE-POSTROUTING", "-j ACCEPT");
        }),
        ("a chain of an old Service", Layout::Services, |tables| {
            tables.add_foreign("nat", "KUBE-SVC-OLD", "-j ACCEPT");
        }),
        ("the canary is gone", Layout::Services, |tables| tables.remove_chain("mangle", "KUBE-PROXY-CANARY")),
        ("the jumps to sockets are gone", Layout::Portals, |tables| {
            tables.restore("*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n");
        }),
        ("a chain that leads to sockets was emptied", Layout::Portals, |tables| {
            tables.restore("*nat\n:KUBE-PORTALS-HOST - [0:0]\nCOMMIT\n");
        }),
        ("nothing guards sockets", Layout::Portals, |tables| {
            tables.restore("*mangle\n:KUBE-PROXY-FIREWALL - [0:0]\nCOMMIT\n");
        }),
        ("NodePorts answer elsewhere too", Layout::Portals, |tables| {
            let comment = "handle service NodePorts; NOTE: this must be the last rule in the chain";
            let rule = format!("-d 192.0.2.1/32 -m comment --comment \"{comment}\" -j KUBE-NODEPORT-HOST");
            tables.add_foreign("nat", "OUTPUT", &rule);
        }),
        ("chains of mode iptables", Layout::Portals, |tables| {
            tables.add_foreign("nat", "KUBE-SVC-OLD", "-j ACCEPT");
            tables.add_foreign("nat", "KUBE-SERVICES", "-j KUBE-SVC-OLD");
            tables.add_foreign(
                "nat",
                "PREROUTING",
                "-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES",
            );
        }),
    ];
    for (name, layout, damage) in cases {
        let (style, mut tables) = synced(layout, &plans);
        damage(&mut tables);
        let comparison = compared(&tables, &style, &plans, false);
        assert!(!comparison.differences.is_empty(), "{name}");
        tables.restore(&comparison.script.text());
        assert!(compared(&tables, &style, &plans, false).script.is_empty(), "{name}");
    }
}

#[test]
fn layouts_take_over_from_each_other() {
    let plans = one_service();
    let ours = |tables: &Simulated| -> Vec<String> {
        let chains = ["mangle", "filter", "nat"].map(|table| (table, tables.chains(table)));
        let named = |(table, chains): (&str, Vec<String>)| {
            let ours = chains.into_iter().filter(|chain| chain.starts_with("KUBE-"));
            ours.map(|chain| format!("{table} {chain}")).collect::<Vec<_>>()
        };
        let mut chains = chains.into_iter().flat_map(named).collect::<Vec<_>>();
        chains.retain(|chain| chain != "filter KUBE-FIREWALL");
        chains
    };
    for (from, to) in [(Layout::Services, Layout::Portals), (Layout::Portals, Layout::Services)] {
        let (_, mut tables) = synced(from, &plans);
        let (style, fresh) = synced(to, &plans);
        let step = compared(&tables, &style, &plans, false);
        assert!(step.script.commits() <= 3, "one transaction for each table");
        tables.restore(&step.script.text());
        assert_eq!(ours(&tables), ours(&fresh), "to {to:?}");
        let left = compared(&tables, &style, &plans, false).script.text();
        assert!(left.is_empty(), "to {to:?}: {left}");
    }
}

#[test]
fn chains_that_kubelet_has_stay_as_they_are() {
    // Not ours: no mark. And ours, with host ports that rely on them (spec §5.41, §5.43).
    let kubelets = |tables: &mut Simulated| {
        tables.add_foreign("nat", "KUBE-MARK-MASQ", "-j MARK --or-mark 0x00004000");
        tables.add_foreign("nat", "KUBE-POSTROUTING", "-j MASQUERADE");
        let jump = "-m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING";
        tables.add_foreign("nat", "POSTROUTING", jump);
    };
    let mut alone = Simulated::new(Family::V4);
    kubelets(&mut alone);
    let (_, mut with_host_ports) = synced(Layout::Services, &one_service());
    with_host_ports.add_foreign("nat", "KUBE-HP-X", "-s 10.0.0.1/32 -j KUBE-MARK-MASQ");
    for mut tables in [alone, with_host_ports] {
        let rules = |tables: &Simulated| {
            let chains = ["KUBE-MARK-MASQ", "KUBE-POSTROUTING", "POSTROUTING"];
            chains.map(|chain| tables.rules("nat", chain).to_vec())
        };
        let before = rules(&tables);
        let style = of(Layout::Portals);
        tables.restore(&compared(&tables, &style, &one_service(), false).script.text());
        assert_eq!(rules(&tables), before);
        assert!(compared(&tables, &style, &one_service(), false).script.is_empty());
    }
}

#[test]
fn chains_that_others_lead_to_are_not_removed() {
    let plans = one_service();
    let (style, mut tables) = synced(Layout::Services, &plans);
    // As host ports do (spec §5.43), and as somebody might who knows a Service's chain.
    tables.add_foreign("nat", "KUBE-HP-X", "-s 10.0.0.1/32 -j KUBE-MARK-MASQ");
    let chain = tables.chains("nat").into_iter().find(|name| name.starts_with("KUBE-SVC-")).unwrap();
    tables.add_foreign("nat", "DOCKER", &format!("-j {chain}"));
    tables.restore(&compared(&tables, &style, &[], false).script.text());
    assert!(tables.chains("nat").contains(&chain), "emptied, not removed");
    assert!(tables.rules("nat", &chain).is_empty());
    assert!(compared(&tables, &style, &[], false).script.is_empty(), "and that is all there is to do");
    tables.restore(&removal(Family::V4, &Tables::read(&tables.print())).text());
    assert!(tables.chains("nat").contains(&"KUBE-MARK-MASQ".to_owned()));
}

#[test]
fn a_service_that_is_left_out_stays_as_it_is() {
    let plans = one_service();
    let (style, tables) = synced(Layout::Services, &plans);
    let mut changed = (*plans[0].clone().unwrap()).clone();
    changed.ports[0] = port("http", Protocol::Tcp, &["10.244.9.9:80"]).cluster_ip("10.96.0.1");
    let other = ServicePlan { name: ObjectName::new("shop", "other"), ..changed.clone() };
    let wanted = [&changed, &other];
    let left_out = BTreeSet::from([0]);
    let wanted = Wanted {
        style: &style,
        plans: &wanted,
        left_out: &left_out,
        whole: false,
        ahead: false,
        differences: true,
    };
    let comparison = compare(&wanted, &Tables::read(&tables.print()));
    let differences = &comparison.differences;
    assert!(
        differences.iter().all(|difference| matches!(difference, Difference::Added(_))),
        "{differences:?}"
    );
    assert!(differences.iter().any(|difference| difference.to_string().contains("shop/other")));
    assert!(!comparison.script.text().contains("shop/web"), "{}", comparison.script.text());
}

#[test]
fn what_is_written_for_one_change_names_nothing_else() {
    let plans = one_service();
    let before = plans[0].as_deref().unwrap();
    let mut after = before.clone();
    after.ports[0] = port("http", Protocol::Tcp, &["10.244.1.1:80*"]).cluster_ip("10.96.0.1");
    let mut script = Script::default();
    change(
        &mut script,
        &mut Counts::default(),
        &style(Family::V4, settings()),
        Some(before),
        Some(&after),
        0,
    );
    let text = script.text();
    assert!(!text.contains("KUBE-SERVICES") && !text.contains("*filter"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("-X")).count(), 1, "{text}");
    assert_eq!(
        script.operations(),
        5,
        "the balancing chain with two rules, and one endpoint's chain: {text}"
    );
}
