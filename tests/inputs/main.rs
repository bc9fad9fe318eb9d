//! Inputs of the shape of what people really have: dumps, manifests, command lines. Each folder
//! beside this file is one.
//!
//! - `cmd` has a command a line, run inside the folder with `portolan` on the PATH, as root of a
//!   network namespace that has nothing but a loopback interface.
//! - `expect` has what each of them must do. [`expect`] has the form.
//! - Whatever else there is belongs to the commands.

mod expect;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, ensure};
use portolan_tests::{harness, site};

use crate::expect::{Done, Expectation};

/// Commands mostly wait where they take long.
const THREADS: usize = 4;
/// No command takes longer on a machine that is not stuck.
const WITHIN: &str = "120";

fn main() -> ExitCode {
    let mut trials = Vec::new();
    match folders() {
        Ok(folders) => trials.extend(
            folders
                .into_iter()
                .map(|(name, folder)| harness::trial(name.clone(), move || comes_out(&name, &folder))),
        ),
        Err(error) => {
            eprintln!("inputs: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    trials.push(harness::trial("expectations that do not hold are found", expect::finds_what_does_not_hold));
    harness::run("inputs", THREADS, trials)
}

/// The inputs by their names, in alphabetical order.
fn folders() -> anyhow::Result<Vec<(String, PathBuf)>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("inputs");
    let mut found = Vec::new();
    for entry in fs::read_dir(&here).with_context(|| here.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
        }
    }
    found.sort();
    ensure!(!found.is_empty(), "{} has no folders", here.display());
    Ok(found)
}

/// Runs the commands of a folder. Fails if one does not do what is expected.
fn comes_out(name: &str, folder: &Path) -> anyhow::Result<()> {
    let read = |file: &str| fs::read_to_string(folder.join(file)).with_context(|| format!("{name}/{file}"));
    let commands = read("cmd")?;
    let commands: Vec<&str> =
        commands.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let expected = expect::parse(&read("expect")?).with_context(|| format!("{name}/expect"))?;
    ensure!(
        expected.len() == commands.len(),
        "{name}: cmd has {} commands, expect has {}",
        commands.len(),
        expected.len()
    );
    let mut wrong = Vec::new();
    for (command, expectations) in commands.iter().zip(&expected) {
        let done = run(folder, command)?;
        let unmet: Vec<String> =
            expectations.iter().filter_map(|expectation| unmet(expectation, &done)).collect();
        if !unmet.is_empty() {
            wrong.push(format!("$ {command}\n{}\n{done}", unmet.join("\n")));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn unmet(expectation: &Expectation, done: &Done) -> Option<String> {
    expectation.holds(done).err().map(|why| format!("{expectation}: {why}"))
}

fn run(folder: &Path, command: &str) -> anyhow::Result<Done> {
    let program = site::binary();
    let programs = program.parent().context("the program is in no folder")?;
    let output = Command::new("timeout")
        .args(["--kill-after=5", WITHIN, "bash", "-c", command])
        .env_clear()
        .env(
            "PATH",
            format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", programs.display()),
        )
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("starting a command")?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Done { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}
