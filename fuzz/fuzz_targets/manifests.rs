//! Text of manifests, YAML and JSON: whatever it is, it is read or reported.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for file in ["a.yaml", "a.json"] {
        for problem in portolan_source::manifests::validate(Path::new(file), text) {
            assert!(problem.line.is_some(), "{problem} says where");
            assert!(!problem.message.is_empty());
        }
    }
});
