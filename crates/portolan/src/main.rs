//! Portolan: a Kubernetes service proxy.

mod addresses;
mod batch;
mod check;
mod cli;
mod describe;
mod health_check;
mod logging;
mod privileges;
mod proxy;
mod run;
mod this_node;

use std::process::ExitCode;

use clap::Parser;
use portolan_lab::commands::Program;

use crate::cli::{Cli, Command, ProxyMode};

fn main() -> ExitCode {
    let cli = Cli::parse_from(cli::with_dashes(std::env::args_os()));
    logging::start(cli.verbosity, cli.logging_format);
    let done = match &cli.command {
        Command::Run(args) => run::run(args).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check::check(args),
        Command::Cleanup => cleanup(),
        Command::Lab { command } => portolan_lab::commands::run(command, Program { listing }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("portolan: {error:#}");
        ExitCode::FAILURE
    })
}

/// Removes the rules of all modes.
fn cleanup() -> anyhow::Result<ExitCode> {
    for mode in <ProxyMode as clap::ValueEnum>::value_variants() {
        run::make_dataplane(*mode)(portolan_dataplane::Settings::default())?.cleanup()?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the kernel holds in this thread's network namespace, for people.
fn listing() -> anyhow::Result<Vec<String>> {
    Ok(run::make_dataplane(ProxyMode::Nftables)(portolan_dataplane::Settings::default())?.listing()?)
}
