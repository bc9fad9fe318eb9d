//! A picture that any browser shows, as wide as a page: base chains from top to bottom, the chains
//! they call below them and to the right, then the ends. Each box stands in rows of its own, and
//! says when a packet comes to it, so that arrows have the margins to themselves.

use std::fmt::Write;

use super::dot::fill;
use super::explanation::Explanation;
use super::graph::{Graph, Look, Shape, wrapped};

/// All lengths are in pixels. That of the picture, whatever is in it.
const WIDTH: usize = 940;
/// The widest character of the font: in monospaced fonts 0.6 of the size, 12, or a little more.
const CHARACTER: f64 = 7.4;
/// From line to line.
const LINE: usize = 17;
/// Between boxes.
const GAP: usize = 10;
/// Around everything.
const MARGIN: usize = 20;
/// How far the chains that a chain calls stand to the right of it. Arrows to them are there.
const STEP: usize = 28;
/// Boxes are never narrower, however deep chains call each other.
const NARROWEST: usize = 360;
/// Between the border of a box and its text.
const PADDING: usize = 8;

/// A line of text, and where it begins: `y` is that of its base line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    x: usize,
    y: usize,
    text: String,
    colour: &'static str,
    bold: bool,
}

/// Where a box stands.
#[derive(Debug, Clone, Copy, Default)]
struct Frame {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

/// An arrow: from here down, or up, and to the right to its head.
#[derive(Debug, Clone, Copy)]
struct Arrow {
    /// Where it begins.
    from: (usize, usize),
    /// Where its vertical part is.
    x: usize,
    to: (usize, usize),
}

/// Everything in its place.
#[derive(Debug, Default)]
struct Layout {
    frames: Vec<Frame>,
    arrows: Vec<Arrow>,
    lines: Vec<Line>,
    /// Where bands begin.
    rules: Vec<usize>,
    height: usize,
}

pub(super) fn write(explanation: &Explanation) -> String {
    let graph = Graph::of(explanation);
    let layout = Layout::of(&graph, &explanation.summary);
    let height = layout.height;
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"monospace\" font-size=\"12\">"
    );
    let _ = writeln!(svg, "<title>{}</title>", escaped(&explanation.summary));
    svg.push_str(
        "<defs><marker id=\"head\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"4\" orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" fill=\"#555\"/></marker></defs>\n",
    );
    let _ = writeln!(svg, "<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>");
    for y in &layout.rules {
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"#ccc\"/>",
            WIDTH - MARGIN
        );
    }
    for Arrow { from, x, to } in &layout.arrows {
        let _ = writeln!(
            svg,
            "<path d=\"M{},{} H{x} V{} H{}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#head)\"/>",
            from.0, from.1, to.1, to.0
        );
    }
    for (shape, Frame { x, y, width, height }) in graph.shapes.iter().zip(&layout.frames) {
        let fill = fill(shape.look, shape.lines.iter().any(|(_, look)| *look == Look::Stopped));
        let _ = writeln!(
            svg,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"{fill}\" stroke=\"#555\"/>"
        );
    }
    for Line { x, y, text, colour, bold } in &layout.lines {
        let weight = if *bold { " font-weight=\"bold\"" } else { "" };
        let _ = writeln!(
            svg,
            "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\"{weight} xml:space=\"preserve\">{}</text>",
            escaped(text)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

impl Layout {
    fn of(graph: &Graph, summary: &str) -> Layout {
        let mut layout = Layout { frames: vec![Frame::default(); graph.shapes.len()], ..Layout::default() };
        let mut y = MARGIN;
        y = layout.text(MARGIN, y, WIDTH - 2 * MARGIN, summary, "black", true) + GAP;
        let mut before: Option<Frame> = None;
        for (band, title) in graph.bands.iter().enumerate() {
            layout.rules.push(y);
            y = layout.text(MARGIN + STEP, y + 2, WIDTH - 2 * MARGIN - STEP, title, "#777", false) + 4;
            let roots: Vec<usize> = (0..graph.shapes.len())
                .filter(|number| graph.shapes[*number].band == band && graph.shapes[*number].caller.is_none())
                .collect();
            for root in roots {
                y = layout.tree(graph, root, 1, y);
                let frame = layout.frames[root];
                if let Some(before) = before {
                    layout.arrows.push(Arrow {
                        from: (before.x, before.y + before.height / 2),
                        x: MARGIN + STEP / 2,
                        to: (frame.x, frame.y + frame.height / 2),
                    });
                }
                if graph.spine.contains(&root) {
                    before = Some(frame);
                }
            }
            y += GAP;
        }
        layout.height = y + MARGIN - GAP;
        layout
    }

    /// Puts `shape` and all that it calls below `y`, and returns where they end.
    fn tree(&mut self, graph: &Graph, shape: usize, depth: usize, y: usize) -> usize {
        let x = (MARGIN + depth * STEP).min(WIDTH - MARGIN - NARROWEST);
        let mut next = self.shape(&graph.shapes[shape], shape, x, y) + GAP;
        let frame = self.frames[shape];
        for called in graph.called_by(shape) {
            next = self.tree(graph, called, depth + 1, next);
            let to = self.frames[called];
            // What is too deep to be moved to the right has its arrow at the left.
            let start = (frame.x + STEP / 2).min(to.x.saturating_sub(STEP / 2));
            self.arrows.push(Arrow {
                from: (start.max(frame.x), frame.y + frame.height),
                x: start,
                to: (to.x, to.y + to.height / 2),
            });
        }
        next
    }

    fn shape(&mut self, shape: &Shape, number: usize, x: usize, y: usize) -> usize {
        let width = WIDTH - MARGIN - x;
        let mut end = y + 4;
        if !shape.label.is_empty() {
            end = self.text(x + PADDING, end, width - 2 * PADDING, &shape.label, "#1d4ed8", false);
        }
        end = self.text(x + PADDING, end, width - 2 * PADDING, &shape.title, "black", true);
        for (line, look) in &shape.lines {
            let colour = match look {
                Look::Stopped => "#b00020",
                Look::Idle => "#777",
                Look::Matched | Look::Forwarded | Look::Open => "#14532d",
            };
            end = self.text(x + PADDING, end, width - 2 * PADDING, line, colour, false);
        }
        let height = end + 6 - y;
        self.frames[number] = Frame { x, y, width, height };
        y + height
    }

    /// Writes `text` below `y` in lines of at most `width`, and returns where they end.
    fn text(
        &mut self,
        x: usize,
        y: usize,
        width: usize,
        text: &str,
        colour: &'static str,
        bold: bool,
    ) -> usize {
        let mut y = y;
        for text in wrapped(text, characters(width)) {
            y += LINE;
            self.lines.push(Line { x, y: y - 4, text, colour, bold });
        }
        y
    }
}

/// How many characters fit into `width`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "small numbers"
)]
fn characters(width: usize) -> usize {
    (width as f64 / CHARACTER) as usize
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Services, explain};
    use crate::{Entry, Family, Node, Packet, Protocol, Record, Ruleset, evaluate};

    /// A rectangle: left, top, right, bottom.
    type Area = (usize, usize, usize, usize);

    fn meet(a: Area, b: Area) -> bool {
        a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
    }

    fn areas(frames: &[Frame]) -> Vec<Area> {
        frames.iter().map(|frame| (frame.x, frame.y, frame.x + frame.width, frame.y + frame.height)).collect()
    }

    /// The parts of an arrow, as rectangles of a pixel's width.
    fn parts(arrow: &Arrow) -> [Area; 3] {
        let Arrow { from, x, to } = *arrow;
        [
            (from.0.min(x), from.1, from.0.max(x) + 1, from.1 + 1),
            (x, from.1.min(to.1), x + 1, from.1.max(to.1) + 1),
            (x.min(to.0), to.1, x.max(to.0), to.1 + 1),
        ]
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "small numbers"
    )]
    fn texts(layout: &Layout) -> Vec<Area> {
        let width = |line: &Line| (line.text.chars().count() as f64 * CHARACTER) as usize;
        layout.lines.iter().map(|line| (line.x, line.y - 12, line.x + width(line), line.y + 3)).collect()
    }

    fn check(name: &str, layout: &Layout) {
        let (boxes, texts) = (areas(&layout.frames), texts(layout));
        for (number, a) in boxes.iter().enumerate() {
            assert!(a.2 <= WIDTH && a.3 <= layout.height, "{name}: box {a:?} is within the picture");
            for b in &boxes[number + 1..] {
                assert!(!meet(*a, *b), "{name}: boxes {a:?} and {b:?} stand apart");
            }
        }
        for (number, a) in texts.iter().enumerate() {
            assert!(a.2 <= WIDTH && a.3 <= layout.height, "{name}: text {a:?} is within the picture");
            for b in &texts[number + 1..] {
                assert!(!meet(*a, *b), "{name}: texts {a:?} and {b:?} stand apart");
            }
            let of = boxes.iter().find(|frame| meet(**frame, *a));
            let within = |frame: &Area| a.0 > frame.0 && a.2 < frame.2 && a.1 >= frame.1 && a.3 <= frame.3;
            assert!(of.is_none_or(within), "{name}: text {a:?} does not leave its box {of:?}");
        }
        for arrow in &layout.arrows {
            for part in parts(arrow) {
                let crossed = texts.iter().find(|text| meet(**text, part));
                assert_eq!(crossed, None, "{name}: {arrow:?} crosses no text");
                // It may begin and end at the border of one.
                let crossed = boxes.iter().find(|(left, top, right, bottom)| {
                    meet((left + 1, top + 1, right - 1, bottom - 1), part)
                });
                assert_eq!(crossed, None, "{name}: {arrow:?} crosses no box");
            }
        }
    }

    fn pictures() -> Vec<(String, Graph, String)> {
        let mut pictures = Vec::new();
        let dumps = [
            Ruleset::from_iptables_save(include_str!("../../tests/dumps/spec.iptables-save"), Family::V4),
            Ruleset::from_nft_json(include_str!("../../tests/dumps/portolan.nft.json")),
            Ruleset::from_nft_json(include_str!("../../tests/dumps/kube-proxy.nft.json")),
        ];
        for (number, rules) in dumps.into_iter().enumerate() {
            let rules = rules.expect("a dump");
            let to = [
                "10.96.0.1:80",
                "10.96.0.5:80",
                "203.0.113.2:80",
                "10.96.0.4:80",
                "192.0.2.80:80",
                "203.0.113.3:53",
                "192.168.50.1:30080",
            ];
            for to in to {
                let packet = Packet::new(
                    "10.244.1.11:40000".parse().expect("a source"),
                    to.parse().expect("a destination"),
                    Protocol::Tcp,
                    Entry::Prerouting { interface: Some("cni0".into()) },
                );
                let node = Node::default();
                let answer = evaluate(&rules, &node, &packet, Record::Steps);
                let explanation = explain(&rules, &node, &packet, &answer, &Services::default());
                pictures.push((format!("dump {number}, {to}"), Graph::of(&explanation), explanation.summary));
            }
        }
        pictures
    }

    #[test]
    fn nothing_overlaps_or_leaves_the_page() {
        for (name, graph, summary) in pictures() {
            assert!(graph.shapes.len() > 2, "{name}: there is something to see");
            check(&name, &Layout::of(&graph, &summary));
            let ends: Vec<&str> = graph.ends.iter().map(|end| &*graph.shapes[*end].title).collect();
            for end in &ends {
                let shown = graph.shapes.iter().filter(|shape| shape.title == *end).count();
                assert_eq!(shown, 1, "{name}: {end} has one box");
            }
        }
    }

    #[test]
    fn long_names_and_deep_calls_stay_within_the_page() {
        let name = "x".repeat(300);
        let shape = |caller, title: &str| Shape {
            band: 0,
            caller,
            label: format!("if {name}"),
            title: title.to_owned(),
            lines: vec![(format!("1: {name} {name}"), Look::Matched)],
            look: Look::Matched,
        };
        let shapes = (0..40).map(|number: usize| shape(number.checked_sub(1), &name)).collect();
        let graph = Graph { bands: vec!["band".into()], shapes, spine: vec![0], ..Graph::default() };
        let layout = Layout::of(&graph, &name);
        check("deep", &layout);
        let all: String = layout.lines.iter().map(|line| line.text.as_str()).collect();
        assert!(all.matches('x').count() >= 300 * (1 + 40 * 4), "nothing is cut");
    }
}
