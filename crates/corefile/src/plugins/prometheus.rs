//! `prometheus`: where the metrics are.

use std::net::{IpAddr, Ipv4Addr};

use crate::directive::Directive;
use crate::problem::Complaints;
use crate::words::Listen;

/// `localhost:9153`
const DEFAULT: Listen = Listen { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: 9153 };

pub(crate) fn read(directive: &Directive, complaints: &mut Complaints<'_>) -> Listen {
    for line in &directive.lines {
        match line.option() {
            "runtime_metrics" => line.notice(complaints, "has no effect: there is no Go runtime"),
            "tls" => line
                .error(complaints, "metrics by HTTPS are not had: delete the line, and listen on localhost"),
            _ => line.unknown(&["runtime_metrics", "tls"], complaints),
        }
    }
    let arg = directive.at_most_one("one address", complaints);
    arg.map_or(DEFAULT, |arg| {
        Listen::parse(&arg.text).unwrap_or_else(|message| {
            complaints.error(&arg.place, message);
            DEFAULT
        })
    })
}
