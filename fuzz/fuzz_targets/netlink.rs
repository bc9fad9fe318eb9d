//! Messages and attributes: whatever they claim, readers end and stay inside what was received.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_netfilter::wire::{Attributes, Messages};

fn walk(attributes: Attributes<'_>, depth: u32) -> usize {
    let mut held = 0;
    for attribute in attributes {
        let inside = attribute.payload.len();
        held += inside + 4;
        let _ = (attribute.u8(), attribute.be16(), attribute.be32(), attribute.be64(), attribute.text());
        if depth > 0 {
            assert!(walk(attribute.nested(), depth - 1) <= inside);
        }
    }
    held
}

fuzz_target!(|bytes: &[u8]| {
    let mut held = 0;
    for message in Messages::new(bytes) {
        match message {
            Ok(message) => {
                held += message.payload.len() + 16;
                if let Some((_, attributes)) = message.netfilter() {
                    walk(attributes, 4);
                }
            }
            Err(malformed) => assert!(malformed.claimed < 16 || malformed.claimed > malformed.available),
        }
    }
    assert!(held <= bytes.len());
    assert!(walk(Attributes::new(bytes), 4) <= bytes.len());
});
