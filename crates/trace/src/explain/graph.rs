//! The chains that a packet comes through, as boxes: base chain by base chain, each with the chains
//! that it calls as a tree below it, and the ends after the last.

use std::collections::HashMap;

use super::explanation::{
    Arm, Explanation, ShownAssumption, ShownHit, ShownOutcome, ShownStep, ShownVerdict,
};
use super::few::few;
use super::fractions;
use super::steps::ends;

/// How a box or a line in it stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    Matched,
    Idle,
    Forwarded,
    Stopped,
    Open,
}

/// A chain, or an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    /// Number of the stage; ends come after the last.
    pub(super) band: usize,
    /// The chain that calls it; none for base chains and ends.
    pub(super) caller: Option<usize>,
    /// When, and how likely, it is come to; empty: always.
    pub(super) label: String,
    pub(super) title: String,
    pub(super) lines: Vec<(String, Look)>,
    pub(super) look: Look,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    /// The title of each band.
    pub(super) bands: Vec<String>,
    /// A chain that several chains of a band call has one box with its rules, and a short box for
    /// each other caller.
    pub(super) shapes: Vec<Shape>,
    /// The base chains on the way, in order.
    pub(super) spine: Vec<usize>,
    /// Where the last of them leads to.
    pub(super) ends: Vec<usize>,
    pub(super) places: HashMap<(usize, String), usize>,
    /// The conditions that a client is remembered.
    pub(super) remembering: Vec<String>,
}

/// So many ends, and so many ways of a choice, are drawn.
const DRAWN: usize = 24;

impl Graph {
    pub(super) fn of(explanation: &Explanation) -> Graph {
        let remembering = explanation.conditions.iter().filter(|condition| condition.remembers);
        let mut graph = Graph {
            remembering: remembering.map(|condition| condition.text.clone()).collect(),
            ..Graph::default()
        };
        for stage in &explanation.steps {
            if matches!(stage.steps[..], [] | [ShownStep::Policy { policy: "accept" }]) {
                continue;
            }
            let band = graph.bands.len();
            graph.bands.push(format!("{}, table {}", stage.hook, stage.table));
            let base = graph.shape(band, None, &stage.chain, Look::Matched);
            if !stage.only.is_empty() {
                graph.shapes[base].label = format!("only {}", few(stage.only.iter().cloned()));
            }
            graph.spine.push(base);
            graph.walk(&stage.steps, band, &[base], String::new());
            let called = graph.shapes.iter().any(|shape| shape.caller == Some(base));
            if graph.shapes[base].lines.is_empty() && !called {
                graph.shapes[base].look = Look::Idle;
                graph.shapes[base].lines.push(("no rule matches".into(), Look::Idle));
            }
        }
        graph.end(explanation);
        graph
    }

    /// The shapes that `of` calls, in order.
    pub(super) fn called_by(&self, of: usize) -> impl Iterator<Item = usize> {
        (0..self.shapes.len()).filter(move |number| self.shapes[*number].caller == Some(of))
    }

    fn shape(&mut self, band: usize, caller: Option<usize>, title: &str, look: Look) -> usize {
        self.shapes.push(Shape {
            band,
            caller,
            label: String::new(),
            title: title.into(),
            lines: Vec::new(),
            look,
        });
        let number = self.shapes.len() - 1;
        self.places.entry((band, title.to_owned())).or_insert(number);
        number
    }

    /// The shape of a chain that `from` calls, and the one that has its rules.
    fn call(&mut self, from: usize, title: &str, label: String) -> usize {
        let band = self.shapes[from].band;
        let known = self.places.get(&(band, title.to_owned())).copied();
        let of_caller = self.called_by(from).find(|number| self.shapes[*number].title == title);
        let arrived = match (of_caller, known) {
            (Some(again), _) => again,
            (None, Some(known)) => {
                // Base chains and chains of other callers are shown where they are called first.
                let again = self.shape(band, Some(from), title, Look::Idle);
                self.shapes[again].lines.push(("as shown above".into(), Look::Idle));
                self.label(again, label);
                return known;
            }
            (None, None) => self.shape(band, Some(from), title, Look::Matched),
        };
        self.label(arrived, label);
        known.unwrap_or(arrived)
    }

    fn label(&mut self, of: usize, label: String) {
        let known = &mut self.shapes[of].label;
        if label.is_empty() || *known == label {
            return;
        }
        if known.is_empty() {
            *known = label;
        } else if !known.split(" / ").any(|one| one == label) {
            known.push_str(" / ");
            known.push_str(&label);
        }
    }

    /// Draws `steps`; `stack` has the chains that wait, `label` is for the next call.
    fn walk(&mut self, steps: &[ShownStep], band: usize, stack: &[usize], mut label: String) {
        let mut stack = stack.to_vec();
        for step in steps {
            match step {
                ShownStep::Hit(hit) => self.hit(hit, band, &mut stack, &mut label),
                ShownStep::Policy { policy: "drop" } => {
                    self.shapes[stack[0]].lines.push(("policy drop".into(), Look::Stopped));
                }
                ShownStep::Miss { .. } | ShownStep::Policy { .. } => {}
                ShownStep::Branch { arms } => {
                    // The way to the chain in which the ways part is common to all.
                    if let Some(first) = arms.iter().find_map(first_hit)
                        && arms
                            .iter()
                            .filter_map(first_hit)
                            .all(|hit| (&hit.chain, hit.depth) == (&first.chain, first.depth))
                    {
                        self.enter(first, band, &mut stack, &mut label);
                    }
                    for arm in arms.iter().take(DRAWN) {
                        let words = self.label_of(arm);
                        let label = if label.is_empty() { words } else { format!("{label}, {words}") };
                        self.walk(&arm.steps, band, &stack, label);
                    }
                    if let (Some(more @ 1..), Some(chain)) = (arms.len().checked_sub(DRAWN), stack.last()) {
                        self.shapes[*chain].lines.push((format!("and {more} more ways"), Look::Idle));
                    }
                }
            }
        }
    }

    /// Goes to the chain of `hit`, which is called if it was not there.
    fn enter(&mut self, hit: &ShownHit, band: usize, stack: &mut Vec<usize>, label: &mut String) -> usize {
        let depth = hit.depth as usize;
        let known = self.places.get(&(band, hit.chain.clone())).copied();
        let here = stack.get(depth).copied().filter(|here| Some(*here) == known);
        let here = here.unwrap_or_else(|| {
            // A chain that was gone to takes the place of the one before it.
            let from = stack.get(depth).or(stack.last()).copied().unwrap_or_default();
            self.call(from, &hit.chain, std::mem::take(label))
        });
        stack.truncate(depth);
        stack.push(here);
        here
    }

    fn hit(&mut self, hit: &ShownHit, band: usize, stack: &mut Vec<usize>, label: &mut String) {
        let here = self.enter(hit, band, stack, label);
        let look = match hit.why.rsplit(' ').next() {
            Some("drop" | "reject") => Look::Stopped,
            _ => Look::Matched,
        };
        let mut line = format!("{}: {}", hit.rule, essence(hit));
        // One rule leads to each of several destinations: the ends say how likely each is.
        if let Some((_, to)) = hit.why.rsplit_once("destination becomes ")
            && !line.contains(to)
        {
            line = format!("{line} -> one of the ends below");
        }
        let lines = &mut self.shapes[here].lines;
        if !lines.iter().any(|(other, _)| *other == line) {
            lines.push((line, look));
        }
    }

    /// When a way is taken, and how likely, in few words.
    fn label_of(&self, arm: &Arm) -> String {
        let chance = arm.chance.as_ref().filter(|chance| !chance.is_certain()).map(fractions::written);
        let when = if self.remembering.iter().any(|condition| arm.when.contains(condition)) {
            "if remembered".to_owned()
        } else {
            arm.when.clone()
        };
        match (when.is_empty(), chance) {
            (true, Some(chance)) => chance,
            (true, None) => ends(&arm.leads_to),
            (false, Some(chance)) => format!("{when}, {chance}"),
            (false, None) => when,
        }
    }

    /// The ends, after the last band.
    fn end(&mut self, explanation: &Explanation) {
        let band = self.bands.len();
        self.bands.push("in the end".into());
        let remembered =
            |assumed: &ShownAssumption| explanation.conditions[assumed.condition as usize].remembers;
        // As for a client that no rule remembers.
        let ends = explanation
            .outcomes
            .iter()
            .filter(|outcome| !outcome.conditions.iter().any(|assumed| assumed.holds && remembered(assumed)));
        for outcome in ends.clone().take(DRAWN) {
            let (title, look) = end_of(explanation, outcome);
            let known = self.places.get(&(band, title.clone())).copied();
            let to = known.unwrap_or_else(|| {
                let to = self.shape(band, None, &title, look);
                self.ends.push(to);
                to
            });
            let pod = explanation.endpoints.iter().find_map(|endpoint| {
                let same = outcome
                    .endpoint
                    .is_some_and(|end| (end.ip(), end.port()) == (endpoint.ip, endpoint.port));
                endpoint.pod.as_ref().filter(|_| same)
            });
            let pod = pod.map(|pod| format!("pod {pod}"));
            let translated = outcome.masquerade.then(|| "source translated".to_owned());
            for line in [pod, translated, outcome.stopped.clone()].into_iter().flatten() {
                let line = (line, look);
                if !self.shapes[to].lines.contains(&line) {
                    self.shapes[to].lines.push(line);
                }
            }
            let mut label = fractions::written(&outcome.chance);
            if !outcome.conditions.iter().all(remembered) {
                label.push_str(" under conditions");
            }
            self.label(to, label);
        }
        let more = ends.skip(DRAWN).count();
        if more > 0 {
            let to = self.shape(band, None, &format!("and {more} more"), Look::Idle);
            self.ends.push(to);
        }
    }
}

/// What an end is called, and how it looks.
fn end_of(explanation: &Explanation, outcome: &ShownOutcome) -> (String, Look) {
    match (outcome.endpoint, outcome.own_port, outcome.verdict) {
        (Some(endpoint), ..) => (endpoint.to_string(), Look::Forwarded),
        (None, Some(port), _) => (format!("port {port} of this node"), Look::Forwarded),
        (None, None, ShownVerdict::Reject) => ("rejected".to_owned(), Look::Stopped),
        (None, None, ShownVerdict::Drop) => ("dropped".to_owned(), Look::Stopped),
        (None, None, ShownVerdict::Depends) => ("not known".to_owned(), Look::Open),
        (None, None, _) => (format!("{}, untranslated", explanation.packet.destination), Look::Open),
    }
}

fn first_hit(arm: &Arm) -> Option<&ShownHit> {
    arm.steps.iter().find_map(|step| match step {
        ShownStep::Hit(hit) => Some(hit),
        _ => None,
    })
}

/// The text of a rule without its chain and its comment.
fn essence(hit: &ShownHit) -> String {
    const COMMENT: &str = "-m comment --comment ";
    let own = hit.text.strip_prefix("-A ").and_then(|text| text.strip_prefix(hit.chain.as_str()));
    let text = own.map_or(&*hit.text, str::trim_start);
    let Some((before, comment)) = text.split_once(COMMENT) else { return text.to_owned() };
    let after = match comment.strip_prefix('"') {
        // Quotes within the comment are escaped.
        Some(quoted) => quoted
            .match_indices('"')
            .find(|(at, _)| !quoted[..*at].ends_with('\\'))
            .map(|(at, _)| &quoted[at + 1..]),
        None => comment.find(' ').map(|at| &comment[at..]),
    };
    format!("{before}{}", after.unwrap_or_default().trim_start())
}

/// `text` in lines of at most `longest` characters, broken between words, or else within them.
/// Nothing is left out.
pub(super) fn wrapped(text: &str, longest: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let mut word = word;
        let room = longest.saturating_sub(if line.is_empty() { 0 } else { line.chars().count() + 1 });
        if !line.is_empty() && word.chars().count() > room {
            lines.push(std::mem::take(&mut line));
        }
        while let Some((at, _)) = word.char_indices().nth(longest) {
            lines.push(word[..at].to_owned());
            word = &word[at..];
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
