//! What ipvsadm prints: whatever it is, it is read or refused, and packets get answers that add up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_trace::Ruleset;
use portolan_trace::ipvs::VirtualServers;

fuzz_target!(|text: &str| {
    let read = VirtualServers::from_text(text).map(|servers| {
        let mut rules = Ruleset::default();
        rules.add_virtual_servers(&servers);
        rules
    });
    portolan_fuzz::check_rules(read);
});
