//! Answers of an API server: whatever comes, however it is cut into pieces, it is read or reported.
#![no_main]

use libfuzzer_sys::fuzz_target;
use portolan_kubernetes::dry_run;

const KINDS: [&str; 6] = ["Service", "EndpointSlice", "Node", "ServiceCIDR", "Namespace", "Pod"];

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (choice, size, answer) = input;
    let kind = KINDS[usize::from(choice) % KINDS.len()];
    let watch = choice & 0x80 != 0;
    let whole = dry_run(kind, watch, [answer]);
    let pieces = dry_run(kind, watch, answer.chunks(usize::from(size).max(1)));
    assert_eq!(whole, pieces, "pieces say what the whole says");
    for problem in whole.problems {
        assert!(!problem.message.is_empty());
    }
});
