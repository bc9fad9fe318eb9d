//! From the object as given to the effective configuration: defaults and validation (spec §10A,
//! §10C).
//!
//! What is wrong is reported and replaced by its default, so that everything wrong is found at
//! once.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use portolan_service::{Family, NodePortAddresses, NodePortSelector};

use crate::address;
use crate::announcement;
use crate::config::{
    Client, Config, Conntrack, DetectLocal, DetectLocalMode, Iptables, Ipvs, Mode, Nftables, Windows,
};
use crate::duration::GoDuration;
use crate::gates::{ALL_ALPHA, ALL_BETA, Gate};
use crate::load_balancer;
use crate::logging;
use crate::numbers::{bit, in_range, not_negative, valid_bit};
use crate::object::{self, Object};
use crate::problems::Problems;
use crate::userspace;

/// The release of Kubernetes whose metrics were hidden by the one that is followed here (1.36).
const PREVIOUS_MINOR: &str = "1.35";

/// Where an object comes from, which decides some defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Flags,
    File,
}

/// The configuration that `object` asks for.
pub(crate) fn resolve(object: &Object, origin: Origin, problems: &mut Problems<'_>) -> Config {
    gates(object, problems);
    let mode = mode(object, problems);
    let section = SyncSection::of(object, mode);
    let (sync_period, min_sync_period) = section.periods(origin, problems);
    let bind_address = address::bind_address(&object.bind_address, problems);
    let bind_family = match origin {
        Origin::File => Family::of(bind_address),
        Origin::Flags => Family::V4,
    };
    let load_balancer = load_balancer::load_balancer(&object.load_balancer, problems);
    Config {
        mode,
        client: client(object, problems),
        hostname_override: hostname_override(object, problems),
        bind_address,
        healthz: address::healthz(&object.healthz_bind_address, bind_family, problems),
        metrics: address::metrics(&object.metrics_bind_address, bind_family, problems),
        bind_address_hard_fail: object.bind_address_hard_fail.unwrap_or_default(),
        enable_profiling: object.enable_profiling.unwrap_or_default(),
        show_hidden_metrics_for_version: hidden_metrics(object, problems),
        sync_period,
        min_sync_period,
        masquerade_all: section.masquerade_all,
        iptables: Iptables {
            masquerade_bit: bit("iptables.masqueradeBit", object.iptables.masquerade_bit, problems),
            localhost_nodeports: object.iptables.localhost_nodeports.unwrap_or(true),
        },
        ipvs: ipvs(&object.ipvs, mode, problems),
        nftables: Nftables {
            masquerade_bit: match mode {
                Mode::Nftables => bit("nftables.masqueradeBit", object.nftables.masquerade_bit, problems),
                _ => valid_bit(object.nftables.masquerade_bit).unwrap_or(14),
            },
        },
        detect_local: detect_local(object, problems),
        nodeport_addresses: nodeport_addresses(&object.nodeport_addresses, mode, problems),
        accept_forwarded: object.accept_forwarded.unwrap_or_default(),
        oom_score_adj: in_range("oomScoreAdj", object.oom_score_adj, -1000..=1000, -999, problems),
        conntrack: conntrack(&object.conntrack, problems),
        config_sync_period: config_sync_period(object.config_sync_period, origin, problems),
        logging: logging::logging(object, problems),
        feature_gates: object.feature_gates.clone(),
        port_range: object.port_range.clone(),
        userspace: userspace::userspace(object, mode, problems),
        announcement: announcement::announcement(object, !load_balancer.pools.is_empty(), problems),
        load_balancer,
        windows: Windows {
            network_name: object.winkernel.network_name.clone(),
            source_vip: object.winkernel.source_vip.clone(),
            enable_dsr: object.winkernel.enable_dsr.unwrap_or_default(),
            root_hns_endpoint_name: object.winkernel.root_hns_endpoint_name.clone(),
            forward_health_check_vip: object.winkernel.forward_health_check_vip.unwrap_or_default(),
            run_as_service: object.windows_run_as_service.unwrap_or_default(),
        },
    }
}

/// Spec §0.4.
fn gates(object: &Object, problems: &mut Problems<'_>) {
    for (name, value) in &object.feature_gates {
        let field = format!("featureGates.{name}");
        match Gate::ALL.into_iter().find(|gate| gate.name() == name) {
            Some(gate) if gate.is_locked() && *value != gate.default() => {
                let default = gate.default();
                problems.error(
                    &field,
                    format!("{name} can only be {default} since its feature is general; remove it"),
                );
            }
            Some(gate) if gate.is_deprecated() => problems.warn(
                &field,
                format!("{name} is deprecated: it will go with its feature in a later release of Kubernetes"),
            ),
            Some(_) => {}
            None if name == ALL_ALPHA || name == ALL_BETA => {}
            None => problems.warn(&field, format!("feature gate {name} is not known here and has no effect")),
        }
    }
}

/// Spec §10.12, but that nftables is the default.
fn mode(object: &Object, problems: &mut Problems<'_>) -> Mode {
    let given = object.mode.as_str();
    if let Some(mode) = Mode::ALL.into_iter().find(|mode| mode.name() == given) {
        return mode;
    }
    match given {
        "" => problems.info(
            "mode",
            "not set, so nftables is used; kube-proxy would use iptables. Set it to one of the two to be sure of it",
        ),
        "kernelspace" => problems.error("mode", "kernelspace is for Windows; use nftables, iptables or ipvs"),
        _ => problems.error("mode", format!("{given:?} is not one of nftables, iptables, ipvs, userspace")),
    }
    Mode::Nftables
}

/// What the section of the mode says (spec §10.6).
struct SyncSection {
    sync: (&'static str, Option<GoDuration>),
    min: (&'static str, Option<GoDuration>),
    masquerade_all: bool,
}

impl SyncSection {
    fn of(object: &Object, mode: Mode) -> SyncSection {
        let (iptables, ipvs, nftables) = (&object.iptables, &object.ipvs, &object.nftables);
        let of_iptables = SyncSection {
            sync: ("iptables.syncPeriod", iptables.sync_period),
            min: ("iptables.minSyncPeriod", iptables.min_sync_period),
            masquerade_all: iptables.masquerade_all.unwrap_or_default(),
        };
        let of_nftables = SyncSection {
            sync: ("nftables.syncPeriod", nftables.sync_period),
            min: ("nftables.minSyncPeriod", nftables.min_sync_period),
            masquerade_all: nftables.masquerade_all.unwrap_or_default(),
        };
        match mode {
            // Without a mode the reference reads the section of iptables, so that is where a
            // configuration says what it wants; the section of the mode that we take instead goes
            // first.
            Mode::Nftables if object.mode.is_empty() => {
                let set = |period: Option<GoDuration>| period.is_some_and(|period| period.0 != 0);
                SyncSection {
                    sync: if set(of_nftables.sync.1) { of_nftables.sync } else { of_iptables.sync },
                    min: if set(of_nftables.min.1) { of_nftables.min } else { of_iptables.min },
                    masquerade_all: of_nftables.masquerade_all || of_iptables.masquerade_all,
                }
            }
            Mode::Nftables => of_nftables,
            Mode::Iptables => of_iptables,
            // As in kube-proxy 1.25. Nothing is masqueraded: the process itself is the client.
            Mode::Userspace => SyncSection { masquerade_all: false, ..of_iptables },
            Mode::Ipvs => SyncSection {
                sync: ("ipvs.syncPeriod", ipvs.sync_period),
                min: ("ipvs.minSyncPeriod", ipvs.min_sync_period),
                masquerade_all: of_iptables.masquerade_all,
            },
        }
    }

    /// Spec §10.10, §10.14; but that no least time between two transactions is the default in all
    /// modes.
    fn periods(&self, origin: Origin, problems: &mut Problems<'_>) -> (Duration, Duration) {
        let (field, given) = self.sync;
        let sync = match given {
            None => GoDuration::seconds(30),
            Some(GoDuration(0)) if origin == Origin::File => GoDuration::seconds(30),
            Some(period) => period,
        };
        let sync = match sync.to_std() {
            Some(sync) if !sync.is_zero() => Some(sync),
            _ => {
                problems.error(field, format!("{sync} is not more than 0s"));
                None
            }
        };
        let (min_field, min) = self.min;
        let min = not_negative(min_field, min, 0, problems);
        if let Some(sync) = sync
            && min > sync
        {
            let (min, sync) = (GoDuration::from(min), GoDuration::from(sync));
            problems.error(min_field, format!("{min} is more than {field}, which is {sync}"));
        }
        (sync.unwrap_or(Duration::from_secs(30)), min)
    }
}

fn client(object: &Object, problems: &mut Problems<'_>) -> Client {
    let client = &object.client;
    let qps = client.qps.filter(|qps| *qps != 0.0).unwrap_or(5.0);
    if !qps.is_finite() {
        problems.error("clientConnection.qps", format!("{qps} is not a number of requests a second"));
    }
    let burst = in_range("clientConnection.burst", client.burst, 0..=i32::MAX, 10, problems);
    let content_type = match client.content_type.as_str() {
        "" => "application/vnd.kubernetes.protobuf",
        given => given,
    };
    Client {
        kubeconfig: (!client.kubeconfig.is_empty()).then(|| PathBuf::from(&client.kubeconfig)),
        accept_content_types: client.accept_content_types.clone(),
        content_type: content_type.to_owned(),
        qps,
        burst: match burst.unsigned_abs() {
            0 => 10,
            burst => burst,
        },
    }
}

/// Spec §1.6.
fn hostname_override(object: &Object, problems: &mut Problems<'_>) -> Option<String> {
    let name = object.hostname_override.trim().to_lowercase();
    if name.is_empty() && !object.hostname_override.is_empty() {
        problems.error("hostnameOverride", "only white space; give a name, or nothing for the host's name");
    }
    (!name.is_empty()).then_some(name)
}

fn hidden_metrics(object: &Object, problems: &mut Problems<'_>) -> String {
    let version = object.show_hidden_metrics_for_version.clone();
    if !version.is_empty() && version != PREVIOUS_MINOR {
        let message = format!("{version:?} is not the previous minor version, {PREVIOUS_MINOR}");
        problems.error("showHiddenMetricsForVersion", message);
    }
    version
}

fn ipvs(given: &object::Ipvs, mode: Mode, problems: &mut Problems<'_>) -> Ipvs {
    let mut exclude_cidrs = Vec::new();
    let mut timeouts = [Duration::ZERO; 3];
    let fields = [
        ("ipvs.tcpTimeout", given.tcp_timeout),
        ("ipvs.tcpFinTimeout", given.tcp_fin_timeout),
        ("ipvs.udpTimeout", given.udp_timeout),
    ];
    // Checked in IPVS mode only (spec §10.17).
    let checked = mode == Mode::Ipvs;
    for ((field, given), timeout) in fields.into_iter().zip(&mut timeouts) {
        *timeout = if checked {
            not_negative(field, given, 0, problems)
        } else {
            given.and_then(GoDuration::to_std).unwrap_or_default()
        };
    }
    for (i, text) in given.exclude_cidrs.iter().enumerate() {
        match text.parse::<IpNet>() {
            Ok(network) => exclude_cidrs.push(network.trunc()),
            Err(_) if checked => problems.error(&format!("ipvs.excludeCIDRs[{i}]"), not_a_network(text)),
            Err(_) => {}
        }
    }
    let [tcp_timeout, tcp_fin_timeout, udp_timeout] = timeouts;
    Ipvs {
        scheduler: given.scheduler.clone(),
        exclude_cidrs,
        strict_arp: given.strict_arp.unwrap_or_default(),
        tcp_timeout,
        tcp_fin_timeout,
        udp_timeout,
    }
}

/// Spec §4.8, §10.13.
fn detect_local(object: &Object, problems: &mut Problems<'_>) -> DetectLocal {
    let given = object.detect_local_mode.as_str();
    let mode = DetectLocalMode::ALL.into_iter().find(|mode| mode.name() == given).unwrap_or_else(|| {
        if !given.is_empty() {
            let names = DetectLocalMode::ALL.map(DetectLocalMode::name).join(", ");
            problems.error("detectLocalMode", format!("{given:?} is not one of {names}"));
        }
        DetectLocalMode::ClusterCidr
    });
    let interface = match mode {
        DetectLocalMode::BridgeInterface => {
            Some(("detectLocal.bridgeInterface", &object.detect_local.bridge_interface))
        }
        DetectLocalMode::InterfaceNamePrefix => {
            Some(("detectLocal.interfaceNamePrefix", &object.detect_local.interface_name_prefix))
        }
        DetectLocalMode::ClusterCidr | DetectLocalMode::NodeCidr => None,
    };
    if let Some((field, name)) = interface {
        if name.is_empty() {
            problems.error(field, format!("missing; detectLocalMode {mode} needs it"));
        } else if name.len() > 15 {
            // IFNAMSIZ with its terminating zero (linux/if.h).
            problems.error(field, format!("{name:?} is longer than the 15 bytes of an interface's name"));
        }
    }
    DetectLocal {
        mode,
        cluster_cidrs: cluster_cidrs(object, mode, problems),
        bridge_interface: object.detect_local.bridge_interface.clone(),
        interface_name_prefix: object.detect_local.interface_name_prefix.clone(),
    }
}

/// Checked only where it is used.
fn cluster_cidrs(object: &Object, mode: DetectLocalMode, problems: &mut Problems<'_>) -> Vec<IpNet> {
    let checked = mode == DetectLocalMode::ClusterCidr;
    let mut networks: Vec<IpNet> = Vec::new();
    for text in object.cluster_cidr.split(',').map(str::trim).filter(|text| !text.is_empty()) {
        match text.parse::<IpNet>() {
            Ok(network) => networks.push(network.trunc()),
            Err(_) if checked => problems.error("clusterCIDR", not_a_network(text)),
            Err(_) => {}
        }
    }
    let of = |family| networks.iter().filter(move |network| Family::of(network.addr()) == family).count();
    if checked && (of(Family::V4) > 1 || of(Family::V6) > 1) {
        let message = format!("{}: give at most one IPv4 and one IPv6 network", object.cluster_cidr);
        problems.error("clusterCIDR", message);
    }
    networks
}

/// Spec §3.6, §3.11, §10.16, but that words go with each other and with networks (KEP-6032).
fn nodeport_addresses(given: &[String], mode: Mode, problems: &mut Problems<'_>) -> NodePortAddresses {
    if given.is_empty() && mode == Mode::Nftables {
        return NodePortAddresses::primary();
    }
    let mut selectors = Vec::new();
    for (i, text) in given.iter().enumerate() {
        let word = NodePortSelector::WORDS.into_iter().find(|(word, _)| word == text);
        match (word, text.parse::<IpNet>()) {
            (Some((_, selector)), _) => selectors.push(selector),
            (None, Ok(network)) => selectors.push(NodePortSelector::Network(network.trunc())),
            (None, Err(_)) => {
                let message = format!("{}, or one of primary, localhost, all", not_a_network(text));
                problems.error(&format!("nodePortAddresses[{i}]"), message);
            }
        }
    }
    NodePortAddresses(selectors)
}

/// Spec §8.8, §10.18.
fn conntrack(given: &object::Conntrack, problems: &mut Problems<'_>) -> Conntrack {
    let hour = 3600;
    let mut count =
        |field, given, default| in_range(field, given, 0..=i32::MAX, default, problems).unsigned_abs();
    let (max_per_core, min) = (
        count("conntrack.maxPerCore", given.max_per_core, 32_768),
        count("conntrack.min", given.min, 131_072),
    );
    let mut timeout = |field, given, default| not_negative(field, given, default, problems);
    Conntrack {
        max_per_core,
        min,
        tcp_established_timeout: timeout(
            "conntrack.tcpEstablishedTimeout",
            given.tcp_established_timeout,
            24 * hour,
        ),
        tcp_close_wait_timeout: timeout("conntrack.tcpCloseWaitTimeout", given.tcp_close_wait_timeout, hour),
        tcp_be_liberal: given.tcp_be_liberal.unwrap_or_default(),
        udp_timeout: timeout("conntrack.udpTimeout", given.udp_timeout, 0),
        udp_stream_timeout: timeout("conntrack.udpStreamTimeout", given.udp_stream_timeout, 0),
    }
}

fn config_sync_period(given: Option<GoDuration>, origin: Origin, problems: &mut Problems<'_>) -> Duration {
    let default = Duration::from_mins(15);
    match given {
        None => default,
        Some(GoDuration(0)) if origin == Origin::File => default,
        Some(period) => period.to_std().filter(|period| !period.is_zero()).unwrap_or_else(|| {
            problems.error("configSyncPeriod", format!("{period} is not more than 0s"));
            default
        }),
    }
}

fn not_a_network(text: &str) -> String {
    format!("{text:?} is not a network such as 192.0.2.0/24")
}
