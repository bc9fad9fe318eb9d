//! `portolan lab`: the commands, for a program whose `run` is the proxy.
//!
//! Without the feature `cluster` there is the demo alone, which needs no API server.

#[cfg(feature = "cluster")]
mod cluster;
mod demo;
mod style;
#[cfg(feature = "cluster")]
mod tour;

#[cfg(not(feature = "cluster"))]
use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Subcommand};

/// What the lab asks of the program that it is a part of.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What the kernel holds in the calling thread's network namespace, a line for each entry, for
    /// people.
    pub listing: fn() -> anyhow::Result<Vec<String>>,
}

/// Where the commands are that this program was built without.
#[cfg(not(feature = "cluster"))]
const WHOLE: &str = "\
This program was built for a first look. The commands for a lab of your own are in the whole one:
  cargo install --path crates/portolan
  cargo run --release -p portolan -- lab up FILE...";

/// A command of `portolan lab`.
#[derive(Debug, Clone, Subcommand)]
#[cfg_attr(not(feature = "cluster"), command(after_help = WHOLE))]
pub enum Command {
    /// Build two nodes, two pods and a client, send requests to their Service and show what
    /// happens; or go through a tour
    Demo(DemoArgs),
    /// What builds a lab for manifests, and looks into one
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    Cluster(cluster::Command),
    /// What runs in a pod whose image has a server of the lab's
    #[command(hide = true)]
    Serve {
        /// What to answer, as JSON
        task: String,
    },
    /// How a line of a tour is run at a node or the client
    #[cfg(feature = "cluster")]
    #[command(hide = true)]
    At(tour::AtArgs),
    /// What this program was built without
    #[cfg(not(feature = "cluster"))]
    #[command(external_subcommand)]
    Absent(Vec<OsString>),
}

/// `portolan lab demo`
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// A tour, W1 to W5: what an article about Services shows, typed step by step
    #[arg(value_name = "TOUR")]
    tour: Option<String>,

    /// Name the tours
    #[arg(long, conflicts_with_all = ["tour", "step"])]
    list: bool,

    /// Wait for Enter before each step of a tour
    #[arg(long, requires = "tour")]
    step: bool,
}

/// Runs a command. The process must have one thread only. The error has been printed nowhere yet.
pub fn run(command: &Command, program: Program) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo(DemoArgs { tour: None, list: false, .. }) => demo::run(program),
        #[cfg(feature = "cluster")]
        Command::Demo(DemoArgs { tour: Some(name), step, .. }) => tour::run(name, *step),
        #[cfg(feature = "cluster")]
        Command::Demo(_) => {
            print!("{}", tour::list());
            Ok(ExitCode::SUCCESS)
        }
        #[cfg(feature = "cluster")]
        Command::At(args) => tour::at(args),
        #[cfg(not(feature = "cluster"))]
        Command::Demo(_) => anyhow::bail!("lab demo: there are no tours in this program.\n{WHOLE}"),
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => cluster::run(command),
        Command::Serve { task } => Ok(crate::pod::serve(task)),
        #[cfg(not(feature = "cluster"))]
        Command::Absent(words) => {
            let name = words.first().map(|word| word.display().to_string()).unwrap_or_default();
            anyhow::bail!("lab {name}: there is no such command in this program.\n{WHOLE}")
        }
    }
}

/// How the whole program is called from the reader's shell: by its name where that finds it, or as
/// it was called now; or by cargo, where that has built this one for a first look.
fn called() -> String {
    if !cfg!(feature = "cluster") {
        return "cargo run --release -p portolan --".to_owned();
    }
    let own = std::env::current_exe().ok();
    let found = std::env::var_os("PATH").and_then(|folders| {
        std::env::split_paths(&folders).map(|folder| folder.join("portolan")).find(|path| path.is_file())
    });
    let found = found.and_then(|path| path.canonicalize().ok());
    if found.is_some() && found == own {
        return "portolan".to_owned();
    }
    std::env::args_os().next().map_or_else(|| "portolan".to_owned(), |word| word.display().to_string())
}
