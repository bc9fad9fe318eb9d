//! Addresses, routes and sets of a node as text: whatever it is, it is read or refused, and packets
//! get answers that add up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_trace::{IpSets, Node, Ruleset, printable};

const RULES: &str = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m set --match-set hosts src -j DROP\n\
                     -A FORWARD -m set ! --match-set frontends dst,dst -j DROP\n\
                     -A FORWARD -m set --match-set all src -j DROP\nCOMMIT\n";

fuzz_target!(|text: &str| {
    for (_, interface) in Node::addresses_from(text).into_iter().chain(Node::routes_from(text)).flatten() {
        assert_eq!(printable(&interface), interface);
    }
    if let Ok(sets) = IpSets::from_text(text) {
        portolan_fuzz::check_rules(Ruleset::from_iptables(RULES, &sets));
    }
});
