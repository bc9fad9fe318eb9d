//! Text of manifests, YAML and JSON: whatever it is, it is read or reported.
#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use portolan_source::manifests::{Workloads, unmatched};

fuzz_target!(|text: &str| {
    for file in ["a.yaml", "a.json"] {
        for problem in portolan_source::manifests::validate(Path::new(file), text) {
            assert!(problem.line.is_some(), "{problem} says where");
            assert!(!problem.message.is_empty());
        }
        let files = [(PathBuf::from(file), text.to_owned())];
        for problem in unmatched(&files, Workloads::Ignored) {
            assert!(problem.line.is_some(), "{problem} says where");
        }
    }
});
