//! Keeps `deploy/` and `docs/` honest: what they name exists, what they give is accepted, and suffices.
//!
//! Programs run in namespaces of their own; nothing is left behind.

mod documents;
mod files;
mod node;
mod program;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};
use portolan_lab::sandbox::{self, Entered};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = trials();
    if arguments.list {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    // Before the sandbox: building may need the network.
    if let Err(error) = portolan_tests::site::use_binary() {
        eprintln!("deploy: {error:#}");
        return ExitCode::FAILURE;
    }
    match sandbox::enter() {
        Ok(Entered::Inside) => libtest_mimic::run(&arguments, trials).exit_code(),
        Ok(Entered::Ended(code)) => code,
        Err(error) => {
            eprintln!("deploy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn trials() -> Vec<Trial> {
    type Test = fn() -> anyhow::Result<()>;
    let tests: &[(&str, Test)] = &[
        ("the role allows the requests that are made, and no others", node::role_is_what_is_asked),
        (
            "the capabilities of the DaemonSet suffice, and the probes are answered",
            node::capabilities_suffice,
        ),
        ("docs/metrics.md names what is served, and nothing that there is not", node::metrics_are_documented),
        ("every manifest is an object", files::manifests_are_objects),
        ("the DaemonSet fits together", files::daemon_set_fits),
        ("every configuration is accepted without a warning", program::configurations_are_accepted),
        ("every command line is accepted", program::command_lines_are_accepted),
        ("kubeadm's command and configuration are accepted under its program's path", program::kubeadm),
        ("docs/configuration.md names every flag, and none that is not there", documents::flags),
        ("docs/replacing-kube-proxy.md quotes messages that are there", documents::messages),
    ];
    tests
        .iter()
        .map(|(name, test)| {
            let test = *test;
            Trial::test(*name, move || test().map_err(|error| format!("{error:#}").into()))
        })
        .collect()
}
