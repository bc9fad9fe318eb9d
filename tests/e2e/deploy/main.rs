//! Keeps `deploy/` and `docs/` honest: what they name exists, what they give is accepted, and
//! suffices.
//!
//! Programs run in namespaces of their own; nothing is left behind.

mod chart;
mod controller;
mod dns;
mod documents;
mod files;
mod monitoring;
mod node;
mod patch;
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
        ("kubeadm's patch swaps kube-proxy in kubeadm's DaemonSet", patch::swaps_kube_proxy),
        ("the patch for names swaps CoreDNS in kubeadm's Deployment", dns::swaps_coredns),
        ("the Deployment for names fits together, and the program takes it", dns::deployment_fits),
        ("the Deployment of the controller fits together", controller::deployment_fits),
        ("the controller runs as its Deployment has it", controller::runs_as_deployed),
        ("the chart's schema has the values that there are", chart::schema_has_the_values),
        ("alerts and dashboard ask for metrics and labels that there are", monitoring::metrics_are_there),
        ("docs/metrics.md has the alerts that there are", monitoring::alerts_are_documented),
        ("docs/configuration.md names every flag, and none that is not there", documents::flags),
        ("docs/replacing-kube-proxy.md quotes messages that are there", documents::messages),
    ];
    // They need Helm's engine, which ./test installs.
    let of_helm: &[(&str, Test)] = &[
        ("the chart makes what deploy/base is", chart::makes_the_base),
        ("the chart refuses values that cannot be", chart::refuses_bad_values),
        ("the program accepts what the chart makes", chart::program_accepts_it),
        ("the chart makes what deploy/controller is where there are pools", chart::makes_the_controller),
        ("the chart's monitoring finds the proxies", chart::monitoring_fits),
    ];
    let trial = |(name, test): &(&str, Test)| {
        let test = *test;
        Trial::test(*name, move || test().map_err(|error| format!("{error:#}").into()))
    };
    let of_helm = of_helm.iter().map(|test| trial(test).with_ignored_flag(chart::engine().is_none()));
    tests.iter().map(trial).chain(of_helm).collect()
}
