//! Text of iptables-save: whatever it is, it is read or refused, and packets get answers that add
//! up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_trace::{Family, Ruleset};

fuzz_target!(|text: &str| portolan_fuzz::check_rules(Ruleset::from_iptables_save(text, Family::V4)));
