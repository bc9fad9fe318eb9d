//! An error and its causes in one line.

use std::error::Error;

/// `reading x: No such file or directory`. Libraries differ in whether a message has its cause's
/// text in it; a cause that is there already is not said again.
pub(crate) fn text(error: &anyhow::Error) -> String {
    joined(error.chain())
}

fn joined<'a>(chain: impl Iterator<Item = &'a (dyn Error + 'static)>) -> String {
    let mut text = String::new();
    for message in chain.map(ToString::to_string) {
        if text.is_empty() {
            text = message;
        } else if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn every_cause_is_said_once() {
        let missing = || anyhow!("No such file or directory (os error 2)");
        for (name, error, expected) in [
            ("alone", missing(), "No such file or directory (os error 2)"),
            ("with what was done", missing().context("/x"), "/x: No such file or directory (os error 2)"),
            (
                "a message that has its cause in it",
                missing()
                    .context("/x: cannot be read: No such file or directory (os error 2)")
                    .context("--config"),
                "--config: /x: cannot be read: No such file or directory (os error 2)",
            ),
            (
                "and goes on after it",
                missing().context("/x: No such file or directory (os error 2); name another"),
                "/x: No such file or directory (os error 2); name another",
            ),
        ] {
            assert_eq!(text(&error), expected, "{name}");
        }
    }
}
