//! What the tables hold of ours, for people: a line for each rule that a client can meet first,
//! with the endpoints that it leads to.

use std::collections::BTreeSet;

use portolan_service::Family;

use super::chains::Shared;
use super::compare::Tables;
use super::names::lower_case;
use super::rule::{Match, Rule, Target};
use super::saved::Held;

/// How deep chains of Services lead: from a firewall chain to that of external traffic, to that
/// which balances, to an endpoint's.
const DEPTH: usize = 4;

/// The lines of one family, in the order of the kernel's rules.
pub(super) fn lines(family: Family, tables: &Tables<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    for shared in Shared::ALL {
        for text in tables.get(shared.table()).rules(shared.chain()) {
            let line = match Rule::parse(text, family) {
                // Goes on to NodePorts, which have lines of their own, or says whose chain it is.
                Some(rule) if leads_to_node_ports(&rule) || rule.verdict() == Some(&Target::Return) => {
                    continue;
                }
                Some(rule) => describe(shared, &rule, family, &tables.nat),
                None => format!("{} {} not ours: {text}", shared.table().name(), shared.chain()),
            };
            lines.push(line);
        }
    }
    lines
}

fn leads_to_node_ports(rule: &Rule) -> bool {
    matches!(rule.verdict(), Some(Target::Jump(chain)) if chain == Shared::NodePorts.chain())
}

fn describe(shared: Shared, rule: &Rule, family: Family, nat: &Held<'_>) -> String {
    let (mut address, mut port, mut comment) = (None, String::new(), "");
    for condition in rule.matches() {
        match condition {
            Match::Destination { not: false, network } => address = Some(network.addr()),
            Match::Transport { protocol, port: given } => {
                port = given.map_or_else(String::new, |port| format!("{port}/"));
                port.push_str(lower_case(*protocol));
            }
            Match::Comment(text) => comment = text,
            _ => {}
        }
    }
    let address = match address {
        Some(address) => format!("{address} "),
        None => "node ".to_owned(),
    };
    let verdict = match rule.verdict() {
        Some(Target::Jump(chain)) => {
            let mut endpoints = BTreeSet::new();
            follow(chain, family, nat, DEPTH, &mut endpoints);
            endpoints.into_iter().collect::<Vec<_>>().join(", ")
        }
        Some(Target::Dnat(endpoint)) => endpoint.to_string(),
        Some(Target::Reject) => "reject".to_owned(),
        Some(Target::Drop) => "drop".to_owned(),
        Some(Target::Accept) => "accept".to_owned(),
        _ => "nothing".to_owned(),
    };
    format!("{} {} {address}{port} ({comment}) -> {verdict}", shared.table().name(), shared.chain())
}

/// Collects the endpoints that `chain` leads to.
fn follow(chain: &str, family: Family, nat: &Held<'_>, depth: usize, to: &mut BTreeSet<String>) {
    for text in nat.rules(chain) {
        match Rule::parse(text, family).as_ref().and_then(Rule::verdict) {
            Some(Target::Dnat(endpoint)) => drop(to.insert(endpoint.to_string())),
            Some(Target::Jump(next)) if depth > 0 => follow(next, family, nat, depth - 1, to),
            _ => {}
        }
    }
}
