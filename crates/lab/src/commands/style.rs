//! How words stand out in a terminal.

use std::io::IsTerminal;

/// Text styles, where the output is a terminal (and <https://no-color.org> does not ask for none).
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    colour: bool,
}

impl Style {
    /// None.
    #[cfg(all(test, feature = "cluster"))]
    pub(super) fn plain() -> Style {
        Style { colour: false }
    }

    /// For standard output.
    pub(super) fn of_output() -> Style {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Style { colour: wanted && std::io::stdout().is_terminal() }
    }

    pub(super) fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn faint(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
