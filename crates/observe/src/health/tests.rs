use serde_json::Value;

use super::*;

const SYNC_PERIOD: Duration = Duration::from_secs(30);

/// What happens, each at the second at which it does.
enum Event {
    InForce,
    Failed,
    /// A change is waiting since this second.
    Pending(u64),
    TurnBegins,
    TurnEnds,
    Node(Eligibility),
}

use Event::{Failed, InForce, Node, Pending, TurnBegins, TurnEnds};

/// The health after `events`, at whose beginning it is `start`.
fn after(start: Instant, events: &[Event]) -> Health {
    let health = Health::new(&Family::ALL, SYNC_PERIOD);
    for event in events {
        match event {
            InForce => health.in_force(),
            Failed => health.failed("commit refused"),
            Pending(second) => health.pending(start + Duration::from_secs(*second)),
            // Kept open: the table says when it ends.
            TurnBegins => std::mem::forget(health.turn()),
            TurnEnds => drop(Turn(&health)),
            Node(node) => health.set_node(*node),
        }
    }
    health
}

/// Situation, what happened, seconds since, /healthz, /livez, `healthy` in both bodies.
type Case = (&'static str, &'static [Event], u64, u16, u16, bool);

#[test]
fn status_of_both_questions() {
    let cases: &[Case] = &[
        ("nothing in force yet", &[], 0, 503, 200, false),
        ("the API server is away since the start: no reason to restart", &[], 100_000, 503, 200, false),
        ("in force", &[InForce], 0, 200, 200, true),
        ("idle for a day", &[InForce], 86_400, 200, 200, true),
        ("a change waits, §11.3", &[InForce, Pending(0)], 59, 200, 200, true),
        ("a change waits for twice syncPeriod, §11.3", &[InForce, Pending(0)], 60, 503, 503, false),
        ("the oldest of two counts, §11.3", &[InForce, Pending(5), Pending(40)], 65, 503, 503, false),
        ("the oldest counts in any order", &[InForce, Pending(40), Pending(5)], 65, 503, 503, false),
        ("a waiting change came into force, §11.3", &[Pending(0), InForce], 600, 200, 200, true),
        ("the first commit failed (not so in kube-proxy, §11.6)", &[Failed], 1, 503, 200, false),
        ("a commit failed", &[InForce, Failed], 1, 503, 200, false),
        ("failing for long", &[InForce, Failed], 61, 503, 503, false),
        ("put right after failing", &[InForce, Failed, InForce], 61, 200, 200, true),
        ("a long turn", &[InForce, TurnBegins], 59, 200, 200, true),
        ("a turn that does not end", &[InForce, TurnBegins], 61, 503, 503, false),
        ("no turn: waiting for events", &[InForce, TurnBegins, TurnEnds], 6000, 200, 200, true),
        ("stuck before anything was in force", &[TurnBegins], 61, 503, 503, false),
        ("Node not seen, §12.6", &[InForce, Node(Eligibility::Unseen)], 0, 503, 200, true),
        ("Node is there", &[InForce, Node(Eligibility::Eligible)], 0, 200, 200, true),
        ("Node leaves, §12.7", &[InForce, Node(Eligibility::Leaving)], 0, 503, 200, true),
        (
            "Node stays after all, §12.7",
            &[InForce, Node(Eligibility::Leaving), Node(Eligibility::Eligible)],
            0,
            200,
            200,
            true,
        ),
    ];
    for (situation, events, seconds, healthz, livez, healthy) in cases {
        let start = Instant::now();
        let health = after(start, events);
        let now = Instant::now() + Duration::from_secs(*seconds);
        let (code, body) = health.healthz_at(now, SystemTime::now());
        assert_eq!(code.as_u16(), *healthz, "/healthz: {situation}: {body}");
        let (code, body) = health.livez_at(now, SystemTime::now());
        assert_eq!(code.as_u16(), *livez, "/livez: {situation}: {body}");
        for body in [health.healthz_at(now, SystemTime::now()).1, body] {
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["healthy"], *healthy, "{situation}: {body}");
            for family in ["IPv4", "IPv6"] {
                assert_eq!(body["status"][family]["healthy"], *healthy, "{situation}: {body}");
            }
        }
    }
}

#[test]
fn a_short_sync_period_calls_no_long_turn_stuck() {
    let health = Health::new(&[Family::V4], Duration::from_secs(1));
    health.in_force();
    let _turn = health.turn();
    let now = Instant::now() + Duration::from_secs(50);
    assert_eq!(health.healthz_at(now, SystemTime::now()).0, StatusCode::OK);
}

fn in_force_at(health: &Health, time: SystemTime) {
    for family in &health.families {
        health.state().families.get_mut(*family).in_force_at = Some(time);
    }
}

/// The body of an answer.
fn body((_, text): (StatusCode, String)) -> Value {
    serde_json::from_str(&text).unwrap()
}

#[test]
fn families_are_told_apart() {
    let behind = |reason: &str| Some(Trouble::Behind(reason.to_owned()));
    let absent = |reason: &str| Some(Trouble::Absent(reason.to_owned()));
    // Situation, troubles of IPv4 and IPv6, seconds since; /healthz, /livez, healthy by family,
    // what is said.
    let cases = [
        (
            "one is behind",
            behind("table nat"),
            None,
            5,
            [503, 200],
            [Some(false), Some(true)],
            "IPv4: table nat (for",
        ),
        (
            "for long: a restart does not help",
            behind("x"),
            None,
            600,
            [503, 200],
            [Some(false), Some(true)],
            "IPv4: x",
        ),
        ("the other one", None, behind("x"), 5, [503, 200], [Some(true), Some(false)], "IPv6: x (for"),
        ("both", behind("x"), behind("x"), 5, [503, 200], [Some(false); 2], "x (for"),
        ("both for long", behind("x"), behind("y"), 600, [503, 503], [Some(false); 2], "IPv4: x (for"),
        ("one is absent", None, absent("no ip6tables"), 600, [200, 200], [Some(true), None], ""),
        (
            "the rest fails",
            behind("x"),
            absent("no ip6tables"),
            600,
            [503, 503],
            [Some(false), None],
            "IPv4: x",
        ),
    ];
    for (situation, v4, v6, seconds, codes, families, said) in cases {
        let health = Health::new(&Family::ALL, SYNC_PERIOD);
        health.in_force();
        let troubles = PerFamily { v4, v6 };
        health.in_force_but(&troubles);
        let now = Instant::now() + Duration::from_secs(seconds);
        // Said again, the time goes on.
        health.in_force_but(&troubles);
        let answers = [health.healthz_at(now, SystemTime::now()), health.livez_at(now, SystemTime::now())];
        assert_eq!(answers.clone().map(|(code, _)| code.as_u16()), codes, "{situation}: {answers:?}");
        let [healthz, _] = answers.map(body);
        for (family, expected) in Family::ALL.into_iter().zip(families) {
            let status = &healthz["status"][family.to_string()];
            assert_eq!(status["healthy"].as_bool(), expected, "{situation}: {healthz}");
            assert_eq!(status.is_null(), expected.is_none(), "{situation}: {healthz}");
            assert_eq!(health.family_healthy(family), expected == Some(true), "{situation}");
            let is_absent = healthz["absent"][family.to_string()].as_str();
            assert_eq!(is_absent, expected.is_none().then_some("no ip6tables"), "{situation}");
        }
        assert!(healthz["reason"].as_str().unwrap_or_default().starts_with(said), "{situation}: {healthz}");
        health.in_force();
        assert_eq!(health.healthz_at(now, SystemTime::now()).0, StatusCode::OK, "{situation}: put right");
    }
}

#[test]
fn a_source_that_stops_is_seen() {
    let health = Health::new(&Family::ALL, SYNC_PERIOD);
    health.in_force();
    let later = |seconds| Instant::now() + Duration::from_secs(seconds);
    let status =
        |now| [health.healthz_at(now, at(0)), health.livez_at(now, at(0))].map(|(code, _)| code.as_u16());
    assert_eq!(status(later(600)), [200, 200], "one that never said that it goes on");
    health.source_goes_on();
    assert_eq!(status(later(59)), [200, 200]);
    assert_eq!(status(later(61)), [503, 503]);
    assert!(!health.assess(later(61)).common);
}

#[test]
fn what_cannot_be_honoured_is_counted_and_is_no_reason_to_be_unhealthy() {
    let health = Health::new(&Family::ALL, SYNC_PERIOD);
    health.in_force();
    for (in_manifests, in_plan, expected) in
        [(0, 0, None), (2, 0, Some(2)), (2, 1, Some(3)), (0, 1, Some(1)), (0, 0, None)]
    {
        health.set_manifest_problems(in_manifests);
        health.set_plan_problems(in_plan);
        let (code, text) = health.healthz();
        assert_eq!((code, body((code, text))["problems"].as_u64()), (StatusCode::OK, expected));
        assert_eq!(health.problems() as u64, expected.unwrap_or_default());
    }
    health.set_unserved((0..30).map(|port| format!("port {port}")).collect());
    assert_eq!((health.problems(), health.healthz().0), (30, StatusCode::OK));
    assert_eq!((health.unserved().len(), health.unserved()[19].as_str()), (20, "port 19"));
    health.set_unserved(Vec::new());
    assert_eq!((health.problems(), health.unserved()), (0, Vec::new()));
}

#[test]
fn waiting_for_another_proxy_is_said_and_is_no_reason_to_restart() {
    let health = Health::new(&Family::ALL, SYNC_PERIOD);
    health.in_force();
    health.set_note(Some("process 7 waits".to_owned()));
    let (code, text) = health.healthz();
    assert_eq!((code, body((code, text))["note"].as_str()), (StatusCode::OK, Some("process 7 waits")));
    health.set_waiting_for(Some("process 5 serves this node".to_owned()));
    assert_eq!(health.livez().0, StatusCode::OK);
    let (code, text) = health.healthz();
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(body((code, text))["reason"], "process 5 serves this node");
    health.set_waiting_for(None);
    assert_eq!(health.healthz().0, StatusCode::OK);
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

#[test]
fn body_when_all_is_well() {
    // spec §11.2: fields, their order, `lastUpdated` is now on a 200
    let health = Health::new(&[Family::V4], SYNC_PERIOD);
    health.in_force();
    in_force_at(&health, at(86_400));
    let (_, body) = health.healthz_at(Instant::now(), at(90_000));
    assert_eq!(
        body,
        concat!(
            r#"{"lastUpdated":"1970-01-02T01:00:00Z","currentTime":"1970-01-02T01:00:00Z","nodeEligible":true,"#,
            r#""healthy":true,"status":{"IPv4":{"lastUpdated":"1970-01-02T00:00:00Z","healthy":true}},"#,
            r#""view":{"source":"manifests"}}"#
        )
    );
    let (_, body) = health.livez_at(Instant::now(), at(90_000));
    assert!(!body.contains("nodeEligible"), "{body}");
}

#[test]
fn body_says_what_is_wrong_and_how_old_the_view_is() {
    // spec §11.2: the newest real update on a 503
    let health = Health::new(&Family::ALL, SYNC_PERIOD);
    health.in_force();
    in_force_at(&health, at(86_400));
    health.failed("table ip portolan: out of memory");
    health.set_node(Eligibility::Leaving);
    health.set_view(View::Snapshot { taken: at(3600) });
    let (_, body) = health.healthz_at(Instant::now(), at(90_000));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["lastUpdated"], "1970-01-02T00:00:00Z");
    assert_eq!(body["currentTime"], "1970-01-02T01:00:00Z");
    assert_eq!(body["nodeEligible"], false);
    let reason = body["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("table ip portolan: out of memory (for 0.0 s); the node is being"),
        "{reason}"
    );
    assert_eq!(body["view"]["source"], "snapshot");
    assert_eq!(body["view"]["snapshotTaken"], "1970-01-01T01:00:00Z");
    assert!(body["view"]["ageSeconds"].as_f64().unwrap() > 1e9);

    health.set_view(View::Live { age: Arc::new(|| Some(Duration::from_millis(2500))) });
    let (_, body) = health.healthz_at(Instant::now(), at(90_000));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["view"], serde_json::json!({"source": "api", "ageSeconds": 2.5}));
}

#[test]
fn before_the_first_update_there_was_none() {
    let health = Health::new(&[Family::V6], SYNC_PERIOD);
    let (_, body) = health.healthz_at(Instant::now(), at(90_000));
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["lastUpdated"], timestamp::NEVER);
    assert_eq!(body["status"], serde_json::json!({"IPv6": {"healthy": false}}));
}
