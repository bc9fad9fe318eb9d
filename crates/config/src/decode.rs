//! The configuration file: from text to the object that it describes (spec §10.2).
//!
//! As strict as the reference where it is strict: syntax, kind and types are errors. Where that
//! falls back to a lenient reading, with fields unknown or repeated, each of them is named.

use std::path::Path;

use portolan_yaml::{Content, Repeated, SyntaxError, Tree};

use crate::object::{
    API_VERSION, Announcement, Client, Conntrack, DetectLocal, Expression, Iptables, Ipvs, KIND,
    LoadBalancer, LogStreams, Logging, NEXT_API_VERSION, Nftables, Object, Pool, Selector, ServiceAllocation,
    Userspace, Vmodule, Winkernel,
};
use crate::problem::{ConfigError, Level, Place};
use crate::problems::Problems;
use crate::section::Section;

/// The content of the file `path`, and keys that it repeats.
pub(crate) struct Document {
    pub(crate) tree: Tree,
    warnings: Vec<(usize, String, String)>,
}

/// Reads the text of the file `path`, YAML or JSON.
pub(crate) fn parse(path: &Path, text: &str) -> Result<Document, ConfigError> {
    let error = |line, message: String| ConfigError {
        place: Place::File { path: path.to_owned(), line, field: String::new() },
        message,
    };
    let (trees, repeated) = trees(text).map_err(|problem| {
        // The end of the text can be past its last line.
        error(problem.line.min(text.lines().count().max(1)), problem.message)
    })?;
    let mut trees = trees.into_iter();
    let expected = format!("expected an object with apiVersion: {API_VERSION} and kind: {KIND}");
    let tree = trees.next().ok_or_else(|| error(1, format!("nothing in it; {expected}")))?;
    if !matches!(tree.content, Content::Map(_)) {
        return Err(error(tree.line, format!("found {}; {expected}", crate::section::found(&tree))));
    }
    let mut warnings: Vec<(usize, String, String)> = repeated
        .into_iter()
        .map(|it| {
            let message = format!("is given twice; this one counts, not the one on line {}", it.first_line);
            (it.line, it.path, message)
        })
        .collect();
    if let Some(second) = trees.next() {
        let message = "only the first document of the file is read; the rest is ignored".to_owned();
        warnings.push((second.line, String::new(), message));
    }
    Ok(Document { tree, warnings })
}

fn trees(text: &str) -> Result<(Vec<Tree>, Vec<Repeated>), SyntaxError> {
    if !text.trim_start().starts_with('{') {
        return portolan_yaml::parse_repeating(text, 1);
    }
    // A tab is white space in JSON; YAML minds it. And JSON may pair escapes as YAML does not.
    portolan_yaml::parse_repeating(&text.replace('\t', " "), 1).or_else(|error| {
        match serde_json::from_str(text) {
            Ok(value) if error.is_grammar => Ok((vec![Tree::from_json(value)], Vec::new())),
            _ => Err(error),
        }
    })
}

/// The object in `document`. What is wrong in it goes to `problems`, and is left out.
pub(crate) fn decode(path: &Path, document: &Document, problems: &mut Problems<'_>) -> Object {
    for (line, field, message) in &document.warnings {
        let place = Place::File { path: path.to_owned(), line: *line, field: field.clone() };
        problems.note_at(Level::Warning, place, message.clone());
    }
    let before = problems.errors.len();
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match document.tree.get(field).map(|value| &value.content) {
            Some(Content::Text(text)) if text == expected => {}
            None | Some(Content::Null) => problems.error(field, format!("is missing; it must be {expected}")),
            Some(Content::Text(text)) if text == NEXT_API_VERSION => {
                let message = format!(
                    "{text} is not read by this version, as its fields are arranged otherwise; write the file as \
                     {expected}, which kube-proxy reads too"
                );
                problems.error(field, message);
            }
            Some(Content::Text(text)) => {
                problems.error(field, format!("{text:?} is not known here; it must be {expected}"));
            }
            Some(_) => problems.error(field, format!("is not text; it must be {expected}")),
        }
    }
    // Every field of an object of another kind would be unknown.
    if problems.errors.len() > before {
        return Object::default();
    }
    Section::read(&document.tree, problems, object)
}

fn object(section: &mut Section<'_, '_, '_>) -> Object {
    section.text("apiVersion");
    section.text("kind");
    Object {
        feature_gates: section.booleans("featureGates"),
        client: section.section("clientConnection", client),
        logging: section.section("logging", logging),
        hostname_override: section.text("hostnameOverride"),
        bind_address: section.text("bindAddress"),
        healthz_bind_address: section.text("healthzBindAddress"),
        metrics_bind_address: section.text("metricsBindAddress"),
        bind_address_hard_fail: section.boolean("bindAddressHardFail"),
        enable_profiling: section.boolean("enableProfiling"),
        show_hidden_metrics_for_version: section.text("showHiddenMetricsForVersion"),
        mode: section.text("mode"),
        iptables: section.section("iptables", |section| Iptables {
            masquerade_bit: section.integer("masqueradeBit"),
            masquerade_all: section.boolean("masqueradeAll"),
            localhost_nodeports: section.boolean("localhostNodePorts"),
            sync_period: section.duration("syncPeriod"),
            min_sync_period: section.duration("minSyncPeriod"),
        }),
        ipvs: section.section("ipvs", |section| Ipvs {
            sync_period: section.duration("syncPeriod"),
            min_sync_period: section.duration("minSyncPeriod"),
            scheduler: section.text("scheduler"),
            exclude_cidrs: section.texts("excludeCIDRs"),
            strict_arp: section.boolean("strictARP"),
            tcp_timeout: section.duration("tcpTimeout"),
            tcp_fin_timeout: section.duration("tcpFinTimeout"),
            udp_timeout: section.duration("udpTimeout"),
        }),
        nftables: section.section("nftables", |section| Nftables {
            masquerade_bit: section.integer("masqueradeBit"),
            masquerade_all: section.boolean("masqueradeAll"),
            sync_period: section.duration("syncPeriod"),
            min_sync_period: section.duration("minSyncPeriod"),
        }),
        load_balancer: section.section("loadBalancer", load_balancer),
        userspace: section.section("userspace", |section| Userspace { diversion: section.text("diversion") }),
        announcement: section.section("announcement", |section| Announcement {
            layer2: section.boolean("layer2"),
            key_file: section.text("keyFile"),
            interfaces: section.texts("interfaces"),
            routing_table: section.long("routingTable"),
        }),
        winkernel: section.section("winkernel", |section| Winkernel {
            network_name: section.text("networkName"),
            source_vip: section.text("sourceVip"),
            enable_dsr: section.boolean("enableDSR"),
            root_hns_endpoint_name: section.text("rootHnsEndpointName"),
            forward_health_check_vip: section.boolean("forwardHealthCheckVip"),
        }),
        windows_run_as_service: section.boolean("windowsRunAsService"),
        detect_local_mode: section.text("detectLocalMode"),
        detect_local: section.section("detectLocal", |section| DetectLocal {
            bridge_interface: section.text("bridgeInterface"),
            interface_name_prefix: section.text("interfaceNamePrefix"),
        }),
        cluster_cidr: section.text("clusterCIDR"),
        nodeport_addresses: section.texts("nodePortAddresses"),
        accept_forwarded: section.boolean("acceptForwarded"),
        oom_score_adj: section.integer("oomScoreAdj"),
        conntrack: section.section("conntrack", |section| Conntrack {
            max_per_core: section.integer("maxPerCore"),
            min: section.integer("min"),
            tcp_established_timeout: section.duration("tcpEstablishedTimeout"),
            tcp_close_wait_timeout: section.duration("tcpCloseWaitTimeout"),
            tcp_be_liberal: section.boolean("tcpBeLiberal"),
            udp_timeout: section.duration("udpTimeout"),
            udp_stream_timeout: section.duration("udpStreamTimeout"),
        }),
        config_sync_period: section.duration("configSyncPeriod"),
        port_range: section.text("portRange"),
        udp_idle_timeout: section.duration("udpIdleTimeout"),
    }
}

fn load_balancer(section: &mut Section<'_, '_, '_>) -> LoadBalancer {
    LoadBalancer {
        default: section.boolean("default"),
        pools: section.sections("pools", |section| Pool {
            name: section.text("name"),
            addresses: section.texts("addresses"),
            auto_assign: section.boolean("autoAssign"),
            avoid_buggy_ips: section.boolean("avoidBuggyIPs"),
            service_allocation: section.section("serviceAllocation", |section| ServiceAllocation {
                priority: section.integer("priority"),
                namespaces: section.texts("namespaces"),
                namespace_selectors: section.sections("namespaceSelectors", selector),
                service_selectors: section.sections("serviceSelectors", selector),
            }),
        }),
    }
}

fn selector(section: &mut Section<'_, '_, '_>) -> Selector {
    Selector {
        labels: section.labels("matchLabels"),
        expressions: section.sections("matchExpressions", |section| Expression {
            key: section.text("key"),
            operator: section.text("operator"),
            values: section.texts("values"),
        }),
    }
}

fn client(section: &mut Section<'_, '_, '_>) -> Client {
    Client {
        kubeconfig: section.text("kubeconfig"),
        accept_content_types: section.text("acceptContentTypes"),
        content_type: section.text("contentType"),
        qps: section.number("qps"),
        burst: section.integer("burst"),
    }
}

fn logging(section: &mut Section<'_, '_, '_>) -> Logging {
    let streams = |section: &mut Section<'_, '_, '_>| LogStreams {
        split_stream: section.boolean("splitStream"),
        info_buffer_size: section.quantity("infoBufferSize"),
    };
    let (text, json) = section
        .section("options", |section| (section.section("text", streams), section.section("json", streams)));
    Logging {
        format: section.text("format"),
        flush_frequency: section.duration_or_nanoseconds("flushFrequency"),
        verbosity: section.long("verbosity"),
        vmodule: section.sections("vmodule", |section| Vmodule {
            file_pattern: section.text("filePattern"),
            verbosity: section.long("verbosity").unwrap_or_default(),
        }),
        text,
        json,
    }
}
