//! Text of nft: whatever it is, it is read or refused, and packets get answers that add up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_trace::Ruleset;

fuzz_target!(|text: &str| portolan_fuzz::check_rules(Ruleset::from_nft_text(text)));
