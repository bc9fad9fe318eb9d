//! Portolan: a Kubernetes service proxy, as a program to call from `main`.
//!
//! Without the feature `cluster` it has no client of the Kubernetes API, whose libraries take most
//! of the time to compile: it forwards for folders of manifests, builds labs, traces and checks,
//! and refuses to follow a cluster.

mod addresses;
mod announcing;
mod answers;
mod batch;
mod causes;
mod check;
mod cleanup;
mod cli;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(not(feature = "cluster"))]
#[path = "without_cluster.rs"]
mod cluster;
mod configuration;
mod consumers;
#[cfg(feature = "cluster")]
mod controller;
mod describe;
mod dns;
mod event;
mod feed;
mod forwarding;
mod get;
mod kernel_settings;
mod logging;
mod mailbox;
mod manifests;
mod names;
mod node_check;
mod node_lock;
mod privileges;
mod probing;
mod problems;
mod process_one;
mod proxy;
mod ready_fd;
mod requirements;
mod run;
mod runtime;
mod servers;
mod signals;
mod this_node;
mod threads;
mod trace;
mod traffic;
mod wanted;

use std::process::ExitCode;

use clap::Parser;
use portolan_dataplane::nftables::Nftables;
use portolan_dataplane::{Dataplane, Settings};
use portolan_lab::commands::Program;

use crate::cli::{Cli, Command};

/// Does what the command line says. The process must have one thread only.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(cli::meant(std::env::args_os().collect())) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody may be reading. Help is no error; all others are the same one to a supervisor
            // (spec §11.21).
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let done = match &cli.command {
        Command::Run(args) => run::run(args).map(|()| ExitCode::SUCCESS),
        Command::Check(args) => check::check(args),
        Command::Dns(args) => dns::dns(args).map(|()| ExitCode::SUCCESS),
        #[cfg(feature = "cluster")]
        Command::Controller(args) => controller::controller(args).map(|()| ExitCode::SUCCESS),
        #[cfg(not(feature = "cluster"))]
        Command::Controller(_) => cluster::no_client().map(|()| ExitCode::SUCCESS),
        Command::Get(args) => get::get(args).map(|()| ExitCode::SUCCESS),
        Command::Trace(args) => trace::trace(args),
        Command::Cleanup(args) => {
            logging::start_plain();
            let say = |line: &str| println!("{line}");
            let done = if args.kube_proxy { cleanup::kube_proxy(say) } else { cleanup::own(say) };
            done.map(|()| ExitCode::SUCCESS)
        }
        Command::Lab { command } => {
            logging::start_plain();
            portolan_lab::commands::run(command, Program { listing })
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("portolan: {}", causes::text(&error));
        ExitCode::FAILURE
    })
}

/// What the kernel holds in this thread's network namespace, for people.
fn listing() -> anyhow::Result<Vec<String>> {
    Ok(Nftables::new(Settings::default())?.listing()?)
}
