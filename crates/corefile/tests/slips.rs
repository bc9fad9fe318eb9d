//! Corefiles with one slip: they are read or refused, and what is refused is named with its place.

use portolan_corefile::{NoSurroundings, parse};
use portolan_names::Names;

const SEEDS: [&str; 3] = [
    include_str!("../../../fuzz/seeds/corefile/kubeadm"),
    include_str!("../../../fuzz/seeds/corefile/names"),
    include_str!("../../../fuzz/seeds/corefile/options"),
];

#[test]
fn one_slip_is_read_or_named() {
    let (mut read, mut refused) = (0, 0);
    for seed in SEEDS {
        let lines = seed.lines().count();
        for place in 0..seed.len() {
            let (before, after) = seed.split_at(place);
            let without = after.get(1..).unwrap_or_default();
            let slips = ["", "{", "}", "\"", "\n", " ", "#", ",", "9", ":", "/", "\u{fc}", "{$A}"];
            let texts =
                slips.iter().flat_map(|slip| [after, without].map(|rest| format!("{before}{slip}{rest}")));
            for text in texts.chain([before.to_owned()]) {
                match parse("c", &text, 53, &NoSurroundings) {
                    Ok(corefile) => {
                        read += 1;
                        for kubernetes in corefile.blocks.into_iter().filter_map(|block| block.kubernetes) {
                            assert!(Names::new(kubernetes.names, 1).is_ok(), "{text}");
                        }
                    }
                    Err(errors) => {
                        refused += 1;
                        assert!(!errors.0.is_empty(), "{text}");
                        for error in errors.0 {
                            assert!((1..=lines + 1).contains(&error.place.line), "{error}\n{text}");
                            assert!(!error.message.is_empty(), "{text}");
                        }
                    }
                }
            }
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}
