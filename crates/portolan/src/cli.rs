//! The command line. The flags that kube-proxy has are in `portolan_config` (spec §10B).

mod controller;
mod dns;
mod node_dns;

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use portolan_observe::control::DEFAULT_SOCKET;
use portolan_trace_cli::TraceArgs;

pub(crate) use self::controller::ControllerArgs;
pub(crate) use self::dns::{DnsArgs, STATE_DIR};
pub(crate) use self::node_dns::NodeDnsArgs;

/// A Kubernetes service proxy, and the chart that explains where a packet goes.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forward for the Services of a cluster, or of a folder of manifests, following every change
    ///
    /// Takes kube-proxy's flags and configuration file. Started under the name kube-proxy, the
    /// program behaves as this.
    #[command(disable_version_flag = true)]
    Run(RunArgs),
    /// Validate a folder of manifests and print what would change in the kernel, without touching
    /// it
    Check(CheckArgs),
    /// Answer questions for the names of a cluster, or of a folder of manifests, as CoreDNS does
    ///
    /// Takes CoreDNS's Corefile, and follows its changes. Takes CoreDNS's flags, too, also with one
    /// dash: -conf, -dns.port, -quiet. Started under the name coredns, the program behaves as this.
    Dns(Box<DnsArgs>),
    /// Allocate load-balancer addresses in a cluster, and write them into the status of Services
    ///
    /// Of several, the one that has a Lease works, and another takes over when it ends.
    Controller(ControllerArgs),
    /// Ask the proxy that runs on this node, or the DNS server
    Get(GetArgs),
    /// Say where a packet goes, and why, from the rules themselves: live, from a dump, or as
    /// manifests would have them
    Trace(Box<TraceArgs>),
    /// Remove all of Portolan's rules from this node
    Cleanup(CleanupArgs),
    /// Build nodes and pods from network namespaces on this machine, with a proxy on each node
    Lab {
        #[command(subcommand)]
        command: portolan_lab::commands::Command,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Forward for a folder of YAML and JSON manifests instead of a cluster: Service,
    /// EndpointSlice, Endpoints, Pod, Node, Namespace
    #[arg(long, value_name = "DIR", value_parser = portolan_config::path())]
    manifests: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    /// Socket on which `portolan get` asks this proxy; an empty name for none
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET, value_parser = portolan_config::path())]
    pub(crate) socket: PathBuf,

    /// Write a newline to this file descriptor and close it once all Services are first in force
    #[arg(long, value_name = "FD")]
    pub(crate) ready_fd: Option<i32>,

    /// In mode nftables, keep an empty chain in table kube-proxy, which has Calico's Felix choose
    /// nftables where its nftablesMode is Auto; without this flag, or in other modes, the chain is
    /// removed
    #[arg(long)]
    pub(crate) calico_marker: bool,

    #[command(flatten)]
    pub(crate) dns: NodeDnsArgs,

    /// Print the version and exit: as kube-proxy writes it, or all of it
    #[arg(long, value_name = "true|raw", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) version: Option<String>,
}

impl RunArgs {
    /// The folder of manifests, if one is named: an empty path names none.
    pub(crate) fn manifests(&self) -> Option<&Path> {
        self.manifests.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// Pods are probed from here: in a cluster, kubelet does that.
    pub(crate) fn probes(&self) -> bool {
        self.manifests().is_some() && self.proxy.probe_pods
    }
}

/// Flags of `run` that change nothing of what `check` prints, by their fields.
const WITHOUT_EFFECT_ON_CHECK: &[&str] = &[
    "write_config_to",
    "cleanup",
    "init_only",
    "master",
    "kubeconfig",
    "kube_api_qps",
    "kube_api_burst",
    "healthz_bind_address",
    "metrics_bind_address",
    "bind_address_hard_fail",
    "iptables_sync_period",
    "iptables_min_sync_period",
    "ipvs_sync_period",
    "ipvs_min_sync_period",
    "ipvs_scheduler",
    "ipvs_exclude_cidrs",
    "ipvs_strict_arp",
    "ipvs_tcp_timeout",
    "ipvs_tcpfin_timeout",
    "ipvs_udp_timeout",
    "oom_score_adj",
    "conntrack_max_per_core",
    "conntrack_min",
    "conntrack_tcp_timeout_established",
    "conntrack_tcp_timeout_close_wait",
    "conntrack_udp_timeout",
    "conntrack_udp_timeout_stream",
];

fn of_check(flag: Arg) -> Arg {
    let without_effect = WITHOUT_EFFECT_ON_CHECK.contains(&flag.get_id().as_str());
    if without_effect { flag.hide(true) } else { flag }
}

#[derive(Debug, Args)]
#[command(
    mut_args(of_check),
    after_help = "A node's flags can be given as they are: those that change nothing here are accepted."
)]
pub(crate) struct CheckArgs {
    /// Folder of YAML and JSON manifests
    #[arg(value_name = "DIR")]
    pub(crate) manifests: PathBuf,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    /// Fail on warnings, too: unknown kinds and fields, and names that match nothing
    #[arg(long)]
    pub(crate) strict: bool,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// What to ask for
    #[arg(value_enum)]
    pub(crate) what: GetWhat,

    /// Of services and endpoints, only those of this Service (web). Of names, those of this Service
    /// (web, web.shop), or this one (db-0.db.shop); the rest of the domain may follow
    #[arg(value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// Only Services of this namespace
    #[arg(short, long, value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Services of all namespaces, as without this flag
    #[arg(short = 'A', long, conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,

    /// How to print; wide has the names of ports and endpoints, too, and in mode ipvs all that the
    /// kernel has counted
    #[arg(short, long, value_enum, default_value_t = GetOutput::Text)]
    pub(crate) output: GetOutput,

    /// The socket of the process; without this flag that of a proxy on this node or, for names,
    /// that of a DNS server in this container
    #[arg(long, value_name = "PATH", value_parser = portolan_config::path())]
    pub(crate) socket: Option<PathBuf>,
}

/// How `get` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GetOutput {
    Text,
    Json,
    Wide,
}

/// What a running process can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GetWhat {
    /// What is forwarded: each port of each Service with its addresses and verdicts
    Services,
    /// Where it is forwarded to: each endpoint of each Service port
    Endpoints,
    /// Load-balancer addresses: whose they are, and which node announces them
    Addresses,
    /// What changed last, and how long it took
    Changes,
    /// Health, and where the objects come from
    Status,
    /// Names that are answered for, with addresses, or with the reason why there are none
    Names,
}

#[derive(Debug, Args)]
pub(crate) struct CleanupArgs {
    /// Remove what kube-proxy left instead: chains and rules of its modes, in any variant of
    /// iptables
    #[arg(long)]
    pub(crate) kube_proxy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// What both `run` and `check` must know to plan for a node.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    #[command(flatten)]
    pub(crate) flags: portolan_config::Flags,

    /// Networks that ClusterIPs are allocated from, where a manifest names none
    #[arg(
        long,
        value_name = "CIDR,...",
        value_delimiter = ',',
        default_value = "10.96.0.0/16,fd00:10:96::/112"
    )]
    pub(crate) service_cluster_ip_range: Vec<IpNet>,

    /// Ports that NodePorts are allocated from, where a manifest names none
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767", value_parser = port_range)]
    pub(crate) service_node_port_range: RangeInclusive<u16>,

    /// Pods of manifests get connections as their probes pass, which this process carries out; if
    /// false, as their condition Ready says
    #[arg(long, value_name = "true|false", default_value_t = true, action = ArgAction::Set)]
    pub(crate) probe_pods: bool,

    /// Folder for what is remembered over restarts: the last state of the cluster, allocated
    /// addresses and ports; an empty name to remember nothing
    #[arg(long, value_name = "DIR", default_value = STATE_DIR, value_parser = portolan_config::path())]
    pub(crate) state_dir: PathBuf,
}

/// The command line that is meant: started under the name `kube-proxy`, the program is `portolan
/// run`, and under the name `coredns` it is `portolan dns`.
pub(crate) fn meant(mut args: Vec<OsString>) -> Vec<OsString> {
    let name = args.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == "kube-proxy") {
        args.insert(1, "run".into());
    } else if name.is_some_and(|name| name == "coredns") {
        args.insert(1, "dns".into());
    }
    if args.get(1).is_some_and(|command| command == "dns") {
        args.iter_mut().for_each(with_two_dashes);
    }
    with_dashes(args.into_iter())
}

/// Flag names of several letters may have one dash, as CoreDNS accepts them.
fn with_two_dashes(arg: &mut OsString) {
    if let Some(text) = arg.to_str()
        && let Some(name) = text.strip_prefix('-')
        && name.len() > 1
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && !name[1..].starts_with(['=', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
    {
        *arg = format!("--{name}").into();
    }
}

/// Flag names may be written with `_` for `-`, as kube-proxy accepts them (spec §10.4).
fn with_dashes(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut verbatim = false;
    args.map(|arg| {
        verbatim |= arg == "--";
        match arg.to_str() {
            Some(text) if !verbatim && text.starts_with("--") => {
                let (name, value) =
                    text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
                let name = name.replace('_', "-");
                value.map_or_else(|| name.clone(), |value| format!("{name}={value}")).into()
            }
            _ => arg,
        }
    })
    .collect()
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parsed =
        text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match parsed {
        Some((first, last)) if 1 <= first && first <= last => Ok(first..=last),
        _ => Err(format!("{text:?} is not a range of ports such as 30000-32767")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn check_shows_the_flags_that_change_what_it_prints() {
        use clap::CommandFactory;
        let mut cli = Cli::command();
        let check = cli.find_subcommand_mut("check").expect("it is there");
        for id in WITHOUT_EFFECT_ON_CHECK {
            assert!(check.get_arguments().any(|flag| flag.get_id() == id), "{id} is no flag");
        }
        let help = check.render_long_help().to_string();
        for flag in ["--cluster-cidr", "--proxy-mode", "--nodeport-addresses", "--state-dir"] {
            assert!(help.contains(flag), "{flag}");
        }
        for flag in ["--kubeconfig", "--cleanup", "--ipvs", "--oom-score-adj", "--healthz-bind-address"] {
            assert!(!help.contains(flag), "{flag}");
        }
        let given = ["portolan", "check", "folder", "--kubeconfig=/k", "--oom-score-adj=-999"];
        assert!(Cli::try_parse_from(given).is_ok(), "a node's flags, as they are");
    }

    #[test]
    fn help_cites_no_clause() {
        use clap::CommandFactory;
        // "spec §4.7" is of no document that users have.
        fn look(command: &mut clap::Command) {
            let help = command.render_long_help().to_string();
            assert!(!help.contains('§'), "{help}");
            command.get_subcommands_mut().for_each(look);
        }
        look(&mut Cli::command());
    }

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Ok(30000..=32767));
        for bad in ["", "1", "0-5", "9-8", "1-65536", "a-b"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_names_of_others_mean_commands() {
        let given = |args: &[&str]| args.iter().map(Into::into).collect::<Vec<OsString>>();
        for (args, expected) in [
            (
                &["/usr/local/bin/kube-proxy", "--config=/a_b"][..],
                &["/usr/local/bin/kube-proxy", "run", "--config=/a_b"][..],
            ),
            (&["portolan", "get", "services"], &["portolan", "get", "services"]),
            (
                &["/coredns", "-conf", "/etc/coredns/Corefile", "-dns.port=1053", "-p", "53", "-v4", "-p=9"],
                &[
                    "/coredns",
                    "dns",
                    "--conf",
                    "/etc/coredns/Corefile",
                    "--dns.port=1053",
                    "-p",
                    "53",
                    "-v4",
                    "-p=9",
                ],
            ),
            (&["portolan", "run", "-v4", "-x"], &["portolan", "run", "-v4", "-x"]),
        ] {
            assert_eq!(meant(given(args)), given(expected));
        }
    }

    #[test]
    fn underscores_in_flag_names_are_dashes() {
        let given = ["run", "--cluster_cidr=a_b", "--masquerade_all", "-v", "x_y", "--", "--keep_this"];
        let expected = ["run", "--cluster-cidr=a_b", "--masquerade-all", "-v", "x_y", "--", "--keep_this"];
        assert_eq!(with_dashes(given.into_iter().map(Into::into)), expected);
    }
}
