use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn timing(initial_delay: u64, period: u64, successes: u32, failures: u32) -> Timing {
    Timing {
        initial_delay: Duration::from_secs(initial_delay),
        period: Duration::from_secs(period),
        timeout: SECOND,
        successes,
        failures,
    }
}

fn kinds(letters: &str) -> Vec<(ProbeKind, Timing)> {
    let kind = |letter| match letter {
        's' => (ProbeKind::Startup, timing(0, 10, 1, 3)),
        'l' => (ProbeKind::Liveness, timing(0, 10, 1, 3)),
        _ => (ProbeKind::Readiness, timing(0, 10, 2, 3)),
    };
    letters.chars().map(kind).collect()
}

#[test]
fn what_fails_for_ever_is_asked_for_ever() {
    let impatient = Pace { impatience: Some(Duration::from_millis(25)), ..Pace::default() };
    let running = Pace { has_run: true, spread: Some(7), ..Pace::default() };
    let paces = [Pace::default(), impatient, running];
    for ((kind, timing), pace) in
        paces.into_iter().flat_map(|pace| kinds("rls").into_iter().map(move |kind| (kind, pace)))
    {
        let mut health = Health::new([(kind, timing)], pace);
        let mut now = Duration::ZERO;
        for _ in 0..200 {
            health.note(kind, false, now);
            let due = health.due(Duration::ZERO, None).expect("another probe");
            assert!(due > now && due <= now + timing.period, "{due:?} after {now:?}");
            now = due;
        }
    }
}

/// Outcomes of the probes of a container, as letters: capital if the probe passes. What the verdict
/// is after each: `?`, `+` or `-`.
#[test]
fn outcomes_become_verdicts() {
    let new = Pace::default();
    let running = Pace { has_run: true, ..new };
    for (situation, probes, pace, outcomes, expected) in [
        ("readiness passes after two successes", "r", new, "RR", "?+"),
        ("a first failure is one", "r", new, "rRR", "--+"),
        ("one failure is none after it passed, three are", "r", new, "RRrrRrrr", "?++++++-"),
        ("it comes back after two", "r", new, "RRrrrRrRR", "?+++----+"),
        ("what runs already needs one outcome", "r", running, "Rrr", "+++"),
        ("and fails with one", "r", running, "rRR", "--+"),
        ("liveness passes until it has failed three times", "l", new, "lllL", "++-+"),
        ("of what runs already, the first outcome counts", "l", running, "lL", "-+"),
        ("startup fails from the beginning, and passes at once", "s", new, "ssS", "--+"),
        ("startup is forever", "sr", new, "SRRrrr", "??+++-"),
        ("all must pass", "lr", new, "RRlllLrrr", "?+++-++" /* liveness, then readiness */),
    ] {
        let mut health = Health::new(kinds(probes), pace);
        let verdicts: String = outcomes
            .chars()
            .enumerate()
            .map(|(turn, letter)| {
                let kind = match letter.to_ascii_lowercase() {
                    's' => ProbeKind::Startup,
                    'l' => ProbeKind::Liveness,
                    _ => ProbeKind::Readiness,
                };
                let at = u32::try_from(turn).unwrap() * SECOND;
                health.note(kind, letter.is_ascii_uppercase(), at);
                match health.verdict() {
                    None => '?',
                    Some(true) => '+',
                    Some(false) => '-',
                }
            })
            .collect();
        assert!(verdicts.starts_with(expected), "{situation}: {verdicts}, not {expected}");
    }
}

/// Carries out probes as they become due; `passes` says what comes of each.
fn run(
    health: &mut Health,
    until: u64,
    mut passes: impl FnMut(ProbeKind, u64) -> bool,
) -> Vec<(ProbeKind, u64)> {
    let mut carried_out = Vec::new();
    let mut now = Duration::ZERO;
    while now.as_secs() <= until {
        for kind in health.take_due(Duration::ZERO, now, None) {
            assert!(health.take_due(Duration::ZERO, now, Some(kind)).is_empty(), "it is under way");
            carried_out.push((kind, now.as_secs()));
            health.note(kind, passes(kind, now.as_secs()), now);
        }
        let Some(due) = health.due(Duration::ZERO, None) else { break };
        now = now.max(due);
    }
    carried_out
}

#[test]
fn probes_are_due_as_kubelet_has_them() {
    use ProbeKind::{Liveness, Readiness, Startup};
    let all =
        [(Startup, timing(1, 2, 1, 30)), (Liveness, timing(0, 10, 1, 3)), (Readiness, timing(7, 10, 1, 3))];
    let mut health = Health::new(all, Pace::default());
    let found = run(&mut health, 17, |kind, at| kind != Startup || at >= 5);
    // The delay is from the start of the container, not from the end of its startup probe.
    let expected = [
        (Startup, 1),
        (Startup, 3),
        (Startup, 5),
        (Liveness, 5),
        (Readiness, 7),
        (Liveness, 15),
        (Readiness, 17),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_runs_already_does_not_wait() {
    let readiness = [(ProbeKind::Readiness, timing(30, 10, 1, 3))];
    let mut health = Health::new(readiness, Pace { has_run: true, ..Pace::default() });
    assert_eq!(run(&mut health, 15, |_, _| true).iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 10]);
}

#[test]
fn who_is_impatient_asks_sooner_until_it_passes() {
    let readiness = [(ProbeKind::Readiness, timing(0, 10, 1, 3))];
    let mut health = Health::new(readiness, Pace { impatience: Some(SECOND), ..Pace::default() });
    let found = run(&mut health, 30, |_, at| at == 7);
    assert_eq!(found.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [0, 1, 3, 7, 17, 27]);
}

#[test]
fn what_begins_together_spreads() {
    let readiness = [(ProbeKind::Readiness, timing(0, 10, 1, 3))];
    let mut seconds: Vec<u64> = (0..1000)
        .map(|number| {
            let mut health = Health::new(readiness, Pace { spread: Some(number), ..Pace::default() });
            let found = run(&mut health, 20, |_, _| true);
            assert!(found[1].1 <= 10 && found[2].1 >= found[1].1 + 10, "{found:?}");
            found[1].1
        })
        .collect();
    seconds.dedup();
    assert!(seconds.len() >= 10, "all at {seconds:?}");
}

#[test]
fn what_was_known_holds_for_other_probes() {
    let mut before = Health::new(kinds("r"), Pace::default());
    before.note(ProbeKind::Readiness, true, SECOND);
    before.note(ProbeKind::Readiness, true, SECOND);
    let mut health = Health::new(kinds("lr"), Pace::default());
    health.go_on_from(&before);
    assert_eq!(health.verdict(), Some(true));
    health.note(ProbeKind::Readiness, false, SECOND);
    assert_eq!(health.verdict(), Some(true), "it takes three");
}
