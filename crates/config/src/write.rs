//! The effective configuration as `KubeProxyConfiguration` v1alpha1 (spec §10.5, §11.14).

use std::fmt::Display;
use std::path::Path;

use portolan_yaml::Content;
use serde_json::{Value, json};

use crate::config::{Announcement, Config, LogStreams, Mode};
use crate::duration::GoDuration;
use crate::load_balancer;
use crate::object::{API_VERSION, KIND};

/// The object as JSON. As in the reference, only the section of the mode has sync periods and
/// `masqueradeAll`.
pub fn to_json(config: &Config) -> Value {
    let (mut iptables, mut ipvs, mut nftables) = sections(config);
    let periods = |section: &mut Value| {
        section["syncPeriod"] = duration(config.sync_period);
        section["minSyncPeriod"] = duration(config.min_sync_period);
    };
    match config.mode {
        Mode::Nftables => {
            periods(&mut nftables);
            nftables["masqueradeAll"] = config.masquerade_all.into();
        }
        Mode::Iptables => {
            periods(&mut iptables);
            iptables["masqueradeAll"] = config.masquerade_all.into();
        }
        Mode::Userspace => periods(&mut iptables),
        Mode::Ipvs => {
            periods(&mut ipvs);
            // There is none in the section of IPVS.
            iptables["masqueradeAll"] = config.masquerade_all.into();
        }
    }
    let conntrack = &config.conntrack;
    let windows = &config.windows;
    let kubeconfig = config.client.kubeconfig.as_ref().map(|path| path.display().to_string());
    let mut object = json!({
        "apiVersion": API_VERSION,
        "kind": KIND,
        "bindAddress": config.bind_address.to_string(),
        "bindAddressHardFail": config.bind_address_hard_fail,
        "clientConnection": {
            "acceptContentTypes": config.client.accept_content_types,
            "burst": config.client.burst,
            "contentType": config.client.content_type,
            "kubeconfig": kubeconfig.unwrap_or_default(),
            "qps": number(config.client.qps),
        },
        "clusterCIDR": texts(&config.detect_local.cluster_cidrs).join(","),
        "configSyncPeriod": duration(config.config_sync_period),
        "conntrack": {
            "maxPerCore": conntrack.max_per_core,
            "min": conntrack.min,
            "tcpBeLiberal": conntrack.tcp_be_liberal,
            "tcpCloseWaitTimeout": duration(conntrack.tcp_close_wait_timeout),
            "tcpEstablishedTimeout": duration(conntrack.tcp_established_timeout),
            "udpStreamTimeout": duration(conntrack.udp_stream_timeout),
            "udpTimeout": duration(conntrack.udp_timeout),
        },
        "detectLocal": {
            "bridgeInterface": config.detect_local.bridge_interface,
            "interfaceNamePrefix": config.detect_local.interface_name_prefix,
        },
        "detectLocalMode": config.detect_local.mode.name(),
        "enableProfiling": config.enable_profiling,
        "featureGates": config.feature_gates,
        "healthzBindAddress": config.healthz.map(|address| address.to_string()).unwrap_or_default(),
        "hostnameOverride": config.hostname_override.as_deref().unwrap_or_default(),
        "iptables": iptables,
        "ipvs": ipvs,
        "logging": logging(config),
        "metricsBindAddress": config.metrics.to_string(),
        "mode": config.mode.name(),
        "nftables": nftables,
        "nodePortAddresses": texts(&config.nodeport_addresses.0),
        "oomScoreAdj": config.oom_score_adj,
        "portRange": config.port_range,
        "showHiddenMetricsForVersion": config.show_hidden_metrics_for_version,
        "windowsRunAsService": windows.run_as_service,
        "winkernel": {
            "enableDSR": windows.enable_dsr,
            "forwardHealthCheckVip": windows.forward_health_check_vip,
            "networkName": windows.network_name,
            "rootHnsEndpointName": windows.root_hns_endpoint_name,
            "sourceVip": windows.source_vip,
        },
    });
    unknown_to_kube_proxy(config, &mut object);
    object
}

/// kube-proxy does not know these, or not any more, and would say so.
fn unknown_to_kube_proxy(config: &Config, object: &mut Value) {
    if config.accept_forwarded {
        object["acceptForwarded"] = true.into();
    }
    let Announcement { layer2, key_file, interfaces, routing_table } = &config.announcement;
    if config.announcement != Announcement::default() || !config.load_balancer.pools.is_empty() {
        object["announcement"] = json!({
            "interfaces": interfaces,
            "keyFile": key_file.as_deref().map(Path::to_string_lossy).unwrap_or_default(),
            "layer2": layer2,
            "routingTable": routing_table.unwrap_or_default(),
        });
    }
    let given = &config.load_balancer;
    if !given.pools.is_empty() || !given.default {
        object["loadBalancer"] = load_balancer::to_json(given);
    }
    if config.mode == Mode::Userspace {
        object["udpIdleTimeout"] = duration(config.userspace.udp_idle_timeout);
        object["userspace"] = json!({ "diversion": config.userspace.diversion.name() });
    }
}

/// What the sections of the modes have whatever the mode is.
fn sections(config: &Config) -> (Value, Value, Value) {
    let iptables = json!({
        "localhostNodePorts": config.iptables.localhost_nodeports,
        "masqueradeAll": false,
        "masqueradeBit": config.iptables.masquerade_bit,
        "minSyncPeriod": "0s",
        "syncPeriod": "0s",
    });
    let ipvs = json!({
        "excludeCIDRs": texts(&config.ipvs.exclude_cidrs),
        "minSyncPeriod": "0s",
        "scheduler": config.ipvs.scheduler,
        "strictARP": config.ipvs.strict_arp,
        "syncPeriod": "0s",
        "tcpFinTimeout": duration(config.ipvs.tcp_fin_timeout),
        "tcpTimeout": duration(config.ipvs.tcp_timeout),
        "udpTimeout": duration(config.ipvs.udp_timeout),
    });
    let nftables = json!({
        "masqueradeAll": false,
        "masqueradeBit": config.nftables.masquerade_bit,
        "minSyncPeriod": "0s",
        "syncPeriod": "0s",
    });
    (iptables, ipvs, nftables)
}

fn logging(config: &Config) -> Value {
    let logging = &config.logging;
    let streams = |streams: &LogStreams| {
        json!({
            "infoBufferSize": streams.info_buffer_size.to_string(),
            "splitStream": streams.split_stream,
        })
    };
    let modules = logging.vmodule.iter();
    json!({
        "flushFrequency": duration(logging.flush_frequency),
        "format": logging.format.to_string(),
        "options": { "json": streams(&logging.json), "text": streams(&logging.text) },
        "verbosity": logging.verbosity,
        "vmodule": modules
            .map(|it| json!({ "filePattern": it.file_pattern, "verbosity": it.verbosity }))
            .collect::<Vec<_>>(),
    })
}

/// A configuration file that says what `config` says: YAML.
///
/// A health server that is switched off is the one thing that a file cannot say.
pub fn write(config: &Config) -> String {
    let mut text = String::new();
    block(&to_json(config), 0, &mut text);
    text
}

fn duration(duration: std::time::Duration) -> Value {
    GoDuration::from(duration).to_string().into()
}

fn texts(items: &[impl Display]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

/// As short as a 32-bit number can be written.
fn number(value: f32) -> Value {
    let text = value.to_string();
    let whole = text.parse::<i64>().map(Value::from);
    whole.unwrap_or_else(|_| text.parse::<f64>().map_or(Value::Null, Value::from))
}

/// Writes a mapping or list, each entry on lines of its own behind `indent` spaces.
fn block(value: &Value, indent: usize, text: &mut String) {
    let entries: Vec<(String, &Value, usize)> = match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (format!("{}:", scalar(key)), value, indent + 2)).collect()
        }
        Value::Array(items) => items.iter().map(|item| ("-".to_owned(), item, indent + 2)).collect(),
        _ => Vec::new(),
    };
    for (head, value, inner) in entries {
        text.push_str(&" ".repeat(indent));
        text.push_str(&head);
        match value {
            Value::Object(map) if map.is_empty() => text.push_str(" {}\n"),
            Value::Array(items) if items.is_empty() => text.push_str(" []\n"),
            Value::Object(_) | Value::Array(_) if head == "-" => {
                // The first entry stands on the line of the dash.
                let mut lines = String::new();
                block(value, inner, &mut lines);
                text.push(' ');
                text.push_str(&lines[inner..]);
            }
            Value::Object(_) | Value::Array(_) => {
                text.push('\n');
                block(value, inner, text);
            }
            Value::String(value) => text.extend([" ", &scalar(value), "\n"]),
            Value::Null | Value::Bool(_) | Value::Number(_) => {
                text.extend([" ", &value.to_string(), "\n"]);
            }
        }
    }
}

/// Text as a YAML scalar: plain where nobody can take it for anything else, else in double quotes.
fn scalar(text: &str) -> String {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/');
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._:-".contains(&byte));
    // Others read more words as booleans, and 1:30 as a number.
    let number = text.bytes().all(|byte| byte.is_ascii_digit() || b":._".contains(&byte))
        && text.matches('.').count() < 3;
    let word = ["y", "n", "yes", "no", "on", "off"].iter().any(|word| text.eq_ignore_ascii_case(word));
    let is_text = || {
        portolan_yaml::parse(text, 1).is_ok_and(
            |trees| matches!(trees.as_slice(), [tree] if tree.content == Content::Text(text.to_owned())),
        )
    };
    if first && plain && !number && !word && !text.ends_with(':') && is_text() {
        return text.to_owned();
    }
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        '\n' => "\\n".to_owned(),
        ' '..='~' => c.to_string(),
        _ if u32::from(c) > 0xffff => format!("\\U{:08x}", u32::from(c)),
        _ => format!("\\u{:04x}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
