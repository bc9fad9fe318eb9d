//! For people, from top to bottom.

use super::explanation::{Explanation, Style};

pub(super) fn write(explanation: &Explanation, _style: Style) -> String {
    format!("{}\n", explanation.summary)
}
