//! Requests to the lab's API server: whatever a body holds, it is stored or refused.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_apiserver::{Resource, dry_run};

const TYPES: [&str; 6] = [
    "application/json",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

fuzz_target!(|input: &[u8]| {
    let [kind, resource, body @ ..] = input else { return };
    let content_type = TYPES[usize::from(*kind) % TYPES.len()];
    let resource = Resource::ALL[usize::from(*resource) % Resource::ALL.len()];
    match dry_run::send(resource, content_type, body) {
        Ok(object) => assert_eq!(object["kind"], resource.kind()),
        Err(failure) => assert!(!failure.message.is_empty()),
    }
    let pieces = usize::from(*kind).max(1);
    assert_eq!(dry_run::spdy([body]), dry_run::spdy(body.chunks(pieces)), "however it is cut");
});
