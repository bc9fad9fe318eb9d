//! Sessions of people at a terminal, typed as they stand: real kubectl against the lab. What is
//! printed is what a real cluster's users see.
//!
//! A session is a file: commands after `$ `, and what they print. `*` stands for anything within a
//! line; runs of spaces count as one, and empty lines as none. Files that sessions apply are in
//! `files/`.
//!
//! - `server/` has what the API server answers. Each session has a server of its own, and a small
//!   stand-in for controllers and nodes.
//! - `articles/` has the sessions of five articles on how Services become rules. Each begins with
//!   `portolan lab up`.

mod cluster;
mod matching;
mod session;
mod shell;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

use session::{Against, Session};

/// Which kubectls are tried, as `./test` installs them.
const VERSIONS: [&str; 2] = ["1.37.1", "1.36.3"];

/// They mostly wait.
const THREADS: usize = 4;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(THREADS);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tools = here.join("../target/tools");
    let mut kubectls: Vec<(String, PathBuf)> = VERSIONS
        .iter()
        .map(|version| ((*version).to_owned(), tools.join(format!("kubectl-{version}/bin"))))
        .collect();
    // Another one, for trying it by hand: the folder that it is in.
    if let Some(folder) = std::env::var_os("PORTOLAN_KUBECTL") {
        kubectls = vec![("own".to_owned(), folder.into())];
    }
    // The long ones first.
    let mut files = sessions(&here.join("kubectl/articles"), Against::Lab);
    files.extend(sessions(&here.join("kubectl/server"), Against::Server));
    let mut trials = Vec::new();
    for (version, folder) in kubectls {
        for (file, against) in &files {
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            let session = Session { file: file.clone(), against: *against, kubectl: folder.clone() };
            let trial = Trial::test(format!("{name} with kubectl {version}"), move || {
                session.run().map_err(|error| Failed::from(format!("{error:#}")))
            });
            // Without it, there is nothing to test.
            trials.push(trial.with_ignored_flag(!folder.join("kubectl").exists()));
        }
    }
    // Once, and not in each session: it may have to be built.
    if !arguments.list
        && let Err(error) = portolan_tests::site::use_binary()
    {
        eprintln!("kubectl: {error:#}");
        return ExitCode::FAILURE;
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The sessions in a folder.
fn sessions(folder: &Path, against: Against) -> Vec<(PathBuf, Against)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("sessions").flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.into_iter().map(|file| (file, against)).collect()
}
