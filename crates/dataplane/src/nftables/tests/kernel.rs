//! The real kernel: what it holds after each call, compared with what a plan renders to.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use portolan_netfilter::conntrack::Conntrack;
use portolan_netfilter::nft::{self, Batch, Element, ElementData, TableFamily, TableRef};
use portolan_netfilter::socket::Socket;
use portolan_service::{
    ChangeSet, Family, FrontendKind, PerFamily, Protocol, ServiceChange, ServicePlan, Verdict,
};

use crate::nftables::Nftables;
use crate::nftables::element::{FrontendKey, put_address, put_port, take_address};
use crate::nftables::schema::{Chain, SetName, table};
use crate::tests::namespace;
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, everything, net, port, service, settings};
use crate::{Dataplane, Error, Integrity, Outcome, Settings, Standing};

fn sync(dataplane: &mut Nftables, plans: &[ServicePlan]) -> Outcome {
    dataplane.sync(&mut plans.iter()).expect("sync")
}

fn verify(dataplane: &mut Nftables, plans: &[ServicePlan]) -> Integrity {
    dataplane.verify(&mut plans.iter()).expect("verify")
}

/// One Service's change.
fn change(before: Option<&ServicePlan>, after: Option<&ServicePlan>) -> ChangeSet {
    let name = before.or(after).expect("a change").name.clone();
    let shared = |plan: Option<&ServicePlan>| plan.cloned().map(Arc::new);
    ChangeSet { services: vec![ServiceChange { name, before: shared(before), after: shared(after) }] }
}

/// Everything in the kernel that is ours, as text: sets, elements, chains, rules.
fn contents() -> Vec<String> {
    let mut socket = Socket::open().expect("a socket");
    let mut lines = Vec::new();
    for family in Family::ALL {
        let table = table(family);
        for chain in socket.chains(table).expect("chains") {
            lines.push(format!("{family} {} {:?} {:?}", chain.name, chain.kind, chain.comment));
        }
        // Rules in their order within each chain.
        let mut number = BTreeMap::<String, usize>::new();
        for rule in socket.rules(table).expect("rules") {
            let number = number.entry(rule.chain.clone()).or_default();
            *number += 1;
            lines.push(format!("{family} {} {number} {:?} {:?}", rule.chain, rule.exprs, rule.comment));
        }
        for set in socket.sets(table).expect("sets") {
            lines.push(format!(
                "{family} {} {:?}",
                set.name,
                (set.flags, set.key_len, set.data_len, set.size)
            ));
            socket
                .elements(table, &set.name, |element| {
                    lines.push(format!(
                        "{family} {} {:?} {:?} {:?} {:?}",
                        set.name, element.key, element.key_end, element.data, element.comment
                    ));
                })
                .expect("elements");
        }
    }
    lines.sort_unstable();
    lines
}

/// What a dataplane that starts now makes of `plans`.
fn fresh(plans: &[ServicePlan]) -> Vec<String> {
    let mut dataplane = Nftables::new(settings()).expect("a dataplane");
    dataplane.cleanup().expect("cleanup");
    sync(&mut dataplane, plans);
    contents()
}

fn commit(fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    Socket::open().expect("a socket").commit(&batch).expect("a commit");
}

fn frontend(address: &str, port: u16) -> Vec<u8> {
    let mut key = Vec::new();
    put_address(&mut key, address.parse().expect("an address"));
    key.extend_from_slice(&[Protocol::Tcp.number(), 0, 0, 0]);
    put_port(&mut key, port);
    key
}

#[test]
fn sync_writes_everything_and_is_repeatable() {
    namespace::run("nftables::tests::kernel::sync_writes_everything_and_is_repeatable", || {
        let plans = everything();
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        let outcome = sync(&mut dataplane, &plans);
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
        let first = contents();
        assert!(first.iter().any(|line| line.contains("shop/web:http")), "elements name their Service port");
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact);

        let mut restarted = Nftables::new(settings()).expect("a dataplane");
        sync(&mut restarted, &plans);
        assert_eq!(contents(), first, "a restart changes nothing");
        restarted.uncompared = true;
        assert_eq!(verify(&mut restarted, &plans), Integrity::Intact);

        // An earlier state with other Services, other numbers of endpoints and every feature, and back.
        sync(&mut restarted, &[]);
        let nothing = sync(&mut dataplane, &plans[1..2]);
        assert!(nothing.refused.is_empty());
        sync(&mut dataplane, &plans);
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact);

        dataplane.cleanup().expect("cleanup");
        assert_eq!(contents(), Vec::<String>::new());
        dataplane.cleanup().expect("cleanup of nothing");
    });
}

#[test]
fn changes_end_where_a_fresh_start_begins() {
    namespace::run("nftables::tests::kernel::changes_end_where_a_fresh_start_begins", || {
        let plans = everything();
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        assert!(
            matches!(dataplane.apply(&ChangeSet::default()), Err(Error::Unusable(_))),
            "nothing to change yet"
        );
        sync(&mut dataplane, &[]);
        let step = |dataplane: &mut Nftables, before: Option<&ServicePlan>, after: Option<&ServicePlan>| {
            let outcome = dataplane.apply(&change(before, after)).expect("apply");
            assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
        };
        for plan in &plans {
            step(&mut dataplane, None, Some(plan));
        }
        // Endpoints come and go, down to none.
        let flapping = |count: usize| {
            let endpoints: Vec<String> = (0..count).map(|host| format!("10.244.1.{host}:80*")).collect();
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            let verdict = if count == 0 { Verdict::Reject } else { CLUSTER };
            let port = port("http", Protocol::Tcp, &endpoints)
                .at(FrontendKind::ClusterIp, "10.96.0.77", 80, verdict, verdict)
                .at(FrontendKind::ExternalIp, "203.0.113.77", 80, verdict, verdict);
            service("flapping", vec![port])
        };
        let mut before = None;
        for count in [1, 5, 4, 5, 0, 2, 7] {
            let after = flapping(count);
            step(&mut dataplane, before.as_ref(), Some(&after));
            dataplane.uncompared = true;
            let mut all = plans.clone();
            all.push(after.clone());
            assert_eq!(verify(&mut dataplane, &all), Integrity::Intact, "{count} endpoints");
            before = Some(after);
        }
        step(&mut dataplane, before.as_ref(), None);
        // The same with session affinity, and more endpoints than the kernel's own limit of a set
        // is for.
        let mut before = None;
        for count in [1, 40, 39, 3, 0] {
            let endpoints: Vec<String> = (0..count).map(|host| format!("10.244.1.{host}:80*")).collect();
            let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
            let verdict = if count == 0 { Verdict::Reject } else { CLUSTER };
            let port = port("http", Protocol::Tcp, &endpoints).sticky(60).at(
                FrontendKind::ClusterIp,
                "10.96.0.78",
                80,
                verdict,
                verdict,
            );
            let after = service("staying", vec![port]);
            step(&mut dataplane, before.as_ref(), Some(&after));
            dataplane.uncompared = true;
            let mut all = plans.clone();
            all.push(after.clone());
            assert_eq!(
                verify(&mut dataplane, &all),
                Integrity::Intact,
                "{count} endpoints that clients stay at"
            );
            before = Some(after);
        }
        step(&mut dataplane, before.as_ref(), None);
        while dataplane.tidy().expect("tidy") {}
        assert_eq!(contents(), fresh(&plans));

        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        for plan in &plans {
            step(&mut dataplane, Some(plan), None);
        }
        while dataplane.tidy().expect("tidy") {}
        assert_eq!(contents(), fresh(&[]));
    });
}

#[test]
fn others_tables_are_left_alone() {
    namespace::run("nftables::tests::kernel::others_tables_are_left_alone", || {
        let others = TableRef { family: TableFamily::Ip, name: "portolan-other" };
        commit(|batch| {
            batch.add_table(others, "not ours");
            let chain = nft::Chain { name: "pick-3".into(), kind: None, comment: None };
            batch.add_chain(others, &chain);
        });
        let plans = everything();
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        // Someone else commits between our calls.
        commit(|batch| {
            batch.add_chain(others, &nft::Chain { name: "more".into(), kind: None, comment: None });
        });
        dataplane.apply(&change(Some(&plans[0]), None)).expect("apply after a foreign commit");
        commit(|batch| batch.delete_chain(others, "more"));
        assert_eq!(verify(&mut dataplane, &plans[1..]), Integrity::Intact);
        dataplane.cleanup().expect("cleanup");
        let mut socket = Socket::open().expect("a socket");
        let chains = socket.chains(others).expect("chains");
        assert_eq!(chains.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>(), ["pick-3"]);
    });
}

#[test]
fn damage_is_named_and_repaired() {
    type Damage = fn(&mut Batch);
    let cases: &[(&str, Damage, &str)] = &[
        ("the table is deleted", |batch| batch.delete_table(table(Family::V4)), "table ip portolan deleted"),
        (
            "a chain is emptied",
            |batch| batch.flush_chain(table(Family::V4), "nat-prerouting"),
            "table ip portolan: chain nat-prerouting: 5 rules missing",
        ),
        (
            "a rule is added",
            |batch| {
                let drop = nft::Rule { exprs: vec![nft::Expr::Immediate(nft::Verdict::Drop)], comment: None };
                batch.add_rule(table(Family::V6), "filter-forward", &drop);
            },
            "table ip6 portolan: chain filter-forward: 1 rule not ours",
        ),
        (
            "a chain is added",
            |batch| {
                let chain = nft::Chain { name: "mine".into(), kind: None, comment: None };
                batch.add_chain(table(Family::V4), &chain);
            },
            "table ip portolan: chain mine is not ours",
        ),
        (
            "a frontend is deleted",
            |batch| {
                let key = frontend("10.96.0.5", 80);
                batch.delete_elements(table(Family::V4), "services", [Element::new(&key)]);
            },
            "map services: ",
        ),
        (
            "a frontend is led elsewhere",
            |batch| {
                let key = frontend("10.96.0.5", 80);
                batch.delete_elements(table(Family::V4), "services", [Element::new(&key)]);
                let to = nft::Verdict::Jump("pick-2".into());
                let element = Element { data: Some(ElementData::Verdict(&to)), ..Element::new(&key) };
                batch.add_elements(table(Family::V4), "services", [element]);
            },
            "map services: 1 element missing or changed, among them shop/sticky:http 10.96.0.5 tcp 80",
        ),
        (
            "an element is added",
            |batch| {
                let key = frontend("10.96.0.99", 80);
                let element =
                    Element { data: Some(ElementData::Verdict(&nft::Verdict::Drop)), ..Element::new(&key) };
                batch.add_elements(table(Family::V4), "no-endpoints", [element]);
                let old = frontend("192.168.50.1", 30084);
                batch.delete_elements(table(Family::V4), "no-endpoints", [Element::new(&old)]);
            },
            "map no-endpoints: 1 element not ours, among them 10.96.0.99 tcp 80",
        ),
        (
            "a set is added",
            |batch| {
                let mut set = crate::nftables::schema::declare_set(SetName::ClusterIps, Family::V4, 1);
                set.name = "mine".into();
                batch.add_set(table(Family::V4), &set);
            },
            "set mine is not ours",
        ),
    ];
    namespace::run("nftables::tests::kernel::damage_is_named_and_repaired", || {
        let plans = everything();
        let whole = fresh(&plans);
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        for (name, damage, finding) in cases {
            commit(damage);
            let Integrity::Changed(findings) = verify(&mut dataplane, &plans) else {
                panic!("{name}: not noticed")
            };
            assert!(findings.iter().any(|found| found.contains(finding)), "{name}: {findings:?}");
            sync(&mut dataplane, &plans);
            assert_eq!(contents(), whole, "{name}: repaired");
            assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact, "{name}");
        }
        // A change does not build upon what is gone.
        commit(|batch| batch.delete_table(table(Family::V4)));
        assert!(dataplane.apply(&change(Some(&plans[0]), None)).is_err());
        sync(&mut dataplane, &plans);
        assert_eq!(contents(), whole);
    });
}

#[test]
fn a_table_of_another_layout_is_replaced() {
    namespace::run("nftables::tests::kernel::a_table_of_another_layout_is_replaced", || {
        let plans = everything();
        let whole = fresh(&plans);
        let ours = table(Family::V4);
        let (stays, gone) = (sticky_set("10.244.1.11"), sticky_set("10.244.1.99"));
        commit(|batch| {
            batch.delete_table(ours);
            batch.add_table(ours, "of a newer version");
            for (id, set) in (1..).zip([&stays, &gone]) {
                batch.add_set(ours, &crate::nftables::schema::declare_affinity_set(set, None, id));
            }
            batch.add_chain(ours, &nft::Chain { name: "nat-output".into(), kind: None, comment: None });
        });
        learn("10.9.9.9", "10.244.1.11");
        learn("10.9.9.8", "10.244.1.99");
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        assert_eq!(clients(), ["10.9.9.9 stays at 10.244.1.11"], "remembered clients move over");
        commit(|batch| batch.flush_set(ours, &stays));
        assert_eq!(contents(), whole);
    });
}

/// The set of clients that stay at an endpoint of the Service `sticky`.
fn sticky_set(endpoint: &str) -> String {
    format!("affinity/shop/sticky/tcp/http/{endpoint}/8080")
}

/// A client is remembered.
fn learn(client: &str, endpoint: &str) {
    let mut key = Vec::new();
    put_address(&mut key, client.parse().expect("an address"));
    let element = Element { timeout: Some(std::time::Duration::from_mins(10)), ..Element::new(&key) };
    commit(|batch| batch.add_elements(table(Family::V4), &sticky_set(endpoint), [element]));
}

/// Who is remembered.
fn clients() -> Vec<String> {
    let mut clients = Vec::new();
    let mut socket = Socket::open().expect("a socket");
    for set in socket.sets(table(Family::V4)).expect("sets") {
        let Some(port_and_endpoint) = set.name.strip_prefix("affinity/") else { continue };
        let endpoint = port_and_endpoint.rsplit('/').nth(1).expect("an endpoint's address");
        socket
            .elements(table(Family::V4), &set.name, |element| {
                let client = take_address(&mut &element.key[..], Family::V4).expect("an address");
                clients.push(format!("{client} stays at {endpoint}"));
            })
            .expect("elements");
    }
    clients.sort_unstable();
    clients
}

fn sticky(endpoints: &[&str]) -> ServicePlan {
    service("sticky", vec![port("http", Protocol::Tcp, endpoints).sticky(600).cluster_ip("10.96.0.5")])
}

#[test]
fn clients_stay_until_their_endpoint_leaves() {
    namespace::run("nftables::tests::kernel::clients_stay_until_their_endpoint_leaves", || {
        let both = sticky(&["10.244.1.11:8080*", "10.244.2.21:8080"]);
        let one = sticky(&["10.244.1.11:8080*"]);
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, std::slice::from_ref(&both));
        learn("10.9.0.1", "10.244.1.11");
        learn("10.9.0.2", "10.244.2.21");
        sync(&mut dataplane, std::slice::from_ref(&both));
        let remembered = ["10.9.0.1 stays at 10.244.1.11", "10.9.0.2 stays at 10.244.2.21"];
        assert_eq!(clients(), remembered, "over a restart");
        dataplane.kernel.batch_limit = Some(20_000);
        let others: Vec<ServicePlan> = (1..200)
            .map(|number| {
                let address = format!("10.96.1.{number}");
                let port = port("", Protocol::Tcp, &["10.1.1.1:1"]).cluster_ip(&address);
                service(&format!("s{number}"), vec![port])
            })
            .collect();
        let mut more = others;
        more.push(both.clone());
        sync(&mut dataplane, &more);
        assert_eq!(clients(), remembered, "over a restart in portions");
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &more), Integrity::Intact);
        let mut without = more;
        *without.last_mut().expect("the sticky one") = one.clone();
        sync(&mut dataplane, &without);
        assert_eq!(clients(), ["10.9.0.1 stays at 10.244.1.11"], "its endpoint left, in portions");
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &without), Integrity::Intact);
        dataplane.kernel.batch_limit = None;
        sync(&mut dataplane, std::slice::from_ref(&both));
        learn("10.9.0.2", "10.244.2.21");

        dataplane.apply(&change(Some(&both), Some(&one))).expect("apply");
        assert_eq!(clients(), ["10.9.0.1 stays at 10.244.1.11"], "the endpoint of the other left");
        assert_eq!(verify(&mut dataplane, std::slice::from_ref(&one)), Integrity::Intact);
        dataplane.apply(&change(Some(&one), Some(&both))).expect("apply");
        assert_eq!(clients(), ["10.9.0.1 stays at 10.244.1.11"], "an endpoint that comes back begins anew");

        // It left while nobody looked.
        learn("10.9.0.4", "10.244.2.21");
        let mut restarted = Nftables::new(settings()).expect("a dataplane");
        sync(&mut restarted, std::slice::from_ref(&one));
        assert_eq!(clients(), ["10.9.0.1 stays at 10.244.1.11"]);

        restarted.apply(&change(Some(&one), None)).expect("apply");
        assert_eq!(clients(), [""; 0], "a later Service of this name must not inherit them");
        while restarted.tidy().expect("tidy") {}
        assert_eq!(contents(), fresh(&[]));
    });
}

#[test]
fn damage_to_affinity_is_named_and_repaired() {
    type Damage = fn(&mut Batch);
    const CHAIN: &str = "affinity/shop/sticky/tcp/http";
    let cases: &[(&str, Damage, &str)] = &[
        (
            "a chain is emptied",
            |batch| batch.flush_chain(table(Family::V4), CHAIN),
            "table ip portolan: chain affinity/shop/sticky/tcp/http: other rules than it should have",
        ),
        (
            "a set is deleted",
            |batch| {
                batch.flush_chain(table(Family::V4), CHAIN);
                let endpoint = "endpoint/shop/sticky/tcp/http/10.244.2.21/8080";
                batch.flush_chain(table(Family::V4), endpoint);
                batch.delete_set(table(Family::V4), &sticky_set("10.244.2.21"));
            },
            "table ip portolan: set affinity/shop/sticky/tcp/http/10.244.2.21/8080 deleted",
        ),
        (
            "a set is added",
            |batch| {
                let mine = crate::nftables::schema::declare_affinity_set("affinity/mine", None, 1);
                batch.add_set(table(Family::V4), &mine);
            },
            "table ip portolan: set affinity/mine is not ours",
        ),
    ];
    namespace::run("nftables::tests::kernel::damage_to_affinity_is_named_and_repaired", || {
        let plans = [sticky(&["10.244.1.11:8080*", "10.244.2.21:8080"])];
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        learn("10.9.0.1", "10.244.1.11");
        let whole = contents();
        for (name, damage, finding) in cases {
            commit(damage);
            let Integrity::Changed(findings) = verify(&mut dataplane, &plans) else {
                panic!("{name}: not noticed")
            };
            assert!(findings.iter().any(|found| found == finding), "{name}: {findings:?}");
            sync(&mut dataplane, &plans);
            assert_eq!(contents(), whole, "{name}: repaired, and the client still remembered");
            assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact, "{name}");
        }
    });
}

#[test]
fn what_the_kernel_refuses_is_left_out_alone() {
    namespace::run("nftables::tests::kernel::what_the_kernel_refuses_is_left_out_alone", || {
        let at = |name: &str, address: &str, endpoint: &str| {
            let endpoints = if endpoint.is_empty() { vec![] } else { vec![endpoint, "10.244.9.9:1"] };
            service(name, vec![port("http", Protocol::Tcp, &endpoints).cluster_ip(address)])
        };
        let good = at("good", "10.96.0.1", "10.244.1.1:80");
        // The planner never lets two Services have one frontend; the kernel does not either.
        let bad = at("bad", "10.96.0.1", "10.244.1.2:80");
        let other = at("other", "10.96.0.2", "10.244.1.3:80");

        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        let plans = [good.clone(), bad.clone(), other.clone()];
        let outcome = sync(&mut dataplane, &plans);
        assert_eq!(outcome.refused.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["shop/bad"]);
        assert!(outcome.refused[0].1.contains("exists"), "{:?}", outcome.refused);
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact, "the refused one is not missed");

        // Once it asks for something else, it gets it.
        let better = at("bad", "10.96.0.3", "10.244.1.2:80");
        let outcome = dataplane.apply(&change(Some(&bad), Some(&better))).expect("apply");
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);

        // In a change set: the others' changes hold, and what was in force for it stays.
        let third = at("third", "10.96.0.4", "10.244.1.4:80");
        let mut changes = change(Some(&better), Some(&bad));
        changes.services.extend(change(None, Some(&third)).services);
        let outcome = dataplane.apply(&changes).expect("apply");
        assert_eq!(outcome.refused.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["shop/bad"]);
        let wanted = [good.clone(), bad.clone(), other, third];
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &wanted), Integrity::Intact);
        let outcome = dataplane.apply(&change(Some(&bad), None)).expect("apply");
        assert!(outcome.refused.is_empty(), "its last change is taken back from what was in force");
        dataplane.uncompared = true;
        assert_eq!(
            verify(&mut dataplane, &[wanted[0].clone(), wanted[2].clone(), wanted[3].clone()]),
            Integrity::Intact
        );
    });
}

#[test]
fn only_stale_udp_flows_are_removed() {
    namespace::run("nftables::tests::kernel::only_stale_udp_flows_are_removed", || {
        namespace::loopback_up();
        let dns = |address: &str, endpoints: &[&str]| {
            let verdict = if endpoints.is_empty() { Verdict::Reject } else { CLUSTER };
            let port = port("dns", Protocol::Udp, endpoints).at(
                FrontendKind::ClusterIp,
                address,
                53,
                verdict,
                verdict,
            );
            service("dns", vec![port])
        };
        let first = dns("127.0.0.53", &["127.0.0.2:5353"]);
        let second = dns("127.0.0.53", &["127.0.0.3:5353"]);
        let none = dns("127.0.0.53", &[]);
        let flows = || {
            let mut flows = Vec::new();
            Conntrack::open()
                .expect("conntrack")
                .udp_flows(TableFamily::Ip, None, |flow| {
                    flows.push(format!("{} to {}", flow.original.destination, flow.reply.source));
                })
                .expect("flows");
            flows.sort_unstable();
            flows
        };
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let send = || client.send_to(b"?", "127.0.0.53:53").expect("sent");
        // Somewhere to go, so that no ICMP error ends the flows.
        let _endpoints = [UdpSocket::bind("127.0.0.2:5353"), UdpSocket::bind("127.0.0.3:5353")];
        let bystander = UdpSocket::bind("127.0.0.9:53").expect("a socket");

        let removed = |dataplane: &mut Nftables| -> usize {
            let reconciled = dataplane.reconciled(Duration::from_secs(20));
            reconciled.iter().map(|once| once.removed.v4 + once.removed.v6).sum()
        };

        // Without a detector nothing is masqueraded.
        let mut dataplane = Nftables::new(Settings::default()).expect("a dataplane");
        sync(&mut dataplane, std::slice::from_ref(&first));
        send();
        client.send_to(b"?", bystander.local_addr().expect("bound")).expect("sent");
        let kept = ["127.0.0.53 to 127.0.0.2", "127.0.0.9 to 127.0.0.9"];
        assert_eq!(flows(), kept);

        let mut restarted = Nftables::new(Settings::default()).expect("a dataplane");
        sync(&mut restarted, std::slice::from_ref(&first));
        assert_eq!(removed(&mut restarted), 0);
        assert_eq!(flows(), kept, "a restart that changes nothing removes nothing");

        restarted.apply(&change(Some(&first), Some(&second))).expect("apply");
        assert_eq!(removed(&mut restarted), 1, "its endpoint left (spec §8.2)");
        send();
        assert_eq!(flows(), ["127.0.0.53 to 127.0.0.3", "127.0.0.9 to 127.0.0.9"]);
        restarted.apply(&change(Some(&second), Some(&none))).expect("apply");
        assert_eq!(removed(&mut restarted), 1, "no endpoint is left (unlike spec §8.5)");

        restarted.apply(&change(Some(&none), Some(&first))).expect("apply");
        send();
        restarted.apply(&change(Some(&first), None)).expect("apply");
        assert_eq!(removed(&mut restarted), 1, "the Service is gone (unlike spec §8.5)");

        // Sent before the Service was there: never translated (spec §8.4).
        let _local = UdpSocket::bind("127.0.0.53:53").expect("a socket");
        send();
        assert_eq!(flows(), ["127.0.0.53 to 127.0.0.53", "127.0.0.9 to 127.0.0.9"]);
        restarted.apply(&change(None, Some(&first))).expect("apply");
        assert_eq!(removed(&mut restarted), 1);

        // It vanishes while nobody looks.
        send();
        let mut restarted = Nftables::new(Settings::default()).expect("a dataplane");
        sync(&mut restarted, &[]);
        assert_eq!(removed(&mut restarted), 1);
        assert_eq!(flows(), ["127.0.0.9 to 127.0.0.9"], "others' flows are never touched");
    });
}

#[test]
fn outside_lists_and_ranges_reach_the_kernel() {
    namespace::run("nftables::tests::kernel::outside_lists_and_ranges_reach_the_kernel", || {
        let endpoints = ["10.244.1.11:8080*", "10.244.2.21:8080"];
        let plan = |networks: &[&str]| {
            let port = port("http", Protocol::Tcp, &endpoints)
                .at(FrontendKind::LoadBalancer, "203.0.113.9", 80, CLUSTER, LOCAL)
                .allowing(networks);
            service("lb", vec![port])
        };
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &[]);
        let steps: [&[&str]; 4] =
            [&["10.0.0.0/8"], &["10.0.0.0/8", "192.168.1.1/32"], &["192.168.0.0/16"], &[]];
        let mut before = None;
        for networks in steps {
            let after = plan(networks);
            let outcome = dataplane.apply(&change(before.as_ref(), Some(&after))).expect("apply");
            assert!(outcome.refused.is_empty(), "{networks:?}: {:?}", outcome.refused);
            dataplane.uncompared = true;
            assert_eq!(
                verify(&mut dataplane, std::slice::from_ref(&after)),
                Integrity::Intact,
                "{networks:?}"
            );
            before = Some(after);
        }
        assert_eq!(net("192.168.1.1/32").prefix_len(), 32);
        let key = FrontendKey {
            address: "203.0.113.9".parse().expect("an address"),
            protocol: Protocol::Tcp,
            port: 80,
        };
        assert_eq!(key.to_string(), "203.0.113.9 tcp 80");
        assert_eq!(Chain::parse("pick-local-1"), Some(Chain::PickLocal(1)));
    });
}

#[test]
fn more_than_can_be_sent_at_once_goes_in_portions() {
    namespace::run("nftables::tests::kernel::more_than_can_be_sent_at_once_goes_in_portions", || {
        let generation = |endpoints: &[&str], range: std::ops::Range<u32>| -> Vec<ServicePlan> {
            range
                .map(|number| {
                    let address = std::net::Ipv4Addr::from(0x0a60_0000 + number).to_string();
                    let port = port("http", Protocol::Tcp, endpoints).cluster_ip(&address);
                    service(&format!("s{number}"), vec![port])
                })
                .collect()
        };
        let old = generation(&["10.244.1.11:8080*", "10.244.2.21:8080"], 1..4000);
        let new = generation(&["10.244.1.12:8080*"], 1000..5000);
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        assert!(dataplane.kernel.batch_limit.is_some(), "a user namespace has a limit");
        // Twice what Linux has for net.core.wmem_max when nobody raises it.
        dataplane.kernel.batch_limit = Some(2 * 212_992);
        for plans in [&old, &new, &old] {
            let outcome = sync(&mut dataplane, plans);
            assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
            dataplane.uncompared = true;
            assert_eq!(verify(&mut dataplane, plans), Integrity::Intact);
        }
        while dataplane.tidy().expect("tidy") {}
        let in_portions = contents();
        assert_eq!(in_portions, fresh(&old));
    });
}

#[test]
fn previews_and_listings_say_what_the_kernel_holds() {
    namespace::run("nftables::tests::kernel::previews_and_listings_say_what_the_kernel_holds", || {
        let web = |endpoints: &[&str]| {
            service("web", vec![port("http", Protocol::Tcp, endpoints).cluster_ip("10.96.0.1")])
        };
        let api = service("api", vec![port("", Protocol::Udp, &["10.1.0.9:53"]).cluster_ip("10.96.0.2")]);
        let held = [web(&["10.1.0.1:80", "10.1.0.2:80"]), api];
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        let mut preview = |plans: &[ServicePlan]| -> Vec<String> {
            let differences = dataplane.preview(&mut plans.iter()).expect("a preview");
            differences.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            preview(&held),
            [
                "+ table ip portolan",
                "+ table ip6 portolan",
                "+ shop/web:http 10.96.0.1 tcp 80",
                "+ shop/api 10.96.0.2 udp 80"
            ]
        );
        let mut writer = Nftables::new(settings()).expect("a dataplane");
        sync(&mut writer, &held);
        let before = contents();
        assert_eq!(preview(&held), Vec::<String>::new());
        assert_eq!(
            preview(&[web(&["10.1.0.1:80", "10.1.0.3:80"])]),
            ["~ shop/web:http 10.96.0.1 tcp 80", "- shop/api 10.96.0.2 udp 80", "- ClusterIP 10.96.0.2"]
        );
        let mut idle = port("", Protocol::Tcp, &[]).cluster_ip("10.96.0.3");
        for frontend in &mut idle.frontends {
            (frontend.inside, frontend.outside) = (Verdict::Reject, Verdict::Reject);
        }
        let [web, api] = held.clone();
        assert_eq!(
            preview(&[web, api, service("idle", vec![idle])]),
            ["+ shop/idle 10.96.0.3, without endpoints"]
        );
        assert_eq!(contents(), before, "a preview changes nothing");
        assert_eq!(
            writer.listing().expect("a listing"),
            [
                "shop/web:http: 10.96.0.1:80/tcp -> 10.1.0.1:80 or 10.1.0.2:80, each 1/2",
                "shop/api: 10.96.0.2:80/udp -> 10.1.0.9:53"
            ]
        );
        assert_eq!(contents(), before, "a listing changes nothing");
    });
}

#[test]
fn one_family_does_not_stop_the_other() {
    namespace::run("nftables::tests::kernel::one_family_does_not_stop_the_other", || {
        for broken in Family::ALL {
            let other = if broken == Family::V4 { Family::V6 } else { Family::V4 };
            let in_family = |family: Family, endpoints: &[&str; 2]| {
                let (address, endpoint) = match family {
                    Family::V4 => ("10.96.0.80", endpoints[0]),
                    Family::V6 => ("fd00:10:96::80", endpoints[1]),
                };
                let mut port = port("http", Protocol::Tcp, &[endpoint]).cluster_ip(address);
                port.family = family;
                port
            };
            let plan = |endpoints: &[&str; 2]| {
                service("web", Family::ALL.map(|family| in_family(family, endpoints)).to_vec())
            };
            let [first, second, third] =
                [11, 12, 13].map(|n| plan(&[&format!("10.1.0.{n}:8080"), &format!("[fd00:1::{n}]:8080")]));
            // The table of one family is somebody else's, who lets nobody write to it.
            let mut owner = Socket::open().expect("a socket");
            let mut batch = Batch::new();
            batch.add_owned_table(table(broken), "somebody's");
            owner.commit(&batch).expect("a table");

            let mut dataplane = Nftables::new(settings()).expect("a dataplane");
            sync(&mut dataplane, std::slice::from_ref(&first));
            assert!(matches!(dataplane.standing().get(broken), Standing::Behind(_)), "{broken}");
            assert_eq!(*dataplane.standing().get(other), Standing::Served, "{broken}");
            assert_eq!(verify(&mut dataplane, std::slice::from_ref(&first)), Integrity::Intact);
            let leads_to = |dataplane: &mut Nftables, family: Family, n: u8| {
                let end = if family == Family::V4 {
                    format!("10.1.0.{n}:8080")
                } else {
                    format!("[fd00:1::{n}]:8080")
                };
                dataplane.listing().expect("a listing").iter().any(|line| line.contains(&end))
            };
            assert!(leads_to(&mut dataplane, other, 11), "{broken}");
            dataplane.apply(&change(Some(&first), Some(&second))).expect("the other family follows");
            assert!(leads_to(&mut dataplane, other, 12), "{broken}");
            // Trying again in vain changes nothing, and hides nothing.
            let caught_up = dataplane.catch_up(&mut std::iter::once(&second)).expect("an attempt");
            assert!(caught_up.is_none(), "{broken}");
            assert_eq!(verify(&mut dataplane, std::slice::from_ref(&second)), Integrity::Intact);
            let mut socket = Socket::open().expect("a socket");
            let mut batch = Batch::new();
            batch.flush_set(table(other), SetName::Endpoints.name());
            socket.commit(&batch).expect("flushed");
            let again = dataplane.catch_up(&mut std::iter::once(&second)).expect("an attempt");
            assert!(again.is_none());
            assert!(matches!(verify(&mut dataplane, std::slice::from_ref(&second)), Integrity::Changed(_)));
            sync(&mut dataplane, std::slice::from_ref(&second));

            drop(owner);
            let caught_up = dataplane.catch_up(&mut std::iter::once(&second)).expect("an attempt");
            assert!(caught_up.is_some(), "{broken}");
            assert_eq!(dataplane.standing(), PerFamily::default());
            dataplane.apply(&change(Some(&second), Some(&third))).expect("both follow");
            assert!(Family::ALL.into_iter().all(|family| leads_to(&mut dataplane, family, 13)), "{broken}");
            assert_eq!(verify(&mut dataplane, std::slice::from_ref(&third)), Integrity::Intact);
            dataplane.cleanup().expect("cleanup");
        }
    });
}
