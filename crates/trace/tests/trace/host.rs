//! What the kernel of a live node does besides its rules.

use std::collections::BTreeMap;

use portolan_service::PerFamily;
use portolan_trace::{Family, Host, Interface, Node, Refusal, ReversePath, Ruleset};

use crate::notation::{check, node};

fn live(change: impl FnOnce(&mut Node, &mut Host)) -> Node {
    let interface = Interface {
        up: true,
        carrier: true,
        forwards_v4: true,
        reverse_path: ReversePath::Off,
        route_localnet: false,
    };
    let mut host = Host {
        forwarding: PerFamily { v4: true, v6: true },
        interfaces: ["lo", "eth0", "cni0"].map(|name| (name.to_owned(), interface)).into(),
        refused: Vec::new(),
        policy_routing: false,
    };
    let mut node = node();
    node.routes.push(("192.168.50.0/24".parse().expect("a network"), "eth0".into()));
    node.routes.push(("10.244.1.0/24".parse().expect("a network"), "cni0".into()));
    change(&mut node, &mut host);
    node.host = Some(host);
    node
}

fn at<'a>(interfaces: &'a mut BTreeMap<String, Interface>, name: &str) -> &'a mut Interface {
    interfaces.get_mut(name).expect("an interface")
}

const OUTSIDE: &str = "outside tcp 192.0.2.1 10.96.0.1:80";
const NODE: &str = "node tcp 192.168.50.1 10.96.0.1:80";

/// What a case changes of a node on which nothing stops a packet.
type Change = fn(&mut Node, &mut Host);

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn the_kernel_stops_packets_that_no_rule_stops() {
    let rules = Ruleset::from_iptables_save(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n-A PREROUTING -j KUBE-SERVICES\n\
         -A OUTPUT -j KUBE-SERVICES\n-A KUBE-SERVICES -d 10.96.0.1/32 -j DNAT --to-destination 10.244.1.7:8080\n\
         -A KUBE-SERVICES -d 10.96.0.9/32 -j DNAT --to-destination 127.0.0.1:8080\n\
         -A KUBE-SERVICES -d 10.96.0.8/32 -j REDIRECT --to-ports 9\nCOMMIT\n",
        Family::V4,
    )
    .expect("a dump");
    let no_default: Change = |node, _| node.routes.retain(|(network, _)| network.prefix_len() > 0);
    let cases: [(&str, Change, &str, &str); 21] = [
        ("nothing does", |_, _| {}, OUTSIDE, "1 10.244.1.7:8080"),
        (
            "forwarding is off",
            |_, host| {
                host.forwarding.v4 = false;
                host.interfaces.values_mut().for_each(|interface| interface.forwards_v4 = false);
            },
            OUTSIDE,
            "1 NotForwarding towards 10.244.1.7",
        ),
        ("that is for IPv6", |_, host| host.forwarding.v6 = false, OUTSIDE, "1 10.244.1.7:8080"),
        (
            "the node's own packets are not forwarded",
            |_, host| host.forwarding.v4 = false,
            NODE,
            "1 10.244.1.7:8080",
        ),
        (
            "forwarding is off at its interface",
            |_, host| at(&mut host.interfaces, "eth0").forwards_v4 = false,
            OUTSIDE,
            "1 NotForwardingHere towards 10.244.1.7",
        ),
        (
            "forwarding is off at another",
            |_, host| at(&mut host.interfaces, "cni0").forwards_v4 = false,
            OUTSIDE,
            "1 10.244.1.7:8080",
        ),
        ("no route to the endpoint", |node, _| node.routes.clear(), OUTSIDE, "1 NoRoute towards 10.244.1.7"),
        ("no route to the address of a Service, from outside", no_default, OUTSIDE, "1 10.244.1.7:8080"),
        (
            "no route to the address of a Service, from the node",
            no_default,
            NODE,
            "1 NoRoute towards 10.96.0.1",
        ),
        (
            "other tables may have one",
            |node, host| {
                node.routes.clear();
                host.policy_routing = true;
            },
            OUTSIDE,
            "1 10.244.1.7:8080",
        ),
        (
            "a route refuses it",
            |_, host| host.refused.push(("10.244.1.0/26".parse().expect("a network"), Refusal::Blackhole)),
            OUTSIDE,
            "1 Blackhole towards 10.244.1.7",
        ),
        (
            "a longer one leads on",
            |_, host| host.refused.push(("10.244.0.0/16".parse().expect("a network"), Refusal::Unreachable)),
            OUTSIDE,
            "1 10.244.1.7:8080",
        ),
        (
            "a strict reverse path",
            |_, host| at(&mut host.interfaces, "cni0").reverse_path = ReversePath::Strict,
            "pod tcp 192.0.2.1 10.96.0.1:80",
            "1 ReversePath towards 10.244.1.7",
        ),
        (
            "a loose one",
            |_, host| at(&mut host.interfaces, "cni0").reverse_path = ReversePath::Loose,
            "pod tcp 192.0.2.1 10.96.0.1:80",
            "1 10.244.1.7:8080",
        ),
        (
            "a strict one, the right way",
            |_, host| at(&mut host.interfaces, "cni0").reverse_path = ReversePath::Strict,
            "pod tcp 10.244.1.9 10.96.0.1:80",
            "1 10.244.1.7:8080",
        ),
        (
            "it comes in by an interface that is down",
            |_, host| at(&mut host.interfaces, "eth0").up = false,
            OUTSIDE,
            "1 ComesInByDown towards 10.96.0.1",
        ),
        (
            "it would leave by one that is down",
            |_, host| at(&mut host.interfaces, "cni0").up = false,
            OUTSIDE,
            "1 LeavesByDown towards 10.244.1.7",
        ),
        (
            "or has no carrier",
            |_, host| at(&mut host.interfaces, "cni0").carrier = false,
            NODE,
            "1 LeavesWithoutCarrier towards 10.244.1.7",
        ),
        (
            "loopback, from outside",
            |_, _| {},
            "outside tcp 192.0.2.1 10.96.0.9:80",
            "1 Loopback towards 127.0.0.1",
        ),
        (
            "which route_localnet allows",
            |_, host| at(&mut host.interfaces, "eth0").route_localnet = true,
            "outside tcp 192.0.2.1 10.96.0.9:80",
            "1 127.0.0.1:8080",
        ),
        (
            "redirected where there is no address",
            |node, _| node.addresses.retain(|(_, at)| at != "cni0"),
            "pod tcp 10.244.1.9 10.96.0.8:80",
            "1 NoOwnAddress towards 10.96.0.8",
        ),
    ];
    for (name, change, line, expected) in cases {
        check(&rules, &live(change), &[(name, line, expected)]);
    }
}
