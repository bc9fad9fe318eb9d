//! What the kernel does not take, or not at once.

use super::*;

#[test]
fn what_the_kernel_refuses_is_left_out_alone() {
    namespace::run("nftables::tests::kernel::refused::what_the_kernel_refuses_is_left_out_alone", || {
        let at = |name: &str, address: &str, endpoint: &str| {
            let endpoints = if endpoint.is_empty() { vec![] } else { vec![endpoint, "10.244.9.9:1"] };
            service(name, vec![port("http", Protocol::Tcp, &endpoints).cluster_ip(address)])
        };
        let good = at("good", "10.96.0.1", "10.244.1.1:80");
        // The planner never lets two Services have one frontend; the kernel does not either.
        let bad = at("bad", "10.96.0.1", "10.244.1.2:80");
        let other = at("other", "10.96.0.2", "10.244.1.3:80");

        let mut dataplane = Nftables::new(settings()).expect("a dataplane");
        let plans = [good.clone(), bad.clone(), other.clone()];
        let outcome = sync(&mut dataplane, &plans);
        assert_eq!(outcome.refused.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["shop/bad"]);
        assert!(outcome.refused[0].1.contains("exists"), "{:?}", outcome.refused);
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &plans), Integrity::Intact, "the refused one is not missed");

        // Once it asks for something else, it gets it.
        let better = at("bad", "10.96.0.3", "10.244.1.2:80");
        let outcome = dataplane.apply(&change(Some(&bad), Some(&better))).expect("apply");
        assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);

        // In a change set: the others' changes hold, and what was in force for it stays.
        let third = at("third", "10.96.0.4", "10.244.1.4:80");
        let mut changes = change(Some(&better), Some(&bad));
        changes.services.extend(change(None, Some(&third)).services);
        let outcome = dataplane.apply(&changes).expect("apply");
        assert_eq!(outcome.refused.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["shop/bad"]);
        let wanted = [good.clone(), bad.clone(), other, third];
        dataplane.uncompared = true;
        assert_eq!(verify(&mut dataplane, &wanted), Integrity::Intact);
        let outcome = dataplane.apply(&change(Some(&bad), None)).expect("apply");
        assert!(outcome.refused.is_empty(), "its last change is taken back from what was in force");
        dataplane.uncompared = true;
        assert_eq!(
            verify(&mut dataplane, &[wanted[0].clone(), wanted[2].clone(), wanted[3].clone()]),
            Integrity::Intact
        );
    });
}

#[test]
fn more_than_can_be_sent_at_once_goes_in_portions() {
    namespace::run(
        "nftables::tests::kernel::refused::more_than_can_be_sent_at_once_goes_in_portions",
        || {
            let generation = |endpoints: &[&str], range: std::ops::Range<u32>| -> Vec<ServicePlan> {
                range
                    .map(|number| {
                        let address = std::net::Ipv4Addr::from(0x0a60_0000 + number).to_string();
                        let port = port("http", Protocol::Tcp, endpoints).cluster_ip(&address);
                        service(&format!("s{number}"), vec![port])
                    })
                    .collect()
            };
            let old = generation(&["10.244.1.11:8080*", "10.244.2.21:8080"], 1..4000);
            let new = generation(&["10.244.1.12:8080*"], 1000..5000);
            let mut dataplane = Nftables::new(settings()).expect("a dataplane");
            assert!(dataplane.kernel.batch_limit.is_some(), "a user namespace has a limit");
            // Twice what Linux has for net.core.wmem_max when nobody raises it.
            dataplane.kernel.batch_limit = Some(2 * 212_992);
            for plans in [&old, &new, &old] {
                let outcome = sync(&mut dataplane, plans);
                assert!(outcome.refused.is_empty(), "{:?}", outcome.refused);
                dataplane.uncompared = true;
                assert_eq!(verify(&mut dataplane, plans), Integrity::Intact);
            }
            while dataplane.tidy().expect("tidy") {}
            let in_portions = contents();
            assert_eq!(in_portions, fresh(&old));
        },
    );
}

#[test]
fn one_family_does_not_stop_the_other() {
    namespace::run("nftables::tests::kernel::refused::one_family_does_not_stop_the_other", || {
        for broken in Family::ALL {
            let other = if broken == Family::V4 { Family::V6 } else { Family::V4 };
            let in_family = |family: Family, endpoints: &[&str; 2]| {
                let (address, endpoint) = match family {
                    Family::V4 => ("10.96.0.80", endpoints[0]),
                    Family::V6 => ("fd00:10:96::80", endpoints[1]),
                };
                let mut port = port("http", Protocol::Tcp, &[endpoint]).cluster_ip(address);
                port.family = family;
                port
            };
            let plan = |endpoints: &[&str; 2]| {
                service("web", Family::ALL.map(|family| in_family(family, endpoints)).to_vec())
            };
            let [first, second, third] =
                [11, 12, 13].map(|n| plan(&[&format!("10.1.0.{n}:8080"), &format!("[fd00:1::{n}]:8080")]));
            // The table of one family is somebody else's, who lets nobody write to it.
            let mut owner = Socket::open().expect("a socket");
            let mut batch = Batch::new();
            batch.add_owned_table(table(broken), "somebody's");
            owner.commit(&batch).expect("a table");

            let mut dataplane = Nftables::new(settings()).expect("a dataplane");
            sync(&mut dataplane, std::slice::from_ref(&first));
            assert!(matches!(dataplane.standing().get(broken), Standing::Behind(_)), "{broken}");
            assert_eq!(*dataplane.standing().get(other), Standing::Served, "{broken}");
            assert_eq!(verify(&mut dataplane, std::slice::from_ref(&first)), Integrity::Intact);
            let leads_to = |dataplane: &mut Nftables, family: Family, n: u8| {
                let end = if family == Family::V4 {
                    format!("10.1.0.{n}:8080")
                } else {
                    format!("[fd00:1::{n}]:8080")
                };
                dataplane.listing().expect("a listing").iter().any(|line| line.contains(&end))
            };
            assert!(leads_to(&mut dataplane, other, 11), "{broken}");
            dataplane.apply(&change(Some(&first), Some(&second))).expect("the other family follows");
            assert!(leads_to(&mut dataplane, other, 12), "{broken}");
            // Trying again in vain changes nothing, and hides nothing.
            let caught_up = dataplane.catch_up(&mut std::iter::once(&second)).expect("an attempt");
            assert!(caught_up.is_none(), "{broken}");
            assert_eq!(verify(&mut dataplane, std::slice::from_ref(&second)), Integrity::Intact);
            let mut socket = Socket::open().expect("a socket");
            let mut batch = Batch::new();
            batch.flush_set(table(other), SetName::Endpoints.name());
            socket.commit(&batch).expect("flushed");
            let again = dataplane.catch_up(&mut std::iter::once(&second)).expect("an attempt");
            assert!(again.is_none());
            assert!(matches!(verify(&mut dataplane, std::slice::from_ref(&second)), Integrity::Changed(_)));
            sync(&mut dataplane, std::slice::from_ref(&second));

            drop(owner);
            let caught_up = dataplane.catch_up(&mut std::iter::once(&second)).expect("an attempt");
            assert!(caught_up.is_some(), "{broken}");
            assert_eq!(dataplane.standing(), PerFamily::default());
            dataplane.apply(&change(Some(&second), Some(&third))).expect("both follow");
            assert!(Family::ALL.into_iter().all(|family| leads_to(&mut dataplane, family, 13)), "{broken}");
            assert_eq!(verify(&mut dataplane, std::slice::from_ref(&third)), Integrity::Intact);
            dataplane.cleanup().expect("cleanup");
        }
    });
}
