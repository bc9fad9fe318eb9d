use std::net::SocketAddr;

use super::*;
use crate::{ContainerProbes, Probe};

const SECOND: Duration = Duration::from_secs(1);

fn target(address: &str, kinds: &[ProbeKind]) -> Arc<Target> {
    let address: SocketAddr = address.parse().unwrap();
    let probe = |kind: &ProbeKind| (*kind, Probe { timing: Timing::default(), action: Action::Tcp(address) });
    let probes = kinds.iter().map(probe).collect();
    Arc::new(Target {
        address: address.ip(),
        containers: vec![ContainerProbes { name: "web".into(), probes }],
    })
}

fn name(number: u32) -> ObjectName {
    ObjectName::new("shop", &format!("web-{number}"))
}

/// Carries out what is due at each second; those of `down` fail. Returns the verdicts.
fn run(schedule: &mut Schedule, seconds: std::ops::Range<u32>, down: &str) -> Vec<String> {
    let mut found = Vec::new();
    for second in seconds {
        let now = second * SECOND;
        let (due, _) = schedule.take_due(usize::MAX, now);
        for due in due {
            let Action::Tcp(to) = due.action else { panic!("{due:?}") };
            let outcome = if to.to_string() == down { Err("refused".to_owned()) } else { Ok(()) };
            schedule.note(due.id, outcome, SECOND / 10, now);
        }
        for Verdict { pod, ready, reason } in schedule.take_verdicts() {
            let reason = reason.unwrap_or_default();
            found.push(format!("{second}: {} {ready} {reason}", pod.name()));
        }
    }
    found
}

#[test]
fn a_pod_that_goes_bad_and_comes_back() {
    let mut schedule = Schedule::default();
    let probes = target("192.0.2.1:80", &[ProbeKind::Readiness]);
    schedule.set(&name(1), Some(probes.clone()), false, Duration::ZERO);
    assert_eq!(schedule.undecided(), 1);
    assert_eq!(run(&mut schedule, 0..20, ""), ["0: web-1 true "]);
    let bad = run(&mut schedule, 20..60, "192.0.2.1:80");
    assert_eq!(bad.len(), 1, "once: {bad:?}");
    assert!(bad[0].ends_with("false readiness probe of container web: refused"), "{bad:?}");
    assert_eq!(schedule.counters().not_ready, 1);

    let report = &schedule.reports(60 * SECOND)[0];
    let [probe] = &report.probes[..] else { panic!("{report:?}") };
    assert_eq!((report.ready, probe.passes, probe.took), (Some(false), false, Some(SECOND / 10)));
    let failure = probe.last_failure.as_ref().unwrap();
    assert!(failure.reason == "refused" && !failure.is_over && failure.age <= 11 * SECOND, "{failure:?}");

    let good = run(&mut schedule, 60..80, "");
    assert!(good.len() == 1 && good[0].ends_with("web-1 true "), "{good:?}");
    assert!(schedule.reports(80 * SECOND)[0].probes[0].last_failure.as_ref().unwrap().is_over);
    let Outcomes { passed, failed, .. } = schedule.counters().outcomes[ProbeKind::Readiness as usize];
    assert!(passed >= 4 && failed >= 3, "{passed} {failed}");

    schedule.set(&name(1), None, false, 80 * SECOND);
    assert_eq!(schedule.counters().pods, 0);
    assert_eq!(schedule.take_due(usize::MAX, 1000 * SECOND), (Vec::new(), None));
}

#[test]
fn no_more_than_so_many_are_under_way() {
    let mut schedule = Schedule::default();
    for number in 0..10 {
        schedule.set(&name(number), Some(target("192.0.2.1:80", &[ProbeKind::Readiness])), true, SECOND);
    }
    let (first, next) = schedule.take_due(4, SECOND);
    assert_eq!((first.len(), next), (4, None), "an outcome makes room");
    assert!(schedule.take_due(4, SECOND).0.is_empty());
    schedule.note(first[0].id, Ok(()), SECOND, SECOND);
    assert_eq!(schedule.take_due(4, SECOND).0.len(), 1);
    assert_eq!(schedule.undecided(), 9);
}

#[test]
fn outcomes_of_what_a_pod_was_before_are_counted_and_forgotten() {
    let mut schedule = Schedule::default();
    schedule.set(&name(1), Some(target("192.0.2.1:80", &[ProbeKind::Readiness])), false, SECOND);
    let (due, _) = schedule.take_due(9, SECOND);
    // Another server.
    schedule.set(&name(1), Some(target("192.0.2.2:80", &[ProbeKind::Readiness])), false, SECOND);
    schedule.note(due[0].id, Ok(()), SECOND, SECOND);
    assert_eq!((schedule.take_verdicts(), schedule.undecided()), (Vec::new(), 1));
    assert_eq!(run(&mut schedule, 1..2, ""), ["1: web-1 true "]);
    // Another probe of the same server.
    let both = target("192.0.2.2:81", &[ProbeKind::Readiness, ProbeKind::Liveness]);
    schedule.set(&name(1), Some(both), false, SECOND);
    assert_eq!(run(&mut schedule, 2..12, "192.0.2.2:81"), [""; 0], "one failure is none");
    assert_eq!(schedule.counters().not_ready, 0);
}

#[test]
fn a_container_that_begins_is_not_ready_in_between() {
    let mut schedule = Schedule::default();
    schedule.set(
        &name(1),
        Some(target("192.0.2.1:80", &[ProbeKind::Startup, ProbeKind::Readiness])),
        false,
        SECOND,
    );
    assert_eq!(run(&mut schedule, 1..12, "192.0.2.1:80").len(), 1);
    // It has begun, and no readiness probe has said anything: that is no news.
    let (due, _) = schedule.take_due(9, 21 * SECOND);
    schedule.note(due[0].id, Ok(()), SECOND, 21 * SECOND);
    assert_eq!(schedule.take_verdicts(), []);
    assert_eq!(run(&mut schedule, 21..22, ""), ["21: web-1 true "]);
}

/// The work for one pod is the same among few and among many.
#[test]
fn many_pods_are_no_work_for_one() {
    let mut schedule = Schedule::default();
    for number in 0..20_000 {
        schedule.set(
            &name(number),
            Some(target("192.0.2.1:80", &[ProbeKind::Readiness])),
            true,
            Duration::ZERO,
        );
    }
    let mut most = 0;
    for second in 0..30_u32 {
        let (due, _) = schedule.take_due(usize::MAX, second * SECOND);
        if second > 0 {
            most = most.max(due.len());
        }
        for due in due {
            schedule.note(due.id, Ok(()), SECOND, second * SECOND);
        }
    }
    assert!((1500..3000).contains(&most), "{most} at once, of 20,000 within ten seconds");
    assert_eq!(schedule.undecided(), 0);
}
