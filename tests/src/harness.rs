//! Trials of real packets, run in a sandbox.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use portolan_lab::sandbox::{self, Entered};

use crate::{proxy, site};

/// Runs `trials` in private namespaces, `threads` at once unless the command line says otherwise:
/// they mostly wait. `name` is that of the program.
pub fn run(name: &str, threads: usize, trials: Vec<Trial>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(threads);
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    // Before the sandbox: building may need the network.
    if let Err(error) = site::use_binary() {
        eprintln!("{name}: {error:#}");
        return ExitCode::FAILURE;
    }
    match sandbox::enter() {
        Ok(Entered::Inside) => libtest_mimic::run(&arguments, trials).exit_code(),
        Ok(Entered::Ended(code)) => code,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One trial; where it fails, with the last lines that its proxies said.
pub fn trial(name: impl Into<String>, test: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        let done = test();
        let lines = proxy::take_last_lines();
        done.map_err(|error| format!("{error:#}{lines}").into())
    })
}
