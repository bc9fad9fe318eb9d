//! `loop`: loops of forwarding are looked for.

use crate::directive::Directive;
use crate::problem::Complaints;

/// Returns whether they are, which is so.
pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> bool {
    if !directive.args.is_empty() {
        complaints.error(directive.place(), "takes no value: delete what follows it");
    }
    directive.no_block(complaints);
    true
}
