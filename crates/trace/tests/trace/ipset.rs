//! Rules of iptables that look into sets of ipset.

use portolan_trace::{IpSets, Record, Ruleset, evaluate};

use crate::forms::forward;
use crate::notation::{node, packet, written};

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn sets_of_ipset_are_looked_into() {
    let saved = "create hosts hash:ip family inet hashsize 1024 maxelem 65536\nadd hosts 192.0.2.1\nadd hosts 192.0.2.8/30\n\
                 create frontends hash:ip,port family inet\nadd frontends 10.96.0.1,tcp:80\n\
                 create ports bitmap:port range 0-65535\nadd ports 30000-30100\n\
                 create pairs hash:net,port,net family inet\nadd pairs 192.0.2.0/24,udp:53,10.0.0.0/8\n\
                 create all list:set size 8\nadd all hosts\nadd all nets\ncreate nets hash:net family inet\nadd nets 198.51.100.0/24\n\
                 create some hash:net family inet\nadd some 10.0.0.0/8\nadd some 10.1.0.0/16 nomatch\n";
    let listed = "Name: hosts\nType: hash:ip\nRevision: 5\nHeader: family inet hashsize 1024 maxelem 65536 bucketsize 12\n\
                  Size in memory: 296\nReferences: 1\nNumber of entries: 1\nMembers:\n192.0.2.1\n\nName: other\nType: hash:net\n\
                  Header: family inet6\nMembers:\nfd00::/8\n";
    let ask = |sets: &str, rule: &str, line: &str| {
        let sets = IpSets::from_text(sets).expect("sets");
        let rules = Ruleset::from_iptables(&forward(rule), &sets).expect("a dump");
        written(&evaluate(&rules, &node(), &packet(line), Record::Nothing))
    };
    let unknown =
        "1 accept unless `-m set --match-set some src` holds; 1 drop if `-m set --match-set some src` holds";
    for (name, rule, line, expected) in [
        (
            "an address",
            "-m set --match-set hosts src -j DROP",
            "outside tcp 192.0.2.1 10.96.0.1:80",
            "1 drop",
        ),
        (
            "one of a network",
            "-m set --match-set hosts src -j DROP",
            "outside tcp 192.0.2.11 10.96.0.1:80",
            "1 drop",
        ),
        ("another", "-m set --match-set hosts src -j DROP", "outside tcp 192.0.2.2 10.96.0.1:80", "1 accept"),
        (
            "not in it",
            "-m set ! --match-set hosts src -j DROP",
            "outside tcp 192.0.2.2 10.96.0.1:80",
            "1 drop",
        ),
        (
            "address and port",
            "-m set --match-set frontends dst,dst -j DROP",
            "outside tcp 192.0.2.2 10.96.0.1:80",
            "1 drop",
        ),
        (
            "another protocol",
            "-m set --match-set frontends dst,dst -j DROP",
            "outside udp 192.0.2.2 10.96.0.1:80",
            "1 accept",
        ),
        (
            "ports alone",
            "-p tcp -m set --match-set ports dst -j DROP",
            "outside tcp 192.0.2.2 10.96.0.1:30080",
            "1 drop",
        ),
        (
            "three dimensions",
            "-m set --match-set pairs src,dst,dst -j DROP",
            "outside udp 192.0.2.2 10.96.0.1:53",
            "1 drop",
        ),
        (
            "a set of sets",
            "-m set --match-set all src -j DROP",
            "outside udp 198.51.100.7 10.96.0.1:53",
            "1 drop",
        ),
        (
            "in none of them",
            "-m set ! --match-set all src -j DROP",
            "outside udp 203.0.113.7 10.96.0.1:53",
            "1 drop",
        ),
        (
            "exceptions are not known",
            "-m set --match-set some src -j DROP",
            "outside udp 10.1.0.1 10.96.0.1:53",
            unknown,
        ),
    ] {
        assert_eq!(ask(saved, rule, line), expected, "{name}");
    }
    let rule = "-m set --match-set hosts src -j DROP";
    assert_eq!(ask(listed, rule, "outside tcp 192.0.2.1 10.96.0.1:80"), "1 drop", "ipset list");
    assert_eq!(
        ask(
            listed,
            "-m set --match-set hosts src --return-nomatch -j DROP",
            "outside tcp 192.0.2.1 10.96.0.1:80"
        ),
        "1 accept unless `-m set --match-set hosts src --return-nomatch` holds; \
         1 drop if `-m set --match-set hosts src --return-nomatch` holds",
        "an option that asks for more"
    );
    for nothing in ["", "hello", "add x 1.2.3.4"] {
        assert!(IpSets::from_text(nothing).is_err(), "{nothing}");
    }
}
