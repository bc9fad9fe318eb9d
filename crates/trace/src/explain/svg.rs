//! A picture without scripts.

use super::explanation::Explanation;

pub(super) fn write(explanation: &Explanation) -> String {
    let text = explanation.summary.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<svg xmlns=\"http://www.w3.org/2000/svg\"><text y=\"20\">{text}</text></svg>\n")
}
