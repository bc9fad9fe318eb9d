//! The last good state as a crash, a failing disk or somebody else may have left it.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use portolan_kubernetes::snapshot::read_from;

fuzz_target!(|bytes: &[u8]| {
    let _ = read_from(Cursor::new(bytes), |_| ());

    // Checksums keep most inputs out: the same as bodies of records, each after its length, with
    // checksums that are right.
    let mut journal = b"portolan\x02\0\0\0".to_vec();
    let mut rest = bytes;
    while let Some((length, after)) = rest.split_first() {
        let (body, after) = after.split_at(usize::from(*length).min(after.len()));
        let length = u32::try_from(body.len()).expect("at most 255").to_le_bytes();
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&length);
        checksum.update(body);
        journal.extend(length);
        journal.extend(checksum.finalize().to_le_bytes());
        journal.extend(body);
        rest = after;
    }
    let mut objects = 0;
    if let Ok(Some(loaded)) = read_from(Cursor::new(&journal), |_| objects += 1) {
        assert_eq!(loaded.objects, objects);
    }
});
