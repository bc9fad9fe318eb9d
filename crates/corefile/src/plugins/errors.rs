//! `errors`: failures are logged.

use crate::directive::{Directive, duration};
use crate::problem::Complaints;

/// Returns whether failures are logged, which they are.
pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> bool {
    if let Some(file) = directive.at_most_one("stdout", complaints).filter(|file| file.text != "stdout") {
        complaints.error(&file.place, format!("{}: logs go to standard error alone: delete it", file.text));
    }
    for line in &directive.lines {
        match line.option() {
            "stacktrace" => {
                line.notice(complaints, "has no effect: a failure of the program is logged with its place");
            }
            "consolidate" => {
                let period = line.args.first().map(|period| duration(&period.text));
                match period {
                    Some(Err(message)) => line.error(complaints, message),
                    Some(Ok(_)) if (2..=4).contains(&line.args.len()) => line.notice(
                        complaints,
                        "has no effect: failures of one kind are always logged together, with their number",
                    ),
                    _ => line.error(
                        complaints,
                        "takes a duration and a pattern, and perhaps a level and show_first",
                    ),
                }
            }
            _ => line.unknown(&["stacktrace", "consolidate"], complaints),
        }
    }
    true
}
