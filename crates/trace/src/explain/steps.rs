//! The way through the rules, as text.

use std::fmt::Write;

use super::explanation::{Arm, ShownHit, ShownStep, Stage};
use super::few::few;
use super::fractions;
use super::paint::{Ink, Page};

/// Of a choice among more ways than this, so many are shown, unless all are asked for.
const ARMS: usize = 8;
/// The same, of destinations that are drawn from a map.
const DRAWN: usize = 24;

pub(super) fn stage(page: &mut Page, stage: &Stage, verbose: bool) {
    let mut heading = format!("{}: table {}, chain {}", stage.hook, stage.table, stage.chain);
    if !stage.only.is_empty() {
        let _ = write!(heading, " (only {})", few(stage.only.iter().cloned()));
    }
    let empty = matches!(stage.steps[..], [] | [ShownStep::Policy { policy: "accept" }]);
    // That a packet is delivered to the node itself is worth a line.
    if empty && !verbose && stage.hook != "input" {
        return;
    }
    let idle =
        stage.steps.iter().all(|step| matches!(step, ShownStep::Miss { .. } | ShownStep::Policy { .. }));
    if idle && !verbose {
        page.line("", "  ", &format!("{heading}: {}", nothing(&stage.steps)), Ink::Dim);
        return;
    }
    page.line("", "  ", &heading, Ink::Bold);
    Teller { page, verbose }.steps(&stage.steps, "  ", 0);
}

/// That no rule matched.
fn nothing(steps: &[ShownStep]) -> String {
    let mut text = match steps {
        [ShownStep::Miss { count, .. }, ..] => none_of(*count),
        _ => "no rules".to_owned(),
    };
    if let Some(ShownStep::Policy { policy: "drop" }) = steps.last() {
        text.push_str(", and its policy is drop");
    }
    text
}

fn none_of(count: usize) -> String {
    if count == 1 {
        "its only rule does not match".to_owned()
    } else {
        format!("none of its {count} rules matches")
    }
}

struct Teller<'a> {
    page: &'a mut Page,
    verbose: bool,
}

impl Teller<'_> {
    /// `steps`, of which those `base` calls deep stand right after `margin`.
    fn steps(&mut self, steps: &[ShownStep], margin: &str, base: u32) {
        let mut number = 0;
        while let Some(step) = steps.get(number) {
            number += 1;
            match step {
                ShownStep::Hit(hit) => {
                    let before = number.checked_sub(2).and_then(|before| match &steps[before] {
                        ShownStep::Hit(before) => Some(before),
                        _ => None,
                    });
                    let idle = if self.verbose { Vec::new() } else { idle_calls(&steps[number - 1..]) };
                    if idle.is_empty() {
                        self.hit(hit, before, margin, base);
                        continue;
                    }
                    number += 2 * idle.len() - 1;
                    let margin = indented(margin, hit.depth, base);
                    let text = if let [only] = idle[..] {
                        format!("(rule {} calls {only}, where nothing matches)", hit.rule)
                    } else {
                        let chains = few(idle.iter().map(ToString::to_string));
                        format!("({} rules call chains where nothing matches: {chains})", idle.len())
                    };
                    self.page.line(&margin, &format!("{margin} "), &text, Ink::Dim);
                }
                ShownStep::Miss { depth, count, rules, chain } => {
                    let margin = indented(margin, *depth, base);
                    if !self.verbose {
                        let s = if *count == 1 { " does" } else { "s do" };
                        self.page.line(&margin, &margin, &format!("({count} rule{s} not match)"), Ink::Dim);
                        continue;
                    }
                    for miss in rules {
                        let next = format!("{margin}      ");
                        self.page.line(
                            &format!("{margin}not {chain} {}: ", miss.rule),
                            &next,
                            &text_of(chain, &miss.text),
                            Ink::Dim,
                        );
                        self.page.line(&format!("{margin}    because "), &next, &miss.why, Ink::Dim);
                    }
                    if *count > rules.len() {
                        let more = format!("({} more ask for other addresses or ports)", count - rules.len());
                        self.page.line(&margin, &margin, &more, Ink::Dim);
                    }
                }
                ShownStep::Policy { policy } => {
                    if *policy == "drop" {
                        self.page.line(margin, margin, "end of the chain: its policy is drop", Ink::Bad);
                    } else if self.verbose {
                        self.page.line(margin, margin, "end of the chain: its policy is accept", Ink::Dim);
                    }
                }
                ShownStep::Branch { arms } => {
                    let deep = arms.iter().flat_map(|arm| &arm.steps).find_map(depth_of).unwrap_or(base);
                    self.arms(arms, &indented(margin, deep, base), deep);
                }
            }
        }
    }

    fn hit(&mut self, hit: &ShownHit, before: Option<&ShownHit>, margin: &str, base: u32) {
        let margin = indented(margin, hit.depth, base);
        let same = before
            .filter(|before| (&before.chain, before.rule, before.depth) == (&hit.chain, hit.rule, hit.depth));
        let ink = match hit.why.rsplit(' ').next() {
            Some("drop" | "reject") => Ink::Bad,
            _ => Ink::Good,
        };
        if same.is_some() {
            // One rule does several things: why it matched has been said.
            let does = hit.why.rsplit(", ").next().unwrap_or(&hit.why);
            self.page.line(
                &format!("{margin}  -> "),
                &format!("{margin}     "),
                &format!("then {does}"),
                Ink::Plain,
            );
            return;
        }
        let text = format!("{} {}: {}", hit.chain, hit.rule, text_of(&hit.chain, &hit.text));
        self.page.line(&margin, &format!("{margin}      "), &text, ink);
        let why = if hit.why.is_empty() { "matches, on to the next rule" } else { &hit.why };
        self.page.line(&format!("{margin}  -> "), &format!("{margin}     "), why, Ink::Plain);
    }

    /// Writes a rule that draws one of several destinations, once. Returns whether `arms` are that.
    fn drawn_at_once(&mut self, arms: &[Arm], margin: &str) -> bool {
        let Some((hit, why)) = arms.first().and_then(only_translation) else { return false };
        let same = |arm: &Arm| {
            only_translation(arm)
                .is_some_and(|(other, _)| (&other.chain, other.rule) == (&hit.chain, hit.rule))
        };
        if !arms.iter().all(same) {
            return false;
        }
        let text = format!("{} {}: {}", hit.chain, hit.rule, text_of(&hit.chain, &hit.text));
        self.page.line(margin, &format!("{margin}      "), &text, Ink::Good);
        let why = format!("{why}; destination becomes:");
        self.page.line(&format!("{margin}  -> "), &format!("{margin}     "), &why, Ink::Plain);
        for (number, arm) in arms.iter().take(DRAWN).enumerate() {
            let first = if number + 1 == arms.len() { "└─ " } else { "├─ " };
            self.page.line(&format!("{margin}     {first}"), margin, &heading(arm), Ink::Open);
        }
        if arms.len() > DRAWN {
            let more = format!("{} more (-v shows all)", arms.len() - DRAWN);
            self.page.line(&format!("{margin}     └─ "), margin, &more, Ink::Dim);
        }
        true
    }

    fn arms(&mut self, arms: &[Arm], margin: &str, base: u32) {
        if !self.verbose && self.drawn_at_once(arms, margin) {
            return;
        }
        let shown = if self.verbose || arms.len() <= ARMS { arms.len() } else { ARMS - 1 };
        self.page.line(margin, margin, &format!("here {} ways part:", arms.len()), Ink::Open);
        for (number, arm) in arms.iter().take(shown).enumerate() {
            let last = number + 1 == arms.len();
            let (first, next) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
            let inner = format!("{margin}{next}");
            self.page.line(&format!("{margin}{first}"), &inner, &heading(arm), Ink::Open);
            if arm.steps.is_empty() {
                self.page.line(&inner, &inner, "(no rule matches)", Ink::Dim);
            }
            self.steps(&arm.steps, &inner, base);
        }
        if shown < arms.len() {
            let leads_to: Vec<String> =
                arms[shown..].iter().flat_map(|arm| arm.leads_to.iter().cloned()).collect();
            let more = format!("{} more ways, {} (-v shows all)", arms.len() - shown, ends(&leads_to));
            self.page.line(&format!("{margin}└─ "), &format!("{margin}   "), &more, Ink::Dim);
        }
    }
}

/// The only step of `arm`, if that translates the destination.
fn only_translation(arm: &Arm) -> Option<(&ShownHit, &str)> {
    let [ShownStep::Hit(hit)] = &arm.steps[..] else { return None };
    let (why, _) = hit.why.split_once(", destination becomes ")?;
    Some((hit, why))
}

/// The chains that are called one right after the other at the beginning of `steps`, and in which
/// no rule matches.
fn idle_calls(steps: &[ShownStep]) -> Vec<&str> {
    let mut chains = Vec::new();
    while let [ShownStep::Hit(hit), ShownStep::Miss { depth, chain, .. }, after @ ..] =
        &steps[2 * chains.len()..]
    {
        let returns = match after.first() {
            Some(ShownStep::Branch { .. }) => false,
            Some(step) => depth_of(step).is_none_or(|after| after <= hit.depth),
            None => true,
        };
        if *depth <= hit.depth || !returns {
            break;
        }
        chains.push(chain.as_str());
    }
    chains
}

/// The text of a rule without the chain that it stands in, which is shown before it.
fn text_of(hit_chain: &str, text: &str) -> String {
    let own = text.strip_prefix("-A ").and_then(|text| text.strip_prefix(hit_chain));
    own.map_or(text, str::trim_start).to_owned()
}

/// When a way is taken, how likely, and where it leads.
pub(super) fn heading(arm: &Arm) -> String {
    let mut words: Vec<String> = Vec::new();
    if !arm.when.is_empty() {
        words.push(arm.when.clone());
    }
    if let Some(chance) = arm.chance.as_ref().filter(|chance| !chance.is_certain()) {
        words.push(fractions::written(chance));
    }
    let ends = ends(&arm.leads_to);
    if words.is_empty() { ends } else { format!("{}: {ends}", words.join(", ")) }
}

/// The ends of ways: the destinations, then what happens to packets that come to none.
pub(super) fn ends(leads_to: &[String]) -> String {
    let nowhere =
        |end: &&String| ["rejected", "dropped", "undecided"].iter().any(|begins| end.starts_with(begins));
    let destinations = few(leads_to.iter().filter(|end| !nowhere(end)).cloned());
    let mut parts = Vec::new();
    if !destinations.is_empty() {
        parts.push(format!("to {destinations}"));
    }
    let others = few(leads_to.iter().filter(nowhere).cloned());
    if !others.is_empty() {
        parts.push(others);
    }
    parts.join("; ")
}

fn depth_of(step: &ShownStep) -> Option<u32> {
    match step {
        ShownStep::Hit(hit) => Some(hit.depth),
        ShownStep::Miss { depth, .. } => Some(*depth),
        ShownStep::Policy { .. } | ShownStep::Branch { .. } => None,
    }
}

fn indented(margin: &str, depth: u32, base: u32) -> String {
    format!("{margin}{}", "  ".repeat(depth.saturating_sub(base) as usize))
}
