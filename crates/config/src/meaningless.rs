//! Options that are accepted and change nothing: each is named, with the reason, if it was set to
//! something.

use portolan_service::{Family, NodePortSelector};

use crate::config::{Config, DetectLocalMode, Mode};
use crate::duration::GoDuration;
use crate::gates::Gate;
use crate::object::Object;
use crate::problem::{Level, Place};
use crate::problems::Problems;
use crate::resolve::Origin;

/// The default of `--boot-id-file`.
pub(crate) const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// The default of `--machine-id-file`.
pub(crate) const MACHINE_ID: &str = "/etc/machine-id,/var/lib/dbus/machine-id";

/// Adds a note for each option of `object` that was set to something else than its default, and has
/// no effect.
pub(crate) fn note(object: &Object, config: &Config, origin: Origin, problems: &mut Problems<'_>) {
    of_any_mode(object, problems);
    of_userspace(object, config.mode, origin, problems);
    logging(object, config, problems);
    detect_local(object, config, problems);
    loopback(config, problems);
    of_other_modes(object, config.mode, origin, problems);
    of_flags(problems);
}

fn set(text: &str) -> bool {
    !text.is_empty()
}

/// Set to a duration that is not `default`, in seconds. Zero is unset.
fn period(given: Option<GoDuration>, default: i64) -> bool {
    given.is_some_and(|given| given.0 != 0 && given != GoDuration::seconds(default))
}

fn of_any_mode(object: &Object, problems: &mut Problems<'_>) {
    let client = &object.client;
    let content_type = client.content_type.as_str();
    let windows = &object.winkernel;
    let encoding = "no effect: objects are read as JSON";
    let windows_only = "no effect: it is for Windows";
    let options = [
        ("clientConnection.acceptContentTypes", set(&client.accept_content_types), encoding),
        (
            "clientConnection.contentType",
            !matches!(content_type, "" | "application/vnd.kubernetes.protobuf" | "application/json"),
            encoding,
        ),
        (
            "enableProfiling",
            object.enable_profiling == Some(true),
            "no effect: there are no Go profiles here; use perf",
        ),
        (
            "showHiddenMetricsForVersion",
            set(&object.show_hidden_metrics_for_version),
            "no effect: no metric is hidden",
        ),
        (
            "configSyncPeriod",
            period(object.config_sync_period, 900),
            "no effect: objects are followed by watches that are renewed when they go quiet",
        ),
        ("winkernel.networkName", set(&windows.network_name), windows_only),
        ("winkernel.sourceVip", set(&windows.source_vip), windows_only),
        ("winkernel.enableDSR", windows.enable_dsr == Some(true), windows_only),
        ("winkernel.rootHnsEndpointName", set(&windows.root_hns_endpoint_name), windows_only),
        ("winkernel.forwardHealthCheckVip", windows.forward_health_check_vip == Some(true), windows_only),
        ("windowsRunAsService", object.windows_run_as_service == Some(true), windows_only),
        (
            "featureGates.NativeHistograms",
            Gate::NativeHistograms.enabled(&object.feature_gates),
            "no effect: histograms have buckets",
        ),
        (
            "featureGates.NFTablesNetlink",
            !Gate::NftablesNetlink.enabled(&object.feature_gates),
            "no effect: rules are always written over netlink, and the program nft is not needed",
        ),
    ];
    warn_of(options, problems);
}

/// Flags for this mode are refused in another one.
fn of_userspace(object: &Object, mode: Mode, origin: Origin, problems: &mut Problems<'_>) {
    if mode == Mode::Userspace || origin == Origin::Flags {
        return;
    }
    let why = format!("no effect: it is for userspace mode, and this is {mode}");
    let given = object.udp_idle_timeout.is_some_and(|given| !matches!(given.0, 0 | 250_000_000));
    warn_of(
        [
            ("portRange", set(&object.port_range), why.as_str()),
            ("udpIdleTimeout", given, why.as_str()),
            ("userspace.diversion", set(&object.userspace.diversion), why.as_str()),
        ],
        problems,
    );
}

fn warn_of<'o>(options: impl IntoIterator<Item = (&'o str, bool, &'o str)>, problems: &mut Problems<'_>) {
    for (field, _, why) in options.into_iter().filter(|(_, is_set, _)| *is_set) {
        problems.warn(field, why);
    }
}

fn logging(object: &Object, config: &Config, problems: &mut Problems<'_>) {
    let logging = &config.logging;
    let at_once = "no effect: each log line is written to stderr at once";
    let flush = object.logging.flush_frequency.is_some_and(|given| given != GoDuration::seconds(5));
    let streams = [&logging.text, &logging.json];
    warn_of(
        [
            ("logging.flushFrequency", flush, at_once),
            (
                "logging.vmodule",
                !logging.vmodule.is_empty(),
                "no effect: there are no Go files here; logging.verbosity is for all",
            ),
            ("logging.options.text.splitStream", streams[0].split_stream, at_once),
            ("logging.options.text.infoBufferSize", streams[0].info_buffer_size > 0, at_once),
            ("logging.options.json.splitStream", streams[1].split_stream, at_once),
            ("logging.options.json.infoBufferSize", streams[1].info_buffer_size > 0, at_once),
        ],
        problems,
    );
}

fn detect_local(object: &Object, config: &Config, problems: &mut Problems<'_>) {
    let mode = config.detect_local.mode;
    let options = [
        ("clusterCIDR", DetectLocalMode::ClusterCidr, &object.cluster_cidr),
        (
            "detectLocal.bridgeInterface",
            DetectLocalMode::BridgeInterface,
            &object.detect_local.bridge_interface,
        ),
        (
            "detectLocal.interfaceNamePrefix",
            DetectLocalMode::InterfaceNamePrefix,
            &object.detect_local.interface_name_prefix,
        ),
    ];
    for (field, of, value) in options {
        if of != mode && set(value) {
            problems.warn(field, format!("no effect: it is for detectLocalMode {of}, which is {mode}"));
        }
    }
}

/// NodePorts on loopback addresses that were asked for, and do not answer (spec §3.10).
fn loopback(config: &Config, problems: &mut Problems<'_>) {
    let asked = |family: Family| {
        config.nodeport_addresses.0.iter().any(|selector| match selector {
            NodePortSelector::Localhost => true,
            NodePortSelector::Network(network) => {
                Family::of(network.addr()) == family && network.addr().is_loopback()
            }
            NodePortSelector::Primary | NodePortSelector::All => false,
        })
    };
    let message = match config.mode {
        Mode::Nftables
            if (asked(Family::V4) || asked(Family::V6))
                && !config.enabled(Gate::KubeProxyNftablesLocalhostNodePorts) =>
        {
            "no effect on loopback addresses: feature gate KubeProxyNFTablesLocalhostNodePorts is off"
        }
        Mode::Ipvs if asked(Family::V4) || asked(Family::V6) => {
            "no effect on loopback addresses: this version serves no NodePorts there in this mode"
        }
        Mode::Iptables if asked(Family::V4) && !config.iptables.localhost_nodeports => {
            "no effect on loopback addresses: iptables.localhostNodePorts is false"
        }
        Mode::Iptables | Mode::Userspace if asked(Family::V6) => {
            "no effect on ::1: in this mode, NodePorts answer on loopback addresses of IPv4 only"
        }
        _ => return,
    };
    problems.warn("nodePortAddresses", message);
}

/// What is in the sections of modes that are not used.
fn of_other_modes(object: &Object, mode: Mode, origin: Origin, problems: &mut Problems<'_>) {
    let (iptables, ipvs, nftables) = (&object.iptables, &object.ipvs, &object.nftables);
    let bit = |given: Option<i32>| given.is_some_and(|bit| bit != 14);
    let no_marks = "no effect: nftables mode uses no packet marks";
    match mode {
        Mode::Nftables => {
            warn_of(
                [
                    ("nftables.masqueradeBit", bit(nftables.masquerade_bit), no_marks),
                    ("iptables.masqueradeBit", bit(iptables.masquerade_bit), no_marks),
                ],
                problems,
            );
            if iptables.localhost_nodeports == Some(false) {
                problems.info(
                    "iptables.localhostNodePorts",
                    "it is for iptables mode: in nftables mode, NodePorts answer on loopback addresses where \
                     nodePortAddresses names them",
                );
            }
        }
        Mode::Iptables | Mode::Ipvs | Mode::Userspace => {
            let why = format!("no effect: it is for nftables mode, and this is {mode}");
            warn_of([("nftables.masqueradeBit", bit(nftables.masquerade_bit), why.as_str())], problems);
        }
    }
    let why = |of: Mode| format!("no effect: it is for {of} mode, and this is {mode}");
    // Without a mode, the section of iptables is read as well. Flags for iptables are for nftables,
    // too.
    let periods_are_read = match mode {
        Mode::Iptables | Mode::Userspace => true,
        Mode::Nftables => object.mode.is_empty() || origin == Origin::Flags,
        Mode::Ipvs => false,
    };
    let masquerade_is_read = mode != Mode::Userspace && (periods_are_read || mode == Mode::Ipvs);
    let of_iptables = why(Mode::Iptables);
    let of_iptables = of_iptables.as_str();
    warn_of(
        [
            ("iptables.syncPeriod", !periods_are_read && period(iptables.sync_period, 30), of_iptables),
            ("iptables.minSyncPeriod", !periods_are_read && period(iptables.min_sync_period, 1), of_iptables),
            (
                "iptables.masqueradeAll",
                !masquerade_is_read && iptables.masquerade_all == Some(true),
                of_iptables,
            ),
        ],
        problems,
    );
    if mode != Mode::Nftables && origin == Origin::File {
        let why = why(Mode::Nftables);
        warn_of(
            [
                ("nftables.syncPeriod", period(nftables.sync_period, 30), why.as_str()),
                ("nftables.minSyncPeriod", period(nftables.min_sync_period, 1), why.as_str()),
                ("nftables.masqueradeAll", nftables.masquerade_all == Some(true), why.as_str()),
            ],
            problems,
        );
    }
    if mode != Mode::Ipvs {
        let why = why(Mode::Ipvs);
        warn_of(
            [
                ("ipvs.syncPeriod", period(ipvs.sync_period, 30), why.as_str()),
                ("ipvs.minSyncPeriod", period(ipvs.min_sync_period, 1), why.as_str()),
                ("ipvs.scheduler", set(&ipvs.scheduler), why.as_str()),
                ("ipvs.excludeCIDRs", !ipvs.exclude_cidrs.is_empty(), why.as_str()),
                ("ipvs.strictARP", ipvs.strict_arp == Some(true), why.as_str()),
                ("ipvs.tcpTimeout", period(ipvs.tcp_timeout, 0), why.as_str()),
                ("ipvs.tcpFinTimeout", period(ipvs.tcp_fin_timeout, 0), why.as_str()),
                ("ipvs.udpTimeout", period(ipvs.udp_timeout, 0), why.as_str()),
            ],
            problems,
        );
    }
}

/// Flags that no field stands for.
fn of_flags(problems: &mut Problems<'_>) {
    let flags = [
        ("boot-id-file", &problems.flags.boot_id_file, BOOT_ID),
        ("machine-id-file", &problems.flags.machine_id_file, MACHINE_ID),
    ];
    let given =
        flags.map(|(flag, value, default)| (flag, value.as_ref().is_some_and(|value| value != default)));
    for (flag, _) in given.into_iter().filter(|(_, is_given)| *is_given) {
        problems.note_at(Level::Warning, Place::Flag(flag), "no effect: nothing here depends on it");
    }
}
