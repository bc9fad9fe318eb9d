//! Sessions of people at a terminal, typed as they stand: real kubectl against the server. What is
//! printed is what a real server's users see.
//!
//! A session is a file of `sessions/`: commands after `$ `, and what they print. `*` stands for
//! anything within a line; runs of spaces count as one. Files that sessions apply are in `files/`.
//! Each session has a server of its own, and a small stand-in for controllers and nodes.

mod cluster;
mod matching;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

use cluster::Cluster;
use matching::matches;

/// Which kubectls are tried, as `./test` installs them.
const VERSIONS: [&str; 2] = ["1.37.1", "1.36.3"];

/// A command that takes longer has failed, in seconds.
const PATIENCE: &str = "60";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kubectl");
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools");
    let mut kubectls: Vec<(String, PathBuf)> = VERSIONS
        .iter()
        .map(|version| ((*version).to_owned(), tools.join(format!("kubectl-{version}/bin"))))
        .collect();
    // Another one, for trying it by hand: the folder that it is in.
    if let Some(folder) = std::env::var_os("PORTOLAN_KUBECTL") {
        kubectls = vec![("own".to_owned(), folder.into())];
    }
    let mut sessions: Vec<PathBuf> =
        fs::read_dir(here.join("sessions")).expect("sessions").flatten().map(|entry| entry.path()).collect();
    sessions.sort();
    let mut trials = Vec::new();
    for (version, folder) in kubectls {
        for session in &sessions {
            let name = session.file_stem().unwrap_or_default().to_string_lossy();
            let (session, files, bin) = (session.clone(), here.join("files"), folder.clone());
            let trial =
                Trial::test(format!("{name} with kubectl {version}"), move || run(&session, &files, &bin));
            // Without it, there is nothing to test.
            trials.push(trial.with_ignored_flag(!folder.join("kubectl").exists()));
        }
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A command of a session and the lines that it prints.
struct Step {
    line: usize,
    command: String,
    printed: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (position, line) in text.lines().enumerate() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: position + 1, command: command.to_owned(), printed: Vec::new() });
        } else if let Some(step) = steps.last_mut()
            && !line.starts_with('#')
            && !line.trim().is_empty()
        {
            step.printed.push(line.to_owned());
        }
    }
    steps
}

fn run(session: &Path, files: &Path, bin: &Path) -> Result<(), Failed> {
    let cluster = Cluster::start();
    let home = tempfile::tempdir()?;
    let kubeconfig = home.path().join("kubeconfig");
    cluster.kubeconfig(&kubeconfig)?;
    for file in fs::read_dir(files)?.flatten() {
        fs::copy(file.path(), home.path().join(file.file_name()))?;
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    for step in steps(&fs::read_to_string(session)?) {
        let output = Command::new("timeout")
            .args([PATIENCE, "sh", "-c", &format!("{{ {}\n}} 2>&1", step.command)])
            .current_dir(home.path())
            .env_clear()
            .env("PATH", &path)
            .env("HOME", home.path())
            .env("KUBECONFIG", &kubeconfig)
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let printed: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        let fits = printed.len() == step.printed.len()
            && step.printed.iter().zip(&printed).all(|(pattern, line)| matches(pattern, line));
        if !fits {
            return Err(format!(
                "{}:{}: $ {}\nexpected:\n{}\nprinted (status {:?}):\n{text}",
                session.display(),
                step.line,
                step.command,
                step.printed.join("\n"),
                output.status.code(),
            )
            .into());
        }
    }
    // What the session has left running must not be waited for.
    cluster.stop(Duration::from_secs(5));
    Ok(())
}
