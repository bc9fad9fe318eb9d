//! `--packets`: many packets, a JSON object a line, and what is expected of each.

use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::net::SocketAddr;

use anyhow::Context;
use clap::ValueEnum;
use portolan_service::Protocol;
use portolan_trace::{Answer, Assumption, Node, Outcome, Record, Ruleset, Verdict, evaluate};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::{StateName, TraceOutput};
use crate::names::{Names, protocol_named};
use crate::place::Place;
use crate::question::Question;

/// One line.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// For people.
    name: Option<String>,
    from: String,
    to: String,
    protocol: Option<String>,
    in_interface: Option<String>,
    state: Option<String>,
    expect: Option<Expected>,
}

/// What must be so. What is left out may be anything.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    verdict: Option<String>,
    endpoints: Option<BTreeSet<SocketAddr>>,
    masquerade: Option<bool>,
}

/// The verdicts that can be expected.
const VERDICTS: [&str; 6] = ["forward", "accept", "reject", "drop", "none", "depends"];

/// `none` and `accept` are both what nobody translates or stops. Which rule was the last to see the
/// packet is shown with `--from` and `--to`.
fn in_short(verdict: &str) -> &str {
    if verdict == "none" { "accept" } else { verdict }
}

/// How many packets there were, and how many were not as expected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) packets: usize,
    pub(crate) unmet: usize,
    pub(crate) malformed: usize,
}

/// What is asked for all packets alike.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) ruleset: &'a Ruleset,
    pub(crate) node: &'a Node,
    pub(crate) names: &'a Names,
    /// What packets have that do not say it themselves.
    pub(crate) template: &'a Question,
}

/// Answers line by line; empty lines and those that begin with `#` or `//` are passed over.
pub(crate) fn answer(
    text: &str,
    asked: &Asked<'_>,
    output: TraceOutput,
    to: impl Write,
) -> anyhow::Result<Tally> {
    let mut to = BufWriter::new(to);
    let mut tally = Tally::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        tally.packets += 1;
        match one(line, asked) {
            Ok(answer) => {
                tally.unmet += usize::from(!answer.unmet.is_empty());
                answer.write(number, output, &mut to)
            }
            Err(error) => {
                tally.malformed += 1;
                match output {
                    TraceOutput::Json => {
                        writeln!(to, "{}", json!({"line": number, "error": format!("{error:#}")}))
                    }
                    _ => writeln!(to, "line {number}: {error:#}"),
                }
            }
        }
        .context("writing results")?;
    }
    to.flush().context("writing results")?;
    Ok(tally)
}

/// The result of one packet.
struct Told {
    name: Option<String>,
    packet: String,
    result: Value,
    text: String,
    /// What was expected and is not so: field, expected, actual.
    unmet: Vec<(&'static str, String, String)>,
}

impl Told {
    fn write(self, number: usize, output: TraceOutput, to: &mut impl Write) -> std::io::Result<()> {
        if output == TraceOutput::Json {
            let mut result = self.result;
            result["line"] = number.into();
            if let Some(name) = self.name {
                result["name"] = name.into();
            }
            if !self.unmet.is_empty() {
                let unmet = self.unmet.iter().map(|(field, expected, actual)| {
                    json!({"field": field, "expected": expected, "actual": actual})
                });
                result["unmet"] = unmet.collect();
            }
            return writeln!(to, "{result}");
        }
        let name = self.name.map_or_else(String::new, |name| format!("{name}: "));
        if self.unmet.is_empty() {
            return writeln!(to, "{name}{} {}", self.packet, self.text);
        }
        let unmet: Vec<String> = self
            .unmet
            .iter()
            .map(|(field, expected, actual)| format!("{field}: expected {expected}, actual {actual}"))
            .collect();
        writeln!(to, "FAILED line {number}: {name}{} {}; {}", self.packet, self.text, unmet.join("; "))
    }
}

fn one(line: &str, asked: &Asked<'_>) -> anyhow::Result<Told> {
    let line: Line = serde_json::from_str(line)
        .map_err(|error| anyhow::anyhow!("not a packet: {}", printable(&error.to_string())))?;
    let place = |text: &str, field: &str| {
        text.parse::<Place>().map_err(|error| anyhow::anyhow!("`{field}`: {text:?} {error}"))
    };
    let expect = line.expect.unwrap_or_default();
    if let Some(verdict) = &expect.verdict
        && !VERDICTS.contains(&verdict.as_str())
    {
        anyhow::bail!("`expect.verdict`: {verdict:?} is none of {}", VERDICTS.join(", "));
    }
    let state = match &line.state {
        None => asked.template.state,
        Some(name) => StateName::from_str(name, false)
            .map_err(|_| anyhow::anyhow!("`state`: {name:?} is none of new, established, invalid"))?
            .into(),
    };
    let question = Question {
        from: place(&line.from, "from")?,
        to: place(&line.to, "to")?,
        protocol: match &line.protocol {
            None => asked.template.protocol,
            Some(name) => Some(protocol(name)?),
        },
        family: asked.template.family,
        in_interface: line.in_interface.or_else(|| asked.template.in_interface.clone()),
        state,
        rules: asked.template.rules,
        from_outside: asked.template.from_outside,
    };
    let packet = question.packet(asked.names, asked.node)?;
    let answer = evaluate(asked.ruleset, asked.node, &packet, Record::Nothing);
    let brief = Brief::of(&answer);
    let packet = format!("{} -> {}/{}", packet.source, packet.destination, packet.protocol);
    Ok(Told {
        unmet: brief.unmet(&expect),
        text: brief.text(),
        result: json!({
            "packet": packet, "verdict": brief.verdict, "masquerade": brief.masquerade,
            "endpoints": brief.endpoints.iter().map(|reached| json!({
                "ip": reached.address.ip(), "port": reached.address.port(), "probability": reached.probability,
                "masquerade": reached.masquerade,
            })).collect::<Vec<_>>(),
        }),
        name: line.name.map(|name| printable(&name)),
        packet,
    })
}

fn protocol(name: &str) -> anyhow::Result<Protocol> {
    protocol_named(name).ok_or_else(|| anyhow::anyhow!("`protocol`: {name:?} is none of tcp, udp, sctp"))
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// An answer in short: for a client that no rule remembers.
#[derive(Debug)]
struct Brief {
    verdict: &'static str,
    /// `None` if it is so for some and not for others.
    masquerade: Option<bool>,
    endpoints: Vec<Reached>,
}

/// One of the endpoints.
#[derive(Debug)]
struct Reached {
    address: SocketAddr,
    probability: f64,
    masquerade: bool,
}

impl Brief {
    fn of(answer: &Answer) -> Brief {
        let condition = |assumed: &Assumption| answer.conditions.get(assumed.condition as usize);
        // A client that a rule remembers is another one.
        let strangers = answer.outcomes.iter().filter(|outcome| {
            !outcome
                .conditions
                .iter()
                .any(|assumed| assumed.holds && condition(assumed).is_some_and(|it| it.remembers))
        });
        let mut verdicts = BTreeSet::new();
        let mut masquerades = BTreeSet::new();
        let mut endpoints: Vec<Reached> = Vec::new();
        for outcome in strangers {
            verdicts.insert(name(outcome.verdict));
            let Outcome { verdict, masquerade, probability, .. } = outcome;
            if matches!(verdict, Verdict::Forward(_) | Verdict::ToNode { .. } | Verdict::Accept) {
                masquerades.insert(*masquerade);
            }
            let Verdict::Forward(address) = *verdict else { continue };
            let chance = probability.to_f64();
            let is_certain =
                outcome.conditions.iter().all(|assumed| condition(assumed).is_some_and(|it| it.remembers));
            match endpoints.iter_mut().find(|known| known.address == address) {
                // Under different circumstances: either.
                Some(known) if !is_certain => known.probability = known.probability.max(chance),
                Some(known) => known.probability += chance,
                None => endpoints.push(Reached { address, probability: chance, masquerade: *masquerade }),
            }
        }
        endpoints.sort_by_key(|reached| reached.address);
        let verdict = match verdicts.pop_first() {
            Some(only) if verdicts.is_empty() => only,
            _ => "depends",
        };
        let masquerade = match masquerades.pop_first() {
            first if masquerades.is_empty() => Some(first.unwrap_or(false)),
            _ => None,
        };
        Brief { verdict, masquerade, endpoints }
    }

    fn text(&self) -> String {
        let endpoints: Vec<String> = self
            .endpoints
            .iter()
            .map(|it| format!("{} ({:.1}%)", it.address, it.probability * 100.0))
            .collect();
        let source = match self.masquerade {
            Some(true) => ", masqueraded",
            None if !self.endpoints.is_empty() => ", masqueraded for some of them",
            _ => "",
        };
        let to = if endpoints.is_empty() { String::new() } else { format!(" to {}", endpoints.join(", ")) };
        format!("{}{to}{source}", self.verdict)
    }

    fn unmet(&self, expected: &Expected) -> Vec<(&'static str, String, String)> {
        let mut unmet = Vec::new();
        if let Some(verdict) = &expected.verdict
            && in_short(verdict) != self.verdict
        {
            unmet.push(("verdict", verdict.clone(), self.verdict.to_owned()));
        }
        let actual: BTreeSet<SocketAddr> = self.endpoints.iter().map(|reached| reached.address).collect();
        let listed = |all: &BTreeSet<SocketAddr>| {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        };
        if let Some(endpoints) = &expected.endpoints
            && *endpoints != actual
        {
            unmet.push(("endpoints", listed(endpoints), listed(&actual)));
        }
        if let Some(masquerade) = expected.masquerade
            && self.masquerade != Some(masquerade)
        {
            let actual =
                self.masquerade.map_or_else(|| "for some endpoints only".to_owned(), |it| it.to_string());
            unmet.push(("masquerade", masquerade.to_string(), actual));
        }
        unmet
    }
}

fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Forward(_) | Verdict::ToNode { .. } => "forward",
        Verdict::Accept => "accept",
        Verdict::Stopped { by, .. } if by.rejects() => "reject",
        Verdict::Reject => "reject",
        Verdict::Drop | Verdict::Stopped { .. } => "drop",
        Verdict::Undecided(_) => "depends",
    }
}
