//! kube-proxy's flags (spec §10B).
//!
//! Each is optional, so that what was given explicitly is known. What a value must be beyond its
//! type is checked by [`crate::load`], together with everything else. Names may be written with `_`
//! for `-` if the program sees to it.

use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use crate::duration::GoDuration;
use crate::removed::Removed;

/// kube-proxy's flags, but for `--version` and `--help`.
///
/// As in kube-proxy, the last of several counts, lists gather what is given, and switches take
/// `=false`.
#[derive(Debug, Clone, Default, PartialEq, Args)]
#[command(args_override_self = true)]
pub struct Flags {
    /// Configuration file, in place of all flags but those for logging and the host name
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub config: Option<PathBuf>,

    /// Write the effective configuration to this file and exit
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub write_config_to: Option<PathBuf>,

    /// Remove all rules from this node and exit
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub cleanup: Option<bool>,

    /// Do what needs full privileges and exit
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub init_only: Option<bool>,

    /// Address of the API server, instead of the kubeconfig's
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,

    /// Feature gates to set
    #[arg(long, value_name = "GATE=BOOL,...")]
    pub feature_gates: Vec<String>,

    /// How to reach the API server; without it, as a pod in the cluster does
    #[arg(long, value_name = "FILE", value_parser = path())]
    pub kubeconfig: Option<PathBuf>,

    /// Accepted, without effect
    #[arg(long, value_name = "TYPE", hide = true)]
    pub kube_api_content_type: Option<String>,

    /// Requests a second to the API server [default: 5]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub kube_api_qps: Option<f32>,

    /// Requests at once to the API server [default: 10]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub kube_api_burst: Option<i32>,

    /// How log lines are written: text or json [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub logging_format: Option<String>,

    /// Accepted, without effect: log lines are written at once
    #[arg(long, value_name = "DURATION", hide = true, allow_hyphen_values = true)]
    pub log_flush_frequency: Option<GoDuration>,

    /// Log verbosity: 0 changes and problems, 2 each element of work, 4 everything [default: 0]
    #[arg(short = 'v', long = "v", value_name = "LEVEL", allow_hyphen_values = true)]
    pub verbosity: Option<i64>,

    /// Accepted, without effect
    #[arg(long, value_name = "PATTERN=LEVEL,...", hide = true)]
    pub vmodule: Vec<String>,

    /// Accepted, without effect
    #[arg(long, value_name = "BOOL", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub log_text_split_stream: Option<bool>,

    /// Accepted, without effect
    #[arg(long, value_name = "BYTES", hide = true)]
    pub log_text_info_buffer_size: Option<String>,

    /// Accepted, without effect
    #[arg(long, value_name = "BOOL", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub log_json_split_stream: Option<bool>,

    /// Accepted, without effect
    #[arg(long, value_name = "BYTES", hide = true)]
    pub log_json_info_buffer_size: Option<String>,

    /// This node's name in the API [default: the host name]
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,

    /// This node's own address, if the Node object shall not decide; no socket is bound to it
    /// [default: 0.0.0.0]
    #[arg(long, value_name = "IP")]
    pub bind_address: Option<String>,

    /// Where /healthz and /livez are served [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP:PORT")]
    pub healthz_bind_address: Option<String>,

    /// Deprecated: use --healthz-bind-address; 0 switches the health server off
    #[arg(long, value_name = "PORT", hide = true, allow_hyphen_values = true)]
    pub healthz_port: Option<i32>,

    /// Where /metrics is served [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_bind_address: Option<String>,

    /// Deprecated: use --metrics-bind-address
    #[arg(long, value_name = "PORT", hide = true, allow_hyphen_values = true)]
    pub metrics_port: Option<i32>,

    /// Exit if one of these addresses cannot be bound, instead of trying again
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub bind_address_hard_fail: Option<bool>,

    /// Accepted, without effect: there are no Go profiles
    #[arg(long, value_name = "BOOL", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub profiling: Option<bool>,

    /// Accepted, without effect: no metric is hidden
    #[arg(long, value_name = "VERSION", hide = true)]
    pub show_hidden_metrics_for_version: Option<String>,

    /// How packets are forwarded: nftables, iptables, ipvs or userspace [default: nftables]
    #[arg(long, value_name = "MODE")]
    pub proxy_mode: Option<String>,

    /// Bit of the packet mark for masquerading, in iptables and ipvs mode [default: 14]
    #[arg(long, value_name = "BIT", allow_hyphen_values = true)]
    pub iptables_masquerade_bit: Option<i32>,

    /// Masquerade all traffic to ClusterIPs
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub masquerade_all: Option<bool>,

    /// Answer on 127.0.0.1 on NodePorts, in iptables mode [default: true]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub iptables_localhost_nodeports: Option<bool>,

    /// When what failed is tried again, in iptables and nftables mode [default: 30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub iptables_sync_period: Option<GoDuration>,

    /// Least time between two transactions, in iptables and nftables mode [default: 0s, apply
    /// changes as they come]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub iptables_min_sync_period: Option<GoDuration>,

    /// When rules are renewed, in ipvs mode [default: 30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_sync_period: Option<GoDuration>,

    /// Least time between two renewals, in ipvs mode [default: 0s, apply changes as they come]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_min_sync_period: Option<GoDuration>,

    /// How endpoints are chosen, in ipvs mode [default: rr]
    #[arg(long, value_name = "SCHEDULER")]
    pub ipvs_scheduler: Option<String>,

    /// Networks whose virtual servers are left alone, in ipvs mode
    #[arg(long, value_name = "CIDR,...")]
    pub ipvs_exclude_cidrs: Vec<String>,

    /// Answer ARP strictly, in ipvs mode
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub ipvs_strict_arp: Option<bool>,

    /// Timeout of idle TCP connections, in ipvs mode [default: 0s, the kernel's]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_tcp_timeout: Option<GoDuration>,

    /// Timeout of TCP connections being closed, in ipvs mode [default: 0s, the kernel's]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_tcpfin_timeout: Option<GoDuration>,

    /// Timeout of idle UDP connections, in ipvs mode [default: 0s, the kernel's]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub ipvs_udp_timeout: Option<GoDuration>,

    /// How local pods are distinguished from other sources: ClusterCIDR, NodeCIDR, BridgeInterface
    /// or InterfaceNamePrefix [default: ClusterCIDR]
    #[arg(long, value_name = "MODE")]
    pub detect_local_mode: Option<String>,

    /// Interface that local pods come in through, for BridgeInterface
    #[arg(long, value_name = "NAME")]
    pub pod_bridge_interface: Option<String>,

    /// What the names of local pods' interfaces begin with, for InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pub pod_interface_name_prefix: Option<String>,

    /// Pod network of the cluster; for both families two, separated by a comma
    #[arg(long, value_name = "CIDR,...")]
    pub cluster_cidr: Option<String>,

    /// Networks whose local addresses answer on NodePorts, and the words `primary` for the node's
    /// own address, `localhost` for loopback addresses and `all` [default: primary in nftables
    /// mode, else all addresses]
    #[arg(long, value_name = "CIDR,...")]
    pub nodeport_addresses: Vec<String>,

    /// Let connections to Services pass where iptables drops what is forwarded, as with Docker or
    /// ufw; not in kube-proxy [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub accept_forwarded: Option<bool>,

    /// How unlikely the kernel is to kill this process for want of memory, from -1000 [default:
    /// -999]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub oom_score_adj: Option<i32>,

    /// Connections to track for each processor; 0 leaves the kernel's limit [default: 32768]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub conntrack_max_per_core: Option<i32>,

    /// Connections to track at least [default: 131072]
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub conntrack_min: Option<i32>,

    /// Timeout of idle TCP connections; 0 leaves the kernel's [default: 24h]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_tcp_timeout_established: Option<GoDuration>,

    /// Timeout of TCP connections that one side has closed; 0 leaves the kernel's [default: 1h]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_tcp_timeout_close_wait: Option<GoDuration>,

    /// Let TCP packets outside of the window pass
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = go_bool)]
    pub conntrack_tcp_be_liberal: Option<bool>,

    /// Timeout of UDP without an answer; 0 leaves the kernel's [default: 0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_udp_timeout: Option<GoDuration>,

    /// Timeout of UDP with answers; 0 leaves the kernel's [default: 0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub conntrack_udp_timeout_stream: Option<GoDuration>,

    /// Accepted, without effect: objects are followed without a break
    #[arg(long, value_name = "DURATION", hide = true, allow_hyphen_values = true)]
    pub config_sync_period: Option<GoDuration>,

    /// Accepted, without effect
    #[arg(long, value_name = "FILE,...", hide = true)]
    pub boot_id_file: Option<String>,

    /// Accepted, without effect
    #[arg(long, value_name = "FILE,...", hide = true)]
    pub machine_id_file: Option<String>,

    /// Mode userspace: when a UDP client that is silent is forgotten [default: 250ms]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub udp_timeout: Option<GoDuration>,

    /// Mode userspace: the ports to listen on, as FIRST-LAST, FIRST+MORE or one port; 0-0 and none
    /// leave it to the kernel
    #[arg(long, value_name = "RANGE", allow_hyphen_values = true)]
    pub proxy_port_range: Option<String>,

    /// Mode userspace: what brings clients to its sockets: nftables or iptables [default: nftables]
    #[arg(long, value_name = "RULES")]
    pub userspace_diversion: Option<String>,

    /// Announce load-balancer addresses on the local network, by ARP and Neighbour Discovery
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = go_bool)]
    pub announce_layer2: Option<bool>,

    /// What the nodes of a cluster recognise each other by: a file with 16 bytes or more
    #[arg(long, value_name = "FILE")]
    pub announcement_key_file: Option<String>,

    /// Announce on these interfaces, as eth0 or eth* [default: those that fit an address]
    #[arg(long, value_name = "NAME,...")]
    pub announcement_interfaces: Vec<String>,

    /// Keep a route for each load-balancer address in this routing table, for a routing daemon to
    /// read
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub announcement_routing_table: Option<i64>,

    /// Addresses for Services of type LoadBalancer, as networks (192.0.2.240/28) or ranges
    /// (192.0.2.10-192.0.2.19) of the pool NAME, or of the pool `default`; may be given several
    /// times; not in kube-proxy
    #[arg(long, value_name = "[NAME=]RANGE,...")]
    pub load_balancer_pool: Vec<String>,

    /// Those that kube-proxy has no more
    #[command(flatten)]
    pub removed: Removed,
}

impl Flags {
    /// The configuration file, if one is named: an empty path names none.
    pub fn file(&self) -> Option<&Path> {
        named(self.config.as_ref())
    }

    /// Where to write the effective configuration, if anywhere: an empty path is nowhere.
    pub fn write_to(&self) -> Option<&Path> {
        named(self.write_config_to.as_ref())
    }
}

fn named(path: Option<&PathBuf>) -> Option<&Path> {
    path.map(PathBuf::as_path).filter(|path| !path.as_os_str().is_empty())
}

/// A path, which may be empty: templates write `--config=` where there is none.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Go's `strconv.ParseBool`.
pub(crate) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err("give true or false".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    /// What the program says of itself.
    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        flags: Flags,
    }

    fn parse(args: &[&str]) -> Result<Flags, clap::Error> {
        Program::try_parse_from(["kube-proxy"].iter().chain(args)).map(|program| program.flags)
    }

    #[test]
    fn command_line_is_consistent() {
        let command = Program::command();
        assert_eq!(
            command.get_about().map(ToString::to_string).as_deref(),
            Some("What the program says of itself")
        );
        command.debug_assert();
    }

    #[test]
    fn every_flag_of_the_reference_exists() {
        // Spec §10B, §10.11; those for announcements and pools, accept-forwarded and
        // userspace-diversion are our own.
        let expected = "config write-config-to cleanup init-only master feature-gates kubeconfig \
            kube-api-content-type kube-api-qps kube-api-burst logging-format log-flush-frequency v vmodule \
            log-text-split-stream log-text-info-buffer-size log-json-split-stream log-json-info-buffer-size \
            hostname-override bind-address healthz-bind-address healthz-port metrics-bind-address metrics-port \
            bind-address-hard-fail profiling show-hidden-metrics-for-version proxy-mode iptables-masquerade-bit \
            masquerade-all iptables-localhost-nodeports iptables-sync-period iptables-min-sync-period \
            ipvs-sync-period ipvs-min-sync-period ipvs-scheduler ipvs-exclude-cidrs ipvs-strict-arp \
            ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout detect-local-mode pod-bridge-interface \
            pod-interface-name-prefix cluster-cidr nodeport-addresses accept-forwarded oom-score-adj conntrack-max-per-core \
            conntrack-min conntrack-tcp-timeout-established conntrack-tcp-timeout-close-wait \
            conntrack-tcp-be-liberal conntrack-udp-timeout conntrack-udp-timeout-stream config-sync-period \
            boot-id-file machine-id-file udp-timeout proxy-port-range userspace-diversion \
            announce-layer2 announcement-key-file announcement-interfaces announcement-routing-table load-balancer-pool cleanup-ipvs \
            cleanup-iptables resource-container conntrack-max google-json-key azure-container-registry-config logtostderr \
            alsologtostderr stderrthreshold log-dir log-file log-file-max-size skip-headers skip-log-headers \
            add-dir-header one-output log-backtrace-at";
        let command = Program::command();
        let found: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert_eq!(found, expected.split_whitespace().collect::<Vec<_>>());
        assert_eq!(command.get_arguments().filter_map(clap::Arg::get_short).collect::<Vec<_>>(), ['v']);
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        type Change = fn(&mut Flags);
        let table: &[(&[&str], Option<Change>)] = &[
            (&[], Some(|_| {})),
            (&["--masquerade-all"], Some(|f| f.masquerade_all = Some(true))),
            (&["--masquerade-all=false"], Some(|f| f.masquerade_all = Some(false))),
            (&["--masquerade-all=T"], Some(|f| f.masquerade_all = Some(true))),
            (&["--masquerade-all=yes"], None),
            // A switch does not take the next word, as in Go, where that would be a positional
            // argument.
            (&["--masquerade-all", "false"], None),
            (&["--masquerade-all", "--masquerade-all=0"], Some(|f| f.masquerade_all = Some(false))),
            (&["--v=4"], Some(|f| f.verbosity = Some(4))),
            (&["-v", "4"], Some(|f| f.verbosity = Some(4))),
            (&["-v=4", "-v2"], Some(|f| f.verbosity = Some(2))),
            (
                &["--iptables-sync-period=1h2m3.5s"],
                Some(|f| f.iptables_sync_period = Some(GoDuration(3_723_500_000_000))),
            ),
            (&["--ipvs-udp-timeout", "300ms"], Some(|f| f.ipvs_udp_timeout = Some(GoDuration(300_000_000)))),
            (
                &["--conntrack-udp-timeout=-1s"],
                Some(|f| f.conntrack_udp_timeout = Some(GoDuration::seconds(-1))),
            ),
            (&["--iptables-sync-period=30"], None),
            (&["--oom-score-adj", "-5"], Some(|f| f.oom_score_adj = Some(-5))),
            (&["--conntrack-min=2147483648"], None),
            (
                &["--proxy-mode=ipvs", "--proxy-mode", "nftables"],
                Some(|f| f.proxy_mode = Some("nftables".to_owned())),
            ),
            (
                &["--nodeport-addresses=10.0.0.0/8,11.0.0.0/8", "--nodeport-addresses=::/0"],
                Some(|f| {
                    f.nodeport_addresses = vec!["10.0.0.0/8,11.0.0.0/8".to_owned(), "::/0".to_owned()];
                }),
            ),
            (
                &["--feature-gates=A=true,B=false"],
                Some(|f| f.feature_gates = vec!["A=true,B=false".to_owned()]),
            ),
            (&["--config="], Some(|f| f.config = Some(PathBuf::new()))),
            (&["--no-such-flag"], None),
            (&["word"], None),
        ];
        for (args, expected) in table {
            let expected = expected.map(|change| {
                let mut flags = Flags::default();
                change(&mut flags);
                flags
            });
            assert_eq!(parse(args).ok(), expected, "{args:?}");
        }
    }

    #[test]
    fn empty_paths_name_nothing() {
        let flags = parse(&["--config=", "--kubeconfig=", "--write-config-to="]).unwrap();
        assert_eq!((flags.file(), flags.write_to()), (None, None));
        let flags = parse(&["--config=/c", "--write-config-to", "w"]).unwrap();
        assert_eq!((flags.file(), flags.write_to()), (Some(Path::new("/c")), Some(Path::new("w"))));
    }
}
