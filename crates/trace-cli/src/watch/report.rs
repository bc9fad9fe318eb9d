//! A packet's way in words.

use std::collections::HashMap;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use portolan_netfilter::nft::{TraceEvent, TraceHeaders, TraceKind, TraceVerdict};
use portolan_service::Protocol;
use portolan_trace::explain::{Explanation, ShownHit, ShownService, ShownStep, explain};
use portolan_trace::{Entry, Node, Packet, Record, evaluate, printable};
use serde::Serialize;

use super::flight::{End, Flight};
use super::rule_texts::{Texts, family_name};
use crate::names::Names;

/// What is known besides the packet.
pub(super) struct Reporter<'a> {
    pub(super) texts: &'a Texts,
    pub(super) names: &'a Names,
    pub(super) node: &'a Node,
    pub(super) interfaces: &'a HashMap<u32, String>,
}

/// A packet that was seen: as `-o json` has it.
#[derive(Debug, Serialize)]
pub(super) struct Seen {
    /// Seconds since 1970
    time: f64,
    packet: SeenPacket,
    verdict: &'static str,
    summary: String,
    service: Option<String>,
    result: SeenPacket,
    steps: Vec<Stage>,
}

#[derive(Debug, Serialize)]
struct SeenPacket {
    source: String,
    destination: String,
    protocol: String,
    interface: Option<String>,
}

#[derive(Debug, Serialize)]
struct Stage {
    hook: Option<String>,
    table: String,
    chain: String,
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Step {
    Hit {
        chain: String,
        rule: Option<usize>,
        handle: u64,
        text: Option<String>,
        why: String,
        verdict: String,
    },
    Policy {
        policy: &'static str,
    },
}

impl Reporter<'_> {
    /// A packet's way, and what became of it.
    pub(super) fn report(&self, flight: &Flight) -> Seen {
        let explanation = self.explanation(flight);
        let hits = explanation.as_ref().map(hits).unwrap_or_default();
        let service = explanation.as_ref().and_then(|it| it.service.as_ref()).map(ShownService::title);
        let steps = self.stages(flight, &hits);
        let rejects = matches!(
            steps.last().and_then(|stage| stage.steps.last()),
            Some(Step::Hit { text: Some(text), .. }) if text.contains("reject") || text.contains("REJECT")
        );
        let verdict = match flight.end {
            End::Stopped if rejects => "reject",
            End::Stopped => "drop",
            End::Delivered => "input",
            End::Left if flight.first.destination_end() == flight.last.destination_end() => "accept",
            End::Left => "forward",
            End::Unknown => "unknown",
        };
        let packet = self.packet(&flight.first, flight.input);
        let result = self.packet(&flight.last, flight.output);
        let mut summary = format!("{} -> {}/{}", packet.source, packet.destination, packet.protocol);
        if let Some(service) = &service {
            let _ = write!(summary, " ({service})");
        }
        summary.push_str(&became(flight, verdict, &result));
        let time = flight.begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        Seen { time, packet, verdict, summary, service, result, steps }
    }

    fn packet(&self, headers: &TraceHeaders, interface: Option<u32>) -> SeenPacket {
        let name = |index: u32| match self.interfaces.get(&index) {
            Some(name) => printable(name).into_owned(),
            None => format!("interface {index}"),
        };
        SeenPacket {
            source: headers.source_end(),
            destination: headers.destination_end(),
            protocol: headers.protocol_name(),
            interface: interface.map(name),
        }
    }

    /// What the rules would do with the packet if it is the first of its connection. `None` for
    /// protocols without ports.
    fn explanation(&self, flight: &Flight) -> Option<Explanation> {
        let headers = &flight.first;
        let protocol = Protocol::ALL.into_iter().find(|it| it.number() == headers.protocol)?;
        let (source, destination) = headers.ports?;
        let entry = if flight.from_node {
            Entry::Output
        } else {
            Entry::Prerouting { interface: self.interfaces.get(&flight.input?).cloned() }
        };
        let mut packet = Packet::new(
            SocketAddr::new(headers.source, source),
            SocketAddr::new(headers.destination, destination),
            protocol,
            entry,
        );
        packet.mark = flight.mark;
        let ruleset = &self.texts.rules.ruleset;
        let answer = evaluate(ruleset, self.node, &packet, Record::Steps);
        Some(explain(ruleset, self.node, &packet, &answer, &self.names.services))
    }

    fn stages(&self, flight: &Flight, hits: &[(String, ShownHit)]) -> Vec<Stage> {
        let mut stages: Vec<Stage> = Vec::new();
        for event in &flight.events {
            let table = format!("{} {}", family_name(event.family), printable(&event.table));
            let chain = printable(&event.chain).into_owned();
            let base = self.texts.chain(event).and_then(|chain| chain.base);
            let same = stages
                .last()
                .is_some_and(|last| last.table == table && (base.is_none() || last.chain == chain));
            if !same {
                let hook = base.map(|base| base.hook.to_string());
                stages.push(Stage { hook, table: table.clone(), chain: chain.clone(), steps: Vec::new() });
            }
            let step = match &event.kind {
                TraceKind::Policy { accepts } => {
                    Step::Policy { policy: if *accepts { "accept" } else { "drop" } }
                }
                // The rule or the end of the chain where the call ends says nothing of its own.
                TraceKind::Return | TraceKind::End => continue,
                TraceKind::Rule { handle, verdict } => {
                    self.hit(event, *handle, verdict, flight, &table, chain, hits)
                }
            };
            if let Some(stage) = stages.last_mut() {
                stage.steps.push(step);
            }
        }
        stages
    }

    #[expect(clippy::too_many_arguments, reason = "all that is known of one rule")]
    fn hit(
        &self,
        event: &TraceEvent,
        handle: u64,
        verdict: &TraceVerdict,
        flight: &Flight,
        table: &str,
        chain: String,
        hits: &[(String, ShownHit)],
    ) -> Step {
        let found = self.texts.rule(event, handle);
        let done = verdict_words(verdict);
        let explained = found.and_then(|found| {
            let mut whys: Vec<&str> = hits
                .iter()
                .filter(|(of, hit)| of == table && hit.chain == chain && hit.rule as usize == found.number)
                .map(|(_, hit)| hit.why.as_str())
                .collect();
            whys.dedup();
            match whys[..] {
                [] | [""] => None,
                [only] => Some(only.to_owned()),
                // A rule that leads several ways: the way that was taken leads to this chain, or to
                // this endpoint.
                _ => {
                    let sign = match verdict {
                        TraceVerdict::Jump(to) | TraceVerdict::Goto(to) => printable(to).into_owned(),
                        _ => flight.last.destination_end(),
                    };
                    whys.iter()
                        .find(|why| why.split([' ', ',']).any(|word| word == sign))
                        .map(|why| (*why).to_owned())
                }
            }
        });
        Step::Hit {
            chain,
            rule: found.map(|found| found.number),
            handle,
            text: found.map(|found| found.text.to_owned()),
            why: explained.unwrap_or_else(|| format!("matches: {done}")),
            verdict: done,
        }
    }
}

/// What became of a packet, as the end of a sentence about it.
fn became(flight: &Flight, verdict: &str, result: &SeenPacket) -> String {
    let (first, last) = (&flight.first, &flight.last);
    let source = if first.source == last.source {
        String::new()
    } else {
        format!(", its source translated to {}", result.source)
    };
    let through = result.interface.as_ref().map_or_else(String::new, |name| format!(", through {name}"));
    match verdict {
        "forward" => {
            let source = if source.is_empty() { ", source kept" } else { &source };
            format!(" is forwarded to {}{source}{through}.", result.destination)
        }
        "accept" => format!(" goes on, its destination untranslated{source}{through}."),
        "input" if first.destination_end() == last.destination_end() => {
            " is delivered to this node.".to_owned()
        }
        "input" => format!(" is delivered to this node, at {}.", result.destination),
        "reject" => " is rejected: the sender learns it at once.".to_owned(),
        "drop" => " is dropped: the sender hears nothing.".to_owned(),
        _ => format!(
            ", last seen as {} -> {}, was not heard of again: routing ended its way, or something besides nftables did.",
            result.source, result.destination
        ),
    }
}

fn verdict_words(verdict: &TraceVerdict) -> String {
    match verdict {
        TraceVerdict::Continue => "on to the next rule".to_owned(),
        TraceVerdict::Accept => "accept".to_owned(),
        TraceVerdict::Drop => "drop".to_owned(),
        TraceVerdict::Jump(chain) => format!("jump {}", printable(chain)),
        TraceVerdict::Goto(chain) => format!("goto {}", printable(chain)),
        TraceVerdict::Return => "return".to_owned(),
        TraceVerdict::Other(code) => format!("verdict {code}: queued, or taken by the kernel"),
    }
}

/// The rules in an explanation, on all ways, each with its table.
fn hits(explanation: &Explanation) -> Vec<(String, ShownHit)> {
    fn collect(table: &str, steps: &[ShownStep], hits: &mut Vec<(String, ShownHit)>) {
        for step in steps {
            match step {
                ShownStep::Hit(hit) => hits.push((table.to_owned(), hit.clone())),
                ShownStep::Branch { arms } => arms.iter().for_each(|arm| collect(table, &arm.steps, hits)),
                ShownStep::Miss { .. } | ShownStep::Policy { .. } => {}
            }
        }
    }
    let mut hits = Vec::new();
    for stage in &explanation.steps {
        collect(&stage.table, &stage.steps, &mut hits);
    }
    hits
}

/// Ends of a packet, in words.
trait Ends {
    fn source_end(&self) -> String;
    fn destination_end(&self) -> String;
    fn protocol_name(&self) -> String;
}

impl Ends for TraceHeaders {
    fn source_end(&self) -> String {
        written(self.source, self.ports.map(|(source, _)| source))
    }

    fn destination_end(&self) -> String {
        written(self.destination, self.ports.map(|(_, destination)| destination))
    }

    fn protocol_name(&self) -> String {
        match self.protocol {
            1 => "icmp".to_owned(),
            58 => "icmpv6".to_owned(),
            number => Protocol::ALL
                .into_iter()
                .find(|it| it.number() == number)
                .map_or_else(|| format!("protocol {number}"), |it| it.to_string().to_ascii_lowercase()),
        }
    }
}

fn written(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

impl Seen {
    /// For people: a line of what became of it, then hook by hook the rules that matched.
    pub(super) fn text(&self, verbose: bool) -> String {
        let mut text = format!("{} {}\n", clock(self.time), self.summary);
        for stage in &self.steps {
            let idle = stage.steps.iter().all(|step| matches!(step, Step::Policy { policy: "accept" }));
            if idle && !verbose {
                continue;
            }
            let hook = stage.hook.as_deref().unwrap_or("hook not known");
            let _ = writeln!(text, "{hook}: table {}, chain {}", stage.table, stage.chain);
            for step in &stage.steps {
                match step {
                    Step::Hit { chain, rule, handle, text: rule_text, why, .. } => {
                        let number = rule.map_or_else(|| format!("handle {handle}"), |rule| rule.to_string());
                        let rule_text = rule_text.as_deref().unwrap_or("a rule that is gone since");
                        // Rules of iptables begin with their chain.
                        let own =
                            rule_text.strip_prefix("-A ").and_then(|it| it.strip_prefix(chain.as_str()));
                        let rule_text = own.map_or(rule_text, str::trim_start);
                        let _ = writeln!(text, "  {chain} {number}: {rule_text}\n    -> {why}");
                    }
                    Step::Policy { policy: "drop" } => {
                        text.push_str("  end of the chain: its policy is drop\n");
                    }
                    Step::Policy { policy } => {
                        if verbose {
                            let _ = writeln!(text, "  end of the chain: its policy is {policy}");
                        }
                    }
                }
            }
        }
        text.push('\n');
        text
    }
}

/// The time of day (UTC) of seconds since 1970.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time of this century")]
fn clock(time: f64) -> String {
    let milliseconds = (time * 1000.0) as u64 % 86_400_000;
    let seconds = milliseconds / 1000;
    format!("{:02}:{:02}:{:02}.{:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60, milliseconds % 1000)
}
