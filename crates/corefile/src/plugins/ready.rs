//! `ready`: a page that says whether questions can be answered.

use super::health::listen;
use crate::directive::Directive;
use crate::problem::Complaints;
use crate::words::Listen;

/// `/ready`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// Where.
    pub listen: Listen,
    /// `monitor continuously`: what was ready once may be so no more.
    pub continuously: bool,
}

pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> Ready {
    let mut found = Ready { listen: listen(directive, 8181, complaints), continuously: false };
    for line in &directive.lines {
        match line.option() {
            "monitor" => match line.one("until-ready or continuously", complaints) {
                Some("until-ready") | None => {}
                Some("continuously") => found.continuously = true,
                Some(other) => {
                    line.error(complaints, format!("{other:?}: write until-ready or continuously"));
                }
            },
            _ => line.unknown(&["monitor"], complaints),
        }
    }
    found
}
