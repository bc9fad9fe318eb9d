//! Everything at hand, and the questions that all parts of an explanation ask of it.

use std::net::{IpAddr, SocketAddr};

use portolan_service::Protocol;

use super::explanation::{ReasonCode, ShownRule};
use super::known::Services;
use crate::evaluate::{Answer, Outcome, Path, Step, StepKind, Stop, Verdict};
use crate::packet::{Node, Packet};
use crate::printable::printable;
use crate::ruleset::{Action, Chain, Goal, Part, Rule, Ruleset, Set, Table, Test};
use crate::value::address_value;

/// A reason, and the words for it.
pub(super) type Why = (ReasonCode, String);

/// What is to be explained.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) ruleset: &'a Ruleset,
    pub(super) node: &'a Node,
    pub(super) packet: &'a Packet,
    pub(super) answer: &'a Answer,
    pub(super) services: &'a Services,
}

impl<'a> Case<'a> {
    pub(super) fn table(&self, step: &Step) -> &'a Table {
        self.ruleset.table(step.table)
    }

    pub(super) fn chain(&self, step: &Step) -> &'a Chain {
        &self.table(step).chains[step.chain as usize]
    }

    pub(super) fn rule(&self, step: &Step) -> Option<&'a Rule> {
        self.chain(step).rules.get(step.rule? as usize)
    }

    /// Whether a service proxy wrote the chain of `step`.
    pub(super) fn is_proxys(&self, step: &Step) -> bool {
        self.table(step).is_proxys(self.chain(step))
    }

    /// The rule at which `step` is; at the end of a base chain, its policy.
    pub(super) fn shown_rule(&self, step: &Step) -> ShownRule {
        let table = self.table(step);
        ShownRule {
            table: format!("{} {}", table.family, table.name),
            chain: self.chain(step).name.to_string(),
            text: match self.rule(step) {
                Some(rule) => rule.text.to_string(),
                None => step.why.clone(),
            },
        }
    }

    /// The outcomes for a client that no rule remembers.
    pub(super) fn unremembered(&self) -> impl Iterator<Item = &'a Outcome> {
        let answer = self.answer;
        answer.outcomes.iter().filter(move |outcome| {
            !outcome
                .conditions
                .iter()
                .any(|assumed| assumed.holds && answer.conditions[assumed.condition as usize].remembers)
        })
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = (&'a Outcome, &'a Path)> {
        self.answer.outcomes.iter().flat_map(|outcome| outcome.paths.iter().map(move |path| (outcome, path)))
    }

    pub(super) fn every_step(&self) -> impl Iterator<Item = &'a Step> {
        self.paths().flat_map(|(_, path)| &path.steps)
    }

    /// Where the first outcome that is rejected or dropped ends.
    pub(super) fn stop(&self) -> Option<&'a Step> {
        self.answer
            .outcomes
            .iter()
            .filter(|outcome| matches!(outcome.verdict, Verdict::Reject | Verdict::Drop))
            .flat_map(|outcome| &outcome.paths)
            .find_map(|path| path.steps.last())
    }

    /// If the kernel stops one of the outcomes outside of its rules: why, and where the packet was
    /// on the way to.
    pub(super) fn stopped_by_kernel(&self) -> Option<(Stop, SocketAddr)> {
        self.answer.outcomes.iter().find_map(|outcome| match outcome.verdict {
            Verdict::Stopped { by, towards } => Some((by, towards)),
            _ => None,
        })
    }

    /// The rule that decided on the destination of `outcome`, if one did and steps were recorded.
    pub(super) fn translated_by(&self, outcome: &'a Outcome) -> Option<&'a Step> {
        let steps = outcome.paths.first().map_or(&[][..], |path| &path.steps);
        steps.iter().rev().find(|step| {
            is(step, StepKind::Hit)
                && self
                    .rule(step)
                    .is_some_and(|rule| actions(rule).any(|action| matches!(action, Action::Destination(_))))
        })
    }

    /// Whether `to`, where `outcome` goes, is a socket of the proxy itself (mode userspace). Our
    /// tables drop what is sent to such a socket directly. Of iptables, the mode has chains of its
    /// own, kube-proxy's and ours.
    pub(super) fn is_proxys_socket(&self, outcome: &'a Outcome, to: SocketAddr) -> bool {
        let Some(step) = self.translated_by(outcome).filter(|step| self.is_proxys(step)) else {
            return false;
        };
        let chain = &*self.chain(step).name;
        let protocol = u128::from(self.packet.protocol.number());
        let key = [address_value(to.ip()), protocol, u128::from(to.port())];
        let is_guarded = |set: &Set| &*set.name == "firewalled" && set.get(&key).is_some();
        // In mode iptables no chain of external traffic translates.
        let of_chains = ["KUBE-PORTALS-", "KUBE-NODEPORT-", "KUBE-EXT-"];
        of_chains.iter().any(|beginning| chain.starts_with(beginning))
            || (self.node.is_local(to.ip()) && self.table(step).sets.iter().any(is_guarded))
    }

    /// Whether a service proxy has written any rule here.
    pub(super) fn has_proxy(&self) -> bool {
        self.ruleset.has_proxy()
    }

    /// `address`, with the pod that has it if that is known.
    pub(super) fn endpoint(&self, address: SocketAddr) -> String {
        match self.pod(address) {
            Some(pod) => format!("{address} (pod {pod})"),
            None => address.to_string(),
        }
    }

    pub(super) fn pod(&self, address: SocketAddr) -> Option<String> {
        let endpoints = || self.services.services.iter().flat_map(|service| &service.endpoints);
        endpoints()
            .find(|endpoint| endpoint.address == address && endpoint.pod.is_some())
            .or_else(|| endpoints().find(|endpoint| endpoint.address.ip() == address.ip()))
            .and_then(|endpoint| endpoint.pod.as_deref())
            .map(|pod| printable(pod).into_owned())
    }

    /// Whether the packet goes to one of the node's own addresses: those that it has for Services
    /// are none.
    pub(super) fn is_for_node(&self) -> bool {
        let to = self.packet.destination.ip();
        self.node.is_local(to) && !self.node.has_for_services(to)
    }

    /// The source address that the other end sees. `None` if it is translated to one that is not
    /// known.
    pub(super) fn seen_source(&self, outcome: &Outcome) -> Option<IpAddr> {
        if outcome.masquerade { outcome.source } else { Some(self.packet.source.ip()) }
    }

    pub(super) fn destination(&self) -> IpAddr {
        self.packet.destination.ip()
    }
}

pub(super) fn is(step: &Step, kind: StepKind) -> bool {
    step.kind == kind
}

pub(super) fn tests(rule: &Rule) -> impl Iterator<Item = &Test> {
    rule.parts.iter().filter_map(|part| match part {
        Part::Test(test) => Some(test),
        Part::Action(_) => None,
    })
}

pub(super) fn actions(rule: &Rule) -> impl Iterator<Item = &Action> {
    rule.parts.iter().filter_map(|part| match part {
        Part::Action(action) => Some(action),
        Part::Test(_) => None,
    })
}

/// The chain that `rule` always sends packets to.
pub(super) fn calls(rule: &Rule) -> Option<u32> {
    actions(rule).find_map(|action| match action {
        Action::Goal(Goal::Jump(chain) | Goal::Goto(chain)) => Some(*chain),
        _ => None,
    })
}

pub(super) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}
