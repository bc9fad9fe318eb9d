//! The commands of `portolan lab` that build a lab for manifests, and look into one.

mod capture;
mod control;
pub(super) mod enter;
mod names;
mod place;
mod proxy_modes;
mod report;
mod trace;
mod up;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::ensure;
use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;

use super::called;
use crate::proxy::ProxyMode;
use control::NodeOrder;
use place::Place;
use proxy_modes::ModeOf;

/// A command of `portolan lab` beside `demo`.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Build a cluster that kubectl works against, with a proxy on each node, and keep it until
    /// `lab down`
    Up(UpArgs),
    /// Print what points a shell's kubectl at a running lab: eval "$(portolan lab env)"
    Env(NameArgs),
    /// Print where the kubeconfig of a running lab is
    Kubeconfig(NameArgs),
    /// Run a command on a node, in a pod or on the client
    Exec(ExecArgs),
    /// Say where a packet goes in a running lab, and why: `portolan trace` where the packet meets
    /// rules
    Trace(TraceArgs),
    /// Show the packets of a node, a pod or the client, with tcpdump
    Capture(CaptureArgs),
    /// Show nodes, pods, Services and what is wrong with the manifests of a running lab
    Status(StatusArgs),
    /// Add a node, remove it, switch it off, or keep new pods from it
    #[command(subcommand)]
    Node(NodeCommand),
    /// Start the proxy of a node again
    #[command(subcommand)]
    Proxy(ProxyCommand),
    /// End a running lab
    Down(NameArgs),
}

/// `portolan lab node`
#[derive(Debug, Clone, Subcommand)]
pub enum NodeCommand {
    /// Add a node, with a kubelet and a proxy
    Add {
        #[command(flatten)]
        lab: NameArgs,

        /// Its name; without one, host and a number
        node: Option<String>,

        /// The mode of its proxy, if it is not that of the others
        #[arg(long, value_enum, value_name = "MODE")]
        proxy_mode: Option<ProxyMode>,
    },
    /// Take a node out of the cluster: its pods end first, and come back elsewhere if somebody owns
    /// them
    Remove(NodeArgs),
    /// Keep new pods from a node
    Cordon(NodeArgs),
    /// Let new pods come to a node again
    Uncordon(NodeArgs),
    /// Switch a node off, with its pods and its proxy: nobody reports it, and after a while the
    /// cluster sees that it is lost
    Stop(NodeArgs),
}

/// A node of a lab.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    #[command(flatten)]
    lab: NameArgs,

    /// The node's name
    node: String,
}

/// `portolan lab proxy`
#[derive(Debug, Clone, Subcommand)]
pub enum ProxyCommand {
    /// End the proxy of a node as a service manager does, and start it again
    Restart {
        #[command(flatten)]
        lab: NameArgs,

        /// The node's name
        node: String,

        /// The mode to start it in, if it is to be another
        #[arg(long, value_enum, value_name = "MODE")]
        proxy_mode: Option<ProxyMode>,
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
    /// Manifests, or folders of them, which are applied, and applied again when they change
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How many nodes, if the manifests name none
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=99))]
    nodes: u8,

    /// The mode of the proxies (nftables, iptables, userspace), and of single nodes' proxies:
    /// iptables,host2=nftables
    #[arg(long, value_name = "MODE,NODE=MODE,...", value_delimiter = ',')]
    proxy_mode: Vec<ModeOf>,

    /// Where NodePorts answer on the nodes, as in `portolan run`: primary,localhost makes them
    /// answer on loopback addresses, too
    #[arg(long, value_name = "CIDR|WORD,...", value_delimiter = ',')]
    nodeport_addresses: Vec<String>,

    /// Addresses for Services of type LoadBalancer, as in `portolan controller`, which allocates
    /// them; a node announces each. The client is in 192.168.50.0/24 with the nodes, unless the
    /// manifests have other addresses: 192.168.50.224/28 is free there
    #[arg(long, value_name = "[NAME=]RANGE,...")]
    load_balancer_pool: Vec<String>,

    /// Networks that ClusterIPs are allocated from, at most one of each family; otherwise
    /// 10.96.0.0/16 and fd00:10:96::/112, or what holds the addresses that the manifests ask for
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    service_cluster_ip_range: Vec<IpNet>,

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
pub(super) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
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
            let running = status.nodes.iter().all(|node| node.proxy == "running");
            Ok(if running { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Env(args) => {
            println!("export KUBECONFIG={}", quoted(&kubeconfig(&args.name)?));
            Ok(ExitCode::SUCCESS)
        }
        Command::Kubeconfig(args) => {
            println!("{}", kubeconfig(&args.name)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Node(command) => {
            println!("{}", change_node(command)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Proxy(ProxyCommand::Restart { lab, node, proxy_mode }) => {
            control::restart_proxy(&lab.name, node, *proxy_mode)?;
            println!("the proxy of node {node} has its rules in force again");
            Ok(ExitCode::SUCCESS)
        }
        Command::Down(args) => {
            control::down(&args.name)?;
            println!("lab {} is gone", args.name);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Gives what has become of the node.
fn change_node(command: &NodeCommand) -> anyhow::Result<String> {
    let (order, args, done) = match command {
        NodeCommand::Add { lab, node, proxy_mode } => {
            let node = control::add_node(&lab.name, node.as_deref(), *proxy_mode)?;
            return Ok(format!("node {node} has come"));
        }
        NodeCommand::Remove(args) => (NodeOrder::Remove, args, "is gone"),
        NodeCommand::Cordon(args) => (NodeOrder::Cordon, args, "takes no new pods"),
        NodeCommand::Uncordon(args) => (NodeOrder::Uncordon, args, "takes pods"),
        NodeCommand::Stop(args) => (NodeOrder::Stop, args, "is switched off"),
    };
    control::order_node(&args.lab.name, order, &args.node)?;
    Ok(format!("node {} {done}", args.node))
}

/// Where the kubeconfig of a running lab is.
fn kubeconfig(name: &str) -> anyhow::Result<PathBuf> {
    // Asked, so that the file of a lab that crashed is not taken for one of a lab that runs.
    control::status(name)?;
    let path = Place::of(name)?.kubeconfig();
    ensure!(path.is_file(), "{} is missing: was the lab started by another version?", path.display());
    Ok(path)
}

/// A path as one word of a shell.
fn quoted(path: &std::path::Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
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
            ("lab up", true),
            ("lab up a.yaml b --nodes 3 --name x", true),
            ("lab up a.yaml --nodes 0", false),
            ("lab up a.yaml --name ../x", false),
            ("lab exec host1 -- ip -4 route", true),
            ("lab exec host1", false),
            ("lab up a.yaml --proxy-mode iptables", true),
            ("lab up a.yaml --proxy-mode ipvs", false),
            ("lab up --nodeport-addresses primary,localhost a.yaml", true),
            ("lab up a.yaml --no-dns", true),
            ("lab trace web-1 svc/web", true),
            ("lab trace web-1", false),
            ("lab trace web-1 svc/web -- --verbose", true),
            ("lab trace --node host2 web-1 host2:30080", true),
            ("lab capture web-1 -- -c 1 tcp port 80", true),
            ("lab capture", false),
            ("lab status -o json", true),
            ("lab env", true),
            ("lab kubeconfig --name x", true),
            ("lab node stop host1", true),
            ("lab node burn host1", false),
            ("lab node add", true),
            ("lab node add host9 --proxy-mode iptables", true),
            ("lab node remove", false),
            ("lab up --proxy-mode iptables,host2=nftables", true),
            ("lab up --proxy-mode host2=ipvs", false),
            ("lab proxy restart host1 --proxy-mode iptables", true),
            ("lab up --service-cluster-ip-range 10.11.12.0/24,fd00::/112", true),
            ("lab down --name x", true),
        ] {
            assert_eq!(Cli::try_parse_from(line.split(' ')).is_ok(), fits, "{line}");
        }
    }
}
