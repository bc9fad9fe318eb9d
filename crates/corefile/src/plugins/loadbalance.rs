//! `loadbalance`: addresses come in another order each time, which they always do here.

use crate::directive::Directive;
use crate::problem::Complaints;

pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) {
    let remedy = "write loadbalance alone";
    match directive.args.first().map(|policy| &*policy.text) {
        None | Some("round_robin") if directive.args.len() <= 1 => {}
        Some("weighted") => {
            complaints.error(directive.place(), format!("weights of addresses are not had: {remedy}"));
            return;
        }
        _ => complaints.error(directive.place(), format!("no such policy: {remedy}")),
    }
    for line in &directive.lines {
        match line.option() {
            "prefer" => line.error(complaints, "preferred networks are not had: delete the line"),
            _ => line.unknown(&["prefer"], complaints),
        }
    }
}
