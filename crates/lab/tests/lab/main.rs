//! Labs without a proxy: every way that packets must go by themselves, and nothing left behind.

mod crash;
#[cfg(feature = "cluster")]
mod kubenet;
mod pods;
#[cfg(feature = "cluster")]
mod streams;
mod ways;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use nix::sys::signal::{SigHandler, Signal, signal};
use portolan_lab::sandbox::{self, Entered};

fn main() -> ExitCode {
    // Played by this binary when it starts itself; before anything else, as these have one thread
    // only.
    if std::env::args().nth(1).as_deref() == Some(crash::ROLE) {
        return crash::victim();
    }
    if std::env::args().nth(1).as_deref() == Some(pods::ROLE) {
        return pods::server();
    }
    // Looks at processes from outside, so it comes before the sandbox.
    let crash = crash::leaves_nothing_behind();
    // As a script has it that starts a lab in the background.
    // SAFETY: what is ignored runs no code of ours.
    let _before = unsafe { signal(Signal::SIGINT, SigHandler::SigIgn) };
    match sandbox::enter() {
        Ok(Entered::Inside) => {}
        Ok(Entered::Ended(code)) => return code,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let mut trials = ways::trials();
    trials.extend(pods::trials());
    #[cfg(feature = "cluster")]
    trials.extend(kubenet::trials());
    #[cfg(feature = "cluster")]
    trials.extend(streams::trials());
    trials.push(Trial::test("nothing_is_left_after_sigkill", move || crash.map_err(Into::into)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}
