//! What is kept of answers (spec §6, RFC 2308, RFC 8767, RFC 9520).

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use portolan_names::wire::{Query, Section, Transport, kind, rcode};
use portolan_upstream::{Cache, Forwarder, Metrics, Settings, Stale, Zone};

use crate::fake::{Act, Asked, Fake, LONG, ask, brief, forwarder, impatient, question, with_edns, zone};

/// A SOA record that lets denials hold for 120 s.
const SOA: &[u8] = b"\x02ns\x00\x00\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x78";

fn cached(mut zone: Zone) -> Zone {
    zone.cache = Some(Cache::of(30));
    zone
}

fn soa(asked: &Asked, code: u16, ttl: u32) -> Vec<u8> {
    asked.answer(code, &[(Section::Authority, "example.com", kind::SOA, ttl, SOA)])
}

#[tokio::test]
async fn what_is_kept_and_for_how_long() {
    type Answer = fn(&Asked) -> Vec<u8>;
    let rows: [(&str, Answer, &str, bool); 10] = [
        (
            "a long TTL",
            |asked| asked.answer(0, &[(Section::Answer, "", kind::A, 3600, &[192, 0, 2, 1])]),
            "NOERROR; a.example.com. 30 A 192.0.2.1",
            true,
        ),
        (
            "a TTL of 0",
            |asked| asked.answer(0, &[(Section::Answer, "", kind::A, 0, &[192, 0, 2, 1])]),
            "NOERROR; a.example.com. 5 A 192.0.2.1",
            true,
        ),
        (
            "the lowest TTL counts for all",
            |asked| {
                let cname = b"\x01b\x07example\x03com\x00";
                asked.answer(
                    0,
                    &[
                        (Section::Answer, "", kind::CNAME, 600, cname),
                        (Section::Answer, "b.example.com", kind::A, 12, &[192, 0, 2, 1]),
                    ],
                )
            },
            "NOERROR; a.example.com. 12 b.example.com.; b.example.com. 12 A 192.0.2.1",
            true,
        ),
        ("NXDOMAIN", |asked| soa(asked, 3, 8), "NXDOMAIN; ns example.com. 8 SOA", true),
        ("NXDOMAIN, long", |asked| soa(asked, 3, 900), "NXDOMAIN; ns example.com. 30 SOA", true),
        ("NODATA", |asked| soa(asked, 0, 900), "NOERROR; ns example.com. 30 SOA", true),
        ("NODATA without SOA", |asked| asked.answer(0, &[]), "NOERROR", true),
        ("NXDOMAIN without SOA", |asked| asked.answer(3, &[]), "NXDOMAIN", false),
        ("REFUSED", |asked| asked.answer(5, &[]), "REFUSED", false),
        ("SERVFAIL", |asked| asked.answer(2, &[]), "SERVFAIL", true),
    ];
    for (name, answer, expected, kept) in rows {
        let fake = Fake::start(move |asked| vec![Act::Send(answer(asked))]).await;
        let forwarder = forwarder([cached(zone(&fake))]);
        for _ in 0..2 {
            assert_eq!(ask(&forwarder, "a.example.com", kind::A).await, expected, "{name}");
        }
        assert_eq!(fake.count(), if kept { 1 } else { 2 }, "{name}: kept or not");
    }
}

#[tokio::test]
async fn cut_answers_are_not_kept_and_timeouts_are() {
    let cut = Fake::start(|asked| {
        if asked.transport == Transport::Tcp {
            return vec![Act::Close];
        }
        let mut message = asked.answer(0, &[]);
        message[2] |= 2;
        vec![Act::Send(message)]
    })
    .await;
    let silent = Fake::start(|_| Vec::new()).await;
    let (first, second) = (forwarder([cached(impatient(&cut))]), forwarder([cached(impatient(&silent))]));
    for _ in 0..2 {
        assert_eq!(ask(&first, "a.example.com", kind::A).await, "NOERROR tc");
        assert_eq!(ask(&second, "a.example.com", kind::A).await, "SERVFAIL");
    }
    let datagrams = cut.asked().iter().filter(|asked| asked.transport == Transport::Udp).count();
    assert_eq!(datagrams, 2);
    assert_eq!(silent.count(), 2, "two tries of the first question, none of the second (RFC 9520)");
}

#[tokio::test]
async fn equal_questions_are_asked_once() {
    let fake = Fake::start(|asked| {
        let answer = asked.answer(0, &[(Section::Answer, "", kind::A, 60, &[192, 0, 2, 1])]);
        vec![Act::Late(Duration::from_millis(100), answer)]
    })
    .await;
    // There is no cache.
    let forwarder = forwarder([zone(&fake)]);
    let mut tasks = tokio::task::JoinSet::new();
    for at in 0..50 {
        let forwarder = forwarder.clone();
        let name = if at % 2 == 0 { "www.example.com" } else { "WWW.Example.com" };
        tasks.spawn(async move { ask(&forwarder, name, kind::A).await });
    }
    let replies = tasks.join_all().await;
    let spelled = |name: &str| replies.iter().filter(|reply| reply.contains(name)).count();
    assert_eq!((spelled("; www.example.com."), spelled("; WWW.Example.com.")), (25, 25));
    assert_eq!(fake.count(), 1);
}

#[tokio::test]
async fn who_wants_signatures_gets_them_and_nobody_else() {
    const RRSIG: u16 = 46;
    let fake = Fake::start(|asked| {
        let mut signature = vec![0; 18];
        signature.extend_from_slice(b"\x00signature");
        let address = (Section::Answer, "", kind::A, 60, &[192, 0, 2, 1][..]);
        let query = asked.query();
        let signed = query.edns.is_some_and(|edns| edns.dnssec_ok);
        // A server that sends signatures to everybody, and says what it has checked.
        let mut message = asked.answer(0, &[address, (Section::Answer, "", RRSIG, 60, &signature)]);
        if query.flags & 0x10 == 0 {
            message[3] |= 0x20;
        }
        assert!(signed || query.edns.is_some());
        vec![Act::Send(message)]
    })
    .await;
    let forwarder = forwarder([cached(zone(&fake))]);
    let plain = question("a.example.com", kind::A);
    let signed = with_edns(plain.clone(), 1232, true);
    let mut unchecked = plain.clone();
    unchecked[3] |= 0x10;
    let mut authentic = plain.clone();
    authentic[3] |= 0x20;
    for (name, message, expected, asked) in [
        ("plain", &plain, "NOERROR; a.example.com. 30 A 192.0.2.1", 1),
        ("AD", &authentic, "NOERROR ad; a.example.com. 30 A 192.0.2.1", 1),
        ("CD", &unchecked, "NOERROR cd; a.example.com. 30 A 192.0.2.1", 2),
        ("DO", &signed, "NOERROR ad; a.example.com. 30 A 192.0.2.1; a.example.com. 30 46", 3),
        ("plain again", &plain, "NOERROR; a.example.com. 30 A 192.0.2.1", 3),
    ] {
        let reply = brief(&forwarder.answer(message, Transport::Udp).await.unwrap());
        assert!(reply.starts_with(expected) && (name == "DO" || reply == expected), "{name}: {reply}");
        assert_eq!(fake.count(), asked, "{name}");
    }
    let flags: Vec<(bool, bool)> = fake
        .asked()
        .iter()
        .map(|asked| (asked.query().edns.unwrap().dnssec_ok, asked.query().flags & 0x10 != 0))
        .collect();
    assert_eq!(flags, [(false, false), (false, true), (true, false)], "DO and CD are passed on");
}

/// A server that answers with this last octet; 0 is silence.
async fn changing(last: &Arc<AtomicU8>) -> Fake {
    let last = Arc::clone(last);
    Fake::start(move |asked| match last.load(Ordering::Relaxed) {
        0 => Vec::new(),
        last => vec![asked.address(last, 60)],
    })
    .await
}

/// Asks again until the reply begins so.
async fn becomes(forwarder: &Forwarder, expected: &str) {
    let begun = Instant::now();
    loop {
        let reply = ask(forwarder, "a.example.com", kind::A).await;
        if reply.starts_with(expected) {
            return;
        }
        assert!(begun.elapsed() < LONG, "{reply} in place of {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Keeps answers for a second.
fn briefly(mut zone: Zone, stale: Stale) -> Zone {
    let mut cache = Cache::of(1);
    cache.serve_stale = Some(stale);
    cache.servfail = Duration::from_secs(1);
    zone.cache = Some(cache);
    zone
}

#[tokio::test]
async fn an_old_answer_is_given_at_once_and_renewed() {
    let last = Arc::new(AtomicU8::new(1));
    let fake = changing(&last).await;
    let stale = Stale { keep: Duration::from_mins(1), verify: None };
    let forwarder = forwarder([briefly(impatient(&fake), stale)]);
    becomes(&forwarder, "NOERROR; a.example.com. 1 A 192.0.2.1").await;
    last.store(2, Ordering::Relaxed);
    becomes(&forwarder, "NOERROR; a.example.com. 30 A 192.0.2.1").await;
    becomes(&forwarder, "NOERROR; a.example.com. 1 A 192.0.2.2").await;
    // When the server falls silent, what is known stays.
    last.store(0, Ordering::Relaxed);
    becomes(&forwarder, "NOERROR; a.example.com. 30 A 192.0.2.2").await;
    let begun = Instant::now();
    assert_eq!(ask(&forwarder, "a.example.com", kind::A).await, "NOERROR; a.example.com. 30 A 192.0.2.2");
    assert!(begun.elapsed() < Duration::from_millis(100), "at once");
}

#[tokio::test]
async fn an_old_answer_is_given_when_there_is_no_new_one_in_time() {
    let last = Arc::new(AtomicU8::new(1));
    let fake = changing(&last).await;
    let stale = Stale { keep: Duration::from_mins(1), verify: Some(Duration::from_millis(300)) };
    let forwarder = forwarder([briefly(zone(&fake), stale)]);
    becomes(&forwarder, "NOERROR; a.example.com. 1 A 192.0.2.1").await;
    last.store(2, Ordering::Relaxed);
    // The server is asked first: nothing old is seen.
    becomes(&forwarder, "NOERROR; a.example.com. 1 A 192.0.2.2").await;
    last.store(0, Ordering::Relaxed);
    becomes(&forwarder, "NOERROR; a.example.com. 30 A 192.0.2.2").await;
    let begun = Instant::now();
    becomes(&forwarder, "NOERROR; a.example.com. 30 A 192.0.2.2").await;
    assert!(begun.elapsed() < Duration::from_millis(1500), "long before two tries of 2 s end");
}

#[tokio::test]
async fn other_settings_keep_a_cache_that_still_fits() {
    let fake = Fake::start(|asked| vec![asked.address(1, 60)]).await;
    let before = cached(zone(&fake));
    let forwarder = forwarder([before.clone()]);
    ask(&forwarder, "a.example.com", kind::A).await;
    let mut stub = zone(&fake);
    stub.name = "stub.example".to_owned();
    let mut other_servers = before.clone();
    other_servers.forwards[0].max_fails = 7;
    for (name, zones, asked) in [
        ("another zone beside it", vec![before.clone(), stub], 1),
        ("shuffled", vec![Zone { shuffle: true, ..before.clone() }], 1),
        ("other servers", vec![other_servers], 2),
    ] {
        forwarder.replace(&Settings { zones, ..Settings::default() }).unwrap();
        assert!(ask(&forwarder, "a.example.com", kind::A).await.starts_with("NOERROR"), "{name}");
        assert_eq!(fake.count(), asked, "{name}");
    }
    let twice = Settings { zones: vec![before.clone(), before], ..Settings::default() };
    assert!(forwarder.replace(&twice).is_err());
    assert!(ask(&forwarder, "a.example.com", kind::A).await.starts_with("NOERROR"), "as before");
}

#[tokio::test]
async fn it_is_counted() {
    let registry = prometheus::Registry::new();
    let fake = Fake::start(|asked| match asked.query().kind {
        kind::A => vec![asked.address(1, 60)],
        _ => vec![Act::Send(soa(asked, rcode::NXDOMAIN, 60))],
    })
    .await;
    let settings = Settings { zones: vec![cached(zone(&fake))], ..Settings::default() };
    let forwarder = Forwarder::new(&settings, Metrics::new(&registry).unwrap()).unwrap();
    for kind in [kind::A, kind::A, kind::AAAA, kind::AAAA, kind::AAAA] {
        ask(&forwarder, "a.example.com", kind).await;
    }
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let zone = r#"server="dns://:53""#;
    let to = fake.address;
    for line in [
        format!(r#"coredns_cache_requests_total{{{zone},view="",zones="."}} 5"#),
        format!(r#"coredns_cache_misses_total{{{zone},view="",zones="."}} 2"#),
        format!(r#"coredns_cache_hits_total{{{zone},type="success",view="",zones="."}} 1"#),
        format!(r#"coredns_cache_hits_total{{{zone},type="denial",view="",zones="."}} 2"#),
        format!(r#"coredns_cache_entries{{{zone},type="success",view="",zones="."}} 1"#),
        format!(r#"coredns_cache_entries{{{zone},type="denial",view="",zones="."}} 1"#),
        format!(
            r#"coredns_proxy_request_duration_seconds_count{{proxy_name="forward",rcode="NXDOMAIN",to="{to}"}} 1"#
        ),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
}

/// What is in the cache may be asked for from any thread.
#[tokio::test]
async fn threads_outside_the_runtime_may_ask() {
    let fake = Fake::start(|asked| vec![asked.address(1, 60)]).await;
    let stale = Stale { keep: Duration::from_mins(1), verify: None };
    let forwarder = forwarder([briefly(zone(&fake), stale)]);
    becomes(&forwarder, "NOERROR; a.example.com. 1 A 192.0.2.1").await;
    becomes(&forwarder, "NOERROR; a.example.com. 30 A 192.0.2.1").await;
    let thread = std::thread::spawn(move || {
        let message = question("a.example.com", kind::A);
        let (query, mut reply) = (Query::parse(&message).unwrap(), Vec::new());
        assert!(forwarder.at_once(&query, Transport::Udp, &mut reply));
        let message = question("b.example.com", kind::A);
        assert!(!forwarder.at_once(&Query::parse(&message).unwrap(), Transport::Udp, &mut reply));
    });
    thread.join().unwrap();
}
