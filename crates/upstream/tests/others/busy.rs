//! Many questions at a time, most of them of no use.

use std::time::{Duration, Instant};

use portolan_names::wire::kind;
use portolan_upstream::{Cache, Zone};

use crate::fake::{Fake, ask, forwarder, zone};

/// A server that is silent about names below `silent.example`.
async fn partly_silent() -> Fake {
    Fake::start(|asked| {
        if asked.spelled().to_ascii_lowercase().ends_with("silent.example.") {
            return Vec::new();
        }
        vec![asked.address(1, 60)]
    })
    .await
}

fn bounded(fake: &Fake, limit: usize) -> Zone {
    let mut zone = zone(fake);
    zone.cache = Some(Cache::of(30));
    zone.forwards[0].max_concurrent = Some(limit);
    zone
}

#[tokio::test]
async fn one_too_many_is_refused_at_once() {
    let fake = partly_silent().await;
    let forwarder = forwarder([bounded(&fake, 3)]);
    let mut tasks = tokio::task::JoinSet::new();
    let begun = Instant::now();
    for at in 0..5 {
        let forwarder = forwarder.clone();
        tasks.spawn(async move {
            let reply = ask(&forwarder, &format!("name{at}.silent.example"), kind::A).await;
            (reply, begun.elapsed())
        });
    }
    for _ in 0..2 {
        let (reply, after) = tasks.join_next().await.unwrap().unwrap();
        assert_eq!(reply, "REFUSED");
        assert!(after < Duration::from_millis(100), "at once: {after:?}");
    }
}

#[tokio::test]
async fn good_names_are_answered_beside_a_flood_of_bad_ones() {
    let fake = partly_silent().await;
    let forwarder = forwarder([bounded(&fake, 50)]);
    let cached = "NOERROR; cached.example. ";
    assert!(ask(&forwarder, "cached.example", kind::A).await.starts_with(cached));
    let flood = forwarder.clone();
    let flood = tokio::spawn(async move {
        for at in 0.. {
            let flood = flood.clone();
            tokio::spawn(async move { ask(&flood, &format!("name{at}.silent.example"), kind::A).await });
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    // Until all places are taken.
    let begun = Instant::now();
    while fake.count() < 51 {
        assert!(begun.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (mut good, mut slowest) = (0, Duration::ZERO);
    for at in 0..50 {
        let asked = Instant::now();
        assert!(ask(&forwarder, "cached.example", kind::A).await.starts_with(cached));
        let reply = ask(&forwarder, &format!("good{at}.example"), kind::A).await;
        good += usize::from(reply.starts_with("NOERROR"));
        slowest = slowest.max(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    flood.abort();
    assert!(good > 40, "{good} of 50 good names were answered");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
}
