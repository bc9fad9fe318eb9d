//! The real kernel: what it holds after each call, compared with what a plan renders to.

mod affinity;
mod damage;
mod refused;

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

use crate::dataplane::{Dataplane, Integrity, Outcome, Standing};
use crate::error::Error;
use crate::nftables::Nftables;
use crate::nftables::chain::Chain;
use crate::nftables::encoding::{FrontendKey, put_address, put_port, take_address};
use crate::nftables::set::SetName;
use crate::nftables::table::table;
use crate::settings::Settings;
use crate::tests::namespace;
use crate::tests::plans::{CLUSTER, LOCAL, PortExt, everything, net, port, service, settings};

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

        // An earlier state with other Services, other numbers of endpoints and every feature, and
        // back.
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
