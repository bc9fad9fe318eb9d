//! A picture that any browser shows: base chains from top to bottom, the chains they call to the right.

use std::fmt::Write;

use super::dot::fill;
use super::explanation::Explanation;
use super::graph::{Graph, Look, Shape};

/// Of a character of the font, in pixels.
const CHARACTER: usize = 7;
/// From line to line.
const LINE: usize = 17;
/// Between boxes that stand one below the other.
const GAP: usize = 14;
/// Around everything.
const MARGIN: usize = 20;
/// Between columns, at least; labels of arrows stand there.
const CHANNEL: usize = 60;

/// Where a box stands.
#[derive(Clone, Copy, Default)]
struct Frame {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
}

impl Frame {
    fn middle(self) -> usize {
        self.y + self.height / 2
    }
}

pub(super) fn write(told: &Explanation) -> String {
    let graph = Graph::of(told);
    let (frames, tops, width, height) = layout(&graph);
    let width = width.max(2 * MARGIN + told.summary.chars().count() * (CHARACTER + 1));
    let mut svg = String::new();
    let _ = writeln!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-family=\"monospace\" font-size=\"12\">"
    );
    let _ = writeln!(svg, "<title>{}</title>", escaped(&told.summary));
    svg.push_str(
        "<defs><marker id=\"head\" markerWidth=\"8\" markerHeight=\"8\" refX=\"7\" refY=\"4\" orient=\"auto\"><path d=\"M0,0 L8,4 L0,8 z\" fill=\"#555\"/></marker></defs>\n",
    );
    let _ = writeln!(svg, "<rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>");
    text(&mut svg, MARGIN, MARGIN + 10, "start", "black", true, &told.summary);
    for (title, top) in graph.bands.iter().zip(&tops) {
        let _ = writeln!(
            svg,
            "<line x1=\"{MARGIN}\" y1=\"{top}\" x2=\"{}\" y2=\"{top}\" stroke=\"#ccc\"/>",
            width - MARGIN
        );
        text(&mut svg, MARGIN + CHANNEL / 2, top + 14, "start", "#777", false, title);
    }
    for arrow in &graph.arrows {
        draw_arrow(&mut svg, frames[arrow.from], frames[arrow.to]);
    }
    for arrow in &graph.arrows {
        draw_label(&mut svg, frames[arrow.from], frames[arrow.to], &arrow.label);
    }
    for (shape, frame) in graph.shapes.iter().zip(&frames) {
        draw_shape(&mut svg, shape, *frame);
    }
    svg.push_str("</svg>\n");
    svg
}

/// Where each box stands, where each band begins, and how large the whole is.
fn layout(graph: &Graph) -> (Vec<Frame>, Vec<usize>, usize, usize) {
    let columns = graph.shapes.iter().map(|shape| shape.column + 1).max().unwrap_or(1);
    let mut widths = vec![0; columns];
    let mut channels = vec![CHANNEL; columns];
    for shape in &graph.shapes {
        widths[shape.column] = widths[shape.column].max(width_of(shape));
    }
    for arrow in &graph.arrows {
        let column = graph.shapes[arrow.to].column;
        // What comes from above has its label beside it.
        if column > 0 {
            channels[column] = channels[column].max((arrow.label.chars().count() + 4) * CHARACTER);
        }
    }
    let mut lefts = Vec::with_capacity(columns);
    let mut x = MARGIN + CHANNEL / 2;
    for column in 0..columns {
        if column > 0 {
            x += channels[column];
        }
        lefts.push(x);
        x += widths[column];
    }
    let mut frames = vec![Frame::default(); graph.shapes.len()];
    let mut tops = Vec::with_capacity(graph.bands.len());
    let mut top = 2 * MARGIN + 10;
    for band in 0..graph.bands.len() {
        tops.push(top);
        let mut next = vec![top + LINE + GAP; columns];
        for (shape, frame) in graph.shapes.iter().zip(&mut frames).filter(|(shape, _)| shape.band == band) {
            let y = next[shape.column];
            let height = LINE * (shape.lines.len() + 1) + 10;
            *frame = Frame { x: lefts[shape.column], y, width: width_of(shape), height };
            next[shape.column] = y + height + GAP;
        }
        top = next.into_iter().max().unwrap_or(top) + GAP;
    }
    let beside = graph.arrows.iter().map(|arrow| {
        frames[arrow.to].x + frames[arrow.to].width + (arrow.label.chars().count() + 4) * CHARACTER
    });
    (frames.clone(), tops, beside.max().unwrap_or(0).max(x) + MARGIN, top + MARGIN)
}

fn width_of(shape: &Shape) -> usize {
    let longest = shape.lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
    longest.max(shape.title.chars().count()) * (CHARACTER + 1) + 16
}

fn draw_shape(svg: &mut String, shape: &Shape, frame: Frame) {
    let Frame { x, y, width, height } = frame;
    let fill = fill(shape.look, shape.lines.iter().any(|(_, look)| *look == Look::Stopped));
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"4\" fill=\"{fill}\" stroke=\"#555\"/>"
    );
    text(svg, x + 8, y + LINE, "start", "black", true, &shape.title);
    for (number, (line, look)) in (2..).zip(&shape.lines) {
        let colour = match look {
            Look::Stopped => "#b00020",
            Look::Idle => "#777",
            Look::Matched | Look::Forwarded | Look::Open => "#14532d",
        };
        text(svg, x + 8, y + LINE * number, "start", colour, false, line);
    }
}

fn draw_arrow(svg: &mut String, from: Frame, to: Frame) {
    if is_call(from, to) {
        let (x1, y1, x2, y2) = (from.x + from.width, from.middle(), to.x, to.middle());
        let bend = x1 + (x2 - x1) / 3;
        let _ = writeln!(
            svg,
            "<path d=\"M{x1},{y1} C{bend},{y1} {bend},{y2} {x2},{y2}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#head)\"/>"
        );
        return;
    }
    // Down along the left side, to what comes next; or up, to a chain that is called again.
    let (x1, y1, y2) = (from.x, from.middle(), to.middle());
    let (x2, side) = (to.x, from.x.min(to.x).saturating_sub(CHANNEL / 2 - 6));
    let _ = writeln!(
        svg,
        "<path d=\"M{x1},{y1} C{side},{y1} {side},{y2} {x2},{y2}\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#head)\"/>"
    );
}

/// Whether the arrow goes to the right, from a chain to one that it calls.
fn is_call(from: Frame, to: Frame) -> bool {
    to.x > from.x + from.width
}

/// Labels have a white rim, so that they can be read above arrows.
fn draw_label(svg: &mut String, from: Frame, to: Frame, label: &str) {
    if label.is_empty() {
        return;
    }
    svg.push_str("<g stroke=\"white\" stroke-width=\"4\" paint-order=\"stroke\">");
    if is_call(from, to) {
        text(svg, to.x - 12, to.middle().saturating_sub(4), "end", "#1d4ed8", false, label);
    } else {
        text(svg, to.x + to.width + 8, to.middle() + 4, "start", "#1d4ed8", false, label);
    }
    svg.push_str("</g>\n");
}

fn text(svg: &mut String, x: usize, y: usize, anchor: &str, colour: &str, bold: bool, words: &str) {
    if words.is_empty() {
        return;
    }
    let weight = if bold { " font-weight=\"bold\"" } else { "" };
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"{colour}\"{weight}>{}</text>",
        escaped(words)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::{Services, explain};
    use crate::{Entry, Family, Node, Packet, Protocol, Record, Ruleset, evaluate};

    #[test]
    fn boxes_stand_apart_and_within_the_picture() {
        let dump = include_str!("../../tests/dumps/spec.iptables-save");
        let rules = Ruleset::from_iptables_save(dump, Family::V4).expect("a dump");
        for to in ["10.96.0.1:80", "10.96.0.5:80", "203.0.113.2:80", "10.96.0.4:80", "192.0.2.80:80"] {
            let packet = Packet::new(
                "10.244.1.11:40000".parse().expect("a source"),
                to.parse().expect("a destination"),
                Protocol::Tcp,
                Entry::Prerouting { interface: Some("cni0".into()) },
            );
            let node = Node::default();
            let answer = evaluate(&rules, &node, &packet, Record::Steps);
            let graph = Graph::of(&explain(&rules, &node, &packet, &answer, &Services::default()));
            let (frames, _, width, height) = layout(&graph);
            assert!(frames.len() > 2, "{to}: there is something to see");
            for (number, a) in frames.iter().enumerate() {
                assert!(a.x + a.width <= width && a.y + a.height <= height, "{to}: within the picture");
                for b in &frames[number + 1..] {
                    let beside = a.x + a.width < b.x || b.x + b.width < a.x;
                    let below = a.y + a.height < b.y || b.y + b.height < a.y;
                    assert!(beside || below, "{to}: boxes stand apart");
                }
            }
            for arrow in &graph.arrows {
                assert_ne!(arrow.from, arrow.to, "{to}: arrows lead somewhere");
            }
        }
    }
}
