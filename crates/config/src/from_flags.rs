//! The object that flags alone describe (spec §10.7).

use portolan_service::AddressPool;

use crate::flags::Flags;
use crate::object::{
    Announcement, Client, Conntrack, DetectLocal, Iptables, Ipvs, LoadBalancer, LogStreams, Logging,
    Nftables, Object, Pool, Userspace, Vmodule, Winkernel,
};
use crate::problem::{ConfigError, Place};

/// The object that `flags` describe. What is wrong in it goes to `errors`, and is left out.
pub(crate) fn object(flags: &Flags, errors: &mut Vec<ConfigError>) -> Object {
    let text = |flag: &Option<String>| flag.clone().unwrap_or_default();
    Object {
        feature_gates: feature_gates(flags, errors).into_iter().collect(),
        client: Client {
            kubeconfig: path(flags),
            accept_content_types: String::new(),
            content_type: text(&flags.kube_api_content_type),
            qps: flags.kube_api_qps,
            burst: flags.kube_api_burst,
        },
        logging: logging(flags, errors),
        hostname_override: text(&flags.hostname_override),
        bind_address: text(&flags.bind_address),
        healthz_bind_address: text(&flags.healthz_bind_address),
        metrics_bind_address: text(&flags.metrics_bind_address),
        bind_address_hard_fail: flags.bind_address_hard_fail,
        enable_profiling: flags.profiling,
        show_hidden_metrics_for_version: text(&flags.show_hidden_metrics_for_version),
        mode: text(&flags.proxy_mode),
        iptables: Iptables {
            masquerade_bit: flags.iptables_masquerade_bit,
            masquerade_all: flags.masquerade_all,
            localhost_nodeports: flags.iptables_localhost_nodeports,
            sync_period: flags.iptables_sync_period,
            min_sync_period: flags.iptables_min_sync_period,
        },
        ipvs: Ipvs {
            sync_period: flags.ipvs_sync_period,
            min_sync_period: flags.ipvs_min_sync_period,
            scheduler: text(&flags.ipvs_scheduler),
            exclude_cidrs: list(&flags.ipvs_exclude_cidrs),
            strict_arp: flags.ipvs_strict_arp,
            tcp_timeout: flags.ipvs_tcp_timeout,
            tcp_fin_timeout: flags.ipvs_tcpfin_timeout,
            udp_timeout: flags.ipvs_udp_timeout,
        },
        nftables: Nftables {
            masquerade_bit: None,
            masquerade_all: flags.masquerade_all,
            sync_period: flags.iptables_sync_period,
            min_sync_period: flags.iptables_min_sync_period,
        },
        winkernel: Winkernel::default(),
        windows_run_as_service: None,
        detect_local_mode: text(&flags.detect_local_mode),
        detect_local: DetectLocal {
            bridge_interface: text(&flags.pod_bridge_interface),
            interface_name_prefix: text(&flags.pod_interface_name_prefix),
        },
        cluster_cidr: text(&flags.cluster_cidr),
        nodeport_addresses: list(&flags.nodeport_addresses),
        accept_forwarded: flags.accept_forwarded,
        oom_score_adj: flags.oom_score_adj,
        conntrack: Conntrack {
            max_per_core: flags.conntrack_max_per_core,
            min: flags.conntrack_min,
            tcp_established_timeout: flags.conntrack_tcp_timeout_established,
            tcp_close_wait_timeout: flags.conntrack_tcp_timeout_close_wait,
            tcp_be_liberal: flags.conntrack_tcp_be_liberal,
            udp_timeout: flags.conntrack_udp_timeout,
            udp_stream_timeout: flags.conntrack_udp_timeout_stream,
        },
        config_sync_period: flags.config_sync_period,
        port_range: text(&flags.proxy_port_range),
        udp_idle_timeout: flags.udp_timeout,
        userspace: Userspace { diversion: text(&flags.userspace_diversion) },
        announcement: Announcement {
            layer2: flags.announce_layer2,
            key_file: text(&flags.announcement_key_file),
            interfaces: list(&flags.announcement_interfaces),
            routing_table: flags.announcement_routing_table,
        },
        load_balancer: LoadBalancer { default: None, pools: pools(&flags.load_balancer_pool) },
    }
}

/// What is given of each pool, together.
fn pools(flags: &[String]) -> Vec<Pool> {
    let mut pools: Vec<Pool> = Vec::new();
    for flag in flags {
        let (name, ranges) = flag.split_once('=').unwrap_or((AddressPool::DEFAULT, flag));
        let known = pools.iter().position(|pool| pool.name == name);
        let known = known.unwrap_or_else(|| {
            pools.push(Pool { name: name.to_owned(), ..Pool::default() });
            pools.len() - 1
        });
        pools[known].addresses.extend(list(&[ranges.to_owned()]));
    }
    pools
}

/// The flags that are in force beside a file: they are laid over `object` (spec §10.1).
pub(crate) fn overlay(flags: &Flags, object: &mut Object, errors: &mut Vec<ConfigError>) {
    if let Some(name) = flags.hostname_override.as_ref().filter(|name| !name.is_empty()) {
        object.hostname_override.clone_from(name);
    }
    let given = logging(flags, errors);
    let logging = &mut object.logging;
    if flags.logging_format.is_some() {
        logging.format = given.format;
    }
    logging.flush_frequency = given.flush_frequency.or(logging.flush_frequency);
    logging.verbosity = given.verbosity.or(logging.verbosity);
    let of_file = std::mem::replace(&mut logging.vmodule, given.vmodule);
    logging.vmodule.extend(of_file);
    for (streams, given) in [(&mut logging.text, given.text), (&mut logging.json, given.json)] {
        streams.split_stream = given.split_stream.or(streams.split_stream);
        if !given.info_buffer_size.is_empty() {
            streams.info_buffer_size = given.info_buffer_size;
        }
    }
}

fn logging(flags: &Flags, errors: &mut Vec<ConfigError>) -> Logging {
    let text = |flag: &Option<String>| flag.clone().unwrap_or_default();
    let mut vmodule = Vec::new();
    for pattern in list(&flags.vmodule) {
        let parsed = pattern.split_once('=').and_then(|(name, level)| Some((name, level.parse().ok()?)));
        match parsed {
            Some((name, verbosity)) => vmodule.push(Vmodule { file_pattern: name.to_owned(), verbosity }),
            None => errors.push(ConfigError {
                place: Place::Flag("vmodule"),
                message: format!("{pattern:?} is not a pattern and a level, such as file=4"),
            }),
        }
    }
    Logging {
        format: text(&flags.logging_format),
        flush_frequency: flags.log_flush_frequency,
        verbosity: flags.verbosity,
        vmodule,
        text: LogStreams {
            split_stream: flags.log_text_split_stream,
            info_buffer_size: text(&flags.log_text_info_buffer_size),
        },
        json: LogStreams {
            split_stream: flags.log_json_split_stream,
            info_buffer_size: text(&flags.log_json_info_buffer_size),
        },
    }
}

fn feature_gates(flags: &Flags, errors: &mut Vec<ConfigError>) -> Vec<(String, bool)> {
    let mut gates = Vec::new();
    for gate in list(&flags.feature_gates) {
        let parsed = gate.split_once('=').and_then(|(name, value)| {
            Some((name.trim().to_owned(), crate::flags::go_bool(value.trim()).ok()?))
        });
        match parsed {
            Some(gate) => gates.push(gate),
            None => errors.push(ConfigError {
                place: Place::Flag("feature-gates"),
                message: format!("{gate:?} is not the name of a gate with =true or =false"),
            }),
        }
    }
    gates
}

fn path(flags: &Flags) -> String {
    flags.kubeconfig.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
}

/// The items of a list that several flags may give, each some.
pub(crate) fn list(flags: &[String]) -> Vec<String> {
    let items = flags.iter().flat_map(|flag| flag.split(',')).map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}
