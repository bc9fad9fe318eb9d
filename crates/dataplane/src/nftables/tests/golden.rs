//! The whole rule set of a few plans, as documents to be read: `tests/golden/*.txt`. With
//! `PORTOLAN_BLESS=1` in the environment they are written instead of compared.

use portolan_service::{Family, PerFamily, ServicePlan};

use super::dump::ruleset;
use crate::settings::{LocalDetector, Settings};
use crate::tests::plans::{everything, settings, weighted};

#[test]
fn rule_sets_are_as_written_down() {
    let everything = everything();
    let by_interface = Settings {
        local: PerFamily {
            v4: Some(LocalDetector::Interface("cni0".into())),
            v6: Some(LocalDetector::InterfacePrefix("veth".into())),
        },
        ..Settings::default()
    };
    let masquerade_all = Settings { masquerade_all: true, ..Settings::default() };
    let weighted = weighted();
    let cases: [(&str, Settings, &[ServicePlan], Family); 7] = [
        ("nothing-ip", settings(), &[], Family::V4),
        ("everything-ip", settings(), &everything, Family::V4),
        ("everything-ip6", settings(), &everything, Family::V6),
        ("by-interface-ip", by_interface.clone(), &everything[1..2], Family::V4),
        ("by-interface-ip6", by_interface, &everything[..1], Family::V6),
        ("weights-ip", settings(), &weighted, Family::V4),
        ("masquerade-all-no-detector-ip", masquerade_all, &everything[1..2], Family::V4),
    ];
    for (name, settings, plans, family) in cases {
        let actual = ruleset(&settings, plans, family);
        let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("PORTOLAN_BLESS").is_some() {
            std::fs::write(&path, &actual).expect("the golden folder can be written");
        }
        let expected = std::fs::read_to_string(&path).expect("a golden file for each case");
        assert!(actual == expected, "{name}: {path} says\n{expected}\nbut it is\n{actual}");
    }
}
