//! The chains that a packet comes through, as boxes and arrows.

use std::collections::HashMap;

use super::explanation::{Arm, Explanation, ToldAssumption, ToldHit, ToldStep, ToldVerdict};
use super::fractions;
use super::reason::few;

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
    /// How many arrows it is from the base chain.
    pub(super) column: usize,
    pub(super) title: String,
    pub(super) lines: Vec<(String, Look)>,
    pub(super) look: Look,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Arrow {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) label: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Graph {
    /// The title of each band.
    pub(super) bands: Vec<String>,
    pub(super) shapes: Vec<Shape>,
    pub(super) arrows: Vec<Arrow>,
    places: HashMap<(usize, String), usize>,
    /// The conditions that a client is remembered.
    remembering: Vec<String>,
}

/// So many ends, and so many ways of a choice, are drawn.
const DRAWN: usize = 24;

/// Texts in boxes have so many characters, at most.
const LONGEST: usize = 72;

/// The same of arrows.
const LONGEST_LABEL: usize = 36;

impl Graph {
    pub(super) fn of(told: &Explanation) -> Graph {
        let remembering = told.conditions.iter().filter(|condition| condition.remembers);
        let mut graph = Graph {
            remembering: remembering.map(|condition| condition.text.clone()).collect(),
            ..Graph::default()
        };
        let mut before = None;
        for stage in &told.steps {
            if matches!(stage.steps[..], [] | [ToldStep::Policy { policy: "accept" }]) {
                continue;
            }
            let band = graph.bands.len();
            graph.bands.push(format!("{}, table {}", stage.hook, stage.table));
            let base = graph.chain(band, &stage.chain, 0);
            if let Some(before) = before {
                graph.arrow(before, base, "");
            }
            before = Some(base);
            graph.walk(&stage.steps, band, &[base], String::new());
            if graph.shapes[base].lines.is_empty() {
                graph.shapes[base].look = Look::Idle;
                graph.shapes[base].lines.push(("no rule matches".into(), Look::Idle));
            }
        }
        graph.ends(told, before);
        graph
    }

    fn chain(&mut self, band: usize, title: &str, column: usize) -> usize {
        self.shape(band, title, column, Look::Matched)
    }

    fn shape(&mut self, band: usize, title: &str, column: usize, look: Look) -> usize {
        let key = (band, title.to_owned());
        if let Some(known) = self.places.get(&key) {
            return *known;
        }
        self.shapes.push(Shape { band, column, title: title.into(), lines: Vec::new(), look });
        self.places.insert(key, self.shapes.len() - 1);
        self.shapes.len() - 1
    }

    fn arrow(&mut self, from: usize, to: usize, label: &str) {
        match self.arrows.iter_mut().find(|arrow| (arrow.from, arrow.to) == (from, to)) {
            Some(known) if label.is_empty() || known.label == label => {}
            Some(known) if known.label.is_empty() => label.clone_into(&mut known.label),
            Some(known) => {
                known.label.push_str(" / ");
                known.label.push_str(label);
            }
            None => self.arrows.push(Arrow { from, to, label: label.to_owned() }),
        }
    }

    /// Draws `steps`; `stack` has the chains that wait, `label` is for the next arrow.
    fn walk(&mut self, steps: &[ToldStep], band: usize, stack: &[usize], mut label: String) {
        let mut stack = stack.to_vec();
        for step in steps {
            match step {
                ToldStep::Hit(hit) => self.hit(hit, band, &mut stack, &mut label),
                ToldStep::Policy { policy: "drop" } => {
                    self.shapes[stack[0]].lines.push(("policy drop".into(), Look::Stopped));
                }
                ToldStep::Miss { .. } | ToldStep::Policy { .. } => {}
                ToldStep::Branch { arms } => {
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

    /// Goes to the chain of `hit`, along an arrow if it was not there.
    fn enter(&mut self, hit: &ToldHit, band: usize, stack: &mut Vec<usize>, label: &mut String) -> usize {
        let depth = hit.depth as usize;
        let known = self.places.get(&(band, hit.chain.clone())).copied();
        let here = stack.get(depth).copied().filter(|here| Some(*here) == known);
        let here = here.unwrap_or_else(|| {
            // A chain that was gone to takes the place of the one before it.
            let from = stack.get(depth).or(stack.last()).copied().unwrap_or_default();
            let to = self.chain(band, &hit.chain, self.shapes[from].column + 1);
            self.arrow(from, to, &std::mem::take(label));
            to
        });
        stack.truncate(depth);
        stack.push(here);
        here
    }

    fn hit(&mut self, hit: &ToldHit, band: usize, stack: &mut Vec<usize>, label: &mut String) {
        let here = self.enter(hit, band, stack, label);
        let look = match hit.why.rsplit(' ').next() {
            Some("drop" | "reject") => Look::Stopped,
            _ => Look::Matched,
        };
        let line = cut(&format!("{}: {}", hit.rule, essence(hit)));
        let lines = &mut self.shapes[here].lines;
        if !lines.iter().any(|(other, _)| *other == line) {
            lines.push((line, look));
        }
        if let Some((_, to)) = hit.why.rsplit_once("destination becomes ") {
            let to = self.shape(band, to, self.shapes[here].column + 1, Look::Forwarded);
            self.arrow(here, to, &std::mem::take(label));
        }
    }

    /// When a way is taken, and how likely, in few words: labels stand between boxes.
    fn label_of(&self, arm: &Arm) -> String {
        let chance = arm.chance.as_ref().filter(|chance| !chance.is_certain()).map(fractions::written);
        let when = if self.remembering.iter().any(|condition| arm.when.contains(condition)) {
            "if remembered".to_owned()
        } else {
            shortened(&arm.when, LONGEST_LABEL)
        };
        match (when.is_empty(), chance) {
            (true, Some(chance)) => chance,
            (true, None) => format!("to {}", shortened(&few(arm.leads_to.iter().cloned()), LONGEST_LABEL)),
            (false, Some(chance)) => format!("{when}, {chance}"),
            (false, None) => when,
        }
    }

    /// The ends, after the last band.
    fn ends(&mut self, told: &Explanation, last: Option<usize>) {
        let band = self.bands.len();
        self.bands.push("in the end".into());
        let remembered = |assumed: &ToldAssumption| told.conditions[assumed.condition as usize].remembers;
        // As for a client that no rule remembers.
        let ends = told
            .outcomes
            .iter()
            .filter(|outcome| !outcome.conditions.iter().any(|assumed| assumed.holds && remembered(assumed)));
        for outcome in ends.clone().take(DRAWN) {
            let (title, look) = match (outcome.endpoint, outcome.verdict) {
                (Some(endpoint), _) => (endpoint.to_string(), Look::Forwarded),
                (None, ToldVerdict::Reject) => ("rejected".to_owned(), Look::Stopped),
                (None, ToldVerdict::Drop) => ("dropped".to_owned(), Look::Stopped),
                (None, ToldVerdict::Depends) => ("not known".to_owned(), Look::Open),
                (None, _) => (format!("{}, untranslated", told.packet.destination), Look::Open),
            };
            let to = self.shape(band, &title, 0, look);
            let pod = told.endpoints.iter().find_map(|endpoint| {
                let same = outcome
                    .endpoint
                    .is_some_and(|end| (end.ip(), end.port()) == (endpoint.ip, endpoint.port));
                endpoint.pod.as_ref().filter(|_| same)
            });
            if let Some(pod) = pod {
                let line = (cut(&format!("pod {pod}")), look);
                if !self.shapes[to].lines.contains(&line) {
                    self.shapes[to].lines.push(line);
                }
            }
            if outcome.masquerade {
                let line = ("source translated".to_owned(), look);
                if !self.shapes[to].lines.contains(&line) {
                    self.shapes[to].lines.push(line);
                }
            }
            let mut label = fractions::written(&outcome.chance);
            if !outcome.conditions.iter().all(remembered) {
                label.push_str(" under conditions");
            }
            if let Some(last) = last {
                self.arrow(last, to, &label);
            }
        }
        let more = ends.skip(DRAWN).count();
        if more > 0 {
            let title = format!("and {more} more");
            self.shape(band, &title, 0, Look::Idle);
        }
    }
}

fn first_hit(arm: &Arm) -> Option<&ToldHit> {
    arm.steps.iter().find_map(|step| match step {
        ToldStep::Hit(hit) => Some(hit),
        _ => None,
    })
}

/// The text of a rule without its chain and its comment.
fn essence(hit: &ToldHit) -> String {
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

fn cut(text: &str) -> String {
    shortened(text, LONGEST)
}

fn shortened(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
