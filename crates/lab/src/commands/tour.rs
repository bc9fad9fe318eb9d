//! `portolan lab demo NAME`: tours. Each is a session at a terminal, typed step by step: commands,
//! what they print, and what to look at. What a tour claims is checked, so that it fails if
//! something else is to be seen.

mod kubectl;
mod print;
mod stage;
mod story;
mod tools;
mod w1;
mod w2;
mod w3;
mod w4;
mod w5;
mod words;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use self::stage::Stage;
use self::story::Tour;
use super::called;
use super::cluster::enter;
use super::style::Style;
use crate::sandbox::{self, Entered};
use crate::search_path;

/// All tours.
static TOURS: [&Tour; 5] = [&w1::TOUR, &w2::TOUR, &w3::TOUR, &w4::TOUR, &w5::TOUR];

/// How a line of a tour is run at a node or the client: the process is in its network already.
#[derive(Debug, Clone, Args)]
pub struct AtArgs {
    /// The node, or `client`
    place: String,
    /// The lab's folder
    state: PathBuf,
    /// What is typed
    line: String,
}

/// Runs a line of a shell. The process must have one thread only.
pub(super) fn at(args: &AtArgs) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("finding this program")?;
    enter::settle(&args.place, &args.state, &program)?.run(Command::new("sh").arg("-c").arg(&args.line))
}

/// The names of all tours, a line each.
pub(super) fn list() -> String {
    let width = TOURS.iter().map(|tour| tour.word.len()).max().unwrap_or_default();
    let line = |tour: &&Tour| format!("{}  {:<width$}  {}\n", tour.name, tour.word, tour.title);
    TOURS.iter().map(line).collect::<Vec<_>>().concat()
}

/// Goes through a tour; with `wait`, Enter leads to the next step. Fails where something else is to
/// be seen than the tour says.
pub(super) fn run(name: &str, wait: bool) -> anyhow::Result<ExitCode> {
    let is_meant = |tour: &&&Tour| [tour.name, tour.word].iter().any(|own| own.eq_ignore_ascii_case(name));
    let Some(tour) = TOURS.iter().find(is_meant) else {
        bail!("there is no tour {name:?}; there is\n{}", list().trim_end());
    };
    let style = Style::of_output();
    let begun = Instant::now();
    match sandbox::enter()? {
        Entered::Inside => {}
        Entered::Ended(code) => return Ok(code),
    }
    let mut stage = Stage::build(tour)?;
    let ready = begun.elapsed();
    print!("{}", print::opening(style, tour, &stage.notes()));
    let (mut number, mut skipped) = (0, 0);
    for part in tour.parts {
        println!("{}", print::heading(style, part));
        for step in part.steps {
            number += 1;
            println!("{}", print::typed(style, number, step));
            if wait {
                wait_for_enter(style)?;
            }
            if let Some(lack) = tools::missing(step, search_path::find) {
                skipped += 1;
                print!("{}", print::skipped(style, lack));
                continue;
            }
            let place = || format!("{}, step {number} ({})", tour.name, step.line);
            let outcome = stage.perform(step).with_context(place)?;
            print!("{}", print::output(&outcome.text));
            if let Some(why) = step.differs(outcome.succeeded, &outcome.text) {
                bail!("{}: {why}. So it is not true that: {}", place(), step.look);
            }
            print!("{}", print::look(style, step));
            io::stdout().flush().context("writing")?;
        }
    }
    println!("\n{}", closing(style, number, skipped, (ready, begun.elapsed())));
    let next = TOURS.iter().skip_while(|other| other.name != tour.name).nth(1);
    match next {
        Some(next) => println!("Next: {} lab demo {}, {}", called(), next.name, next.title),
        None => println!("Next, a lab of your own: {} lab up FILE...", called()),
    }
    Ok(ExitCode::SUCCESS)
}

fn closing(style: Style, steps: usize, skipped: usize, (ready, done): (Duration, Duration)) -> String {
    let verdict = match skipped {
        0 => style.good(&format!("All {steps} steps are as they say.")),
        _ => format!(
            "{} steps are as they say, {} are skipped.",
            steps - skipped,
            style.bad(&skipped.to_string())
        ),
    };
    let (ready, done) = (ready.as_secs_f64(), done.as_secs_f64());
    format!("{verdict} Built in {ready:.1} s, done in {done:.1} s; nothing of it stays.")
}

fn wait_for_enter(style: Style) -> anyhow::Result<()> {
    print!("{}", style.faint("    Enter: "));
    io::stdout().flush().context("writing")?;
    // At the end of input, the rest goes on by itself.
    io::stdin().read_line(&mut String::new()).map(drop).context("reading")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_step_says_what_to_look_at() {
        for tour in TOURS {
            for step in tour.parts.iter().flat_map(|part| part.steps) {
                assert!(step.look.ends_with(['.', ')']), "{}: {}: {:?}", tour.name, step.line, step.look);
            }
        }
    }

    #[test]
    fn names_are_unique_and_files_are_there() {
        let names: BTreeSet<&str> = TOURS.iter().flat_map(|tour| [tour.name, tour.word]).collect();
        assert_eq!(names.len(), 2 * TOURS.len());
        for tour in TOURS {
            let has = |name: &str| tour.scenery.files.iter().any(|(file, _)| *file == name);
            assert!(has(tour.scenery.start), "{}", tour.name);
            for step in tour.parts.iter().flat_map(|part| part.steps) {
                let applied = step.line.strip_prefix("kubectl apply -f ");
                assert!(applied.is_none_or(has), "{}: {}", tour.name, step.line);
            }
        }
        assert_eq!(list().lines().count(), TOURS.len());
    }
}
