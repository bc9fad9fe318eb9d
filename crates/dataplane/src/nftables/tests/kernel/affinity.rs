//! Clients stay at their endpoints, whatever else changes.

use super::*;

fn sticky(endpoints: &[&str]) -> ServicePlan {
    service("sticky", vec![port("http", Protocol::Tcp, endpoints).sticky(600).cluster_ip("10.96.0.5")])
}

#[test]
fn clients_stay_until_their_endpoint_leaves() {
    namespace::run("nftables::tests::kernel::affinity::clients_stay_until_their_endpoint_leaves", || {
        let both = sticky(&["10.244.1.11:8080*", "10.244.2.21:8080"]);
        let one = sticky(&["10.244.1.11:8080*"]);
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, std::slice::from_ref(&both));
        learn("10.9.0.1", "10.244.1.11");
        learn("10.9.0.2", "10.244.2.21");
        sync(&mut dataplane, std::slice::from_ref(&both));
        let remembered = ["10.9.0.1 stays at 10.244.1.11", "10.9.0.2 stays at 10.244.2.21"];
        assert_eq!(clients(), remembered, "over a restart");
        dataplane.kernel.batch_limit = Some(20_000);
        let others: Vec<ServicePlan> = (1..200)
            .map(|number| {
                let address = format!("10.96.1.{number}");
                let port = port("", Protocol::Tcp, &["10.1.1.1:1"]).cluster_ip(&address);
                service(&format!("s{number}"), vec![port])
            })
            .collect();
        let mut more = others;
        more.push(both.clone());
        sync(&mut dataplane, &more);
        assert_eq!(clients(), remembered, "over a restart in portions");
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &more), Integrity::Intact);
        let mut without = more;
        *without.last_mut().expect("the sticky one") = one.clone();
        sync(&mut dataplane, &without);
        assert_eq!(clients(), ["10.9.0.1 stays at 10.244.1.11"], "its endpoint left, in portions");
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &without), Integrity::Intact);
        dataplane.kernel.batch_limit = None;
        sync(&mut dataplane, std::slice::from_ref(&both));
        learn("10.9.0.2", "10.244.2.21");

        dataplane.apply(&change(Some(&both), Some(&one))).expect("apply");
        assert_eq!(clients(), ["10.9.0.1 stays at 10.244.1.11"], "the endpoint of the other left");
        assert_eq!(verify(&mut dataplane, std::slice::from_ref(&one)), Integrity::Intact);
        dataplane.apply(&change(Some(&one), Some(&both))).expect("apply");
        assert_eq!(clients(), ["10.9.0.1 stays at 10.244.1.11"], "an endpoint that comes back begins anew");

        // It left while nobody looked.
        learn("10.9.0.4", "10.244.2.21");
        let mut restarted = Nftables::new(settings()).expect("a dataplane");
        sync(&mut restarted, std::slice::from_ref(&one));
        assert_eq!(clients(), ["10.9.0.1 stays at 10.244.1.11"]);

        restarted.apply(&change(Some(&one), None)).expect("apply");
        assert_eq!(clients(), [""; 0], "a later Service of this name must not inherit them");
        while restarted.tidy().expect("tidy") {}
        assert_eq!(contents(), fresh(&[]));
    });
}

#[test]
fn damage_to_affinity_is_named_and_repaired() {
    type Damage = fn(&mut Batch);
    const CHAIN: &str = "affinity/shop/sticky/tcp/http";
    let cases: &[(&str, Damage, &str)] = &[
        (
            "a chain is emptied",
            |batch| batch.flush_chain(table(Family::V4), CHAIN),
            "table ip portolan: chain affinity/shop/sticky/tcp/http: other rules than it should have",
        ),
        (
            "a set is deleted",
            |batch| {
                batch.flush_chain(table(Family::V4), CHAIN);
                let endpoint = "endpoint/shop/sticky/tcp/http/10.244.2.21/8080";
                batch.flush_chain(table(Family::V4), endpoint);
                batch.delete_set(table(Family::V4), &sticky_set("10.244.2.21"));
            },
            "table ip portolan: set affinity/shop/sticky/tcp/http/10.244.2.21/8080 deleted",
        ),
        (
            "a set is added",
            |batch| {
                let mine = crate::nftables::set::declare_affinity_set("affinity/mine", None, 1);
                batch.add_set(table(Family::V4), &mine);
            },
            "table ip portolan: set affinity/mine is not ours",
        ),
    ];
    namespace::run("nftables::tests::kernel::affinity::damage_to_affinity_is_named_and_repaired", || {
        let plans = [sticky(&["10.244.1.11:8080*", "10.244.2.21:8080"])];
        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        sync(&mut dataplane, &plans);
        learn("10.9.0.1", "10.244.1.11");
        let whole = contents();
        for (name, damage, finding) in cases {
            commit(damage);
            let Integrity::Changed(findings) = verify(&mut dataplane, &plans) else {
                panic!("{name}: not noticed")
            };
            assert!(findings.iter().any(|found| found == finding), "{name}: {findings:?}");
            sync(&mut dataplane, &plans);
            assert_eq!(contents(), whole, "{name}: repaired, and the client still remembered");
            assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact, "{name}");
        }
    });
}
