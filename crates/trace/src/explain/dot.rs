//! For Graphviz: `dot -Tpng`.

use std::fmt::Write;

use super::explanation::Explanation;
use super::graph::{Graph, Look, wrapped};

/// Lines of boxes have so many characters, at most.
const LONGEST: usize = 72;
/// The same of labels, which stand beside arrows.
const LONGEST_LABEL: usize = 30;

pub(super) fn write(explanation: &Explanation) -> String {
    let graph = Graph::of(explanation);
    let mut text = String::from("digraph packet {\n  rankdir=TB;\n  labelloc=t;\n");
    let _ = writeln!(text, "  label={};", quoted(&explanation.summary, LONGEST));
    text.push_str("  node [shape=box, style=filled, fillcolor=white, fontname=monospace, fontsize=10];\n");
    text.push_str("  edge [fontname=monospace, fontsize=10];\n");
    for (band, title) in graph.bands.iter().enumerate() {
        let _ = writeln!(
            text,
            "  subgraph cluster_{band} {{\n    label={};\n    color=gray;",
            quoted(title, LONGEST)
        );
        for (number, shape) in graph.shapes.iter().enumerate().filter(|(_, shape)| shape.band == band) {
            let mut label = escaped(&shape.title);
            label.push_str("\\n");
            for (line, look) in &shape.lines {
                label.push_str(if *look == Look::Stopped { "STOP " } else { "" });
                for line in wrapped(line, LONGEST) {
                    label.push_str(&escaped(&line));
                    label.push_str("\\l");
                }
            }
            let fill = fill(shape.look, shape.lines.iter().any(|(_, look)| *look == Look::Stopped));
            let _ = writeln!(text, "    n{number} [label=\"{label}\", fillcolor=\"{fill}\"];");
        }
        text.push_str("  }\n");
    }
    let mut arrow = |from: usize, to: usize| {
        let label = quoted(&graph.shapes[to].label, LONGEST_LABEL);
        let _ = writeln!(text, "  n{from} -> n{to} [label={label}];");
    };
    for (number, shape) in graph.shapes.iter().enumerate() {
        if let Some(caller) = shape.caller {
            arrow(caller, number);
        }
    }
    for pair in graph.spine.windows(2) {
        arrow(pair[0], pair[1]);
    }
    for (last, end) in
        graph.spine.last().into_iter().flat_map(|last| graph.ends.iter().map(move |end| (last, end)))
    {
        arrow(*last, *end);
    }
    text.push_str("}\n");
    text
}

/// The colour of a box.
pub(super) fn fill(look: Look, stops: bool) -> &'static str {
    match look {
        _ if stops => "#fde0dc",
        Look::Matched => "#fff8d6",
        Look::Idle => "#f2f2f2",
        Look::Forwarded => "#dff2df",
        Look::Stopped => "#fde0dc",
        Look::Open => "#e4ecf7",
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn quoted(text: &str, longest: usize) -> String {
    let lines: Vec<String> = wrapped(text, longest).iter().map(|line| escaped(line)).collect();
    format!("\"{}\"", lines.join("\\n"))
}
