//! Who has a Lease (coordination.k8s.io/v1), with the fields and rules of client-go's leader
//! election, so that both understand each other: a machine of states, without I/O and clock.
//!
//! Nobody compares clocks. A candidate takes the Lease over when it has not seen it change for
//! `leaseDurationSeconds`, by its own clock. A holder counts from when it sent the last renewal
//! that was accepted, which is before anybody can have seen it, and stops earlier than that.

use std::time::{Duration, Instant};

/// How a Lease is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// `leaseDurationSeconds`: others wait for so long after the last renewal; whole seconds.
    pub lease: Duration,
    /// The holder begins nothing so long after it sent its last accepted renewal. What it has begun
    /// must end within the rest of `lease`.
    pub renew_within: Duration,
    /// The time between renewals, and between looks at somebody else's Lease.
    pub retry: Duration,
}

impl Default for Timing {
    /// As client-go's components have it.
    fn default() -> Timing {
        Timing {
            lease: Duration::from_secs(15),
            renew_within: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// How long a write may take that was begun while the Lease was held.
    pub fn write(&self) -> Duration {
        self.lease.saturating_sub(self.renew_within).mul_f64(0.8)
    }
}

/// What a Lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// `metadata.resourceVersion`
    pub version: String,
    /// `spec.holderIdentity`; empty if nobody has it.
    pub holder: String,
    /// `spec.leaseDurationSeconds`
    pub duration: Duration,
    /// `spec.acquireTime`, as it is written.
    pub acquired: Option<String>,
    /// `spec.leaseTransitions`
    pub transitions: u64,
}

/// What is to be done about the Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing before then.
    Rest(Instant),
    /// Read it.
    Read,
    /// Write that it is ours.
    Claim(Claim),
}

/// A write that has the Lease be ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The version that it replaces; `None`: there is no Lease, and it is created.
    pub version: Option<String>,
    /// `acquireTime` if it has been ours; `None`: it is so from now on.
    pub acquired: Option<String>,
    /// `leaseTransitions`
    pub transitions: u64,
}

/// The time for which this controller has the Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tenure {
    number: u64,
    /// When its last accepted renewal was sent.
    renewed: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    /// It must be read.
    Nothing,
    /// There is none.
    Absent,
    /// What it says, and since when it has been seen to say so.
    Lease(Lease, Instant),
}

/// Whether this controller has the Lease, and what to do about it.
#[derive(Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    known: Known,
    /// The Lease as it was last seen, which a further look is compared with.
    seen: Option<(Lease, Instant)>,
    tenure: Option<Tenure>,
    tenures: u64,
    due: Option<Instant>,
}

impl Election {
    /// Nothing is known of the Lease.
    pub fn new(identity: String, timing: Timing) -> Election {
        Election { identity, timing, known: Known::Nothing, seen: None, tenure: None, tenures: 0, due: None }
    }

    /// The number of the time for which it is ours, if something may be begun `now` that needs it.
    /// Somebody else may have had it between two numbers.
    pub fn held(&self, now: Instant) -> Option<u64> {
        let tenure = self.tenure.filter(|tenure| now < tenure.renewed + self.timing.renew_within)?;
        Some(tenure.number)
    }

    /// Until when it is ours, unless it is renewed.
    pub fn held_until(&self) -> Option<Instant> {
        self.tenure.map(|tenure| tenure.renewed + self.timing.renew_within)
    }

    /// What to do about it `now`.
    pub fn next(&mut self, now: Instant) -> Step {
        if self.held(now).is_none() {
            self.tenure = None;
        }
        if let Some(due) = self.due.filter(|due| now < *due) {
            return Step::Rest(due);
        }
        match &self.known {
            Known::Nothing => Step::Read,
            Known::Absent => Step::Claim(Claim { version: None, acquired: None, transitions: 0 }),
            Known::Lease(lease, _) if lease.holder == self.identity => Step::Claim(Claim {
                version: Some(lease.version.clone()),
                acquired: lease.acquired.clone(),
                transitions: lease.transitions,
            }),
            Known::Lease(lease, since) if lease.holder.is_empty() || *since + lease.duration <= now => {
                Step::Claim(Claim {
                    version: Some(lease.version.clone()),
                    acquired: None,
                    transitions: lease.transitions + 1,
                })
            }
            Known::Lease(..) => {
                let due = now + self.timing.retry;
                (self.known, self.due) = (Known::Nothing, Some(due));
                Step::Rest(due)
            }
        }
    }

    /// It was read, and says this; `None`: there is none.
    pub fn has_read(&mut self, lease: Option<Lease>, now: Instant) {
        self.due = None;
        let Some(lease) = lease else {
            (self.known, self.seen, self.tenure) = (Known::Absent, None, None);
            return;
        };
        if lease.holder != self.identity {
            self.tenure = None;
        }
        let since = match &self.seen {
            Some((seen, since)) if *seen == lease => *since,
            _ => now,
        };
        self.seen = Some((lease.clone(), since));
        self.known = Known::Lease(lease, since);
    }

    /// The claim that was sent at `sent` is accepted, and the Lease says this.
    pub fn accepted(&mut self, lease: Lease, sent: Instant) {
        let number = self.held(sent).unwrap_or_else(|| {
            self.tenures += 1;
            self.tenures
        });
        self.tenure = Some(Tenure { number, renewed: sent });
        self.seen = Some((lease.clone(), sent));
        self.known = Known::Lease(lease, sent);
        self.due = Some(sent + self.timing.retry);
    }

    /// A claim was refused because the Lease is another one by now.
    pub fn conflict(&mut self, now: Instant) {
        self.known = Known::Nothing;
        // At once, and yet not in a circle.
        self.due = Some(now + self.timing.retry / 8);
    }

    /// It could be neither read nor written. A claim may have been accepted all the same, which
    /// shows when it is tried again.
    pub fn failed(&mut self, now: Instant) {
        self.due = Some(now + self.timing.retry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lease(version: &str, holder: &str, transitions: u64) -> Lease {
        let acquired = Some("then".to_owned());
        Lease {
            version: version.to_owned(),
            holder: holder.to_owned(),
            duration: 15 * SECOND,
            acquired,
            transitions,
        }
    }

    fn claim(version: Option<&str>, acquired: Option<&str>, transitions: u64) -> Step {
        let (version, acquired) = (version.map(str::to_owned), acquired.map(str::to_owned));
        Step::Claim(Claim { version, acquired, transitions })
    }

    fn election() -> (Election, Instant) {
        (Election::new("we".to_owned(), Timing::default()), Instant::now())
    }

    /// One that has the Lease since `now`.
    fn holder() -> (Election, Instant) {
        let (mut election, now) = election();
        election.has_read(None, now);
        election.accepted(lease("1", "we", 0), now);
        (election, now)
    }

    #[test]
    fn what_is_read_decides() {
        let table = [
            ("there is none", None, claim(None, None, 0)),
            ("somebody has given it back", Some(lease("5", "", 3)), claim(Some("5"), None, 4)),
            ("it is ours", Some(lease("5", "we", 3)), claim(Some("5"), Some("then"), 3)),
        ];
        for (name, read, expected) in table {
            let (mut election, now) = election();
            assert_eq!(election.next(now), Step::Read, "{name}");
            election.has_read(read, now);
            assert_eq!(election.next(now), expected, "{name}");
            assert_eq!(election.held(now), None, "{name}: not before the answer");
        }
    }

    #[test]
    fn somebody_elses_is_taken_when_it_has_not_changed_for_its_duration() {
        let (mut election, start) = election();
        election.has_read(Some(lease("5", "they", 0)), start);
        let mut now = start;
        // Renewed once, at 4 s: what counts is what we see.
        for (seconds, version) in [(2, "5"), (4, "6"), (6, "6"), (18, "6")] {
            let Step::Rest(due) = election.next(now) else { panic!("{seconds}") };
            assert_eq!(due, now + 2 * SECOND);
            now = start + seconds * SECOND;
            assert_eq!(election.next(now), Step::Read);
            election.has_read(Some(lease(version, "they", 0)), now);
        }
        assert!(matches!(election.next(now), Step::Rest(_)), "14 s after it changed");
        now = start + 19 * SECOND;
        let Step::Rest(due) = election.next(now) else { panic!("looks every two seconds") };
        assert_eq!(election.next(due), Step::Read);
        election.has_read(Some(lease("6", "they", 0)), due);
        assert_eq!(election.next(due), claim(Some("6"), None, 1));
    }

    #[test]
    fn it_is_held_from_when_the_claim_was_sent() {
        let (mut election, sent) = holder();
        assert_eq!(election.held(sent + 9 * SECOND), Some(1));
        assert_eq!(election.held(sent + 10 * SECOND), None);
        assert_eq!(election.held_until(), Some(sent + 10 * SECOND));
        assert_eq!(election.next(sent + SECOND), Step::Rest(sent + 2 * SECOND));
        assert_eq!(election.next(sent + 2 * SECOND), claim(Some("1"), Some("then"), 0));
        election.accepted(lease("2", "we", 0), sent + 2 * SECOND);
        assert_eq!(election.held(sent + 11 * SECOND), Some(1), "the same time");
    }

    #[test]
    fn who_cannot_renew_stops_before_others_may_begin() {
        let (mut holder, sent) = holder();
        let mut other = Election::new("other".to_owned(), Timing::default());
        other.has_read(Some(lease("1", "we", 0)), sent);
        let (mut now, mut stopped, mut taken) = (sent, None, None);
        while taken.is_none() {
            now += SECOND / 10;
            if matches!(holder.next(now), Step::Claim(_)) {
                holder.failed(now);
            }
            if holder.held(now).is_none() {
                stopped.get_or_insert(now);
            }
            match other.next(now) {
                Step::Read => other.has_read(Some(lease("1", "we", 0)), now),
                Step::Claim(_) => taken = Some(now),
                Step::Rest(_) => {}
            }
        }
        let (stopped, taken) = (stopped.expect("it stops"), taken.expect("it is taken"));
        assert!(stopped + Timing::default().write() < taken, "{:?} {:?}", stopped - sent, taken - sent);
        assert!(taken < sent + 18 * SECOND, "{:?}", taken - sent);
    }

    #[test]
    fn after_it_was_lost_it_is_another_time() {
        let (mut election, sent) = holder();
        let late = sent + 11 * SECOND;
        assert_eq!(election.next(late), claim(Some("1"), Some("then"), 0));
        assert_eq!(election.held(late), None);
        election.accepted(lease("2", "we", 0), late);
        assert_eq!(election.held(late), Some(2));
    }

    #[test]
    fn somebody_elses_claim_ends_ours_at_once() {
        let (mut election, sent) = holder();
        let now = sent + 2 * SECOND;
        election.conflict(now);
        assert_eq!(election.held(now), Some(1), "nobody can have it yet: somebody may have added a label");
        let Step::Rest(due) = election.next(now) else { panic!("not in a circle") };
        assert_eq!(election.next(due), Step::Read);
        election.has_read(Some(lease("7", "they", 1)), due);
        assert_eq!(election.held(due), None);
        assert!(matches!(election.next(due), Step::Rest(_)));
    }

    #[test]
    fn a_lease_that_is_deleted_is_nobodys() {
        let (mut election, sent) = holder();
        election.has_read(None, sent + SECOND);
        assert_eq!(election.held(sent + SECOND), None, "another may create it");
        assert_eq!(election.next(sent + SECOND), claim(None, None, 0));
    }
}
