//! For people, from top to bottom.

use std::net::SocketAddr;

use super::explanation::{
    Chance, Explanation, ReasonCode, ShownAssumption, ShownOutcome, ShownRule, ShownVerdict, Style,
};
use super::few::few;
use super::fractions;
use super::paint::{Ink, Page};
use super::steps;
use super::summary::is_for_another_node;

/// So many endpoints are listed, unless all are asked for.
const LISTED: usize = 24;

pub(super) fn write(explanation: &Explanation, style: Style) -> String {
    let mut page = Page::new(style);
    page.line("", "", &explanation.summary, Ink::Bold);
    for what in &explanation.left_out {
        let label = if what.starts_with("Assumed: ") { "" } else { "Missing: " };
        page.line(label, "  ", what, Ink::Open);
    }
    page.blank();
    for stage in &explanation.steps {
        steps::stage(&mut page, stage, style.verbose);
    }
    page.blank();
    verdict(&mut page, explanation, style.verbose);
    page.finish()
}

fn ink(verdict: ShownVerdict) -> Ink {
    match verdict {
        ShownVerdict::Forward | ShownVerdict::Accept => Ink::Good,
        ShownVerdict::Reject | ShownVerdict::Drop => Ink::Bad,
        ShownVerdict::None | ShownVerdict::Depends => Ink::Open,
    }
}

fn verdict(page: &mut Page, explanation: &Explanation, verbose: bool) {
    let entry = explanation.affinity.as_ref().and_then(|affinity| affinity.entry);
    let remembered =
        entry.map(|entry| format!("forwarded to {entry}, where the client is remembered; without that to"));
    let words = match explanation.verdict {
        ShownVerdict::Forward if remembered.is_some() => remembered.as_deref().unwrap_or_default(),
        ShownVerdict::Forward => "forwarded to",
        ShownVerdict::Accept => "let through, untranslated",
        ShownVerdict::Reject if is_unrouted(explanation) => {
            "rejected: the sender gets an error at once (network or host unreachable)"
        }
        ShownVerdict::Reject => "rejected: the sender gets an error at once (connection refused)",
        ShownVerdict::Drop => "dropped: the sender hears nothing and waits until its time is up",
        ShownVerdict::None if is_for_another_node(explanation) => {
            "it leaves this node untranslated; the rules of the other node decide"
        }
        ShownVerdict::None => "no rule of the proxy matches: the node's routing decides",
        ShownVerdict::Depends => "it depends",
    };
    page.line("Verdict: ", "  ", words, ink(explanation.verdict));
    if explanation.verdict == ShownVerdict::Depends {
        outcomes(page, explanation, verbose);
    } else {
        endpoints(page, explanation, verbose);
    }
    if let Some(rule) = &explanation.stopped_by {
        rule_line(page, "Stopped by: ", rule);
    }
    if let Some(reason) = &explanation.reason {
        page.line("Why: ", "  ", &reason.text, Ink::Plain);
    }
    affinity(page, explanation);
    source(page, explanation);
    if let Some(beyond) = &explanation.beyond {
        page.line("Not in the rules: ", "  ", beyond, Ink::Plain);
    }
    for (number, listed) in listed_conditions(explanation).enumerate() {
        let condition = &explanation.conditions[listed];
        let text = format!("{} ({})", condition.text, rule_text(&condition.rule));
        page.line(&format!("Depends on [{}]: ", number + 1), "  ", &text, Ink::Open);
    }
}

/// Whether it is for want of a route that the packet goes nowhere.
fn is_unrouted(explanation: &Explanation) -> bool {
    explanation.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::NoRoute)
}

fn rule_line(page: &mut Page, what: &str, rule: &ShownRule) {
    page.line(what, "  ", &format!("{} (table {})", rule_text(rule), rule.table), Ink::Plain);
}

/// A rule with its chain: that of iptables begins with it.
fn rule_text(rule: &ShownRule) -> String {
    if rule.text.starts_with("-A ") {
        rule.text.clone()
    } else {
        format!("chain {}: {}", rule.chain, rule.text)
    }
}

/// What is assumed, by the numbers that the text gives to the conditions which it lists.
fn assumed(explanation: &Explanation, conditions: &[ShownAssumption]) -> String {
    let listed: Vec<usize> = listed_conditions(explanation).collect();
    let each: Vec<String> = conditions
        .iter()
        .filter_map(|assumed| {
            let number = listed.iter().position(|listed| *listed == assumed.condition as usize)?;
            Some(format!("{} [{}]", if assumed.holds { "if" } else { "unless" }, number + 1))
        })
        .collect();
    each.join(", ")
}

/// The conditions other than that the client is remembered.
fn listed_conditions(explanation: &Explanation) -> impl Iterator<Item = usize> {
    (0..).zip(&explanation.conditions).filter(|(_, condition)| !condition.remembers).map(|(number, _)| number)
}

/// How likely, and under which conditions.
fn likely(explanation: &Explanation, chance: &Chance, conditions: &[ShownAssumption]) -> String {
    let conditions = assumed(explanation, conditions);
    match (chance.is_certain(), conditions.is_empty()) {
        (_, true) => fractions::written(chance),
        (true, false) => conditions,
        (false, false) => format!("{}, {conditions}", fractions::written(chance)),
    }
}

fn endpoints(page: &mut Page, explanation: &Explanation, verbose: bool) {
    let lines = explanation.endpoints.iter().map(|endpoint| {
        let address = SocketAddr::new(endpoint.ip, endpoint.port);
        let pod = endpoint.pod.as_ref().map_or_else(String::new, |pod| format!(", pod {pod}"));
        let likely = likely(explanation, &endpoint.chance, &endpoint.conditions);
        let masquerade = if endpoint.masquerade { ", source translated" } else { "" };
        let socket = if endpoint.is_proxy { ", a socket of the proxy on this node" } else { "" };
        let other = match &endpoint.translated_by {
            Some(rule) if !endpoint.of_service => {
                format!(", by chain {} of table {}", rule.chain, rule.table)
            }
            _ => String::new(),
        };
        (format!("{address}{pod}{socket}: {likely}{masquerade}{other}"), Ink::Good)
    });
    let own = explanation.outcomes.iter().filter(|outcome| !is_remembered(explanation, &outcome.conditions));
    let own = own.filter_map(|outcome| {
        let likely = likely(explanation, &outcome.chance, &outcome.conditions);
        let masquerade = if outcome.masquerade { ", source translated" } else { "" };
        Some((format!("{}: {likely}{masquerade}", own_port(explanation, outcome.own_port?)), Ink::Good))
    });
    list(page, lines.chain(own), verbose);
}

/// Whether it is assumed that the client is remembered.
fn is_remembered(explanation: &Explanation, conditions: &[ShownAssumption]) -> bool {
    conditions
        .iter()
        .any(|assumed| assumed.holds && explanation.conditions[assumed.condition as usize].remembers)
}

/// A port of the node itself at an address that is not known.
fn own_port(explanation: &Explanation, port: u16) -> String {
    let interface =
        explanation.packet.interface.as_deref().unwrap_or("the interface that the packet comes in through");
    format!("port {port} of this node itself, at an address of {interface}")
}

/// Every end, for a client that no rule remembers.
fn outcomes(page: &mut Page, explanation: &Explanation, verbose: bool) {
    let outcomes =
        explanation.outcomes.iter().filter(|outcome| !is_remembered(explanation, &outcome.conditions));
    let lines = outcomes.map(|outcome| {
        let end = match (outcome.endpoint, outcome.verdict) {
            (Some(endpoint), _) => format!("forwarded to {endpoint}"),
            (None, _) if outcome.own_port.is_some() => {
                format!("redirected to {}", own_port(explanation, outcome.own_port.unwrap_or_default()))
            }
            (None, ShownVerdict::Reject) => format!("rejected{}", stopped(outcome)),
            (None, ShownVerdict::Drop) => format!("dropped{}", stopped(outcome)),
            (None, ShownVerdict::Depends) => "not known, a rule takes it that cannot be followed".to_owned(),
            (None, _) => "let through, untranslated".to_owned(),
        };
        let likely = likely(explanation, &outcome.chance, &outcome.conditions);
        let masquerade = if outcome.masquerade { ", source translated" } else { "" };
        (format!("{end}: {likely}{masquerade}"), ink(outcome.verdict))
    });
    list(page, lines, verbose);
}

fn stopped(outcome: &ShownOutcome) -> String {
    outcome.stopped.as_ref().map_or_else(String::new, |why| format!(", because {why}"))
}

fn list(page: &mut Page, mut lines: impl Iterator<Item = (String, Ink)>, verbose: bool) {
    let listed = if verbose { usize::MAX } else { LISTED };
    for (line, ink) in lines.by_ref().take(listed) {
        page.line("  ", "    ", &line, ink);
    }
    let more = lines.count();
    if more > 0 {
        page.line("  ", "    ", &format!("and {more} more (-v shows all)"), Ink::Dim);
    }
}

fn affinity(page: &mut Page, explanation: &Explanation) {
    let Some(affinity) = &explanation.affinity else { return };
    let last =
        affinity.seconds.map_or_else(String::new, |seconds| format!(" in the last {}", duration(seconds)));
    let text = match (affinity.entry, &affinity.endpoints[..]) {
        (Some(entry), _) => format!(
            "the rules remember this client: it stays at {entry} until the entry expires (a client is remembered for its connections{last})"
        ),
        (None, [only]) => format!("a client stays at its endpoint; here there is only {only}"),
        (None, _) => format!("unless this client was seen{last}: then it stays at the endpoint it had"),
    };
    page.line("Session affinity: ", "  ", &text, Ink::Plain);
}

/// Seconds, as people say them.
pub(super) fn duration(seconds: u64) -> String {
    match seconds {
        3600.. if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        60.. if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

fn source(page: &mut Page, explanation: &Explanation) {
    let Some(source) = &explanation.source else { return };
    let forwarded = !explanation.endpoints.is_empty();
    if !forwarded && source.masquerade == "never" {
        return;
    }
    let to_endpoint = forwarded && explanation.endpoints.iter().all(|endpoint| endpoint.of_service);
    let to_proxy = forwarded && explanation.endpoints.iter().all(|endpoint| endpoint.is_proxy);
    let who = match (to_proxy, to_endpoint) {
        (true, _) => "the proxy",
        (_, true) => "the endpoint",
        _ => "the destination",
    };
    let client = explanation.packet.source.ip();
    let sees = match (source.masquerade, source.address) {
        ("never", _) => format!("{who} sees {client}, the client itself; {}", source.why),
        ("always", Some(address)) => format!("{who} sees {address} instead of {client}: {}", source.why),
        ("always", None) => {
            format!(
                "{who} sees the address of the interface through which the packet leaves this node, instead of {client}: {}",
                source.why
            )
        }
        _ => {
            let translated = explanation.endpoints.iter().filter(|endpoint| endpoint.masquerade);
            let except =
                few(translated.map(|endpoint| SocketAddr::new(endpoint.ip, endpoint.port).to_string()));
            let except = if except.is_empty() { "for some ways".to_owned() } else { format!("for {except}") };
            format!(
                "{who} sees {client}, the client itself, except {except}, where it is this node's address: {}",
                source.why
            )
        }
    };
    page.line("Source: ", "  ", &sees, Ink::Plain);
    if to_proxy {
        let text =
            "the proxy connects to an endpoint itself, from an address of this node; no rule says to which";
        page.line("Endpoint: ", "  ", text, Ink::Plain);
    }
    if let Some(rule) = &source.marked_by {
        rule_line(page, "  marked by ", rule);
    }
    if let Some(rule) = &source.translated_by {
        rule_line(page, "  translated by ", rule);
    }
    if forwarded {
        let through = if source.masquerade == "always" {
            "go to this node's address"
        } else {
            "must come back through this node"
        };
        let by_ipvs = |rule: &ShownRule| rule.table.ends_with(" IPVS");
        let by_ipvs = explanation.endpoints.iter().any(|to| to.translated_by.as_ref().is_some_and(by_ipvs));
        let translator = if by_ipvs { "IPVS" } else { "connection tracking" };
        let text = format!(
            "{through}, where {translator} translates them: to the client they come from {}",
            explanation.packet.destination
        );
        page.line("Replies: ", "  ", &text, Ink::Plain);
    }
}
