//! The command line. Flags that kube-proxy has keep its names and meaning (spec §10B).

use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ipnet::IpNet;
use portolan_service::NodePortAddresses;

/// A Kubernetes service proxy, and the chart that explains where a packet goes.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,

    /// Log verbosity: 0 changes and problems, 2 each element of work, 4 everything
    #[arg(short = 'v', long = "v", global = true, default_value_t = 0, value_name = "LEVEL")]
    pub(crate) verbosity: u8,

    /// How log lines are written
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) logging_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Forward for the Services of a folder of manifests, following its changes
    Run(RunArgs),
    /// Validate a folder of manifests and print what would change in the kernel, without touching it
    Check(CheckArgs),
    /// Remove all of Portolan's rules from this node
    Cleanup,
    /// Build nodes and pods from network namespaces on this machine, with a proxy on each node
    Lab {
        #[command(subcommand)]
        command: portolan_lab::commands::Command,
    },
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Folder of YAML and JSON manifests: Service, EndpointSlice, Endpoints, Pod, Node, Namespace
    #[arg(long, value_name = "DIR")]
    pub(crate) manifests: PathBuf,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    /// Write a newline to this file descriptor and close it once all Services are first in force
    #[arg(long, value_name = "FD")]
    pub(crate) ready_fd: Option<i32>,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Folder of YAML and JSON manifests
    #[arg(value_name = "DIR")]
    pub(crate) manifests: PathBuf,

    #[command(flatten)]
    pub(crate) proxy: ProxyArgs,

    /// How to print
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Text,
    Json,
}

/// What both `run` and `check` must know to plan for a node.
#[derive(Debug, Args)]
pub(crate) struct ProxyArgs {
    /// This node's name in Nodes, endpoints and hints [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname_override: Option<String>,

    /// Pod network of the cluster; for both families two, separated by a comma
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub(crate) cluster_cidr: Vec<IpNet>,

    /// How local pods are told from other sources
    #[arg(long, value_enum, default_value_t = DetectLocalMode::ClusterCidr)]
    pub(crate) detect_local_mode: DetectLocalMode,

    /// Interface that local pods come in through, for BridgeInterface
    #[arg(long, value_name = "NAME")]
    pub(crate) pod_bridge_interface: Option<String>,

    /// What the names of local pods' interfaces begin with, for InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pub(crate) pod_interface_name_prefix: Option<String>,

    /// Masquerade all traffic to ClusterIPs
    #[arg(long, num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) masquerade_all: bool,

    /// Networks whose local addresses answer on NodePorts, or `primary` for the node's own address
    #[arg(long, value_name = "CIDR,...", default_value = "primary", value_parser = nodeport_addresses)]
    pub(crate) nodeport_addresses: NodePortAddresses,

    /// How packets are forwarded
    #[arg(long, value_enum, default_value_t = ProxyMode::Nftables)]
    pub(crate) proxy_mode: ProxyMode,

    /// Networks that ClusterIPs are allocated from, where a Service names none
    #[arg(
        long,
        value_name = "CIDR,...",
        value_delimiter = ',',
        default_value = "10.96.0.0/16,fd00:10:96::/112"
    )]
    pub(crate) service_cluster_ip_range: Vec<IpNet>,

    /// Ports that NodePorts are allocated from
    #[arg(long, value_name = "FIRST-LAST", default_value = "30000-32767", value_parser = port_range)]
    pub(crate) service_node_port_range: RangeInclusive<u16>,

    /// Folder that remembers allocated addresses and ports over restarts
    #[arg(long, value_name = "DIR", default_value = "/var/lib/portolan")]
    pub(crate) state_dir: PathBuf,
}

/// `--detect-local-mode` (spec §4.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DetectLocalMode {
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    #[value(name = "NodeCIDR")]
    NodeCidr,
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProxyMode {
    Nftables,
}

/// Flag names may be written with `_` for `-`, as kube-proxy accepts them (spec §10.4).
pub(crate) fn with_dashes(args: impl Iterator<Item = std::ffi::OsString>) -> Vec<std::ffi::OsString> {
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

/// Spec §3.6: networks, or the single word `primary`.
fn nodeport_addresses(text: &str) -> Result<NodePortAddresses, String> {
    if text == "primary" {
        return Ok(NodePortAddresses::Primary);
    }
    text.split(',')
        .map(|part| match part.trim() {
            "primary" => Err("\"primary\" cannot be combined with networks: give it alone".to_owned()),
            network => network
                .parse::<IpNet>()
                .map(|network| network.trunc())
                .map_err(|_| format!("{network:?} is not a network such as 192.0.2.0/24")),
        })
        .collect::<Result<_, _>>()
        .map(NodePortAddresses::Networks)
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
    fn nodeport_addresses_are_networks_or_primary() {
        let networks = |list: &[&str]| {
            Ok(NodePortAddresses::Networks(list.iter().map(|network| network.parse().unwrap()).collect()))
        };
        for (text, expected) in [
            ("primary", Ok(NodePortAddresses::Primary)),
            ("192.0.2.0/24", networks(&["192.0.2.0/24"])),
            ("192.0.2.9/24,::/0", networks(&["192.0.2.0/24", "::/0"])),
            ("primary,::/0", Err(())),
            ("192.0.2.0", Err(())),
            ("", Err(())),
        ] {
            assert_eq!(nodeport_addresses(text).map_err(drop), expected, "{text}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(port_range("30000-32767"), Ok(30000..=32767));
        for bad in ["", "1", "0-5", "9-8", "1-65536", "a-b"] {
            assert!(port_range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn underscores_in_flag_names_are_dashes() {
        let given = ["run", "--cluster_cidr=a_b", "--masquerade_all", "-v", "x_y", "--", "--keep_this"];
        let expected = ["run", "--cluster-cidr=a_b", "--masquerade-all", "-v", "x_y", "--", "--keep_this"];
        assert_eq!(with_dashes(given.into_iter().map(Into::into)), expected);
    }
}
