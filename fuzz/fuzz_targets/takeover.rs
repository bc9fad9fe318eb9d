//! The kernel's answers about ipsets and IPVS.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_netfilter::ipset::{IpSet, Member};
use portolan_netfilter::ipvs::{DestinationState, ServerState};
use portolan_netfilter::wire::Message;

fuzz_target!(|payload: &[u8]| {
    let message = Message { kind: 0, flags: 0, sequence: 0, payload };
    let _ = ServerState::parse(&message);
    let _ = DestinationState::parse(&message);
    let _ = Member::parse_all(&message);
    // The type of a listing
    let _ = IpSet::parse(&Message { kind: 0x607, ..message });
});
