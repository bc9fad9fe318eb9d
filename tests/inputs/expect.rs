//! What commands must do, in lines:
//!
//! ```text
//! # Why.
//! command 1             the expectations of the first command follow
//! exit 0                its exit status
//! first TEXT            the first line of its standard output has this text
//! has TEXT              a line of its standard output or standard error has this text
//! has TEXT || TEXT      one of the two
//! lacks TEXT            no line has it
//! count 2 TEXT          two lines have it
//! json .PATH = VALUE    its standard output is JSON with this value there
//! json .PATH != VALUE   with other values there, or none
//! ```
//!
//! `...` in a text stands for anything within the line. In a path, `*` stands for every item of a
//! list; `=` wants one at least.

use std::fmt;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

/// What a command did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// None if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// One line of `expect`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expectation {
    Exit(i32),
    First(Texts),
    Has(Texts),
    Lacks(Texts),
    Count(usize, Texts),
    Json { path: String, equal: bool, value: Value },
}

/// Alternatives. Each is what must follow one another in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Texts(Vec<Vec<String>>);

/// The expectations of each command.
pub(crate) fn parse(text: &str) -> anyhow::Result<Vec<Vec<Expectation>>> {
    let mut commands: Vec<Vec<Expectation>> = Vec::new();
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
    for (line, number) in lines {
        let at = || format!("line {number}: {line:?}");
        let (word, rest) = line.split_once(' ').with_context(at)?;
        if word == "command" {
            ensure!(rest.parse() == Ok(commands.len() + 1), "{}: it is command {}", at(), commands.len() + 1);
            commands.push(Vec::new());
            continue;
        }
        let expectation = expectation(word, rest).with_context(at)?;
        commands.last_mut().with_context(|| format!("{}: of which command?", at()))?.push(expectation);
    }
    ensure!(commands.iter().all(|expectations| !expectations.is_empty()), "a command without expectations");
    Ok(commands)
}

fn expectation(word: &str, rest: &str) -> anyhow::Result<Expectation> {
    Ok(match word {
        "exit" => Expectation::Exit(rest.parse()?),
        "first" => Expectation::First(texts(rest)),
        "has" => Expectation::Has(texts(rest)),
        "lacks" => Expectation::Lacks(texts(rest)),
        "count" => {
            let (count, text) = rest.split_once(' ').context("a number and a text")?;
            Expectation::Count(count.parse()?, texts(text))
        }
        "json" => {
            let (path, rest) = rest.split_once(' ').context("a path, = or !=, and a value")?;
            let (sign, value) = rest.split_once(' ').context("= or !=, and a value")?;
            ensure!(path.starts_with('.') && ["=", "!="].contains(&sign), "a path, = or !=, and a value");
            let value = serde_json::from_str(value)?;
            Expectation::Json { path: path.to_owned(), equal: sign == "=", value }
        }
        _ => bail!("exit, first, has, lacks, count or json"),
    })
}

fn texts(text: &str) -> Texts {
    Texts(text.split(" || ").map(|one| one.split("...").map(str::to_owned).collect()).collect())
}

impl Texts {
    fn are_in(&self, line: &str) -> bool {
        self.0.iter().any(|parts| {
            let rest = parts
                .iter()
                .try_fold(line, |rest, part| rest.split_once(part.as_str()).map(|(_, rest)| rest));
            rest.is_some()
        })
    }
}

impl Expectation {
    /// Why it does not hold, otherwise.
    pub(crate) fn holds(&self, done: &Done) -> Result<(), String> {
        let lines = || done.stdout.lines().chain(done.stderr.lines());
        match self {
            Expectation::Exit(code) if done.code == Some(*code) => Ok(()),
            Expectation::Exit(_) => match done.code {
                Some(code) => Err(format!("it was {code}")),
                None => Err("a signal ended it".to_owned()),
            },
            Expectation::First(texts) => {
                let first = done.stdout.lines().next().unwrap_or_default();
                if texts.are_in(first) { Ok(()) } else { Err("it has not".to_owned()) }
            }
            Expectation::Has(texts) if lines().any(|line| texts.are_in(line)) => Ok(()),
            Expectation::Has(_) => Err("no line has it".to_owned()),
            Expectation::Lacks(texts) => match lines().find(|line| texts.are_in(line)) {
                None => Ok(()),
                Some(line) => Err(format!("a line has it: {line}")),
            },
            Expectation::Count(count, texts) => match lines().filter(|line| texts.are_in(line)).count() {
                found if found == *count => Ok(()),
                found => Err(format!("{found} lines have it")),
            },
            Expectation::Json { path, equal, value } => {
                let document: Value =
                    serde_json::from_str(&done.stdout).map_err(|error| error.to_string())?;
                let found = values(&document, path);
                let holds = if *equal {
                    !found.is_empty() && found.iter().all(|found| *found == value)
                } else {
                    found.iter().all(|found| *found != value)
                };
                if holds { Ok(()) } else { Err(format!("found {}", json!(found))) }
            }
        }
    }
}

/// Every value at a path such as `.endpoints.*.ip`.
fn values<'a>(document: &'a Value, path: &str) -> Vec<&'a Value> {
    let steps = path.split('.').filter(|step| !step.is_empty());
    steps.fold(vec![document], |found, step| {
        let next = found.into_iter().flat_map(|value| match (step, value) {
            ("*", Value::Array(items)) => items.iter().collect::<Vec<_>>(),
            ("*", _) => Vec::new(),
            _ => value.get(step).into_iter().collect(),
        });
        next.collect()
    })
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::Exit(code) => write!(f, "exit {code}"),
            Expectation::First(texts) => write!(f, "first {texts}"),
            Expectation::Has(texts) => write!(f, "has {texts}"),
            Expectation::Lacks(texts) => write!(f, "lacks {texts}"),
            Expectation::Count(count, texts) => write!(f, "count {count} {texts}"),
            Expectation::Json { path, equal, value } => {
                write!(f, "json {path} {} {value}", if *equal { "=" } else { "!=" })
            }
        }
    }
}

impl fmt::Display for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(|parts| parts.join("...")).collect::<Vec<_>>().join(" || "))
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "-- it printed\n{}-- and on standard error\n{}", self.stdout, self.stderr)
    }
}

/// Checks the form on a command of which everything is known.
pub(crate) fn finds_what_does_not_hold() -> anyhow::Result<()> {
    let done = Done {
        code: Some(1),
        stdout: "{\"verdict\": \"drop\", \"ends\": [{\"to\": 1}, {\"to\": 2}], \"none\": null}\n".to_owned(),
        stderr: "portolan: one two three\nportolan: one\n".to_owned(),
    };
    for (line, holds) in [
        ("exit 1", true),
        ("exit 0", false),
        ("first verdict", true),
        ("first two", false),
        ("has one two", true),
        ("has one...three", true),
        ("has three...one", false),
        ("has four || two", true),
        ("has four || five", false),
        ("lacks four", true),
        ("lacks one...three", false),
        ("count 2 portolan", true),
        ("count 1 portolan", false),
        ("json .verdict = \"drop\"", true),
        ("json .verdict != \"drop\"", false),
        ("json .none = null", true),
        ("json .absent = null", false),
        ("json .ends.*.to = 1", false),
        ("json .ends.*.to != 3", true),
        ("json .ends.*.to != 2", false),
    ] {
        let parsed = parse(&format!("command 1\n{line}"))?;
        ensure!(parsed[0][0].to_string() == line, "{line} is read as {}", parsed[0][0]);
        ensure!(parsed[0][0].holds(&done).is_ok() == holds, "{line}: {:?}", parsed[0][0].holds(&done));
    }
    for text in
        ["exit 0", "command 2\nexit 0", "command 1", "command 1\nsays x", "command 1\njson verdict = 1"]
    {
        ensure!(parse(text).is_err(), "{text:?} is accepted");
    }
    Ok(())
}
