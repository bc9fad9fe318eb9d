//! The answer, without the way to it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use portolan_service::FrontendKind;

use super::case::{Case, actions, is, protocol_name, tests};
use super::explanation::{
    Chance, Explanation, ReasonCode, ShownAffinity, ShownAssumption, ShownCondition, ShownEndpoint,
    ShownOutcome, ShownPacket, ShownRule, ShownService, ShownVerdict, hook_name,
};
use super::frontends::{self, Frontend, asked, kind_name};
use super::known::Next;
use super::naming::PortName;
use super::{reason, source, ways};
use crate::evaluate::{Assumption, Outcome, StepKind, Verdict};
use crate::packet::{Entry, State};
use crate::printable::printable;
use crate::ruleset::{Action, Goal, Hook, Test, Translation};

pub(super) fn explanation(case: &Case<'_>) -> Explanation {
    let frontends = frontends::all(case);
    let verdict = verdict(case);
    let service = service(case, &frontends);
    let endpoints = endpoints(case, service.as_ref());
    let beyond = (verdict == ShownVerdict::Forward).then(|| beyond(case, &endpoints)).flatten();
    let explanation = Explanation {
        packet: packet(case),
        verdict,
        summary: String::new(),
        service,
        endpoints,
        outcomes: outcomes(case),
        affinity: affinity(case),
        source: source::source(case),
        stopped_by: case.stop().map(|step| case.shown_rule(step)),
        reason: reason::reason(case, verdict, &frontends),
        conditions: conditions(case),
        left_out: case.ruleset.left_out(case.packet.family()),
        steps: ways::stages(case),
        beyond,
    };
    let summary = ended(sentence(&explanation));
    Explanation { summary, ..explanation }
}

/// What no rule shows of `endpoints`, and how to look; nothing unless the rules are a live node's.
fn beyond(case: &Case<'_>, endpoints: &[ShownEndpoint]) -> Option<String> {
    case.node.host.as_ref()?;
    let first = endpoints.first()?;
    let listens = if endpoints.len() == 1 {
        format!("whether anything listens at {}", SocketAddr::new(first.ip, first.port))
    } else {
        "whether anything listens at these addresses".to_owned()
    };
    let look = match (&case.services.next, &first.pod) {
        (Next::InLab { flag, .. }, Some(pod)) => {
            let pod = pod.strip_prefix("default/").unwrap_or(pod);
            format!("; `portolan lab capture {flag}{pod}` shows what arrives there and what is answered")
        }
        _ => String::new(),
    };
    Some(format!("{listens}{look}"))
}

/// A sentence with its mark at the end: a reason may be a question.
fn ended(mut sentence: String) -> String {
    if !sentence.ends_with(['.', '?']) {
        sentence.push('.');
    }
    sentence
}

/// The answer in a sentence, without the mark at its end.
fn sentence(explanation: &Explanation) -> String {
    let packet = &explanation.packet;
    let what = format!("{} -> {}/{}", packet.source, packet.destination, packet.protocol);
    let of =
        explanation.service.as_ref().map_or_else(String::new, |service| format!(" of {}", service.title()));
    let ends: BTreeSet<(IpAddr, u16)> =
        explanation.endpoints.iter().map(|endpoint| (endpoint.ip, endpoint.port)).collect();
    let source = match explanation.source.as_ref().map(|source| source.masquerade) {
        Some("always") => ", source translated",
        Some("sometimes") => ", source translated for some",
        _ => ", source kept",
    };
    let entry = explanation.affinity.as_ref().and_then(|affinity| affinity.entry);
    if let (ShownVerdict::Forward, Some(entry)) = (explanation.verdict, entry) {
        return format!(
            "{what} is forwarded to {entry}{of}, where the client is remembered (session affinity){source}"
        );
    }
    match explanation.verdict {
        ShownVerdict::Forward => {
            format!("{what} is {}{source}{}", forwarded(explanation, &ends, &of), because(explanation))
        }
        ShownVerdict::Reject => format!("{what} is rejected{}", because(explanation)),
        ShownVerdict::Drop => format!("{what} is dropped{}", because(explanation)),
        ShownVerdict::Accept => {
            format!("{what} is let through to where it was sent{}", because(explanation))
        }
        ShownVerdict::None if is_for_another_node(explanation) => {
            format!("{what} leaves this node{}", because(explanation))
        }
        ShownVerdict::None => {
            format!(
                "{what}: no rule of the proxy matches, the node's routing decides{}",
                because(explanation)
            )
        }
        ShownVerdict::Depends => {
            let conditions = explanation.conditions.iter().filter(|condition| !condition.remembers).count();
            let on = match conditions {
                0 if explanation.outcomes.iter().any(|outcome| outcome.stopped.is_some()) => {
                    format!("depends on chance{}", because(explanation))
                }
                0 => "depends on chance, or on rules that cannot be followed".to_owned(),
                1 => "depends on a condition that neither the packet nor the node decides".to_owned(),
                many => format!("depends on {many} conditions that neither the packet nor the node decides"),
            };
            format!("{what}: where it goes {on}")
        }
    }
}

/// Where a packet is forwarded to. An endpoint is one only if the proxy's rules or the plan say so.
fn forwarded(explanation: &Explanation, ends: &BTreeSet<(IpAddr, u16)>, of: &str) -> String {
    if let (true, Some(port)) =
        (ends.is_empty(), explanation.outcomes.iter().find_map(|outcome| outcome.own_port))
    {
        let of = of.replacen(" of ", ", for ", 1);
        return format!("redirected to port {port} of this node itself{of}");
    }
    let of_service = explanation.endpoints.iter().all(|endpoint| endpoint.of_service);
    let only = ends.iter().next().filter(|_| ends.len() == 1);
    match only.map(|(ip, port)| SocketAddr::new(*ip, *port)) {
        Some(only) if explanation.endpoints.iter().all(|endpoint| endpoint.is_proxy) => {
            format!("taken by the proxy itself at {only}{}", of.replacen(" of ", ", for ", 1))
        }
        Some(only) if of_service && !of.is_empty() => format!("forwarded to {only}, an endpoint{of}"),
        Some(only) => format!("forwarded to {only}"),
        None if of_service => format!("forwarded to one of {} endpoints{of}", ends.len()),
        None => format!("forwarded to one of {} destinations", ends.len()),
    }
}

pub(super) fn is_for_another_node(explanation: &Explanation) -> bool {
    explanation.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::AnotherNode)
}

fn because(explanation: &Explanation) -> String {
    explanation.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", reason.text))
}

fn packet(case: &Case<'_>) -> ShownPacket {
    let packet = case.packet;
    let (hook, interface) = match &packet.entry {
        Entry::Prerouting { interface } => (Hook::Prerouting, interface.as_deref()),
        Entry::Output => (Hook::Output, None),
    };
    ShownPacket {
        source: packet.source,
        destination: packet.destination,
        protocol: protocol_name(packet.protocol),
        hook: hook_name(hook),
        interface: interface.map(|interface| printable(interface).into_owned()),
        state: match packet.state {
            State::New => "new",
            State::Established => "established",
            State::Related => "related",
            State::Invalid => "invalid",
        },
    }
}

fn verdict(case: &Case<'_>) -> ShownVerdict {
    let mut verdicts = case.unremembered().map(shown_verdict);
    let Some(first) = verdicts.next() else { return ShownVerdict::Depends };
    if verdicts.any(|other| other != first) {
        return ShownVerdict::Depends;
    }
    if first == ShownVerdict::None && accepts(case) { ShownVerdict::Accept } else { first }
}

fn shown_verdict(outcome: &Outcome) -> ShownVerdict {
    match outcome.verdict {
        Verdict::Forward(_) | Verdict::ToNode { .. } => ShownVerdict::Forward,
        Verdict::Accept => ShownVerdict::None,
        Verdict::Stopped { by, .. } if by.rejects() => ShownVerdict::Reject,
        Verdict::Reject => ShownVerdict::Reject,
        Verdict::Drop | Verdict::Stopped { .. } => ShownVerdict::Drop,
        Verdict::Undecided(_) => ShownVerdict::Depends,
    }
}

fn outcomes(case: &Case<'_>) -> Vec<ShownOutcome> {
    let mut outcomes: Vec<ShownOutcome> = case
        .answer
        .outcomes
        .iter()
        .map(|outcome| ShownOutcome {
            verdict: shown_verdict(outcome),
            endpoint: endpoint_of(outcome),
            chance: Chance::from(&outcome.probability),
            masquerade: outcome.masquerade,
            conditions: outcome.conditions.iter().copied().map(shown_assumption).collect(),
            own_port: match outcome.verdict {
                Verdict::ToNode { port } => Some(port),
                _ => None,
            },
            stopped: match outcome.verdict {
                Verdict::Stopped { by, towards } => Some(super::kernel::stopped(case, by, towards).1),
                _ => None,
            },
        })
        .collect();
    outcomes.sort_by_key(|outcome| (outcome.endpoint, outcome.masquerade));
    outcomes
}

fn endpoint_of(outcome: &Outcome) -> Option<SocketAddr> {
    match outcome.verdict {
        Verdict::Forward(to) => Some(to),
        _ => None,
    }
}

fn shown_assumption(assumed: Assumption) -> ShownAssumption {
    ShownAssumption { condition: assumed.condition, holds: assumed.holds }
}

/// Whether a rule of the proxy lets an untranslated packet through.
fn accepts(case: &Case<'_>) -> bool {
    case.every_step().any(|step| {
        is(step, StepKind::Hit)
            && case.is_proxys(step)
            && case.chain(step).name.as_ref() != "no-local"
            && case.rule(step).is_some_and(|rule| {
                actions(rule).any(|action| matches!(action, Action::Goal(Goal::Accept) | Action::Source(_)))
            })
    })
}

/// Whether `to` is an endpoint of the Service that is asked for: the proxy's own rules lead there,
/// or the plan has it.
fn is_of_service<'a>(
    case: &Case<'a>,
    outcome: &'a Outcome,
    to: SocketAddr,
    service: Option<&ShownService>,
) -> bool {
    let planned = || {
        case.services
            .services
            .iter()
            .filter(|known| {
                service.is_some_and(|it| it.namespace == known.namespace && it.name == known.name)
            })
            .flat_map(|known| &known.endpoints)
            .any(|endpoint| endpoint.address == to)
    };
    case.translated_by(outcome).is_some_and(|step| case.is_proxys(step)) || planned()
}

fn endpoints(case: &Case<'_>, service: Option<&ShownService>) -> Vec<ShownEndpoint> {
    let forwarded =
        case.unremembered().filter_map(|outcome| endpoint_of(outcome).map(|endpoint| (outcome, endpoint)));
    let mut endpoints: Vec<ShownEndpoint> = forwarded
        .map(|(outcome, to)| ShownEndpoint {
            ip: to.ip(),
            port: to.port(),
            chance: Chance::from(&outcome.probability),
            masquerade: outcome.masquerade,
            source: case.seen_source(outcome),
            pod: case.pod(to),
            of_service: is_of_service(case, outcome, to, service),
            is_proxy: case.is_proxys_socket(outcome, to),
            translated_by: case.translated_by(outcome).map(|step| case.shown_rule(step)),
            conditions: outcome
                .conditions
                .iter()
                .filter(|assumed| !case.answer.conditions[assumed.condition as usize].remembers)
                .copied()
                .map(shown_assumption)
                .collect(),
        })
        .collect();
    endpoints.sort_by_key(|endpoint| (endpoint.ip, endpoint.port));
    endpoints
}

fn service(case: &Case<'_>, frontends: &[Frontend]) -> Option<ShownService> {
    let asked = asked(case, frontends);
    let shown = |name: &PortName, kind: Option<FrontendKind>| ShownService {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        port: name.port.clone(),
        frontend: kind.map(kind_name),
    };
    let mut kind = asked.iter().find_map(|frontend| frontend.kind);
    if kind.is_none() && !asked.is_empty() && case.is_for_node() {
        kind = Some(FrontendKind::NodePort);
    }
    if let Some(name) = asked.iter().find_map(|frontend| frontend.service.as_ref()) {
        return Some(shown(name, kind));
    }
    // Only what a translated or refused packet met is about the Service it is for.
    let met = |step| {
        let rule = case.rule(step)?;
        let called = || {
            let chain = super::case::calls(rule)?;
            PortName::in_chain(&case.table(step).chains[chain as usize].name)
        };
        rule.comment
            .as_deref()
            .and_then(PortName::in_comment)
            .or_else(called)
            .or_else(|| PortName::in_chain(&case.chain(step).name))
    };
    let first =
        case.every_step().filter(|step| is(step, StepKind::Hit) && case.is_proxys(step)).find_map(met)?;
    Some(shown(&first, kind))
}

fn affinity(case: &Case<'_>) -> Option<ShownAffinity> {
    let mut asked = false;
    let mut seconds = None;
    // What others keep for a time (blocklists, rates) makes no client stay anywhere.
    for step in case.every_step().filter(|step| case.is_proxys(step)) {
        let Some(rule) = case.rule(step) else { continue };
        for test in tests(rule) {
            match test {
                Test::Remembered { seconds: limit, .. } => {
                    asked = true;
                    seconds = seconds.or(limit.map(u64::from));
                }
                Test::Lookup { set, .. } if case.table(step).sets[*set as usize].learns => {
                    asked = true;
                    seconds = seconds.or(case.table(step).sets[*set as usize].timeout);
                }
                _ => {}
            }
        }
        for action in actions(rule) {
            if let Action::Destination(Translation::Balanced(balance)) = action
                && is(step, StepKind::Hit)
                && let Some(persistence) = balance.persistence
            {
                asked = true;
                seconds = seconds.or(Some(persistence.into()));
            }
            let (Action::Lookup { map, .. } | Action::Destination(Translation::Map { map, .. })) = action
            else {
                continue;
            };
            if case.table(step).sets[*map as usize].learns {
                asked = true;
                seconds = seconds.or(case.table(step).sets[*map as usize].timeout);
            }
        }
    }
    if !asked {
        return None;
    }
    let mut endpoints: Vec<SocketAddr> = case.answer.outcomes.iter().filter_map(endpoint_of).collect();
    endpoints.sort();
    endpoints.dedup();
    let held = |outcome: &&Outcome| {
        outcome.conditions.iter().any(|assumed| {
            let condition = &case.answer.conditions[assumed.condition as usize];
            assumed.holds && condition.remembers && condition.is_entry
        })
    };
    let entry = case.answer.outcomes.iter().find(held).and_then(endpoint_of);
    (!endpoints.is_empty()).then_some(ShownAffinity { seconds, endpoints, entry })
}

fn conditions(case: &Case<'_>) -> Vec<ShownCondition> {
    case.answer
        .conditions
        .iter()
        .map(|condition| ShownCondition {
            text: condition.text.clone(),
            remembers: condition.remembers,
            rule: ShownRule {
                table: condition.table.to_string(),
                chain: condition.chain.to_string(),
                text: condition.rule.to_string(),
            },
        })
        .collect()
}
