//! Speed and memory of Portolan, as ratios within one run. See README.md for method and meaning.

mod affinity;
mod amount;
mod api;
mod build;
mod change;
mod cluster;
mod dns;
mod element;
mod flood;
mod flow;
mod forwarding;
mod group;
mod hostile;
mod iptables;
mod ipvs;
mod kube_proxy;
mod kube_proxy_ipvs;
mod lab;
mod load;
mod memory;
mod namespace;
mod pace;
mod perform;
mod process;
mod program;
mod relay;
mod report;
mod rules;
mod sample;
mod step;
mod trace;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};

use crate::amount::Amount;
use crate::api::Case;
use crate::cluster::Shape;
use crate::report::Line;

/// Measures speed and memory, in namespaces of its own; needs no root.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Cli {
    /// What to measure
    #[arg(value_enum, default_value_t = Bench::All)]
    bench: Bench,

    /// Small clusters and few repetitions: whether everything works, and rough figures
    #[arg(long)]
    quick: bool,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,

    /// Fail if a figure is not as required
    #[arg(long)]
    strict: bool,

    #[command(subcommand)]
    hidden: Option<Hidden>,
}

#[derive(Debug, Subcommand)]
enum Hidden {
    /// A part of a measurement, in a process of its own
    #[command(hide = true)]
    Step { seconds: u64, step: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Cold load of a whole cluster, against `nft -f`
    Load,
    /// One endpoint or Service changed, from file to kernel
    Change,
    /// One endpoint leaves while a million clients are remembered and forged ones keep coming
    Affinity,
    /// A new flow, against kube-proxy's rules and against one rule
    Flow,
    /// Resident memory for each Service and endpoint
    Memory,
    /// The whole program following an API server
    Cluster,
    /// Mode iptables: cold load and one change, against iptables-restore of what kube-proxy writes
    Iptables,
    /// Mode ipvs: cold load against ipvsadm, one change, a new flow against kube-proxy's mode ipvs;
    /// for root of a machine with IPVS, such as that of `in-vm`
    Ipvs,
    /// One Service that asks for as much as it can
    Hostile,
    /// Packets traced through the rules of a whole cluster, against a small one
    Trace,
    /// Names of Services asked for over UDP, against knot, nsd and CoreDNS
    Dns,
    /// A lab: how soon it is there, pods ready and gone, its memory, writes to its API server
    Lab,
    /// A proxy in user space, against HAProxy, nginx and socat, and against the kernel alone
    Relay,
    /// What the first command of README.md compiles, against the shipped program; takes a quarter
    /// of an hour
    Build,
    /// Everything but the build and mode ipvs
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// How much is measured.
struct Scale {
    load: &'static [Shape],
    load_rounds: usize,
    change: &'static [Shape],
    changes: u32,
    /// Endpoints, clients, departures.
    affinity: (u32, u32, u32),
    flow: &'static [Shape],
    flow_rounds: usize,
    flows: u32,
    memory: (u32, u32),
    clusters: &'static [Case],
    cluster_changes: usize,
    iptables: &'static [Shape],
    iptables_changes: u32,
    /// Services of a small cluster and of a large one, and changes of each.
    ipvs: (u32, u32, u32),
    ipvs_flow: Shape,
    trace: &'static [Shape],
    traced: u32,
    source_ranges: u32,
    hostile_rounds: usize,
    /// Services, seconds of each measurement, and larger clusters for memory.
    dns: (u32, u64, &'static [Shape]),
    relay: Amount,
    lab: lab::Amount,
}

const FULL: Scale = Scale {
    load: &[Shape::new(10_000, 1), Shape::new(45_000, 1), Shape::new(5_000, 50)],
    load_rounds: 5,
    // A Service of several endpoints costs a verdict element besides.
    change: &[Shape::new(100, 1), Shape::new(10_000, 1), Shape::new(45_000, 1), Shape::new(45_000, 2)],
    changes: 100,
    affinity: (16, 1_000_000, 50),
    flow: &[Shape::new(10, 1), Shape::new(1_000, 1), Shape::new(1_000, 50), Shape::new(10_000, 1)],
    flow_rounds: 7,
    flows: 200_000,
    memory: (45_000, 50),
    clusters: &[
        Case { services: 10_000, endpoints: 10_000, resident: Some(40) },
        Case { services: 45_000, endpoints: 45_000, resident: None },
        Case { services: 15_000, endpoints: 260_000, resident: Some(120) },
    ],
    cluster_changes: 1_000,
    iptables: &[Shape::new(1_000, 1), Shape::new(10_000, 1)],
    iptables_changes: 9,
    ipvs: (100, 10_000, 50),
    ipvs_flow: Shape::new(1_000, 2),
    trace: &[Shape::new(10_000, 3)],
    traced: 100_000,
    source_ranges: 100_000,
    hostile_rounds: 3,
    dns: (10_000, 4, &[Shape::new(45_000, 6)]),
    relay: Amount { rounds: 5, flow: 2000, short: 20_000, requests: 20_000, idle: 10_000 },
    lab: lab::Amount { rounds: 5, pods: 200, writes: 10_000 },
};

const QUICK: Scale = Scale {
    load: &[Shape::new(10_000, 1)],
    load_rounds: 3,
    change: &[Shape::new(100, 1), Shape::new(2_000, 2)],
    changes: 20,
    affinity: (16, 1_000_000, 16),
    flow: &[Shape::new(10, 1), Shape::new(500, 2)],
    flow_rounds: 3,
    flows: 50_000,
    memory: (2_000, 20),
    clusters: &[Case { services: 1_000, endpoints: 2_500, resident: None }],
    cluster_changes: 100,
    iptables: &[Shape::new(1_000, 1)],
    iptables_changes: 5,
    ipvs: (100, 1_000, 20),
    ipvs_flow: Shape::new(100, 2),
    trace: &[Shape::new(2_000, 3)],
    traced: 10_000,
    source_ranges: 100_000,
    hostile_rounds: 1,
    dns: (1_000, 1, &[]),
    relay: Amount { rounds: 1, flow: 500, short: 2_000, requests: 2_000, idle: 1_000 },
    lab: lab::Amount { rounds: 1, pods: 40, writes: 1_000 },
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.hidden {
        Some(Hidden::Step { seconds, step }) => serde_json::from_str(step)
            .context("reading a step")
            .and_then(|step| perform::perform(&step, Duration::from_secs(*seconds)))
            .map(|()| true),
        None => measure(&cli),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("portolan-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether the run counts as a success.
fn measure(cli: &Cli) -> anyhow::Result<bool> {
    let scale = if cli.quick { &QUICK } else { &FULL };
    let benches = match cli.bench {
        Bench::All => {
            vec![
                Bench::Load,
                Bench::Change,
                Bench::Affinity,
                Bench::Flow,
                Bench::Memory,
                Bench::Cluster,
                Bench::Iptables,
                Bench::Hostile,
                Bench::Trace,
                Bench::Dns,
                Bench::Relay,
                Bench::Lab,
            ]
        }
        one => vec![one],
    };
    if cli.bench != Bench::Build && !is_shipped_profile() {
        eprintln!(
            "not optimised as what is shipped: take figures with cargo run --profile dist -p portolan-benches"
        );
    }
    // Before the namespaces: cargo may want to fetch something.
    let needs_program = benches.iter().any(|bench| {
        matches!(
            bench,
            Bench::Change | Bench::Memory | Bench::Cluster | Bench::Trace | Bench::Dns | Bench::Lab
        )
    });
    let program: PathBuf = if needs_program { program::find()? } else { PathBuf::new() };
    namespace::enter_private()?;
    if benches.iter().any(|bench| matches!(bench, Bench::Load | Bench::Flow)) && !load::nft_is_there() {
        eprintln!("nft is not installed: the baselines that it loads are SKIPPED");
    }
    let mut all = Vec::new();
    for bench in benches {
        let started = Instant::now();
        let lines = run(bench, scale, &program)?;
        if cli.output == Output::Text {
            println!("{} ({:.1?})\n{}", heading(bench), started.elapsed(), report::table(&lines));
        }
        all.extend(lines);
    }
    if cli.output == Output::Json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    }
    Ok(!cli.strict || all.iter().all(|line| line.met() != Some(false)))
}

/// Whether this program, and so the one that it measures, was built in the profile of what is
/// shipped.
fn is_shipped_profile() -> bool {
    let own = std::env::current_exe().ok();
    own.and_then(|own| Some(own.parent()?.file_name()? == "dist")).unwrap_or_default()
}

fn run(bench: Bench, scale: &Scale, program: &Path) -> anyhow::Result<Vec<Line>> {
    match bench {
        Bench::Load => load::bench(scale.load, scale.load_rounds),
        Bench::Change => change::bench(program, scale.change, scale.changes),
        Bench::Affinity => affinity::bench(scale.affinity.0, scale.affinity.1, scale.affinity.2),
        Bench::Flow => flow::bench(scale.flow, scale.flow_rounds, scale.flows),
        Bench::Memory => memory::bench(program, scale.memory.0, scale.memory.1),
        Bench::Cluster => api::bench(program, scale.clusters, scale.cluster_changes),
        Bench::Iptables => iptables::bench(scale.iptables, scale.iptables_changes),
        Bench::Ipvs => {
            let mut lines = ipvs::bench(scale.ipvs.0, scale.ipvs.1, scale.ipvs.2)?;
            lines.extend(flow::bench_ipvs(scale.ipvs_flow, scale.flow_rounds, scale.flows / 4)?);
            Ok(lines)
        }
        Bench::Hostile => hostile::bench(scale.source_ranges, scale.hostile_rounds),
        Bench::Trace => trace::bench(program, scale.trace, scale.traced),
        Bench::Dns => dns::bench(program, scale.dns.0, scale.dns.1, scale.dns.2),
        Bench::Relay => relay::bench(scale.relay),
        Bench::Lab => lab::bench(program, scale.lab),
        Bench::Build => build::bench(),
        Bench::All => unreachable!("taken apart by the caller"),
    }
}

fn heading(bench: Bench) -> &'static str {
    match bench {
        Bench::Load => "load: Services x endpoints into an empty kernel, median",
        Bench::Change => "change: one change among so many Services x endpoints",
        Bench::Affinity => "affinity: an endpoint leaves one of two Services x endpoints",
        Bench::Flow => "flow: a new UDP flow to a random Service, the whole way through the node, median",
        Bench::Memory => "memory: resident, with Services x endpoints in force",
        Bench::Cluster => "cluster: following an API server with so many Services x endpoints",
        Bench::Iptables => "iptables: mode iptables with Services x endpoints, median",
        Bench::Ipvs => "ipvs: mode ipvs with Services x endpoints, median",
        Bench::Hostile => "hostile: one Service that asks for as much as it can, among 1000 others, median",
        Bench::Trace => "trace: packets through the rules of Services x endpoints",
        Bench::Dns => "dns: names of so many Services, server and client on a processor each, median",
        Bench::Relay => "relay: clients and servers on one processor, what is between on another, median",
        Bench::Lab => "lab: from outside, as a user of kubectl meets it, median",
        Bench::Build => "build: everything from nothing, on this machine",
        Bench::All => unreachable!("taken apart by the caller"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
