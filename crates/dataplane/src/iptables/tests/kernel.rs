//! The real kernel and the real programs, of both variants.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::Arc;

use portolan_service::{ChangeSet, Family, PerFamily, Protocol, ServiceChange, ServicePlan};

use super::golden::{cases, portals, script};
use crate::dataplane::{Dataplane, Integrity, Outcome, Standing};
use crate::iptables::{Iptables, Options};
use crate::tests::namespace;
use crate::tests::plans::{PortExt, everything, port, service, settings};
use crate::variant::Variant;

const VARIANTS: [Variant; 2] = [Variant::Legacy, Variant::Nft];

fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split(' ')).output().expect("iptables is installed");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn programs(variant: Variant, family: Family) -> String {
    let family = if family == Family::V4 { "iptables" } else { "ip6tables" };
    format!("{family}-{}", if variant == Variant::Nft { "nft" } else { "legacy" })
}

/// Makes `variant` the one that this host uses, as kubelet does (spec §5.1), and writes rules of
/// others.
fn host_uses(variant: Variant) {
    for family in Family::ALL {
        let program = programs(variant, family);
        run(&program, "-t mangle -N KUBE-IPTABLES-HINT");
        for rule in [
            "-t nat -N DOCKER",
            "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
            "-t nat -A DOCKER -p tcp -m tcp --dport 80 -j RETURN",
            "-t filter -A FORWARD -i docker0 -j ACCEPT",
            "-t mangle -A FORWARD -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
        ] {
            run(&program, rule);
        }
    }
}

fn dataplane(variant: Variant) -> Iptables {
    let dataplane = Iptables::new(&settings(), &Options::default()).expect("iptables");
    assert!(dataplane.families.iter().all(|family| family.tool.variant() == variant), "the host's own");
    assert_eq!(dataplane.families.len(), 2);
    dataplane
}

/// All rules of others.
fn foreign(variant: Variant) -> Vec<String> {
    let mut lines = Vec::new();
    for family in Family::ALL {
        for table in ["mangle", "filter", "nat"] {
            let saved = run(&format!("{}-save", programs(variant, family)), &format!("-t {table}"));
            lines.extend(
                saved
                    .lines()
                    .filter(|line| !line.starts_with('#') && !line.contains("KUBE-"))
                    // Packets of this host are none of ours.
                    .map(|line| line.split(" [").next().unwrap_or(line).to_owned()),
            );
        }
    }
    lines
}

fn sync(dataplane: &mut Iptables, plans: &[ServicePlan]) -> Outcome {
    let outcome = dataplane.sync(&mut plans.iter()).expect("sync");
    assert_eq!(outcome.refused, []);
    outcome
}

fn verify(dataplane: &mut Iptables, plans: &[ServicePlan]) -> Integrity {
    for family in &mut dataplane.families {
        family.look_at = std::time::Instant::now();
    }
    dataplane.verify(&mut plans.iter()).expect("verify")
}

fn differences(dataplane: &mut Iptables, plans: &[ServicePlan]) -> Vec<String> {
    let differences = dataplane.preview(&mut plans.iter()).expect("preview");
    differences.iter().map(ToString::to_string).collect()
}

#[test]
fn all_rule_sets_are_accepted() {
    namespace::run("iptables::tests::kernel::all_rule_sets_are_accepted", || {
        for variant in VARIANTS {
            for (name, style, plans) in cases().into_iter().chain(portals()) {
                if style.counters {
                    continue; // This kernel may have none: the rule would be refused.
                }
                let program = format!("{}-restore", programs(variant, style.family));
                let mut child = Command::new(&program)
                    .args(["--test", "--noflush"])
                    .stdin(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .expect("iptables-restore");
                child.stdin.take().unwrap().write_all(script(&style, &plans).as_bytes()).expect("it reads");
                let output = child.wait_with_output().expect("it ends");
                let error = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{program}: {name}: {error}");
            }
        }
    });
}

#[test]
fn rules_are_written_once_and_removed_again() {
    namespace::run("iptables::tests::kernel::rules_are_written_once_and_removed_again", || {
        for variant in VARIANTS {
            run(&programs(variant, Family::V4), "-t mangle -L -n");
        }
        let variant = Variant::Nft;
        host_uses(variant);
        let before = foreign(variant);
        let mut dataplane = dataplane(variant);
        let plans = everything();
        assert!(sync(&mut dataplane, &plans).operations > 100);
        assert_eq!(foreign(variant), before);
        assert_eq!(differences(&mut dataplane, &plans), Vec::<String>::new());
        assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact);
        assert_eq!(sync(&mut dataplane, &plans).operations, 0, "nothing is written twice");
        assert_eq!(sync(&mut self::dataplane(variant), &plans).operations, 0, "nor after a restart");
        let listing = dataplane.listing().expect("listing");
        assert!(
            listing.iter().any(|line| line.contains("10.96.0.1") && line.contains("10.244.1.11:8080")),
            "{listing:#?}"
        );
        dataplane.cleanup().expect("cleanup");
        assert_eq!(foreign(variant), before);
        for table in ["nat", "filter", "mangle"] {
            let saved = run("iptables-nft-save", &format!("-t {table}"));
            let left: Vec<&str> = saved
                .lines()
                .filter(|line| {
                    line.contains("KUBE-") && !line.contains("KUBE-FIREWALL") && !line.contains("HINT")
                })
                .collect();
            assert!(left.is_empty(), "{left:?}");
        }
    });
}

#[test]
fn the_old_interface_serves_too() {
    namespace::run("iptables::tests::kernel::the_old_interface_serves_too", || {
        let variant = Variant::Legacy;
        host_uses(variant);
        let before = foreign(variant);
        let mut dataplane = dataplane(variant);
        let plans = everything();
        sync(&mut dataplane, &plans);
        assert_eq!(foreign(variant), before);
        assert_eq!(differences(&mut dataplane, &plans), Vec::<String>::new());
        assert_eq!(sync(&mut dataplane, &plans).operations, 0);
        dataplane.cleanup().expect("cleanup");
        assert_eq!(foreign(variant), before);
        changes_and_damage(&mut dataplane, variant);
    });
}

#[test]
fn changes_and_damage_end_where_a_fresh_start_begins() {
    namespace::run("iptables::tests::kernel::changes_and_damage_end_where_a_fresh_start_begins", || {
        host_uses(Variant::Nft);
        let mut dataplane = dataplane(Variant::Nft);
        changes_and_damage(&mut dataplane, Variant::Nft);
    });
}

fn changes_and_damage(dataplane: &mut Iptables, variant: Variant) {
    let mut plans = everything();
    sync(dataplane, &plans);
    let steps: [(usize, ServicePlan); 3] = [
        (
            0,
            service("web", vec![port("http", Protocol::Tcp, &["10.244.1.11:8080*"]).cluster_ip("10.96.0.1")]),
        ),
        (
            3,
            service("empty", vec![port("http", Protocol::Tcp, &["10.244.3.1:8080"]).cluster_ip("10.96.0.4")]),
        ),
        (1, service("near", vec![port("dns", Protocol::Udp, &["10.244.1.12:53*"]).cluster_ip("10.96.0.9")])),
    ];
    for (place, after) in steps {
        let before = std::mem::replace(&mut plans[place], after.clone());
        let change = ServiceChange {
            name: before.name.clone(),
            before: Some(Arc::new(before)),
            after: Some(Arc::new(after)),
        };
        dataplane.apply(&ChangeSet { services: vec![change] }).expect("apply");
        assert_eq!(differences(dataplane, &plans), Vec::<String>::new());
        let known = dataplane.families.iter().all(|family| family.known.is_some());
        assert!(known, "nobody else changed anything, and we know it");
    }
    let gone = plans.pop().expect("a plan");
    let change = ServiceChange { name: gone.name.clone(), before: Some(Arc::new(gone)), after: None };
    dataplane.apply(&ChangeSet { services: vec![change] }).expect("apply");
    assert_eq!(differences(dataplane, &plans), Vec::<String>::new());
    assert_eq!(verify(dataplane, &plans), Integrity::Intact);

    let program = programs(variant, Family::V4);
    run(&program, "-t nat -A DOCKER -s 192.0.2.1 -j RETURN");
    assert_eq!(verify(dataplane, &plans), Integrity::Intact, "somebody's own business");
    for damage in [
        "-t nat -F",
        "-t nat -F KUBE-MARK-MASQ",
        "-t filter -D INPUT 1",
        "-t filter -F KUBE-FORWARD",
        "-t mangle -X KUBE-PROXY-CANARY",
        "-t nat -A KUBE-SERVICES -j RETURN",
        "-t nat -N KUBE-SEP-NOBODYS",
    ] {
        run(&program, damage);
        assert!(matches!(verify(dataplane, &plans), Integrity::Changed(_)), "{damage}");
        sync(dataplane, &plans);
        assert_eq!(differences(dataplane, &plans), Vec::<String>::new(), "{damage}");
        assert_eq!(verify(dataplane, &plans), Integrity::Intact, "{damage}");
    }
}

#[test]
fn a_change_of_what_somebody_removed_fails_and_is_repaired() {
    namespace::run(
        "iptables::tests::kernel::a_change_of_what_somebody_removed_fails_and_is_repaired",
        || {
            host_uses(Variant::Nft);
            let mut dataplane = dataplane(Variant::Nft);
            let plans = everything();
            sync(&mut dataplane, &plans);
            run("iptables-nft", "-t nat -F KUBE-SERVICES");
            let gone = plans[0].clone();
            let name = gone.name.clone();
            let change = ServiceChange { name, before: Some(Arc::new(gone)), after: None };
            let error = dataplane.apply(&ChangeSet { services: vec![change] }).expect_err("the rule is gone");
            assert!(error.to_string().contains("Service shop/web"), "{error}");
            assert!(error.to_string().contains("-D KUBE-SERVICES"), "{error}");
            sync(&mut dataplane, &plans[1..]);
            assert_eq!(differences(&mut dataplane, &plans[1..]), Vec::<String>::new());
        },
    );
}

#[test]
fn one_family_does_not_stop_the_other() {
    namespace::run("iptables::tests::kernel::one_family_does_not_stop_the_other", || {
        host_uses(Variant::Nft);
        for broken in Family::ALL {
            let other = if broken == Family::V4 { Family::V6 } else { Family::V4 };
            let plan = |n: u8| {
                let v4 = port("http", Protocol::Tcp, &[&format!("10.1.0.{n}:8080")]).cluster_ip("10.96.0.80");
                let mut v6 = port("http", Protocol::Tcp, &[&format!("[fd00:1::{n}]:8080")])
                    .cluster_ip("fd00:10:96::80");
                v6.family = Family::V6;
                service("web", vec![v4, v6])
            };
            let [first, second, third] = [11, 12, 13].map(plan);
            let changed = |before: &ServicePlan, after: &ServicePlan| ChangeSet {
                services: vec![ServiceChange {
                    name: before.name.clone(),
                    before: Some(Arc::new(before.clone())),
                    after: Some(Arc::new(after.clone())),
                }],
            };
            let leads_to = |family: Family, n: u8| {
                let end = if family == Family::V4 {
                    format!("10.1.0.{n}:8080")
                } else {
                    format!("[fd00:1::{n}]:8080")
                };
                run(&format!("{}-save", programs(Variant::Nft, family)), "-t nat").contains(&end)
            };
            let mut dataplane = dataplane(Variant::Nft);
            sync(&mut dataplane, std::slice::from_ref(&first));
            assert!(Family::ALL.into_iter().all(|family| leads_to(family, 11)));
            // A rule that no iptables rule can be.
            let table = if broken == Family::V4 { "ip" } else { "ip6" };
            run("nft", &format!("add rule {table} nat PREROUTING ct count over 5000 drop"));
            assert_eq!(
                verify(&mut dataplane, std::slice::from_ref(&first)),
                Integrity::Intact,
                "of the other"
            );
            assert!(matches!(dataplane.standing().get(broken), Standing::Behind(_)), "{broken}");
            assert_eq!(*dataplane.standing().get(other), Standing::Served, "{broken}");
            dataplane.apply(&changed(&first, &second)).expect("the other family follows");
            assert!(leads_to(other, 12), "{broken}");
            assert!(
                dataplane.catch_up(&mut std::iter::once(&second)).expect("an attempt").is_none(),
                "{broken}"
            );
            // A start beside it.
            let mut next = Iptables::new(&settings(), &Options::default()).expect("iptables");
            sync(&mut next, std::slice::from_ref(&second));
            assert_eq!(next.standing(), dataplane.standing());
            run("nft", &format!("flush chain {table} nat PREROUTING"));
            assert!(next.catch_up(&mut std::iter::once(&second)).expect("an attempt").is_some(), "{broken}");
            assert_eq!(next.standing(), PerFamily::default());
            next.apply(&changed(&second, &third)).expect("both follow");
            assert!(Family::ALL.into_iter().all(|family| leads_to(family, 13)), "{broken}");
            next.cleanup().expect("cleanup");
        }
    });
}
