//! `reload`: the Corefile is read again when it changes.

use std::time::Duration;

use crate::directive::{Directive, duration};
use crate::problem::Complaints;

/// How often a changed Corefile is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reload {
    /// At least 2 s.
    pub interval: Duration,
    /// The interval is longer or shorter by up to this, at random.
    pub jitter: Duration,
}

const INTERVAL_MIN: Duration = Duration::from_secs(2);
const JITTER_MIN: Duration = Duration::from_secs(1);

pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> Reload {
    let mut found = Reload { interval: Duration::from_secs(30), jitter: Duration::from_secs(15) };
    if directive.args.len() > 2 {
        complaints.error(directive.place(), "takes an interval and a jitter: delete what follows them");
    }
    directive.no_block(complaints);
    for (number, arg) in directive.args.iter().take(2).enumerate() {
        match duration(&arg.text) {
            Err(message) => complaints.error(&arg.place, message),
            Ok(interval) if number == 0 && interval < INTERVAL_MIN => {
                complaints.error(&arg.place, format!("{}: the interval is at least 2s", arg.text));
            }
            Ok(interval) if number == 0 => found.interval = interval,
            Ok(jitter) if !jitter.is_zero() && jitter < JITTER_MIN => {
                complaints.error(&arg.place, format!("{}: the jitter is 0, or at least 1s", arg.text));
            }
            Ok(jitter) => found.jitter = jitter,
        }
    }
    found.jitter = found.jitter.min(found.interval / 2);
    found
}
