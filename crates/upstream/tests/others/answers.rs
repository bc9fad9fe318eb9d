//! What comes back to clients (spec §6).

use portolan_names::wire::{Name, Query, Transport, kind};
use portolan_upstream::Cache;

use crate::fake::{Act, Fake, ask, brief, forwarder, question, with_edns, zone};

#[tokio::test]
async fn an_answer_is_passed_on() {
    let fake = Fake::start(|asked| vec![asked.address(1, 300)]).await;
    let forwarder = forwarder([zone(&fake)]);
    let message = question("WwW.example.com", kind::A);
    let reply = forwarder.answer(&message, Transport::Udp).await.unwrap();
    assert_eq!(brief(&reply), "NOERROR; WwW.example.com. 300 A 192.0.2.1");
    assert_eq!(reply[..2], message[..2], "the client's id");
    assert_eq!(reply[12..message.len()], message[12..], "the client's spelling");
    assert_eq!(reply.len(), message.len() + 16, "no OPT record, owner compressed");
    assert!(reply[2] & 0x01 != 0, "RD is repeated");

    let message = with_edns(question("www.example.com", kind::A), 4096, false);
    let reply = forwarder.answer(&message, Transport::Udp).await.unwrap();
    assert!(reply.ends_with(&[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]), "our own OPT record: {reply:02x?}");
}

#[tokio::test]
async fn ids_ports_and_case_cannot_be_guessed() {
    let fake = Fake::start(|asked| vec![asked.address(1, 300)]).await;
    let forwarder = forwarder([zone(&fake)]);
    for _ in 0..20 {
        assert_eq!(
            ask(&forwarder, "www.example.com", kind::A).await,
            "NOERROR; www.example.com. 300 A 192.0.2.1"
        );
    }
    let asked = fake.asked();
    let different = |of: &dyn Fn(usize) -> String| {
        (0..asked.len()).map(of).collect::<std::collections::HashSet<_>>().len()
    };
    assert!(different(&|at| format!("{:02x?}", &asked[at].message[..2])) > 15, "ids");
    assert!(different(&|at| asked[at].from.port().to_string()) > 15, "ports");
    assert!(different(&|at| asked[at].spelled()) > 15, "case");
    let query: Query<'_> = asked[0].query();
    assert_eq!(query.edns.map(|edns| (edns.size, edns.dnssec_ok)), Some((1232, false)));
}

#[tokio::test]
async fn a_cache_counts_and_limits_ttls() {
    let fake = Fake::start(|asked| vec![asked.address(1, 300)]).await;
    let mut zone = zone(&fake);
    zone.cache = Some(Cache::of(30));
    let forwarder = forwarder([zone]);
    let expected = "NOERROR; www.example.com. 30 A 192.0.2.1";
    assert_eq!(ask(&forwarder, "www.example.com", kind::A).await, expected);
    let message = question("www.example.com", kind::A);
    let (query, mut reply) = (Query::parse(&message).unwrap(), Vec::new());
    assert!(forwarder.at_once(&query, Transport::Udp, &mut reply), "it is in the cache");
    assert!(brief(&reply).starts_with("NOERROR; www.example.com. "), "{}", brief(&reply));
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn a_search_is_answered_behind_an_alias() {
    let fake = Fake::start(|asked| {
        if asked.spelled().eq_ignore_ascii_case("www.example.com.") {
            vec![asked.address(1, 300)]
        } else {
            vec![Act::Send(asked.answer(3, &[]))]
        }
    })
    .await;
    let forwarder = forwarder([zone(&fake)]);
    let message = question("www.example.com.a.svc.cluster.local", kind::A);
    for (name, expected) in [
        (
            "Www.example.com",
            "NOERROR; www.example.com.a.svc.cluster.local. 300 Www.example.com.; \
             Www.example.com. 300 A 192.0.2.1",
        ),
        ("www.example.net", "NXDOMAIN"),
    ] {
        // The second time it may be at hand.
        for _ in 0..2 {
            let name = Name::parse(name).unwrap();
            let reply = forwarder.search(&message, &name, Transport::Udp).await.unwrap();
            assert_eq!(brief(&reply), expected);
            assert_eq!(reply[12..message.len()], message[12..], "the client's question");
        }
    }
}
