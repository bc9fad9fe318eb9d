//! The answer, without the way to it.

use std::net::{IpAddr, SocketAddr};

use portolan_service::FrontendKind;

use super::case::{Case, actions, is, protocol_name, tests};
use super::explanation::{
    Chance, Explanation, ToldAffinity, ToldAssumption, ToldCondition, ToldEndpoint, ToldPacket, ToldRule,
    ToldService, ToldVerdict, hook_name,
};
use super::frontends::{self, Frontend, kind_name};
use super::naming::PortName;
use crate::evaluate::{Outcome, StepKind, Verdict};
use crate::packet::{Entry, State};
use crate::printable::printable;
use crate::ruleset::{Action, Goal, Hook, Test, Translation};

pub(super) fn explanation(case: &Case<'_>) -> Explanation {
    let frontends = frontends::all(case);
    let verdict = verdict(case);
    let service = service(case, &frontends);
    let endpoints = endpoints(case);
    Explanation {
        packet: packet(case),
        verdict,
        summary: String::new(),
        service,
        endpoints,
        affinity: affinity(case),
        source: None,
        stopped_by: case.stop().map(|step| case.told_rule(step)),
        reason: None,
        conditions: conditions(case),
        steps: Vec::new(),
    }
}

fn packet(case: &Case<'_>) -> ToldPacket {
    let packet = case.packet;
    let (hook, interface) = match &packet.entry {
        Entry::Prerouting { interface } => (Hook::Prerouting, interface.as_deref()),
        Entry::Output => (Hook::Output, None),
    };
    ToldPacket {
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

fn verdict(case: &Case<'_>) -> ToldVerdict {
    let mut verdicts = case.unremembered().map(|outcome| match outcome.verdict {
        Verdict::Forward(_) => ToldVerdict::Forward,
        Verdict::Accept => ToldVerdict::None,
        Verdict::Reject => ToldVerdict::Reject,
        Verdict::Drop => ToldVerdict::Drop,
        Verdict::Undecided(_) => ToldVerdict::Depends,
    });
    let Some(first) = verdicts.next() else { return ToldVerdict::Depends };
    if verdicts.any(|other| other != first) {
        return ToldVerdict::Depends;
    }
    if first == ToldVerdict::None && accepts(case) { ToldVerdict::Accept } else { first }
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

fn endpoints(case: &Case<'_>) -> Vec<ToldEndpoint> {
    let forwarded = case.unremembered().filter_map(|outcome| match outcome.verdict {
        Verdict::Forward(to) => Some((outcome, to)),
        _ => None,
    });
    let mut endpoints: Vec<ToldEndpoint> = forwarded
        .map(|(outcome, to)| ToldEndpoint {
            ip: to.ip(),
            port: to.port(),
            chance: Chance::from(&outcome.probability),
            masquerade: outcome.masquerade,
            source: seen_source(case, outcome),
            pod: case.pod(to),
            conditions: outcome
                .conditions
                .iter()
                .filter(|assumed| !case.answer.conditions[assumed.condition as usize].remembers)
                .map(|assumed| ToldAssumption { condition: assumed.condition, holds: assumed.holds })
                .collect(),
        })
        .collect();
    endpoints.sort_by_key(|endpoint| (endpoint.ip, endpoint.port));
    endpoints
}

pub(super) fn seen_source(case: &Case<'_>, outcome: &Outcome) -> Option<IpAddr> {
    if outcome.masquerade { outcome.source } else { Some(case.packet.source.ip()) }
}

/// The frontends that are exactly what the packet asks for.
pub(super) fn asked<'f>(case: &Case<'_>, frontends: &'f [Frontend]) -> Vec<&'f Frontend> {
    let packet = case.packet;
    frontends
        .iter()
        .filter(|frontend| {
            frontend.port == packet.destination.port()
                && frontend.protocol == packet.protocol
                && frontend
                    .address
                    .map_or_else(|| case.to_node(), |address| address == packet.destination.ip())
        })
        .collect()
}

fn service(case: &Case<'_>, frontends: &[Frontend]) -> Option<ToldService> {
    let asked = asked(case, frontends);
    let told = |name: &PortName, kind: Option<FrontendKind>| ToldService {
        namespace: name.namespace.clone(),
        name: name.name.clone(),
        port: name.port.clone(),
        frontend: kind.map(kind_name),
    };
    let mut kind = asked.iter().find_map(|frontend| frontend.kind);
    if kind.is_none() && !asked.is_empty() && case.to_node() {
        kind = Some(FrontendKind::NodePort);
    }
    if let Some(name) = asked.iter().find_map(|frontend| frontend.service.as_ref()) {
        return Some(told(name, kind));
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
    Some(told(&first, kind))
}

fn affinity(case: &Case<'_>) -> Option<ToldAffinity> {
    let mut asked = false;
    let mut seconds = None;
    for step in case.every_step() {
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
            let (Action::Lookup { map, .. } | Action::Destination(Translation::Map { map, .. })) = action
            else {
                continue;
            };
            if case.table(step).sets[*map as usize].learns {
                asked = true;
                seconds = seconds.or(case.table(step).sets[*map as usize].timeout);
            }
        }
        // Of our own table: the chain that writes entries is named after their time to live.
        let learnt = case.chain(step).name.strip_prefix("learn-").and_then(|seconds| seconds.parse().ok());
        seconds = seconds.or(learnt);
    }
    if !asked {
        return None;
    }
    let to = |outcome: &Outcome| match outcome.verdict {
        Verdict::Forward(to) => Some(to),
        _ => None,
    };
    let mut endpoints: Vec<SocketAddr> = case.answer.outcomes.iter().filter_map(to).collect();
    endpoints.sort();
    endpoints.dedup();
    let held = |outcome: &&Outcome| {
        outcome.conditions.iter().any(|assumed| {
            let condition = &case.answer.conditions[assumed.condition as usize];
            assumed.holds && condition.remembers && condition.is_entry
        })
    };
    let entry = case.answer.outcomes.iter().find(held).and_then(to);
    (!endpoints.is_empty()).then_some(ToldAffinity { seconds, endpoints, entry })
}

fn conditions(case: &Case<'_>) -> Vec<ToldCondition> {
    case.answer
        .conditions
        .iter()
        .map(|condition| ToldCondition {
            text: condition.text.clone(),
            remembers: condition.remembers,
            rule: ToldRule {
                table: condition.table.to_string(),
                chain: condition.chain.to_string(),
                text: condition.rule.to_string(),
            },
        })
        .collect()
}
