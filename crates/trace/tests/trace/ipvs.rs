//! Virtual servers of IPVS: what ipvsadm prints, where schedulers lead, and kube-proxy's rules.

use std::fmt::Write;

use portolan_trace::ipvs::{Serves, VirtualServers};
use portolan_trace::{Error, Family, IpSets, Node, Outcome, Probability, Record, Ruleset, Verdict, evaluate};

use crate::notation::{check, node, packet, written};

fn servers(text: &str) -> VirtualServers {
    VirtualServers::from_text(text).expect("what ipvsadm prints")
}

/// Virtual servers and nothing else.
fn rules(text: &str) -> Ruleset {
    let mut rules = Ruleset::default();
    rules.add_virtual_servers(&servers(text));
    rules
}

/// A node that has the addresses 10.96.0.1 and fd00:96::1 besides its own.
fn with_address() -> Node {
    let mut node = node();
    for address in ["10.96.0.1/32", "fd00:96::1/128"] {
        node.addresses.push((address.parse().expect("a network"), "kube-ipvs0".into()));
    }
    node
}

const ASK: &str = "pod tcp 10.244.1.5 10.96.0.1:80";

/// What becomes of a packet to 10.96.0.1:80, where a virtual server with these destinations is:
/// weights of 10.244.2.1, .2, ...
fn chosen(scheduler: &str, weights: &[u32]) -> String {
    chosen_of(&servers(&saved(scheduler, weights))).0
}

/// The virtual server for it, as `ipvsadm -Sn` prints it.
fn saved(scheduler: &str, weights: &[u32]) -> String {
    let mut text = format!("-A -t 10.96.0.1:80 -s {scheduler}\n");
    for (number, weight) in (1..).zip(weights) {
        writeln!(text, "-a -t 10.96.0.1:80 -r 10.244.2.{number}:8080 -m -w {weight}").expect("a string");
    }
    text
}

/// Where packets go, and the words of all steps.
fn chosen_of(servers: &VirtualServers) -> (String, String) {
    let mut rules = Ruleset::default();
    rules.add_virtual_servers(servers);
    let answer = evaluate(&rules, &with_address(), &packet(ASK), Record::Steps);
    let paths = answer.outcomes.iter().flat_map(|outcome| &outcome.paths);
    let words = paths.flat_map(|path| &path.steps).map(|step| &*step.why).collect();
    (written(&answer).replace("10.244.2.", ".").replace(":8080", ""), words)
}

#[test]
fn a_scheduler_says_how_likely_each_destination_is() {
    for (scheduler, weights, expected) in [
        ("rr", &[1, 1, 1][..], "1/3 .1; 1/3 .2; 1/3 .3"),
        ("rr", &[1, 0, 1], "1/2 .1; 1/2 .3"),
        ("rr", &[5, 1], "1/2 .1; 1/2 .2"),
        ("wrr", &[3, 1, 0], "1/4 .2; 3/4 .1"),
        ("wlc", &[3, 1], "1/4 .2; 3/4 .1"),
        ("lc", &[3, 1], "1/2 .1; 1/2 .2"),
        ("mh", &[1, 1, 0], "1/2 .1; 1/2 .2"),
        ("sh", &[1, 1, 0], "1/3 .1; 1/3 .2; 1/3 reject"),
        ("sh -b sh-fallback", &[1, 1, 0], "1/2 .1; 1/2 .2"),
        ("sh -b sh-fallback", &[0, 0], "1 reject"),
        ("dh", &[3, 1], "1/2 .1; 1/2 .2"),
        ("fo", &[1, 7, 3], "1 .2"),
        ("ovf", &[1, 7, 3], "1 .2"),
        ("twos", &[3, 1], "1/4 .2; 3/4 .1"),
        ("of-tomorrow", &[3, 1], "1/2 .1; 1/2 .2"),
        ("rr", &[0, 0], "1 reject"),
        ("rr", &[], "1 reject"),
    ] {
        assert_eq!(chosen(scheduler, weights), expected, "{scheduler} {weights:?}");
    }
}

#[test]
fn numbers_of_connections_decide_where_they_are_listed() {
    for (scheduler, counts, expected) in [
        ("lc", [(1, 0, 9), (1, 1, 0), (1, 0, 8)], "1 .3"),
        ("lc", [(1, 2, 0), (1, 2, 0), (1, 3, 0)], "1/2 .1; 1/2 .2"),
        ("lc", [(0, 0, 0), (1, 2, 0), (1, 3, 0)], "1 .2"),
        ("wlc", [(4, 3, 0), (1, 1, 0), (1, 2, 0)], "1 .1"),
        ("sed", [(2, 2, 0), (1, 0, 5), (1, 2, 0)], "1 .2"),
        ("nq", [(9, 1, 0), (1, 0, 0), (1, 0, 3)], "1/2 .2; 1/2 .3"),
        ("nq", [(9, 1, 0), (1, 1, 0), (1, 1, 3)], "1 .1"),
        ("ovf", [(2, 3, 0), (1, 0, 0), (1, 2, 0)], "1 .2"),
        ("rr", [(1, 900, 0), (1, 0, 0), (1, 0, 0)], "1/3 .1; 1/3 .2; 1/3 .3"),
    ] {
        let mut text = String::from(
            "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n  \
             -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n",
        );
        writeln!(text, "TCP  10.96.0.1:80 {scheduler}").expect("a string");
        for (number, (weight, active, inactive)) in (1..).zip(counts) {
            writeln!(text, "  -> 10.244.2.{number}:8080  Masq    {weight}  {active}  {inactive}")
                .expect("a string");
        }
        let answer = evaluate(&rules(&text), &with_address(), &packet(ASK), Record::Nothing);
        let actual = written(&answer).replace("10.244.2.", ".").replace(":8080", "");
        assert_eq!(actual, expected, "{scheduler} {counts:?}");
    }
}

#[test]
fn packets_meet_the_virtual_server_that_the_kernel_finds() {
    let text = "-A -t 10.96.0.1:80 -s rr\n-a -t 10.96.0.1:80 -r 10.244.2.1:8080 -m -w 1\n\
                -A -u 10.96.0.1:53 -s rr -p 30\n-a -u 10.96.0.1:53 -r 10.244.2.2:5353 -m -w 1\n\
                -A --sctp-service 10.96.0.1:9 -s rr\n-a --sctp-service 10.96.0.1:9 -r 192.168.50.1:9 -m -w 1\n\
                -A -t 10.96.0.1:0 -s rr -p 300\n-a -t 10.96.0.1:0 -r 10.244.2.3:0 -m -w 1\n\
                -A -t 192.168.50.1:30080 -s rr\n-a -t 192.168.50.1:30080 -r 10.244.2.4:8080 -g -w 1\n\
                -A -t 10.96.0.9:80 -s rr\n-a -t 10.96.0.9:80 -r 10.244.2.5:8080 -m -w 1\n\
                -A -t 10.96.0.8:80 -s rr\n\
                -A -t [fd00:96::1]:80 -s rr\n-a -t [fd00:96::1]:80 -r [fd00:244:2::1]:8080 -m -w 1\n";
    check(
        &rules(text),
        &with_address(),
        &[
            ("by address and port", ASK, "1 10.244.2.1:8080"),
            ("from the node", "node tcp 192.168.50.1 10.96.0.1:80", "1 10.244.2.1:8080"),
            ("of another protocol", "pod udp 10.244.1.5 10.96.0.1:53", "1 10.244.2.2:5353"),
            ("to the node itself", "pod sctp 10.244.1.5 10.96.0.1:9", "1 192.168.50.1:9"),
            ("the node to itself", "node sctp 192.168.50.1 10.96.0.1:9", "1 192.168.50.1:9"),
            ("all other ports", "pod tcp 10.244.1.5 10.96.0.1:8443", "1 10.244.2.3:8443"),
            ("no other protocol", "pod udp 10.244.1.5 10.96.0.1:80", "1 accept"),
            ("untranslated", "outside tcp 192.0.2.1 192.168.50.1:30080", "1 10.244.2.4:30080"),
            ("an address that is not the node's", "pod tcp 10.244.1.5 10.96.0.9:80", "1 accept"),
            ("the node's own packets to it", "node tcp 192.168.50.1 10.96.0.9:80", "1 10.244.2.5:8080"),
            ("refused, and unable to say so", "node tcp 192.168.50.1 10.96.0.8:80", "1 drop"),
            ("of IPv6", "pod tcp [fd00:244:1::5] [fd00:96::1]:80", "1 [fd00:244:2::1]:8080"),
            ("what has begun", "established pod tcp 10.244.1.5 10.96.0.1:80", "1 10.244.2.1:8080"),
        ],
    );
}

/// Rules as ours are: a bit of the mark leads to the node, and another mark to endpoints of its
/// own.
#[test]
fn marks_lead_to_virtual_servers() {
    let listing = r#"{"nftables": [
        {"table": {"family": "ip", "name": "portolan"}},
        {"map": {"family": "ip", "table": "portolan", "name": "local-marks", "type": ["ipv4_addr", "inet_proto", "inet_service"],
            "map": "mark", "elem": [[{"concat": ["203.0.113.3", "tcp", 80]}, 1879048193]]}},
        {"set": {"family": "ip", "table": "portolan", "name": "frontends", "type": ["ipv4_addr", "inet_proto", "inet_service"],
            "elem": [{"concat": ["203.0.113.3", "tcp", 80]}, {"concat": ["203.0.113.4", "tcp", 80]}]}},
        {"chain": {"family": "ip", "table": "portolan", "name": "steer", "type": "filter", "hook": "prerouting", "prio": -99, "policy": "accept"}},
        {"chain": {"family": "ip", "table": "portolan", "name": "unsteer", "type": "filter", "hook": "input", "prio": 97, "policy": "accept"}},
        {"chain": {"family": "ip", "table": "portolan", "name": "unhandled", "type": "filter", "hook": "input", "prio": 101, "policy": "accept"}},
        {"rule": {"family": "ip", "table": "portolan", "chain": "steer", "expr": [
            {"match": {"op": "==", "left": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}}, {"meta": {"key": "l4proto"}},
                {"payload": {"protocol": "th", "field": "dport"}}]}, "right": "@frontends"}},
            {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"|": [{"meta": {"key": "mark"}}, 16384]}}}]}},
        {"rule": {"family": "ip", "table": "portolan", "chain": "unsteer", "expr": [
            {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"&": [{"meta": {"key": "mark"}}, 4294950911]}}}]}},
        {"rule": {"family": "ip", "table": "portolan", "chain": "unsteer", "expr": [
            {"match": {"op": "!=", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.244.0.0", "len": 16}}}},
            {"mangle": {"key": {"meta": {"key": "mark"}}, "value": {"map": {"key": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}},
                {"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "data": "@local-marks"}}}}]}},
        {"rule": {"family": "ip", "table": "portolan", "chain": "unhandled", "expr": [{"drop": null}]}}
    ]}"#;
    let known = "-A -t 203.0.113.3:80 -s rr\n-a -t 203.0.113.3:80 -r 10.244.1.11:8080 -m -w 1\n\
                 -a -t 203.0.113.3:80 -r 10.244.2.1:8080 -m -w 1\n\
                 -A -f 1879048193 -s mh\n-a -f 1879048193 -r 10.244.1.11:8080 -m -w 1\n\
                 -A -f 1879048193 -6 -s rr\n-a -f 1879048193 -6 -r [fd00::9]:8080 -m -w 1\n";
    let mut rules = Ruleset::from_nft_json(listing).expect("a listing");
    assert!(rules.lacks_virtual_servers(Family::V4), "rules lead to some");
    let mut without = rules.clone();
    without.miss_virtual_servers(Family::V4);
    rules.add_virtual_servers(&servers(known));
    check(
        &rules,
        &node(),
        &[
            (
                "a pod has all",
                "pod tcp 10.244.1.5 203.0.113.3:80",
                "1/2 10.244.1.11:8080; 1/2 10.244.2.1:8080",
            ),
            ("outside has those here", "outside tcp 192.0.2.1 203.0.113.3:80", "1 10.244.1.11:8080"),
            ("no virtual server", "outside tcp 192.0.2.1 203.0.113.4:80", "1 drop"),
            ("not ours", "outside tcp 192.0.2.1 203.0.113.5:80", "1 accept"),
        ],
    );
    check(
        &without,
        &node(),
        &[(
            "virtual servers are not known",
            "pod tcp 10.244.1.5 203.0.113.3:80",
            "1 UnknownTarget if a virtual server of IPVS takes the packet; \
             1 drop unless a virtual server of IPVS takes the packet",
        )],
    );
    assert!(without.left_out(Family::V4)[0].contains("ipvsadm -Sn"), "{:?}", without.left_out(Family::V4));
}

#[test]
fn kube_proxys_mode_with_its_sets() {
    let sets = IpSets::from_text(include_str!("../dumps/kube-proxy-ipvs/ipset-save")).expect("sets");
    let saved = include_str!("../dumps/kube-proxy-ipvs/iptables-save");
    let mut rules = Ruleset::from_iptables(saved, &sets).expect("a dump");
    assert!(rules.lacks_virtual_servers(Family::V4) && rules.binds_addresses(Family::V4), "kube-proxy's");
    rules.add_virtual_servers(&servers(include_str!("../dumps/kube-proxy-ipvs/ipvsadm-save")));
    let mut node = node();
    let bound = sets.addresses(["KUBE-IPVS-IPS", "KUBE-6-IPVS-IPS"]);
    node.addresses.extend(bound.into_iter().map(|address| (address.into(), "kube-ipvs0".to_owned())));
    check(
        &rules,
        &node,
        &[
            ("a ClusterIP", ASK, "1/2 10.244.1.11:8080; 1/2 10.244.1.12:8080"),
            (
                "its own endpoint",
                "pod tcp 10.244.1.11 10.96.0.1:80",
                "1/2 10.244.1.11:8080 masq; 1/2 10.244.1.12:8080",
            ),
            (
                "from outside",
                "outside tcp 192.0.2.1 10.96.0.1:80",
                "1/2 10.244.1.11:8080 masq; 1/2 10.244.1.12:8080 masq",
            ),
            (
                "from the node",
                "node tcp 192.168.50.1 10.96.0.1:80",
                "1/2 10.244.1.11:8080 masq; 1/2 10.244.1.12:8080 masq",
            ),
            ("without endpoints", "pod tcp 10.244.1.5 10.96.0.4:80", "1 reject"),
            ("another port", "pod tcp 10.244.1.5 10.96.0.1:81", "1 reject"),
            (
                "a NodePort",
                "outside tcp 192.0.2.1 192.168.50.1:30080",
                "1/2 10.244.1.11:8080 masq; 1/2 10.244.2.21:8080 masq",
            ),
            ("a NodePort of policy Local", "outside tcp 192.0.2.1 192.168.50.1:30083", "1 10.244.1.11:8080"),
            ("an external IP", "outside tcp 192.0.2.1 203.0.113.1:80", "1 10.244.1.11:8080 masq"),
            (
                "within the source ranges",
                "outside tcp 198.51.100.7 203.0.113.2:80",
                "1 10.244.1.11:8080 masq",
            ),
            ("not within them", "outside tcp 192.0.2.1 203.0.113.2:80", "1 drop"),
            ("a load balancer of policy Local", "outside tcp 192.0.2.1 203.0.113.3:80", "1 10.244.1.11:8080"),
            ("a port of the node", "outside tcp 192.0.2.1 192.168.50.1:22", "1 accept"),
        ],
    );
}

#[test]
fn what_ipvsadm_does_not_print_is_refused() {
    for (name, text, expected) in [
        (
            "another program's",
            "hello world of text\n",
            "line 1: not what ipvsadm prints: `hello world of text`",
        ),
        (
            "a destination alone",
            "-a -t 10.0.0.1:80 -r 10.0.0.2:80 -m -w 1\n",
            "its virtual server is missing",
        ),
        ("names", "-A -t web.example:http -s rr\n", "web.example:http is no address and port; list with -n"),
        ("an option", "-A -t 10.0.0.1:80 -s rr --magic\n", "--magic is not known"),
        ("a mark that is none", "-A -f many -s rr\n", "many is not a number"),
        ("cut off", "-A -t 10.0.0.1:80 -s\n", "-s has no value"),
    ] {
        let Err(Error::NodeText { problem, .. }) = VirtualServers::from_text(text) else {
            panic!("{name}: {text} was read");
        };
        assert!(problem.contains(expected), "{name}: {problem}");
    }
    assert_eq!(VirtualServers::from_text("").expect("no server at all").servers, []);
}

#[test]
fn both_forms_say_the_same() {
    let saved = servers(
        "-A -t 10.96.0.1:80 -s mh -b mh-port\n-a -t 10.96.0.1:80 -r 10.244.2.1:8080 -m -w 1\n\
         -A -u 10.96.0.1:53 -s sh -p 300 -M 255.255.255.0 -b sh-fallback,sh-port\n\
         -A -f 7 -6 -s rr -p 10800\n-a -f 7 -6 -r [fd00::1]:80 -m -w 0\n",
    );
    let listed = servers(
        "TCP  10.96.0.1:80 mh (mh-port)\n  -> 10.244.2.1:8080              Masq    1      0          0\n\
         UDP  10.96.0.1:53 sh (sh-fallback,sh-port) persistent 300 mask 255.255.255.0\n\
         FWM  7 IPv6 rr persistent 10800\n  -> [fd00::1]:80                Masq    0      0          0\n",
    );
    let texts = |servers: &VirtualServers| -> Vec<String> {
        servers.servers.iter().map(|server| format!("{server} {}", server.destinations.len())).collect()
    };
    assert_eq!(texts(&saved), texts(&listed));
    assert_eq!(
        texts(&saved),
        [
            "TCP 10.96.0.1:80 mh (mh-port) 1",
            "UDP 10.96.0.1:53 sh (sh-fallback,sh-port) persistent 300 mask 255.255.255.0 0",
            "FWM 7 IPv6 rr persistent 10800 1",
        ]
    );
}

/// ipvsadm prints marks as signed numbers. Among its options, `-6` says that a mark is of IPv6.
#[test]
fn marks_from_2_to_the_31_are_printed_with_a_sign() {
    for (line, family, mark, text) in [
        ("-A -f 2147483647 -s rr", Family::V4, 0x7fff_ffff, "FWM 2147483647 rr"),
        ("-A -f -2147483648 -s rr", Family::V4, 0x8000_0000, "FWM -2147483648 rr"),
        ("-A -f -6 -s rr", Family::V4, 0xffff_fffa, "FWM -6 rr"),
        ("-A -f -6 -6 -s rr", Family::V6, 0xffff_fffa, "FWM -6 IPv6 rr"),
        ("-A -f 4294967295 -s rr", Family::V4, 0xffff_ffff, "FWM -1 rr"),
        ("FWM  -1 rr", Family::V4, 0xffff_ffff, "FWM -1 rr"),
        ("FWM  -1 IPv6 rr", Family::V6, 0xffff_ffff, "FWM -1 IPv6 rr"),
    ] {
        let server = servers(line).servers.remove(0);
        assert_eq!((server.serves, &*server.to_string()), (Serves::Mark(family, mark), text), "{line}");
    }
    let saved = servers("-A -f -6 -s rr\n-a -f -6 -r 10.244.2.1:8080 -m -w 1\n");
    assert_eq!(saved.servers[0].destinations.len(), 1);
}

/// Servers come before all of their destinations here, which ipvsadm does not do.
#[test]
fn destinations_find_their_server_wherever_it_is() {
    let mut text = String::new();
    for (option, to) in [("-A", " -s rr"), ("-a", " -r 10.244.2.1:80 -m -w 1")] {
        for number in 1..=3 {
            writeln!(text, "{option} -f {number}{to}").expect("a string");
        }
    }
    let read = servers(&text);
    assert!(read.servers.iter().all(|server| server.destinations.len() == 1), "one each");
}

/// Those for which there is no room are one way, not one each.
#[test]
fn more_destinations_than_are_followed_end_in_one_undecided_way() {
    let mut text = String::from("-A -t 10.96.0.1:80 -s rr\n");
    for number in 0..30_000 {
        let (high, low) = (number / 250, number % 250);
        writeln!(text, "-a -t 10.96.0.1:80 -r 10.60.{high}.{low}:8080 -m -w 1").expect("a string");
    }
    let answer = evaluate(&rules(&text), &with_address(), &packet(ASK), Record::Steps);
    let undecided: Vec<&Outcome> =
        answer.outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Undecided(_))).collect();
    let [undecided] = undecided[..] else { panic!("{} outcomes are undecided", undecided.len()) };
    assert_eq!(undecided.paths.len(), 1);
    let decided = u64::try_from(answer.outcomes.len() - 1).expect("a few");
    assert_eq!(undecided.probability, Probability::ratio(30_000 - decided, 30_000));
}

/// The kernel fills a table of 256 places in the order of its list (`ip_vs_sh_reassign` of
/// net/netfilter/ipvs/ip_vs_sh.c).
#[test]
fn places_of_a_table_decide_where_the_order_is_known() {
    for (scheduler, weights, expected, alike) in [
        ("sh", &[1, 1][..], "1/2 .1; 1/2 .2", ""),
        ("sh", &[1, 1, 1], "43/128 .1; 85/256 .2; 85/256 .3", "about right"),
        ("sh", &[200, 100], "25/32 .1; 7/32 .2", "not known"),
        ("sh", &[256, 1, 1], "1 .1", "not known"),
        ("sh", &[4_294_967_295, 4_294_967_295], "1 .1", "not known"),
        ("sh", &[3, 0], "1/4 reject; 3/4 .1", ""),
        ("sh -b sh-fallback", &[3, 0], "1 .1", ""),
        ("sh -b sh-fallback", &[1, 1, 0], "85/171 .2; 86/171 .1", "about right"),
        ("dh", &[9, 1, 1], "43/128 .1; 85/256 .2; 85/256 .3", "about right"),
        ("sh", &[300], "1 .1", ""),
        ("sh", &[], "1 reject", ""),
    ] {
        let ordered = VirtualServers { in_kernel_order: true, ..servers(&saved(scheduler, weights)) };
        let (actual, _) = chosen_of(&ordered);
        let (_, words) = chosen_of(&servers(&saved(scheduler, weights)));
        assert_eq!(actual, expected, "{scheduler} {weights:?}");
        let says = ["about right", "not known"].into_iter().find(|says| words.contains(says));
        assert_eq!(says.unwrap_or_default(), alike, "{scheduler} {weights:?}: {words}");
    }
}
