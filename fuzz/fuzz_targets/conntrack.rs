//! The kernel's answers about connections.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_netfilter::conntrack::Flow;
use portolan_netfilter::wire::Message;

fuzz_target!(|payload: &[u8]| {
    let _ = Flow::parse(&Message { kind: 0, flags: 0, sequence: 0, payload });
});
