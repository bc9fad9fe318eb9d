//! Configurations that do not fit the node (spec §10D).

use portolan_config::NodeFacts;
use portolan_service::Family;

use crate::loading::load;

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn configurations_and_nodes() {
    // The situation, the node (primary family, dual stack or not, its addresses, its pod networks),
    // flags, what is said.
    type Node = (Family, bool, &'static str, &'static str);
    let v4: Node = (Family::V4, false, "192.0.2.1", "10.1.0.0/24");
    let v4_of_two: Node = (Family::V4, true, "192.0.2.1", "10.1.0.0/24");
    let v6: Node = (Family::V6, false, "2001:db8::1", "fd00::/64");
    let both: Node = (Family::V4, true, "192.0.2.1 2001:db8::1", "10.1.0.0/24 fd00::/64");
    let not_set = "nodePortAddresses: not set: NodePorts answer on all addresses of this node; set it to [primary] for \
                   the node's own alone";
    let no_v6 = "nodePortAddresses: no IPv6 network, but cluster and node have both families: NodePorts answer on all \
                 IPv6 addresses of this node";
    let cases: &[(&str, Node, &str, &[&str])] = &[
        ("all is well", v4, "--cluster-cidr=10.0.0.0/8", &[]),
        (
            "all is well with IPv6",
            v6,
            "--cluster-cidr=fd00::/48 --healthz-bind-address=[2001:db8::1]:80",
            &[],
        ),
        ("all is well with both", both, "--cluster-cidr=10.0.0.0/8,fd00::/48", &[]),
        ("§10.19: nodePortAddresses empty", v4, "--proxy-mode=iptables", &[not_set]),
        ("§10.19: of one family in a cluster of two", both, "--nodeport-addresses=192.0.2.0/24", &[no_v6]),
        (
            "§10.19: the cluster's networks count, too",
            v4_of_two,
            "--nodeport-addresses=192.0.2.0/24 --cluster-cidr=10.0.0.0/8,fd00::/48",
            &[no_v6],
        ),
        ("of one family in a cluster of one", v4_of_two, "--nodeport-addresses=192.0.2.0/24", &[]),
        (
            "§10.19: of the other family",
            v4,
            "--nodeport-addresses=fd00::/8",
            &["nodePortAddresses: IPv6 only: NodePorts answer on all IPv4 addresses of this node"],
        ),
        (
            "§10.19: clusterCIDR on a host with both",
            v4_of_two,
            "--cluster-cidr=fd00::/48",
            &["clusterCIDR: IPv6 only, but the node's first address is IPv4"],
        ),
        (
            "§10.20: clusterCIDR on a host with one",
            v4,
            "--cluster-cidr=fd00::/48",
            &[
                "fatal: clusterCIDR: IPv6 only, but the node is IPv4 only; give the pods' network of that family",
            ],
        ),
        (
            "§10.20: podCIDRs",
            (Family::V4, true, "192.0.2.1", "fd00::/64"),
            "--detect-local-mode=NodeCIDR",
            &[
                "fatal: detectLocalMode: NodeCIDR: the podCIDRs of the Node are IPv6 only, but the node's first address \
                 is IPv4",
            ],
        ),
        ("podCIDRs of no account", (Family::V4, false, "192.0.2.1", "fd00::/64"), "", &[]),
        (
            "§10.19: servers",
            v6,
            "--healthz-bind-address=192.0.2.1:80 --metrics-bind-address=192.0.2.1:81",
            &[
                "healthzBindAddress: 192.0.2.1:80 is IPv4 only, but the node is IPv6 only",
                "metricsBindAddress: 192.0.2.1:81 is IPv4 only, but the node is IPv6 only",
            ],
        ),
        ("unspecified and loopback addresses are everywhere", v6, "--healthz-bind-address=0.0.0.0:80", &[]),
        (
            "§10.19: networks of others in IPVS",
            v4,
            "--proxy-mode=ipvs --nodeport-addresses=primary --ipvs-exclude-cidrs=fd00::/8",
            &["ipvs.excludeCIDRs: IPv6 only, but the node is IPv4 only"],
        ),
    ];
    for (name, (primary, dual_stack, addresses, pod_cidrs), words, expected) in cases {
        let node = NodeFacts {
            primary: *primary,
            dual_stack: *dual_stack,
            addresses: addresses.split(' ').map(|it| it.parse().unwrap()).collect(),
            pod_cidrs: pod_cidrs.split(' ').map(|it| it.parse().unwrap()).collect(),
        };
        let said: Vec<String> = match load(words, None).unwrap().config.check_node(&node) {
            Ok(notes) => notes.iter().map(ToString::to_string).collect(),
            Err(errors) => errors.iter().map(|error| format!("fatal: {error}")).collect(),
        };
        assert_eq!(said, *expected, "{name}");
    }
}
