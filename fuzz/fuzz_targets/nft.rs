//! The kernel's answers about tables, chains, rules, sets and elements. The first byte chooses the
//! parser, so that the rest is all payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_netfilter::nft::{ChainInfo, OwnedElement, RuleInfo, SetInfo, TableInfo};
use portolan_netfilter::wire::Message;

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, payload)) = bytes.split_first() else { return };
    let message = Message { kind: 0, flags: 0, sequence: 0, payload };
    match choice % 5 {
        0 => drop(TableInfo::parse(&message)),
        1 => drop(ChainInfo::parse(&message)),
        2 => drop(RuleInfo::parse(&message)),
        3 => {
            if let Some(set) = SetInfo::parse(&message) {
                assert!(set.userdata.len() <= payload.len());
                set.comment();
            }
        }
        _ => {
            OwnedElement::parse_all(&message).for_each(|element| assert!(element.key.len() <= payload.len()))
        }
    }
});
