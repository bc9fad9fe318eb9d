//! The whole rule set of a few plans, in tables of ours and in chains of iptables:
//! `tests/golden/userspace-*.txt`, beside those of mode nftables. With `PORTOLAN_BLESS=1` in the
//! environment they are written instead of compared.

use portolan_service::{Family, PerFamily};

use super::super::divert::guarded;
use super::numbered;
use crate::iptables;
use crate::nftables::tests::dump::ruleset;
use crate::tests::plans::{everything, ip, settings};

#[test]
fn rule_sets_are_as_written_down() {
    let addresses = PerFamily { v4: ip("192.168.50.1"), v6: ip("fd00:50::1") };
    let diverted = numbered(&everything(), addresses);
    let guarded: Vec<_> = diverted.iter().cloned().map(guarded).collect();
    let of_tables = |family| ruleset(&settings(), &guarded, family);
    let options = iptables::Options { layout: iptables::Layout::Portals, ..iptables::Options::default() };
    let of_chains =
        |family| iptables::rules(&settings(), &options, family, &diverted.iter().collect::<Vec<_>>());
    for (name, actual) in [
        ("userspace-ip", of_tables(Family::V4)),
        ("userspace-ip6", of_tables(Family::V6)),
        ("userspace-iptables-ip", of_chains(Family::V4)),
        ("userspace-iptables-ip6", of_chains(Family::V6)),
    ] {
        let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("PORTOLAN_BLESS").is_some() {
            std::fs::write(&path, &actual).expect("the golden folder can be written");
        }
        let expected = std::fs::read_to_string(&path).expect("a golden file for each case");
        assert!(actual == expected, "{name}: {path} says\n{expected}\nbut it is\n{actual}");
    }
}
