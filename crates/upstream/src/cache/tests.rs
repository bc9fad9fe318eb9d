//! The cache against a simple model, with a clock that the test sets.

use std::collections::HashMap;

use portolan_names::wire::{Answers, Name, kind};
use proptest::prelude::*;

use super::*;
use crate::question::Question;
use crate::settings::{Prefetch, Stale};

/// Each step of a test.
#[derive(Debug, Clone)]
enum Step {
    /// An answer comes: to which question, of what sort, with which TTL.
    Put(u8, What, u32),
    /// As many milliseconds pass.
    Pass(u32),
    /// Somebody asks.
    Ask(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Records,
    NoName,
    NoData,
    NoDataWithoutSoa,
    NoNameWithoutSoa,
    Failure,
    Refused,
    Cut,
}

const ALL: [What; 8] = [
    What::Records,
    What::NoName,
    What::NoData,
    What::NoDataWithoutSoa,
    What::NoNameWithoutSoa,
    What::Failure,
    What::Refused,
    What::Cut,
];

/// What the model has of a question: records or a denial, and a failure beside them.
#[derive(Debug, Clone, Default)]
struct Known {
    answer: Option<(Arc<Answer>, Instant, u32)>,
    failure: Option<(Instant, u32)>,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..6u8, prop::sample::select(&ALL[..]), 0..60u32)
            .prop_map(|(at, what, ttl)| Step::Put(at, what, ttl)),
        (0..40_000u32).prop_map(Step::Pass),
        (0..6u8).prop_map(Step::Ask),
    ]
}

pub(super) fn question(at: u8) -> Question {
    let name = Name::parse(&format!("name{at}.example")).unwrap();
    Question { name, kind: kind::A, dnssec_ok: false, checking_disabled: false }
}

/// The answer to `asked`; `octet` makes it different from others.
fn answer(asked: &Question, what: What, ttl: u32, octet: u8) -> Arc<Answer> {
    let (code, flags) = match what {
        What::Records | What::NoData | What::NoDataWithoutSoa => (0, 0x80),
        What::Cut => (0, 0x82),
        What::NoName | What::NoNameWithoutSoa => (3, 0x80),
        What::Failure => (2, 0x80),
        What::Refused => (5, 0x80),
    };
    let records = u8::from(matches!(what, What::Records | What::Cut));
    let soa = u8::from(matches!(what, What::NoName | What::NoData));
    let mut message = vec![0, 0, flags, 0x80 | code, 0, 1, 0, records, 0, soa, 0, 0];
    message.extend_from_slice(asked.name.as_wire());
    message.extend_from_slice(&[0, 1, 0, 1]);
    let head = |kind: u8, length: u8| {
        let [a, b, c, d] = ttl.to_be_bytes();
        [0xc0, 12, 0, kind, 0, 1, a, b, c, d, 0, length]
    };
    if records > 0 {
        message.extend_from_slice(&head(1, 4));
        message.extend_from_slice(&[192, 0, 2, octet]);
    }
    if soa > 0 {
        message.extend_from_slice(&head(6, 22));
        // Two root names and five numbers; the last is the time that denials hold.
        message.extend_from_slice(&[0; 18]);
        message.extend_from_slice(&1000u32.to_be_bytes());
    }
    assert!(Answers::parse(&message).is_ok());
    Arc::new(Answer::read(asked, message).unwrap())
}

/// For how long the model keeps an answer, seconds; `None`: not at all.
fn lifetime(what: What, ttl: u32) -> Option<u32> {
    match what {
        What::Records | What::NoName | What::NoData => Some(ttl.clamp(5, 30)),
        What::NoDataWithoutSoa | What::Failure => Some(5),
        What::NoNameWithoutSoa | What::Refused | What::Cut => None,
    }
}

fn left(now: Instant, (since, ttl): (Instant, u32)) -> Option<u32> {
    let age = u32::try_from((now - since).as_secs()).unwrap();
    ttl.checked_sub(age).filter(|left| *left > 0)
}

/// What the model finds, as text.
fn expected(known: &Known, now: Instant, stale: Option<Duration>) -> String {
    let failed = known.failure.and_then(|failure| left(now, failure));
    if let Some((answer, since, ttl)) = &known.answer {
        if let Some(left) = left(now, (*since, *ttl)) {
            return format!("fresh {left} {answer:?}");
        }
        let end = *since + Duration::from_secs(u64::from(*ttl));
        if stale.is_some_and(|stale| now < end + stale) {
            return format!("stale {} {answer:?}", failed.is_some());
        }
    }
    failed.map_or("nothing".to_owned(), |left| format!("failed {left}"))
}

fn found(found: &Found) -> String {
    match found {
        Found::Fresh { answer, ttl, .. } => format!("fresh {ttl} {answer:?}"),
        Found::Stale { answer, failed } => format!("stale {failed} {answer:?}"),
        Found::Failed { ttl, .. } => format!("failed {ttl}"),
        Found::Nothing => "nothing".to_owned(),
    }
}

fn run(steps: &[Step], settings: settings::Cache, roomy: bool) -> Result<(), TestCaseError> {
    let stale = settings.serve_stale.map(|stale| stale.keep);
    let entries = settings.success.entries;
    let cache = Cache::new(settings).unwrap();
    let mut now = Instant::now();
    let mut model: HashMap<u8, Known> = HashMap::new();
    for (count, step) in steps.iter().enumerate() {
        match *step {
            Step::Pass(milliseconds) => now += Duration::from_millis(milliseconds.into()),
            Step::Put(at, what, ttl) => {
                let (asked, octet) = (question(at), u8::try_from(count % 200).unwrap());
                let answer = answer(&asked, what, ttl, octet);
                cache.put(&asked, &answer, now);
                let known = model.entry(at).or_default();
                match (what, lifetime(what, ttl)) {
                    (What::Failure, Some(ttl)) => known.failure = Some((now, ttl)),
                    (_, Some(ttl)) => *known = Known { answer: Some((answer, now, ttl)), failure: None },
                    (_, None) => {}
                }
            }
            Step::Ask(at) => {
                let got = found(&cache.get(&question(at).key(), now));
                let known = model.get(&at).cloned().unwrap_or_default();
                let want = expected(&known, now, stale);
                // A cache that is full may have forgotten, but nothing else.
                let forgot = !roomy && (got == "nothing" || got.starts_with("failed"));
                prop_assert!(got == want || forgot, "{got} in place of {want}");
            }
        }
        let have = cache.entries();
        prop_assert!(have.success <= entries, "{have:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn it_does_what_the_model_does(steps in prop::collection::vec(step(), 1..60), stale in any::<bool>()) {
        let mut settings = settings::Cache::of(30);
        settings.serve_stale = stale.then_some(Stale { keep: Duration::from_secs(40), verify: None });
        run(&steps, settings, true)?;
    }

    #[test]
    fn it_never_says_what_the_model_does_not(steps in prop::collection::vec(step(), 1..60)) {
        let mut settings = settings::Cache::of(30);
        (settings.success.entries, settings.denial.entries) = (2, 1);
        run(&steps, settings, false)?;
    }
}

#[test]
fn it_does_not_grow_beyond_its_bounds_and_keeps_what_is_asked_for() {
    let mut settings = settings::Cache::of(30);
    settings.bytes = 100_000;
    let cache = Cache::new(settings).unwrap();
    let now = Instant::now();
    let name = |text: String| Question { name: Name::parse(&text).unwrap(), ..question(0) };
    let popular = name("popular.example".to_owned());
    let mut kept = 0;
    for at in 0..20_000 {
        let asked = name(format!("random{at}.example"));
        cache.put(&asked, &answer(&asked, What::Records, 60, 1), now);
        cache.put(&asked, &answer(&asked, What::Failure, 60, 1), now);
        if at % 100 == 0 {
            // What is asked for again and again stays, whatever else comes by.
            if matches!(cache.get(&popular.key(), now), Found::Fresh { .. }) {
                kept += 1;
            } else {
                cache.put(&popular, &answer(&popular, What::Records, 60, 1), now);
            }
        }
    }
    assert_eq!(kept, 199, "it was put once");
    let bytes: usize =
        [&cache.success, &cache.denial, &cache.failures].iter().map(|store| lock(store).bytes()).sum();
    assert!(bytes <= 100_000, "{bytes}");
    assert!(cache.entries().success > 100, "it is not empty either");
}

#[test]
fn what_is_asked_for_often_is_due_before_it_ends() {
    let mut settings = settings::Cache::of(100);
    settings.prefetch = Some(Prefetch { amount: 3, within: Duration::from_mins(1), percentage: 10 });
    let cache = Cache::new(settings).unwrap();
    let (asked, now) = (question(1), Instant::now());
    cache.put(&asked, &answer(&asked, What::Records, 100, 1), now);
    let renew = |seconds| match cache.get(&asked.key(), now + Duration::from_secs(seconds)) {
        Found::Fresh { renew, .. } => renew,
        other => panic!("{other:?}"),
    };
    assert_eq!([renew(1), renew(2), renew(3)], [false; 3], "most of its time is left");
    assert!(!renew(55) && renew(91), "a tenth of its time is left");
    cache.put(&asked, &answer(&asked, What::Records, 100, 1), now);
    assert!(!renew(1) && !renew(95), "a pause of more than a minute: few have asked");
}

#[test]
fn domains_that_nothing_is_kept_of() {
    let mut settings = settings::Cache::of(30);
    settings.success.not_in = vec!["name1.example".to_owned()];
    settings.denial.not_in = vec!["name2.example".to_owned()];
    let cache = Cache::new(settings).unwrap();
    let now = Instant::now();
    for (at, what, expected) in [
        (1, What::Records, false),
        (1, What::NoName, true),
        (2, What::NoName, false),
        (2, What::Records, true),
        (3, What::Records, true),
    ] {
        let asked = question(at);
        let ttl = cache.put(&asked, &answer(&asked, what, 60, 1), now);
        assert_eq!(ttl, 30, "{at} {what:?}: TTLs are limited anyhow");
        let found = matches!(cache.get(&asked.key(), now), Found::Fresh { .. });
        assert_eq!(found, expected, "{at} {what:?}");
    }
}
