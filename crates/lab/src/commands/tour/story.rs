//! What a tour is made of: data that is read from top to bottom.

use crate::proxy::ProxyMode;

/// A session at a terminal.
#[derive(Debug)]
pub(super) struct Tour {
    /// `W1`
    pub(super) name: &'static str,
    /// Another name, which says what it is about.
    pub(super) word: &'static str,
    pub(super) title: &'static str,
    /// What is different from the article that it follows, and why.
    pub(super) differs: &'static str,
    pub(super) scenery: Scenery,
    pub(super) parts: &'static [Part],
}

/// What is there before the first step.
#[derive(Debug)]
pub(super) struct Scenery {
    /// Names and contents of the files in the folder where everything is typed.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// The one of these files that the cluster starts with. It has the nodes.
    pub(super) start: &'static str,
    /// Where ClusterIPs are allocated.
    pub(super) services: &'static str,
}

/// Steps that belong together.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) title: &'static str,
    pub(super) steps: &'static [Step],
}

/// Something that is typed, and what is to be seen then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) place: Place,
    /// As it is typed.
    pub(super) line: &'static str,
    pub(super) act: Act,
    /// A sentence for the reader.
    pub(super) look: &'static str,
    /// What the sentence claims, for the program.
    pub(super) sights: &'static [Sight],
    /// Whether it is to fail.
    pub(super) fails: bool,
    /// Whether it becomes true only after a moment: it is typed again until then.
    pub(super) soon: bool,
    /// Programs that must be there, beside those in `line`: other steps have run them.
    pub(super) needs: &'static [&'static str],
}

/// Where something is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where the reader's kubectl is.
    Here,
    /// On the machine outside of the cluster.
    Client,
    /// On a node.
    Node(&'static str),
}

/// What is done.
#[derive(Debug, Clone, Copy)]
pub(super) enum Act {
    /// The line is run to its end.
    Run,
    /// The line is run in the background. The next step comes when it has written this, or at once
    /// if this is nothing.
    Behind(&'static str),
    /// What runs in the background is waited for.
    Fetch,
    /// A web server of the lab's own answers from here on: under this name, at this address and
    /// port.
    Serve(&'static str, [u8; 4], u16),
    /// The proxy of a node is started again, perhaps in another mode.
    Restart(&'static str, Option<ProxyMode>),
}

/// Something that is to be seen in what is printed. Patterns are words: a line has them if it has
/// all of them in this order, others may stand between. `*` at an end of a word stands for
/// anything.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sight {
    /// A line has this.
    Shows(&'static str),
    /// No line has this.
    Hides(&'static str),
    /// Lines have these, one below the other.
    InOrder(&'static [&'static str]),
    /// The last line has this.
    Ends(&'static str),
    /// There are so many lines.
    Lines(usize),
    /// So many lines have this.
    Times(usize, &'static str),
}

/// Something that is typed where the reader's kubectl is.
pub(super) const fn here(line: &'static str) -> Step {
    at(Place::Here, line)
}

/// Something that is typed on the machine outside.
pub(super) const fn client(line: &'static str) -> Step {
    at(Place::Client, line)
}

/// Something that is typed on a node.
pub(super) const fn node(name: &'static str, line: &'static str) -> Step {
    at(Place::Node(name), line)
}

/// A web server of the lab's own on a node, which says that it is `name`.
pub(super) const fn serve(
    node: &'static str,
    name: &'static str,
    address: [u8; 4],
    port: u16,
    line: &'static str,
) -> Step {
    Step { act: Act::Serve(name, address, port), ..at(Place::Node(node), line) }
}

/// The proxy of a node is started again. `line` is how that is typed.
pub(super) const fn restart(node: &'static str, mode: Option<ProxyMode>, line: &'static str) -> Step {
    Step { act: Act::Restart(node, mode), ..at(Place::Here, line) }
}

/// What runs in the background is waited for.
pub(super) const fn fetch(place: Place) -> Step {
    Step { act: Act::Fetch, ..at(place, "fg") }
}

const fn at(place: Place, line: &'static str) -> Step {
    Step { place, line, act: Act::Run, look: "", sights: &[], fails: false, soon: false, needs: &[] }
}

impl Step {
    /// What to look at.
    pub(super) const fn look(self, look: &'static str) -> Step {
        Step { look, ..self }
    }

    /// What is to be seen.
    pub(super) const fn sees(self, sights: &'static [Sight]) -> Step {
        Step { sights, ..self }
    }

    /// It is seen after a moment.
    pub(super) const fn soon(self) -> Step {
        Step { soon: true, ..self }
    }

    /// The command is to fail.
    pub(super) const fn fails(self) -> Step {
        Step { fails: true, ..self }
    }

    /// The command runs on in the background once it has written this.
    pub(super) const fn behind(self, until: &'static str) -> Step {
        Step { act: Act::Behind(until), ..self }
    }

    /// Without these programs, the step makes no sense.
    pub(super) const fn needs(self, needs: &'static [&'static str]) -> Step {
        Step { needs, ..self }
    }

    /// Why what came of the command is not what is to come of it.
    pub(super) fn differs(&self, succeeded: bool, text: &str) -> Option<String> {
        if succeeded == self.fails {
            let what = if self.fails { "succeeds, and is to fail" } else { "fails" };
            return Some(format!("it {what}"));
        }
        self.sights.iter().find_map(|sight| sight.differs(text))
    }
}

impl Sight {
    fn differs(self, text: &str) -> Option<String> {
        let count = |pattern: &str| text.lines().filter(|line| has(line, pattern)).count();
        match self {
            Sight::Shows(pattern) => (count(pattern) == 0).then(|| format!("no line has `{pattern}`")),
            Sight::Hides(pattern) => (count(pattern) > 0).then(|| format!("a line has `{pattern}`")),
            Sight::InOrder(patterns) => {
                let mut lines = text.lines();
                let missing = patterns.iter().find(|pattern| !lines.any(|line| has(line, pattern)));
                missing.map(|pattern| format!("no line has `{pattern}` where it is to be"))
            }
            Sight::Ends(pattern) => {
                let last = text.lines().last().unwrap_or_default();
                (!has(last, pattern)).then(|| format!("the last line has not `{pattern}`"))
            }
            Sight::Lines(wanted) => {
                let found = text.lines().count();
                (found != wanted).then(|| format!("there are {found} lines, and not {wanted}"))
            }
            Sight::Times(wanted, pattern) => {
                let found = count(pattern);
                (found != wanted).then(|| format!("{found} lines have `{pattern}`, and not {wanted}"))
            }
        }
    }
}

/// Whether a line has all words of a pattern, in this order.
fn has(line: &str, pattern: &str) -> bool {
    let mut words = line.split_whitespace();
    pattern.split_whitespace().all(|wanted| words.any(|word| is_like(word, wanted)))
}

fn is_like(word: &str, wanted: &str) -> bool {
    match (wanted.strip_prefix('*'), wanted.strip_suffix('*')) {
        (Some(_), Some(_)) => word.contains(wanted.trim_matches('*')),
        (Some(end), None) => word.ends_with(end),
        (None, Some(start)) => word.starts_with(start),
        (None, None) => word == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::Sight::{Ends, Hides, InOrder, Lines, Shows, Times};
    use super::*;

    const TEXT: &str = "Chain A (2 references)\n  7  420 KUBE-SEP-X  tcp -- 0.0.0.0/0\n  0    0 KUBE-SEP-Y  all -- 0.0.0.0/0";

    #[test]
    fn sights_are_seen_or_missed() {
        for (sight, missed) in [
            (Shows("KUBE-SEP-X tcp 0.0.0.0/0"), None),
            (Shows("KUBE-SEP-* all"), None),
            (Shows("tcp KUBE-SEP-X"), Some("no line has `tcp KUBE-SEP-X`")),
            (Shows("KUBE-SEP"), Some("no line has `KUBE-SEP`")),
            (Hides("DROP"), None),
            (Hides("*SEP-Y"), Some("a line has `*SEP-Y`")),
            (InOrder(&["KUBE-SEP-X", "KUBE-SEP-Y"]), None),
            (InOrder(&["KUBE-SEP-Y", "KUBE-SEP-X"]), Some("no line has `KUBE-SEP-X` where it is to be")),
            (Ends("KUBE-SEP-Y"), None),
            (Ends("KUBE-SEP-X"), Some("the last line has not `KUBE-SEP-X`")),
            (Lines(3), None),
            (Lines(2), Some("there are 3 lines, and not 2")),
            (Times(1, "0 0 KUBE-SEP-*"), None),
            (Times(2, "0 0 KUBE-SEP-*"), Some("1 lines have `0 0 KUBE-SEP-*`, and not 2")),
        ] {
            assert_eq!(sight.differs(TEXT).as_deref(), missed, "{sight:?}");
        }
    }

    #[test]
    fn a_command_succeeds_or_fails_as_it_is_to() {
        let step = here("true");
        assert_eq!(step.differs(true, ""), None);
        assert_eq!(step.differs(false, "").as_deref(), Some("it fails"));
        assert_eq!(step.fails().differs(false, ""), None);
        assert_eq!(step.fails().differs(true, "").as_deref(), Some("it succeeds, and is to fail"));
    }
}
