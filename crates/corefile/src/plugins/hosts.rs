//! `hosts`: names from a file in the form of /etc/hosts, and from the Corefile itself.

use std::net::IpAddr;
use std::time::Duration;

use portolan_names::Fallthrough;

use super::{all_domains, domains_or};
use crate::directive::{Directive, Line};
use crate::domain::domain;
use crate::problem::Complaints;

/// Names and their addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hosts {
    /// The file; `None`: /etc/hosts, as the reference reads it if there are no lines either.
    pub file: Option<String>,
    /// The domains that are answered for.
    pub domains: Vec<String>,
    /// Lines of the Corefile: an address and its names.
    pub lines: Vec<(IpAddr, Vec<String>)>,
    /// TTL, seconds.
    pub ttl: u32,
    /// Addresses have names in turn; false is `no_reverse`.
    pub reverse: bool,
    /// How often a changed file is looked for; zero: never.
    pub reload: Duration,
    /// Which names that are not there go on to the plugins after this one.
    pub fallthrough: Fallthrough,
    /// `fallthrough_unsupported`: questions for other types of names that are there go on, too.
    pub fallthrough_unsupported: bool,
}

const OPTIONS: [&str; 5] = ["fallthrough", "fallthrough_unsupported", "no_reverse", "ttl", "reload"];

pub(crate) fn read(directive: &Directive, of_block: &[String], complaints: &mut Complaints<'_>) -> Hosts {
    let domains = directive.args.get(1..).unwrap_or_default();
    let mut found = Hosts {
        file: directive.args.first().map(|file| file.text.clone()),
        domains: domains_or(domains, of_block, complaints),
        lines: Vec::new(),
        ttl: 3600,
        reverse: true,
        reload: Duration::from_secs(5),
        fallthrough: Fallthrough::Nothing,
        fallthrough_unsupported: false,
    };
    for line in &directive.lines {
        match line.option() {
            "fallthrough" => found.fallthrough = fallthrough(line, complaints),
            "fallthrough_unsupported" => {
                line.nothing(complaints);
                found.fallthrough_unsupported = true;
            }
            "no_reverse" => {
                line.nothing(complaints);
                found.reverse = false;
            }
            "ttl" => found.ttl = line.one_number(1..=65_535, complaints).unwrap_or(found.ttl),
            "reload" => found.reload = line.one_duration(complaints).unwrap_or(found.reload),
            address => match address.parse() {
                Ok(address) => found.lines.push((address, names(line, complaints))),
                Err(_) => line.unknown(&OPTIONS, complaints),
            },
        }
    }
    if found.fallthrough_unsupported && found.fallthrough == Fallthrough::Nothing {
        complaints.error(directive.place(), "fallthrough_unsupported needs fallthrough: add it");
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
