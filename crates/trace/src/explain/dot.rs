//! For Graphviz.

use super::explanation::Explanation;

pub(super) fn write(explanation: &Explanation) -> String {
    format!("digraph packet {{\n  summary [shape=note, label={:?}];\n}}\n", explanation.summary)
}
