//! `health`: a page that says whether the process lives.

use std::time::Duration;

use crate::directive::Directive;
use crate::problem::Complaints;
use crate::words::Listen;

/// `/health`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// Where.
    pub listen: Listen,
    /// How long the server goes on after it was asked to end. The page fails meanwhile.
    pub lameduck: Duration,
}

pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> Health {
    let mut found = Health { listen: listen(directive, 8080, complaints), lameduck: Duration::ZERO };
    for line in &directive.lines {
        match line.option() {
            "lameduck" => found.lameduck = line.one_duration(complaints).unwrap_or_default(),
            _ => line.unknown(&["lameduck"], complaints),
        }
    }
    found
}

/// Where the page is: what the directive says, or else on all addresses with `port`.
pub(super) fn listen(directive: &Directive, port: u16, complaints: &mut Complaints<'_>) -> Listen {
    let Some(arg) = directive.at_most_one("one address", complaints) else { return Listen::everywhere(port) };
    Listen::parse(&arg.text).unwrap_or_else(|message| {
        complaints.error(&arg.place, message);
        Listen::everywhere(port)
    })
}
