//! What somebody else changed is found, named and repaired.

use super::*;

#[test]
fn others_tables_are_left_alone() {
    namespace::run("nftables::tests::kernel::damage::others_tables_are_left_alone", || {
        let others = TableRef { family: TableFamily::Ip, name: "portolan-other" };
        commit(|batch| {
            batch.add_table(others, "not ours");
            let chain = nft::Chain { name: "pick-3".into(), kind: None, comment: None };
            batch.add_chain(others, &chain);
        });
        let plans = everything();
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        // Someone else commits between our calls.
        commit(|batch| {
            batch.add_chain(others, &nft::Chain { name: "more".into(), kind: None, comment: None });
        });
        dataplane.apply(&change(Some(&plans[0]), None)).expect("apply after a foreign commit");
        commit(|batch| batch.delete_chain(others, "more"));
        assert_eq!(verify(&mut dataplane, &plans[1..]), Integrity::Intact);
        dataplane.cleanup().expect("cleanup");
        let mut socket = Socket::open().expect("a socket");
        let chains = socket.chains(others).expect("chains");
        assert_eq!(chains.iter().map(|chain| chain.name.as_str()).collect::<Vec<_>>(), ["pick-3"]);
    });
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn damage_is_named_and_repaired() {
    type Damage = fn(&mut Batch);
    let cases: &[(&str, Damage, &str)] = &[
        ("the table is deleted", |batch| batch.delete_table(table(Family::V4)), "table ip portolan deleted"),
        (
            "a chain is emptied",
            |batch| batch.flush_chain(table(Family::V4), "nat-prerouting"),
            "table ip portolan: chain nat-prerouting: 6 rules missing",
        ),
        (
            "a rule is added",
            |batch| {
                let drop = nft::Rule { exprs: vec![nft::Expr::Immediate(nft::Verdict::Drop)], comment: None };
                batch.add_rule(table(Family::V6), "filter-forward", &drop);
            },
            "table ip6 portolan: chain filter-forward: 1 rule not ours",
        ),
        (
            "a chain is added",
            |batch| {
                let chain = nft::Chain { name: "mine".into(), kind: None, comment: None };
                batch.add_chain(table(Family::V4), &chain);
            },
            "table ip portolan: chain mine is not ours",
        ),
        (
            "a frontend is deleted",
            |batch| {
                let key = frontend("10.96.0.5", 80);
                batch.delete_elements(table(Family::V4), "services", [Element::new(&key)]);
            },
            "map services: ",
        ),
        (
            "a frontend is led elsewhere",
            |batch| {
                let key = frontend("10.96.0.5", 80);
                batch.delete_elements(table(Family::V4), "services", [Element::new(&key)]);
                let to = nft::Verdict::Jump("pick-3".into());
                let element = Element { data: Some(ElementData::Verdict(&to)), ..Element::new(&key) };
                batch.add_elements(table(Family::V4), "services", [element]);
            },
            "map services: 1 element missing or changed, among them shop/sticky:http 10.96.0.5 tcp 80",
        ),
        (
            "an element is added",
            |batch| {
                let key = frontend("10.96.0.99", 80);
                let element =
                    Element { data: Some(ElementData::Verdict(&nft::Verdict::Drop)), ..Element::new(&key) };
                batch.add_elements(table(Family::V4), "no-endpoints", [element]);
                let old = frontend("192.168.50.1", 30084);
                batch.delete_elements(table(Family::V4), "no-endpoints", [Element::new(&old)]);
            },
            "map no-endpoints: 1 element not ours, among them 10.96.0.99 tcp 80",
        ),
        (
            "a set is added",
            |batch| {
                let mut set = crate::nftables::set::declare_set(SetName::ClusterIps, Family::V4, 1);
                set.name = "mine".into();
                batch.add_set(table(Family::V4), &set);
            },
            "set mine is not ours",
        ),
    ];
    namespace::run("nftables::tests::kernel::damage::damage_is_named_and_repaired", || {
        let plans = everything();
        let whole = fresh(&plans);
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        for (name, damage, finding) in cases {
            commit(damage);
            let Integrity::Changed(findings) = verify(&mut dataplane, &plans) else {
                panic!("{name}: not noticed")
            };
            assert!(findings.iter().any(|found| found.contains(finding)), "{name}: {findings:?}");
            sync(&mut dataplane, &plans);
            assert_eq!(contents(), whole, "{name}: repaired");
            assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact, "{name}");
        }
        // A change does not build upon what is gone.
        commit(|batch| batch.delete_table(table(Family::V4)));
        assert!(dataplane.apply(&change(Some(&plans[0]), None)).is_err());
        sync(&mut dataplane, &plans);
        assert_eq!(contents(), whole);
    });
}

#[test]
fn a_start_that_finds_what_is_wanted_writes_nothing() {
    namespace::run(
        "nftables::tests::kernel::damage::a_start_that_finds_what_is_wanted_writes_nothing",
        || {
            let plans = everything();
            let whole = fresh(&plans);
            let generation = || Socket::open().expect("a socket").generation().expect("a generation");
            let start = |plans: &[ServicePlan]| {
                let mut dataplane = Nftables::new(settings()).expect("a dataplane");
                let before = generation();
                let outcome = sync(&mut dataplane, plans);
                (dataplane, outcome.operations, generation() - before)
            };
            let (mut dataplane, operations, commits) = start(&plans);
            assert_eq!((operations, commits), (0, 0));
            // It knows what is in force as if it had written it.
            assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact);
            for plan in &plans {
                dataplane.apply(&change(Some(plan), None)).expect("a change");
                dataplane.apply(&change(None, Some(plan))).expect("a change");
            }
            assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact);
            assert_eq!(contents(), whole);

            // The name in a comment is a difference, too.
            let mut renamed = plans.clone();
            renamed[1].name = portolan_service::ObjectName::new("shop", "renamed");
            assert_eq!(start(&renamed).2, 1);
            assert_eq!(start(&renamed[1..]).2, 1, "a Service less");
            assert_eq!(start(&plans).2, 1, "one more");
            assert_eq!(start(&plans).2, 0);
            commit(|batch| batch.flush_chain(table(Family::V4), "masq"));
            assert_eq!(start(&plans).2, 1, "a chain is emptied");
            assert_eq!(contents(), whole);
        },
    );
}

#[test]
fn a_table_of_another_layout_is_replaced() {
    namespace::run("nftables::tests::kernel::damage::a_table_of_another_layout_is_replaced", || {
        let plans = everything();
        let whole = fresh(&plans);
        let ours = table(Family::V4);
        let (stays, gone) = (sticky_set("10.244.1.11"), sticky_set("10.244.1.99"));
        commit(|batch| {
            batch.delete_table(ours);
            batch.add_table(ours, "of a newer version");
            for (id, set) in (1..).zip([&stays, &gone]) {
                batch.add_set(ours, &crate::nftables::set::declare_affinity_set(set, None, id));
            }
            batch.add_chain(ours, &nft::Chain { name: "nat-output".into(), kind: None, comment: None });
        });
        learn("10.9.9.9", "10.244.1.11");
        learn("10.9.9.8", "10.244.1.99");
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        assert_eq!(clients(), ["10.9.9.9 stays at 10.244.1.11"], "remembered clients move over");
        commit(|batch| batch.flush_set(ours, &stays));
        assert_eq!(contents(), whole);
    });
}
