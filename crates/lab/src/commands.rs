//! `portolan lab`: the commands, for a program whose `run` is the proxy.

mod capture;
mod control;
mod demo;
mod enter;
mod names;
mod place;
mod report;
mod trace;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use crate::cluster::{DnsTrouble, ProxyMode};

/// What the lab asks of the program that it is a part of.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What the kernel holds in the calling thread's network namespace, a line for each entry, for
    /// people.
    pub listing: fn() -> anyhow::Result<Vec<String>>,
}

/// A command of `portolan lab`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Build two nodes, two pods and a client, send requests to their Service and show what happens
    Demo,
    /// Build nodes and pods for manifests, with a proxy on each node, and keep them until
    /// `lab down`
    Up(UpArgs),
    /// Run a command on a node, in a pod or on the client
    Exec(ExecArgs),
    /// Say where a packet goes in a running lab, and why: `portolan trace` where the packet meets
    /// rules
    Trace(TraceArgs),
    /// Show the packets of a node, a pod or the client, with tcpdump
    Capture(CaptureArgs),
    /// Show nodes, pods, Services and what is wrong with the manifests of a running lab
    Status(StatusArgs),
    /// End a running lab
    Down(NameArgs),
    /// What runs in a pod whose image has a server of the lab's
    #[command(hide = true)]
    Serve {
        /// What to answer, as JSON
        task: String,
    },
}

/// The name of a lab that nobody has named.
const USUAL_NAME: &str = "default";

/// Which lab.
#[derive(Debug, Clone, Args)]
pub struct NameArgs {
    /// The lab's name, where several run
    #[arg(long, default_value = USUAL_NAME, value_parser = lab_name)]
    name: String,
}

/// `portolan lab up`
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// Manifests, or folders of them: Deployments, ReplicaSets, Pods, Services, Nodes and what else
    /// the proxy reads
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How many nodes, if the manifests name none
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=99))]
    nodes: u8,

    /// The mode of the proxies
    #[arg(long, value_enum, value_name = "MODE", default_value_t = ProxyMode::Nftables)]
    proxy_mode: ProxyMode,

    /// No DNS: names of Services mean nothing in the pods
    #[arg(long)]
    no_dns: bool,

    #[command(flatten)]
    lab: NameArgs,

    /// Stay in the foreground; Ctrl-C ends the lab
    #[arg(long)]
    foreground: bool,

    /// How a lab in the background starts itself: it leaves the terminal, and its first lines go to
    /// the one that waits
    #[arg(long, hide = true, conflicts_with = "foreground")]
    detached: bool,

    /// The folder that a lab in the background was started in
    #[arg(long, hide = true, requires = "detached")]
    from: Option<PathBuf>,
}

/// `portolan lab exec`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  portolan lab exec client -- curl -s http://10.96.7.7/
  portolan lab exec host1 -- portolan get services
  portolan lab exec host1 -- nft list table ip portolan")]
pub struct ExecArgs {
    #[command(flatten)]
    lab: NameArgs,

    /// A node's or pod's name, or `client`
    target: String,

    /// The command and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// `portolan lab trace`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  portolan lab trace web-1 svc/web
  portolan lab trace client host2:30080
  portolan lab trace --node host2 web-1 host2:30080
  portolan lab trace shop/cart-1 svc/shop/web:http -- --output svg")]
pub struct TraceArgs {
    #[command(flatten)]
    lab: NameArgs,

    /// By the rules of this node, to which the packet comes later, instead of the first that it
    /// meets
    #[arg(long, value_name = "NODE")]
    node: Option<String>,

    /// Where the packet comes from: a pod's or node's name, or `client`
    from: String,

    /// Where it is sent to: svc/NAME or svc/NAMESPACE/NAME, with :PORT if it has several; a name
    /// with :PORT; an address
    to: String,

    /// After `--`: further flags of `portolan trace`, such as --protocol or --verbose
    #[arg(last = true, value_name = "FLAG")]
    flags: Vec<OsString>,
}

/// `portolan lab capture`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  portolan lab capture web-1
  portolan lab capture host1 -- -c 10 tcp port 80
  portolan lab capture host1 -- -w /tmp/host1.pcap")]
pub struct CaptureArgs {
    #[command(flatten)]
    lab: NameArgs,

    /// A node's or pod's name, or `client`
    target: String,

    /// After `--`: further flags of tcpdump, and what to look for. All interfaces are shown, unless
    /// -i names one
    #[arg(last = true, value_name = "FLAG|FILTER")]
    flags: Vec<OsString>,
}

/// `portolan lab status`
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    lab: NameArgs,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Runs a command. The process must have one thread only. The error has been printed nowhere yet.
pub fn run(command: &Command, program: Program) -> anyhow::Result<ExitCode> {
    match command {
        Command::Demo => demo::run(program),
        Command::Up(args) => up::run(args),
        Command::Exec(args) => enter::run(&args.lab.name, &args.target, &args.command),
        Command::Trace(args) => trace::run(args),
        Command::Capture(args) => capture::run(&args.lab.name, &args.target, &args.flags),
        Command::Status(args) => {
            let status = control::status(&args.lab.name)?;
            match args.output {
                Output::Text => {
                    print!("{}", report::status(&status, std::env::current_dir().ok().as_deref()));
                }
                Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
            }
            let gone = |dns: &DnsTrouble| dns.gone;
            let running = status.nodes.iter().all(|node| node.proxy == "running")
                && !status.pods.iter().filter_map(|pod| pod.dns.as_ref()).any(gone);
            Ok(if running { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Serve { task } => Ok(crate::pod::serve(task)),
        Command::Down(args) => {
            control::down(&args.name)?;
            println!("lab {} is gone", args.name);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// How this program is called from a shell: by its name, or by cargo where that has built it for a
/// first look.
fn called() -> &'static str {
    let own = std::env::current_exe().ok();
    let is_first_look = own.and_then(|own| Some(own.file_name()? == "portolan-local")).unwrap_or_default();
    if is_first_look { "cargo run --release --" } else { "portolan" }
}

/// A name that is the name of a folder, too.
fn lab_name(text: &str) -> Result<String, String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if !text.is_empty() && text.len() <= 40 && text.bytes().all(fits) {
        Ok(text.to_owned())
    } else {
        Err("a name is 1 to 40 letters, digits and dashes".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(subcommand)]
        command: Command,
    }

    #[test]
    fn command_lines() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        for (line, fits) in [
            ("lab demo", true),
            ("lab up", false),
            ("lab up a.yaml b --nodes 3 --name x", true),
            ("lab up a.yaml --nodes 0", false),
            ("lab up a.yaml --name ../x", false),
            ("lab exec host1 -- ip -4 route", true),
            ("lab exec host1", false),
            ("lab up a.yaml --proxy-mode iptables", true),
            ("lab up a.yaml --proxy-mode ipvs", false),
            ("lab up a.yaml --no-dns", true),
            ("lab trace web-1 svc/web", true),
            ("lab trace web-1", false),
            ("lab trace web-1 svc/web -- --verbose", true),
            ("lab trace --node host2 web-1 host2:30080", true),
            ("lab capture web-1 -- -c 1 tcp port 80", true),
            ("lab capture", false),
            ("lab status -o json", true),
            ("lab down --name x", true),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), fits, "{line}");
        }
    }
}
