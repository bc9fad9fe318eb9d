//! `acl`: who may ask.

use ipnet::IpNet;
use portolan_names::wire::kind;

use super::domains_or;
use crate::directive::{Directive, Line};
use crate::problem::Complaints;
use crate::words::network;

/// What becomes of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// `allow`: it is answered.
    Allow,
    /// `block`: REFUSED.
    Block,
    /// `filter`: NOERROR without any record.
    Filter,
    /// `drop`: no answer at all.
    Drop,
}

/// Policies for some domains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// The domains.
    pub domains: Vec<String>,
    /// In order: the first one that fits decides. If none does, the question is answered.
    pub policies: Vec<Policy>,
}

/// What becomes of which questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// What becomes of them.
    pub action: Action,
    /// The types that are asked for; `None`: all.
    pub types: Option<Vec<u16>>,
    /// Where they come from; `None`: anywhere.
    pub networks: Option<Vec<IpNet>>,
}

pub(crate) fn read(directive: &Directive, of_block: &[String], complaints: &mut Complaints<'_>) -> Acl {
    let domains = domains_or(&directive.args, of_block, complaints);
    let mut policies = Vec::new();
    for line in &directive.lines {
        let action = match &*line.option().to_ascii_lowercase() {
            "allow" => Action::Allow,
            "block" => Action::Block,
            "filter" => Action::Filter,
            "drop" => Action::Drop,
            _ => {
                line.unknown(&["allow", "block", "filter", "drop"], complaints);
                continue;
            }
        };
        policies.push(policy(line, action, complaints));
    }
    Acl { domains, policies }
}

/// Reads `[type TYPE...] [net NETWORK...]`; `*` stands for all.
fn policy(line: &Line, action: Action, complaints: &mut Complaints<'_>) -> Policy {
    let (mut types, mut networks) = (Vec::new(), Vec::new());
    let (mut all_types, mut all_networks) = (true, true);
    let sections = line.args.iter().enumerate().filter(|(_, arg)| section(&arg.text).is_some());
    let mut sections = sections.map(|(place, _)| place).collect::<Vec<_>>();
    if line.args.first().is_some_and(|first| section(&first.text).is_none()) {
        line.error(complaints, format!("{:?} stands where type or net is expected", line.args[0].text));
    }
    sections.push(line.args.len());
    for pair in sections.windows(2) {
        let [from, to] = *pair else { continue };
        let (name, values) = (&line.args[from].text, &line.args[from + 1..to]);
        let by_type = section(name) == Some(true);
        if values.is_empty() {
            line.error(complaints, format!("{name} has no value: add some, or *"));
        }
        *(if by_type { &mut all_types } else { &mut all_networks }) =
            values.iter().any(|value| value.text == "*");
        for value in values.iter().filter(|value| value.text != "*") {
            let text = &value.text;
            if by_type {
                match kind::named(text) {
                    Some(number) => types.push(number),
                    None => line.error(complaints, format!("{text:?} is no type of records, such as AAAA")),
                }
            } else {
                match network(text) {
                    Some(network) => networks.push(network),
                    None => line.error(complaints, format!("{text:?} is no network, such as 10.0.0.0/8")),
                }
            }
        }
    }
    Policy { action, types: (!all_types).then_some(types), networks: (!all_networks).then_some(networks) }
}

/// Whether types follow the word, or networks.
fn section(word: &str) -> Option<bool> {
    match &*word.to_ascii_lowercase() {
        "type" => Some(true),
        "net" => Some(false),
        _ => None,
    }
}
