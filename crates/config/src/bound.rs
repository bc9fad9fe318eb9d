//! Which flag says what which field of the file says.

use std::fmt::Display;

use ipnet::IpNet;
use portolan_service::AddressPool;

use crate::config::Config;
use crate::duration::GoDuration;
use crate::flags::Flags;
use crate::from_flags;

/// A flag and the fields that mean the same.
pub(crate) struct Bound {
    /// Without dashes.
    pub(crate) flag: &'static str,
    /// As `iptables.masqueradeBit`; several if the mode decides which.
    pub(crate) fields: &'static [&'static str],
    /// It counts beside a file, too (spec §10.1).
    pub(crate) beats_file: bool,
    /// What was given explicitly.
    pub(crate) given: fn(&Flags) -> Option<String>,
    /// What a configuration says, in the same form.
    pub(crate) effective: fn(&Config) -> String,
}

/// The flags that a file replaces, or that are laid over it.
pub(crate) const ALL: &[Bound] = &[
    bound(
        "feature-gates",
        &["featureGates"],
        |f| listed(&f.feature_gates),
        |c| {
            let gates = c.feature_gates.iter().map(|(name, value)| format!("{name}={value}"));
            gates.collect::<Vec<_>>().join(",")
        },
    ),
    bound(
        "kubeconfig",
        &["clientConnection.kubeconfig"],
        |f| f.kubeconfig.as_ref().map(|path| path.display().to_string()).filter(|path| !path.is_empty()),
        |c| c.client.kubeconfig.as_ref().map(|path| path.display().to_string()).unwrap_or_default(),
    ),
    bound(
        "kube-api-content-type",
        &["clientConnection.contentType"],
        |f| f.kube_api_content_type.clone(),
        |c| c.client.content_type.clone(),
    ),
    bound("kube-api-qps", &["clientConnection.qps"], |f| text(f.kube_api_qps), |c| c.client.qps.to_string()),
    bound(
        "kube-api-burst",
        &["clientConnection.burst"],
        |f| text(f.kube_api_burst),
        |c| c.client.burst.to_string(),
    ),
    beside_file(
        "logging-format",
        &["logging.format"],
        |f| f.logging_format.clone(),
        |c| c.logging.format.to_string(),
    ),
    beside_file(
        "log-flush-frequency",
        &["logging.flushFrequency"],
        |f| text(f.log_flush_frequency),
        |c| GoDuration::from(c.logging.flush_frequency).to_string(),
    ),
    beside_file("v", &["logging.verbosity"], |f| text(f.verbosity), |c| c.logging.verbosity.to_string()),
    beside_file(
        "vmodule",
        &["logging.vmodule"],
        |f| listed(&f.vmodule),
        |c| {
            let modules = c.logging.vmodule.iter().map(|it| format!("{}={}", it.file_pattern, it.verbosity));
            modules.collect::<Vec<_>>().join(",")
        },
    ),
    beside_file(
        "log-text-split-stream",
        &["logging.options.text.splitStream"],
        |f| text(f.log_text_split_stream),
        |c| c.logging.text.split_stream.to_string(),
    ),
    beside_file(
        "log-text-info-buffer-size",
        &["logging.options.text.infoBufferSize"],
        |f| f.log_text_info_buffer_size.clone(),
        |c| c.logging.text.info_buffer_size.to_string(),
    ),
    beside_file(
        "log-json-split-stream",
        &["logging.options.json.splitStream"],
        |f| text(f.log_json_split_stream),
        |c| c.logging.json.split_stream.to_string(),
    ),
    beside_file(
        "log-json-info-buffer-size",
        &["logging.options.json.infoBufferSize"],
        |f| f.log_json_info_buffer_size.clone(),
        |c| c.logging.json.info_buffer_size.to_string(),
    ),
    beside_file(
        "hostname-override",
        &["hostnameOverride"],
        |f| f.hostname_override.clone().filter(|name| !name.is_empty()),
        |c| c.hostname_override.clone().unwrap_or_default(),
    ),
    bound("bind-address", &["bindAddress"], |f| f.bind_address.clone(), |c| c.bind_address.to_string()),
    bound(
        "healthz-bind-address",
        &["healthzBindAddress"],
        |f| f.healthz_bind_address.clone().filter(|address| !address.is_empty()),
        |c| c.healthz.map(|address| address.to_string()).unwrap_or_default(),
    ),
    bound(
        "healthz-port",
        &["healthzBindAddress"],
        |f| text(f.healthz_port),
        |c| c.healthz.map_or(0, |address| address.port()).to_string(),
    ),
    bound(
        "metrics-bind-address",
        &["metricsBindAddress"],
        |f| f.metrics_bind_address.clone().filter(|address| !address.is_empty()),
        |c| c.metrics.to_string(),
    ),
    bound(
        "metrics-port",
        &["metricsBindAddress"],
        |f| text(f.metrics_port),
        |c| c.metrics.port().to_string(),
    ),
    bound(
        "bind-address-hard-fail",
        &["bindAddressHardFail"],
        |f| text(f.bind_address_hard_fail),
        |c| c.bind_address_hard_fail.to_string(),
    ),
    bound("profiling", &["enableProfiling"], |f| text(f.profiling), |c| c.enable_profiling.to_string()),
    bound(
        "show-hidden-metrics-for-version",
        &["showHiddenMetricsForVersion"],
        |f| f.show_hidden_metrics_for_version.clone(),
        |c| c.show_hidden_metrics_for_version.clone(),
    ),
    bound("proxy-mode", &["mode"], |f| f.proxy_mode.clone(), |c| c.mode.to_string()),
    bound(
        "iptables-masquerade-bit",
        &["iptables.masqueradeBit"],
        |f| text(f.iptables_masquerade_bit),
        |c| c.iptables.masquerade_bit.to_string(),
    ),
    bound(
        "masquerade-all",
        &["nftables.masqueradeAll", "iptables.masqueradeAll"],
        |f| text(f.masquerade_all),
        |c| c.masquerade_all.to_string(),
    ),
    bound(
        "iptables-localhost-nodeports",
        &["iptables.localhostNodePorts"],
        |f| text(f.iptables_localhost_nodeports),
        |c| c.iptables.localhost_nodeports.to_string(),
    ),
    bound(
        "iptables-sync-period",
        &["nftables.syncPeriod", "iptables.syncPeriod"],
        |f| text(f.iptables_sync_period),
        |c| GoDuration::from(c.sync_period).to_string(),
    ),
    bound(
        "iptables-min-sync-period",
        &["nftables.minSyncPeriod", "iptables.minSyncPeriod"],
        |f| text(f.iptables_min_sync_period),
        |c| GoDuration::from(c.min_sync_period).to_string(),
    ),
    bound(
        "ipvs-sync-period",
        &["ipvs.syncPeriod"],
        |f| text(f.ipvs_sync_period),
        |c| GoDuration::from(c.sync_period).to_string(),
    ),
    bound(
        "ipvs-min-sync-period",
        &["ipvs.minSyncPeriod"],
        |f| text(f.ipvs_min_sync_period),
        |c| GoDuration::from(c.min_sync_period).to_string(),
    ),
    bound("ipvs-scheduler", &["ipvs.scheduler"], |f| f.ipvs_scheduler.clone(), |c| c.ipvs.scheduler.clone()),
    bound(
        "ipvs-exclude-cidrs",
        &["ipvs.excludeCIDRs"],
        |f| networks(&f.ipvs_exclude_cidrs),
        |c| joined(&c.ipvs.exclude_cidrs),
    ),
    bound(
        "ipvs-strict-arp",
        &["ipvs.strictARP"],
        |f| text(f.ipvs_strict_arp),
        |c| c.ipvs.strict_arp.to_string(),
    ),
    bound(
        "ipvs-tcp-timeout",
        &["ipvs.tcpTimeout"],
        |f| text(f.ipvs_tcp_timeout),
        |c| GoDuration::from(c.ipvs.tcp_timeout).to_string(),
    ),
    bound(
        "ipvs-tcpfin-timeout",
        &["ipvs.tcpFinTimeout"],
        |f| text(f.ipvs_tcpfin_timeout),
        |c| GoDuration::from(c.ipvs.tcp_fin_timeout).to_string(),
    ),
    bound(
        "ipvs-udp-timeout",
        &["ipvs.udpTimeout"],
        |f| text(f.ipvs_udp_timeout),
        |c| GoDuration::from(c.ipvs.udp_timeout).to_string(),
    ),
    bound(
        "detect-local-mode",
        &["detectLocalMode"],
        |f| f.detect_local_mode.clone(),
        |c| c.detect_local.mode.to_string(),
    ),
    bound(
        "pod-bridge-interface",
        &["detectLocal.bridgeInterface"],
        |f| f.pod_bridge_interface.clone(),
        |c| c.detect_local.bridge_interface.clone(),
    ),
    bound(
        "pod-interface-name-prefix",
        &["detectLocal.interfaceNamePrefix"],
        |f| f.pod_interface_name_prefix.clone(),
        |c| c.detect_local.interface_name_prefix.clone(),
    ),
    bound(
        "cluster-cidr",
        &["clusterCIDR"],
        |f| networks(f.cluster_cidr.as_slice()),
        |c| joined(&c.detect_local.cluster_cidrs),
    ),
    bound(
        "nodeport-addresses",
        &["nodePortAddresses"],
        |f| networks(&f.nodeport_addresses),
        |c| joined(&c.nodeport_addresses.0),
    ),
    bound(
        "accept-forwarded",
        &["acceptForwarded"],
        |f| text(f.accept_forwarded),
        |c| c.accept_forwarded.to_string(),
    ),
    bound("oom-score-adj", &["oomScoreAdj"], |f| text(f.oom_score_adj), |c| c.oom_score_adj.to_string()),
    bound(
        "conntrack-max-per-core",
        &["conntrack.maxPerCore"],
        |f| text(f.conntrack_max_per_core),
        |c| c.conntrack.max_per_core.to_string(),
    ),
    bound("conntrack-min", &["conntrack.min"], |f| text(f.conntrack_min), |c| c.conntrack.min.to_string()),
    bound(
        "conntrack-tcp-timeout-established",
        &["conntrack.tcpEstablishedTimeout"],
        |f| text(f.conntrack_tcp_timeout_established),
        |c| GoDuration::from(c.conntrack.tcp_established_timeout).to_string(),
    ),
    bound(
        "conntrack-tcp-timeout-close-wait",
        &["conntrack.tcpCloseWaitTimeout"],
        |f| text(f.conntrack_tcp_timeout_close_wait),
        |c| GoDuration::from(c.conntrack.tcp_close_wait_timeout).to_string(),
    ),
    bound(
        "conntrack-tcp-be-liberal",
        &["conntrack.tcpBeLiberal"],
        |f| text(f.conntrack_tcp_be_liberal),
        |c| c.conntrack.tcp_be_liberal.to_string(),
    ),
    bound(
        "conntrack-udp-timeout",
        &["conntrack.udpTimeout"],
        |f| text(f.conntrack_udp_timeout),
        |c| GoDuration::from(c.conntrack.udp_timeout).to_string(),
    ),
    bound(
        "conntrack-udp-timeout-stream",
        &["conntrack.udpStreamTimeout"],
        |f| text(f.conntrack_udp_timeout_stream),
        |c| GoDuration::from(c.conntrack.udp_stream_timeout).to_string(),
    ),
    bound(
        "config-sync-period",
        &["configSyncPeriod"],
        |f| text(f.config_sync_period),
        |c| GoDuration::from(c.config_sync_period).to_string(),
    ),
    bound(
        "udp-timeout",
        &["udpIdleTimeout"],
        |f| text(f.udp_timeout),
        |c| GoDuration::from(c.userspace.udp_idle_timeout).to_string(),
    ),
    bound(
        "userspace-diversion",
        &["userspace.diversion"],
        |f| f.userspace_diversion.clone(),
        |c| c.userspace.diversion.name().to_owned(),
    ),
    bound(
        "announce-layer2",
        &["announcement.layer2"],
        |f| text(f.announce_layer2),
        |c| c.announcement.layer2.to_string(),
    ),
    bound(
        "announcement-key-file",
        &["announcement.keyFile"],
        |f| f.announcement_key_file.clone(),
        |c| c.announcement.key_file.as_ref().map_or_else(String::new, |path| path.display().to_string()),
    ),
    bound(
        "announcement-interfaces",
        &["announcement.interfaces"],
        |f| listed(&f.announcement_interfaces),
        |c| c.announcement.interfaces.join(","),
    ),
    bound(
        "announcement-routing-table",
        &["announcement.routingTable"],
        |f| text(f.announcement_routing_table),
        |c| c.announcement.routing_table.unwrap_or_default().to_string(),
    ),
    bound(
        "load-balancer-pool",
        &["loadBalancer.pools"],
        |f| (!f.load_balancer_pool.is_empty()).then(|| f.load_balancer_pool.join(" ")),
        |c| pools(&c.load_balancer.pools),
    ),
    bound("proxy-port-range", &["portRange"], |f| f.proxy_port_range.clone(), |c| c.port_range.clone()),
];

/// The flags for `field`, or for what it is an item of, or an item of it.
pub(crate) fn flags_of(field: &str) -> impl Iterator<Item = &'static Bound> {
    let field = field.split('[').next().unwrap_or_default();
    // Beside a gate's name, no field is followed by anything.
    let field = if field.starts_with("featureGates") { "featureGates" } else { field };
    ALL.iter().filter(move |bound| bound.fields.contains(&field))
}

const fn bound(
    flag: &'static str,
    fields: &'static [&'static str],
    given: fn(&Flags) -> Option<String>,
    effective: fn(&Config) -> String,
) -> Bound {
    Bound { flag, fields, beats_file: false, given, effective }
}

const fn beside_file(
    flag: &'static str,
    fields: &'static [&'static str],
    given: fn(&Flags) -> Option<String>,
    effective: fn(&Config) -> String,
) -> Bound {
    Bound { flag, fields, beats_file: true, given, effective }
}

fn text(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn listed(flags: &[String]) -> Option<String> {
    (!flags.is_empty()).then(|| from_flags::list(flags).join(","))
}

/// Networks in the form in which they are kept; what is not a network as it is.
fn networks(flags: &[String]) -> Option<String> {
    let kept = |item: String| item.parse::<IpNet>().map_or(item, |network| network.trunc().to_string());
    (!flags.is_empty()).then(|| from_flags::list(flags).into_iter().map(kept).collect::<Vec<_>>().join(","))
}

/// Pools as flags give them, as far as they can.
fn pools(pools: &[AddressPool]) -> String {
    let flag = |pool: &AddressPool| format!("{}={}", pool.name, joined(&pool.ranges));
    pools.iter().map(flag).collect::<Vec<_>>().join(" ")
}

fn joined(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    #[test]
    fn every_field_exists() {
        // Some are written only where they are switched on.
        let mode = crate::Mode::Userspace;
        let announcement = crate::Announcement { layer2: true, ..crate::Announcement::default() };
        let load_balancer = crate::config::LoadBalancer { default: false, pools: Vec::new() };
        let object = crate::to_json(&Config {
            accept_forwarded: true,
            announcement,
            load_balancer,
            mode,
            ..Config::default()
        });
        for field in ALL.iter().flat_map(|bound| bound.fields) {
            assert!(object.pointer(&format!("/{}", field.replace('.', "/"))).is_some(), "{field}");
        }
    }

    #[test]
    fn every_flag_has_a_value() {
        let removed = crate::Removed::augment_args(clap::Command::new("kube-proxy"));
        let removed: Vec<&str> = removed.get_arguments().filter_map(clap::Arg::get_long).collect();
        let command = Flags::augment_args(clap::Command::new("kube-proxy"));
        let mut flags: Vec<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
        flags.retain(|flag| !removed.contains(flag));
        let mut found: Vec<&str> = Flags::default().values().into_iter().map(|(flag, _)| flag).collect();
        flags.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, flags);
    }
}
