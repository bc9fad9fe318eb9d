//! The words of a line as a shell sees them, as far as tours quote.

/// Words with their quotes.
pub(super) fn quoted(line: &str) -> Vec<&str> {
    let mut quote = Quote::default();
    line.split(|letter| !quote.is_mark(letter) && letter == ' ' && quote.0.is_none()).collect()
}

/// Words without their quotes.
pub(super) fn unquoted(line: &str) -> Vec<String> {
    let without = |word: &str| {
        let mut quote = Quote::default();
        word.chars().filter(|letter| !quote.is_mark(*letter)).collect()
    };
    quoted(line).into_iter().filter(|word| !word.is_empty()).map(without).collect()
}

/// The quote that is open.
#[derive(Default)]
struct Quote(Option<char>);

impl Quote {
    /// Whether the next letter opens or closes a quote.
    fn is_mark(&mut self, letter: char) -> bool {
        match self.0 {
            None if letter == '\'' || letter == '"' => self.0 = Some(letter),
            Some(open) if open == letter => self.0 = None,
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_or_lose_their_quotes() {
        for (line, with, without) in [
            ("a  b", &["a", "", "b"][..], &["a", "b"][..]),
            (
                "-p '{\"b\": \"c d\"}' ''",
                &["-p", "'{\"b\": \"c d\"}'", "''"],
                &["-p", "{\"b\": \"c d\"}", ""],
            ),
            ("x='a b'c \"it's\"", &["x='a b'c", "\"it's\""], &["x=a bc", "it's"]),
            ("", &[""], &[]),
        ] {
            assert_eq!(
                (&quoted(line)[..], &unquoted(line)[..]),
                (with, &*without.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()),
                "{line}"
            );
        }
    }
}
