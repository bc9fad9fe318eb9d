//! What was reported of an address that cannot be listened on: once when it begins, and once more
//! if it does not heal.
//!
//! While a kube-proxy gives way to this proxy, each of the two finds the ports of the other taken
//! for a while.

use std::time::{Duration, Instant};

/// What has not healed after this time will not heal by itself.
const LASTING: Duration = Duration::from_mins(1);

/// A reason that was reported.
#[derive(Debug)]
pub(crate) struct Complaint {
    reason: String,
    since: Instant,
    lasting: bool,
}

impl Complaint {
    /// Notes in `known` that `reason` stands against listening at `now`. Returns whether it has
    /// lasted, if that is to be reported; `None` if it was reported already.
    pub(crate) fn note(known: &mut Option<Complaint>, reason: String, now: Instant) -> Option<bool> {
        match known {
            Some(known) if known.reason == reason => {
                let lasts = now.saturating_duration_since(known.since) >= LASTING;
                (lasts && !std::mem::replace(&mut known.lasting, lasts)).then_some(true)
            }
            _ => {
                *known = Some(Complaint { reason, since: now, lasting: false });
                Some(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_reported_when_it_begins_and_when_it_lasts() {
        let mut known = None;
        let begun = Instant::now();
        let mut note = |reason: &str, seconds| {
            Complaint::note(&mut known, reason.to_owned(), begun + Duration::from_secs(seconds))
        };
        let reports = [note("taken", 0), note("taken", 30), note("taken", 60), note("taken", 90)];
        assert_eq!(reports, [Some(false), None, Some(true), None]);
        assert_eq!(note("not ours", 95), Some(false), "another reason");
        assert_eq!(note("not ours", 100), None);
    }
}
