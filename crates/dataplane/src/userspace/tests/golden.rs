//! The whole rule set of a few plans: `tests/golden/userspace-*.txt`, beside those of mode
//! nftables. With `PORTOLAN_BLESS=1` in the environment they are written instead of compared.

use portolan_service::{Family, PerFamily};

use super::numbered;
use crate::nftables::tests::dump::ruleset;
use crate::tests::plans::{everything, ip, settings};

#[test]
fn rule_sets_are_as_written_down() {
    let addresses = PerFamily { v4: ip("192.168.50.1"), v6: ip("fd00:50::1") };
    let diverted = numbered(&everything(), addresses);
    for (name, family) in [("userspace-ip", Family::V4), ("userspace-ip6", Family::V6)] {
        let actual = ruleset(&settings(), &diverted, family);
        let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("PORTOLAN_BLESS").is_some() {
            std::fs::write(&path, &actual).expect("the golden folder can be written");
        }
        let expected = std::fs::read_to_string(&path).expect("a golden file for each case");
        assert!(actual == expected, "{name}: {path} says\n{expected}\nbut it is\n{actual}");
    }
}
