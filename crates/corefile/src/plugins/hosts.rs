//! `hosts`: names from a file in the form of /etc/hosts, and from the Corefile itself.

use std::net::IpAddr;

use portolan_names::Fallthrough;

use super::{all_domains, domains_or};
use crate::directive::{Directive, Line};
use crate::domain::domain;
use crate::problem::Complaints;

/// Names and their addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// The file; /etc/hosts unless said otherwise, also where there are lines.
    pub file: String,
    /// The domains that are answered for.
    pub domains: Vec<String>,
    /// Lines of the Corefile: an address and its names.
    pub lines: Vec<(IpAddr, Vec<String>)>,
    /// TTL, seconds.
    pub ttl: u32,
    /// Addresses have names in turn; false is `no_reverse`.
    pub reverse: bool,
    /// Which names that are not there go on to the plugins after this one.
    pub fallthrough: Fallthrough,
}

const OPTIONS: [&str; 4] = ["fallthrough", "no_reverse", "ttl", "reload"];

pub(crate) fn read(directive: &Directive, of_block: &[String], complaints: &mut Complaints<'_>) -> Hosts {
    let domains = directive.args.get(1..).unwrap_or_default();
    let mut found = Hosts {
        file: directive.args.first().map_or_else(|| "/etc/hosts".to_owned(), |file| file.text.clone()),
        domains: domains_or(domains, of_block, complaints),
        lines: Vec::new(),
        ttl: 3600,
        reverse: true,
        fallthrough: Fallthrough::Nothing,
    };
    for line in &directive.lines {
        match line.option() {
            "fallthrough" => found.fallthrough = fallthrough(line, complaints),
            "fallthrough_unsupported" => {
                line.error(
                    complaints,
                    "other types of names that are there have no records: delete the line",
                );
            }
            "no_reverse" => {
                line.nothing(complaints);
                found.reverse = false;
            }
            "ttl" => found.ttl = line.one_number(1..=65_535, complaints).unwrap_or(found.ttl),
            "reload" => {
                line.one_duration(complaints);
                line.notice(complaints, "has no effect: the file is followed as it changes");
            }
            address => match address.parse() {
                Ok(address) => found.lines.push((address, names(line, complaints))),
                Err(_) => line.unknown(&OPTIONS, complaints),
            },
        }
    }
    found
}

/// Reads `fallthrough [ZONES...]`.
pub(super) fn fallthrough(line: &Line, complaints: &mut Complaints<'_>) -> Fallthrough {
    if line.args.is_empty() {
        return Fallthrough::Everything;
    }
    let domains = all_domains(&line.args, complaints);
    if domains.iter().any(|domain| domain == ".") {
        Fallthrough::Everything
    } else {
        Fallthrough::Domains(domains)
    }
}

fn names(line: &Line, complaints: &mut Complaints<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for arg in line.some("names", complaints) {
        match domain(&arg.text) {
            Ok(name) => names.push(name),
            Err(message) => complaints.option_error(&arg.place, line.option(), message),
        }
    }
    names
}
