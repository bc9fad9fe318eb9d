//! Defaults and precedence (spec §10A, §10B): what is in force, as JSON, for flags and files.
#![allow(missing_docs)]

mod common;

use std::path::Path;

use common::{flags, load, notes};
use portolan_config::{Config, Gate, Loaded, Mode, to_json};
use serde_json::{Value, json};

/// Paths and values.
type Expected<'e> = &'e [(&'e str, Value)];

/// The values at these paths.
fn values(config: &Config, paths: &[&str]) -> Vec<Value> {
    let object = to_json(config);
    let value = |path: &&str| {
        let pointer = format!("/{}", path.replace('.', "/"));
        object.pointer(&pointer).unwrap_or_else(|| panic!("{path} is missing")).clone()
    };
    paths.iter().map(value).collect()
}

/// The values that differ between two objects, as `path: value`.
fn differences(base: &Value, other: &Value, path: &str, found: &mut Vec<String>) {
    match (base, other) {
        (Value::Object(base), Value::Object(other)) => {
            for (key, value) in other {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                differences(base.get(key).unwrap_or(&Value::Null), value, &path, found);
            }
        }
        _ if base == other => {}
        _ => found.push(format!("{path}: {other}")),
    }
}

#[test]
fn defaults() {
    // Spec §10B, but for mode, sync periods without a least, and NodePorts on the node's own address.
    let expected = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",
        "bindAddressHardFail": false,
        "clientConnection": {
            "acceptContentTypes": "",
            "burst": 10,
            "contentType": "application/vnd.kubernetes.protobuf",
            "kubeconfig": "",
            "qps": 5,
        },
        "clusterCIDR": "",
        "configSyncPeriod": "15m0s",
        "conntrack": {
            "maxPerCore": 32768,
            "min": 131_072,
            "tcpBeLiberal": false,
            "tcpCloseWaitTimeout": "1h0m0s",
            "tcpEstablishedTimeout": "24h0m0s",
            "udpStreamTimeout": "0s",
            "udpTimeout": "0s",
        },
        "detectLocal": {"bridgeInterface": "", "interfaceNamePrefix": ""},
        "detectLocalMode": "ClusterCIDR",
        "enableProfiling": false,
        "featureGates": {},
        "healthzBindAddress": "0.0.0.0:10256",
        "hostnameOverride": "",
        "iptables": {
            "localhostNodePorts": true,
            "masqueradeAll": false,
            "masqueradeBit": 14,
            "minSyncPeriod": "0s",
            "syncPeriod": "0s",
        },
        "ipvs": {
            "excludeCIDRs": [],
            "minSyncPeriod": "0s",
            "scheduler": "",
            "strictARP": false,
            "syncPeriod": "0s",
            "tcpFinTimeout": "0s",
            "tcpTimeout": "0s",
            "udpTimeout": "0s",
        },
        "logging": {
            "flushFrequency": "5s",
            "format": "text",
            "options": {
                "json": {"infoBufferSize": "0", "splitStream": false},
                "text": {"infoBufferSize": "0", "splitStream": false},
            },
            "verbosity": 0,
            "vmodule": [],
        },
        "metricsBindAddress": "127.0.0.1:10249",
        "mode": "nftables",
        "nftables": {
            "masqueradeAll": false,
            "masqueradeBit": 14,
            "minSyncPeriod": "0s",
            "syncPeriod": "30s",
        },
        "nodePortAddresses": ["primary"],
        "oomScoreAdj": -999,
        "portRange": "",
        "showHiddenMetricsForVersion": "",
        "windowsRunAsService": false,
        "winkernel": {
            "enableDSR": false,
            "forwardHealthCheckVip": false,
            "networkName": "",
            "rootHnsEndpointName": "",
            "sourceVip": "",
        },
    });
    assert_eq!(to_json(&Config::default()), expected);
    assert_eq!(to_json(&load("", None).unwrap().config), expected, "no flag");
    assert_eq!(to_json(&load("", Some("")).unwrap().config), expected, "an empty file");
}

#[test]
fn kubeadm_config_map() {
    let text = include_str!("files/kubeadm.yaml");
    let flags = flags("--config=/c --hostname-override=Node-1");
    let Loaded { config, notes } = portolan_config::load(&flags, Some((Path::new("/c"), text))).unwrap();
    let mut found = Vec::new();
    differences(&to_json(&Config::default()), &to_json(&config), "", &mut found);
    assert_eq!(
        found,
        [
            "clientConnection.kubeconfig: \"/var/lib/kube-proxy/kubeconfig.conf\"",
            "clusterCIDR: \"10.244.0.0/16\"",
            "hostnameOverride: \"node-1\"",
        ]
    );
    let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        notes,
        [
            "/c:52: mode: not set, so nftables is used; kube-proxy would use iptables. Set it to one of the two to be \
             sure of it"
        ]
    );
}

#[test]
fn flags_alone() {
    let cases: &[(&str, &str, Expected)] = &[
        (
            "a mode",
            "--proxy-mode=iptables",
            &[
                ("mode", json!("iptables")),
                ("nodePortAddresses", json!([])),
                ("iptables.syncPeriod", json!("30s")),
            ],
        ),
        (
            "§10.7: periods of iptables count in nftables mode",
            "--iptables-sync-period=10s --iptables-min-sync-period=500ms",
            &[("nftables.syncPeriod", json!("10s")), ("nftables.minSyncPeriod", json!("500ms"))],
        ),
        (
            "§10.7: and not in ipvs mode",
            "--proxy-mode=ipvs --iptables-sync-period=10s",
            &[("ipvs.syncPeriod", json!("30s")), ("iptables.syncPeriod", json!("0s"))],
        ),
        (
            "§10.7: periods of ipvs count in ipvs mode",
            "--proxy-mode=ipvs --ipvs-sync-period=10s --ipvs-min-sync-period=2s",
            &[("ipvs.syncPeriod", json!("10s")), ("ipvs.minSyncPeriod", json!("2s"))],
        ),
        (
            "§10.7: and not in nftables mode",
            "--ipvs-sync-period=10s",
            &[("nftables.syncPeriod", json!("30s")), ("ipvs.syncPeriod", json!("0s"))],
        ),
        (
            "§10.10: zero is a least time that a flag can ask for",
            "--iptables-min-sync-period=0",
            &[("nftables.minSyncPeriod", json!("0s"))],
        ),
        ("masquerade", "--masquerade-all", &[("nftables.masqueradeAll", json!(true))]),
        (
            "§10.5: in the section of the mode",
            "--masquerade-all --proxy-mode=iptables",
            &[("nftables.masqueradeAll", json!(false)), ("iptables.masqueradeAll", json!(true))],
        ),
        (
            "§10.8: address defaults do not follow the family",
            "--bind-address=::",
            &[
                ("bindAddress", json!("::")),
                ("healthzBindAddress", json!("0.0.0.0:10256")),
                ("metricsBindAddress", json!("127.0.0.1:10249")),
            ],
        ),
        ("§10.9: healthz off", "--healthz-port=0", &[("healthzBindAddress", json!(""))]),
        (
            "§10.5: but not in what is written",
            "--healthz-port=0 --write-config-to=/f",
            &[("healthzBindAddress", json!("0.0.0.0:10256"))],
        ),
        (
            "§10.9: empty addresses are ignored",
            "--healthz-bind-address= --metrics-bind-address=",
            &[
                ("healthzBindAddress", json!("0.0.0.0:10256")),
                ("metricsBindAddress", json!("127.0.0.1:10249")),
            ],
        ),
        (
            "§10.9: an address without port gets the default one",
            "--healthz-bind-address=192.0.2.1 --metrics-bind-address=::1",
            &[("healthzBindAddress", json!("192.0.2.1:10256")), ("metricsBindAddress", json!("[::1]:10249"))],
        ),
        (
            "§10.9: or that of the deprecated flag",
            "--healthz-bind-address=192.0.2.1 --healthz-port=81 --metrics-bind-address=::1 --metrics-port=82",
            &[("healthzBindAddress", json!("192.0.2.1:81")), ("metricsBindAddress", json!("[::1]:82"))],
        ),
        (
            "§10.9: an address with port keeps it",
            "--healthz-bind-address=192.0.2.1:80 --healthz-port=81",
            &[("healthzBindAddress", json!("192.0.2.1:80"))],
        ),
        (
            "§3.6: lists gather, as Go's do",
            "--nodeport-addresses=10.0.0.0/8,192.0.2.7/24 --nodeport-addresses fd00::/8",
            &[("nodePortAddresses", json!(["10.0.0.0/8", "192.0.2.0/24", "fd00::/8"]))],
        ),
        (
            "KEP-6032: words, in any company",
            "--nodeport-addresses=primary,localhost --nodeport-addresses 10.0.0.0/8,all",
            &[("nodePortAddresses", json!(["primary", "localhost", "10.0.0.0/8", "all"]))],
        ),
        ("empty paths name nothing", "--kubeconfig=", &[("clientConnection.kubeconfig", json!(""))]),
        (
            "gates gather",
            "--feature-gates=A=true,ComponentFlagz=false --feature-gates=A=false",
            &[("featureGates", json!({"A": false, "ComponentFlagz": false}))],
        ),
        (
            "§4.11: networks are normalised",
            "--cluster-cidr=10.1.2.3/8,fd00::1/64",
            &[("clusterCIDR", json!("10.0.0.0/8,fd00::/64"))],
        ),
        (
            "§1.6: names are trimmed and in lower case",
            "--hostname-override=NODE",
            &[("hostnameOverride", json!("node"))],
        ),
        (
            "kernel settings",
            "--conntrack-max-per-core=0 --conntrack-udp-timeout-stream=2m --conntrack-tcp-be-liberal \
             --conntrack-tcp-timeout-established=0",
            &[
                ("conntrack.maxPerCore", json!(0)),
                ("conntrack.udpStreamTimeout", json!("2m0s")),
                ("conntrack.tcpBeLiberal", json!(true)),
                ("conntrack.tcpEstablishedTimeout", json!("0s")),
            ],
        ),
        (
            "client",
            "--kubeconfig=/k --kube-api-qps=0.5 --kube-api-burst=0",
            &[
                ("clientConnection.kubeconfig", json!("/k")),
                ("clientConnection.qps", json!(0.5)),
                ("clientConnection.burst", json!(10)),
            ],
        ),
        (
            "logging",
            "-v4 --logging-format=json",
            &[("logging.verbosity", json!(4)), ("logging.format", json!("json"))],
        ),
    ];
    for (name, words, expected) in cases {
        let config = load(words, None).unwrap_or_else(|errors| panic!("{name}: {errors:?}")).config;
        let (paths, expected): (Vec<&str>, Vec<Value>) = expected.iter().cloned().unzip();
        assert_eq!(values(&config, &paths), expected, "{name}");
    }
}

#[test]
fn files() {
    let cases: &[(&str, &str, Expected)] = &[
        (
            "§10.8: address defaults follow the family of bindAddress",
            "bindAddress: '::'",
            &[("healthzBindAddress", json!("[::]:10256")), ("metricsBindAddress", json!("[::1]:10249"))],
        ),
        (
            "§10.10: zero is unset",
            "mode: nftables\nnftables: {syncPeriod: 0s}\nconfigSyncPeriod: 0s\nclientConnection: {qps: 0, burst: 0}",
            &[
                ("nftables.syncPeriod", json!("30s")),
                ("configSyncPeriod", json!("15m0s")),
                ("clientConnection.qps", json!(5)),
                ("clientConnection.burst", json!(10)),
            ],
        ),
        (
            "§10.6: the section of the mode counts",
            "mode: nftables\nnftables: {syncPeriod: 5s, masqueradeAll: true}\niptables: {syncPeriod: 6s}",
            &[("nftables.syncPeriod", json!("5s")), ("nftables.masqueradeAll", json!(true))],
        ),
        (
            "§10.6: masqueradeAll of ipvs mode is that of iptables",
            "mode: ipvs\niptables: {masqueradeAll: true, syncPeriod: 6s}\nipvs: {syncPeriod: 7s}",
            &[("ipvs.syncPeriod", json!("7s")), ("iptables.masqueradeAll", json!(true))],
        ),
        (
            "§10.6: without a mode that of iptables",
            "iptables: {syncPeriod: 6s, minSyncPeriod: 2s, masqueradeAll: true}",
            &[
                ("nftables.syncPeriod", json!("6s")),
                ("nftables.minSyncPeriod", json!("2s")),
                ("nftables.masqueradeAll", json!(true)),
            ],
        ),
        (
            "without a mode, what the section of nftables says goes first",
            "iptables: {syncPeriod: 6s, minSyncPeriod: 2s}\nnftables: {minSyncPeriod: 3s}",
            &[("nftables.syncPeriod", json!("6s")), ("nftables.minSyncPeriod", json!("3s"))],
        ),
        (
            "§3.11: iptables mode answers on all addresses",
            "mode: iptables",
            &[("nodePortAddresses", json!([]))],
        ),
        (
            "§3.11: nftables mode on the node's own",
            "mode: nftables",
            &[("nodePortAddresses", json!(["primary"]))],
        ),
        (
            "empty lists are unset",
            "mode: nftables\nnodePortAddresses: []",
            &[("nodePortAddresses", json!(["primary"]))],
        ),
        (
            "zero leaves the kernel's settings",
            "conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s}",
            &[
                ("conntrack.maxPerCore", json!(0)),
                ("conntrack.min", json!(0)),
                ("conntrack.tcpEstablishedTimeout", json!("0s")),
                ("conntrack.tcpCloseWaitTimeout", json!("1h0m0s")),
            ],
        ),
        (
            "flushFrequency may be a number of nanoseconds",
            "logging: {flushFrequency: 2000000000, options: {json: {infoBufferSize: 0}}}",
            &[("logging.flushFrequency", json!("2s"))],
        ),
        (
            "§10.17: bits of other modes are not checked",
            "mode: ipvs\nnftables: {masqueradeBit: 77}",
            &[("nftables.masqueradeBit", json!(14))],
        ),
        (
            "§10.17: nor what is of ipvs in other modes",
            "ipvs: {excludeCIDRs: [x, 10.0.0.0/8], tcpTimeout: -1s}",
            &[("ipvs.excludeCIDRs", json!(["10.0.0.0/8"])), ("ipvs.tcpTimeout", json!("0s"))],
        ),
        (
            "§10.13: nor clusterCIDR in other modes",
            "clusterCIDR: nonsense\ndetectLocalMode: NodeCIDR",
            &[("clusterCIDR", json!(""))],
        ),
        (
            "booleans of YAML 1.1",
            "bindAddressHardFail: yes\nconntrack: {tcpBeLiberal: On}",
            &[("bindAddressHardFail", json!(true)), ("conntrack.tcpBeLiberal", json!(true))],
        ),
        ("a number that is whole", "oomScoreAdj: -1e2", &[("oomScoreAdj", json!(-100))]),
    ];
    for (name, lines, expected) in cases {
        let config = load("", Some(lines)).unwrap_or_else(|errors| panic!("{name}: {errors:?}")).config;
        let (paths, expected): (Vec<&str>, Vec<Value>) = expected.iter().cloned().unzip();
        assert_eq!(values(&config, &paths), expected, "{name}");
    }
}

#[test]
fn json_files() {
    let text = "{\n\t\"apiVersion\": \"kubeproxy.config.k8s.io/v1alpha1\", \"kind\": \"KubeProxyConfiguration\",\n\t\
                \"mode\": \"ipvs\", \"hostnameOverride\": \"\\ud83d\\ude00\"}";
    let loaded = portolan_config::load(&flags(""), Some((Path::new("c"), text))).unwrap();
    assert_eq!(loaded.config.mode, Mode::Ipvs);
    assert_eq!(loaded.config.hostname_override.as_deref(), Some("\u{1f600}"));
}

#[test]
fn flags_beside_a_file() {
    let ignored = |flag: &str, value: &str, field: &str, effective: &str| {
        format!(
            "--{flag}: \"{value}\" has no effect: beside --config this flag is not read, and {field} is {effective}; \
             set it in the file"
        )
    };
    let cases: &[(&str, &str, &str, Expected, Vec<String>)] = &[
        (
            "§10.1: the host name of the flag wins",
            "--hostname-override=A",
            "hostnameOverride: b",
            &[("hostnameOverride", json!("a"))],
            vec![],
        ),
        (
            "§10.1: an empty one does not",
            "--hostname-override=",
            "hostnameOverride: b",
            &[("hostnameOverride", json!("b"))],
            vec![],
        ),
        (
            "§10.1: logging flags win where given",
            "-v=5",
            "logging: {verbosity: 1, format: json}",
            &[("logging.verbosity", json!(5)), ("logging.format", json!("json"))],
            vec![],
        ),
        (
            "§10.1: vmodule entries are joined",
            "--vmodule=a=1",
            "logging: {vmodule: [{filePattern: b, verbosity: 2}]}",
            &[(
                "logging.vmodule",
                json!([{"filePattern": "a", "verbosity": 1}, {"filePattern": "b", "verbosity": 2}]),
            )],
            vec!["--vmodule: no effect: there are no Go files here; logging.verbosity is for all".to_owned()],
        ),
        (
            "§10.1: all others are ignored, which is said",
            "--proxy-mode=ipvs --healthz-port=81 --feature-gates=A=true --masquerade-all",
            "mode: nftables\nhealthzBindAddress: 0.0.0.0:80",
            &[
                ("mode", json!("nftables")),
                ("healthzBindAddress", json!("0.0.0.0:80")),
                ("featureGates", json!({})),
            ],
            vec![
                ignored("feature-gates", "A=true", "featureGates", "empty"),
                ignored("healthz-port", "81", "healthzBindAddress", "80"),
                ignored("proxy-mode", "ipvs", "mode", "nftables"),
                ignored("masquerade-all", "true", "nftables.masqueradeAll", "false"),
            ],
        ),
        (
            "what file and flag agree on is not worth a word",
            "--proxy-mode=iptables --cluster-cidr=10.1.0.0/8 --iptables-sync-period=1m",
            "mode: iptables\nclusterCIDR: 10.0.0.0/8\niptables: {syncPeriod: 60s}\nnodePortAddresses: [primary]",
            &[("mode", json!("iptables"))],
            vec![],
        ),
    ];
    for (name, words, lines, expected, expected_notes) in cases {
        let lines =
            if lines.contains("mode: ") { (*lines).to_owned() } else { format!("mode: nftables\n{lines}") };
        let loaded = load(words, Some(&lines)).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        let (paths, expected): (Vec<&str>, Vec<Value>) = expected.iter().cloned().unzip();
        assert_eq!(values(&loaded.config, &paths), expected, "{name}");
        assert_eq!(notes(&loaded), *expected_notes, "{name}");
    }
}

#[test]
fn feature_gates() {
    for (gates, gate, expected) in [
        ("", Gate::AllowServiceExternalIps, true),
        ("AllowServiceExternalIPs=false", Gate::AllowServiceExternalIps, false),
        ("", Gate::LoggingAlphaOptions, false),
        ("AllAlpha=true", Gate::LoggingAlphaOptions, true),
        ("AllAlpha=true,LoggingAlphaOptions=false", Gate::LoggingAlphaOptions, false),
        ("", Gate::ComponentFlagz, true),
        ("AllBeta=false", Gate::ComponentFlagz, false),
        ("AllBeta=false", Gate::AllowServiceExternalIps, true),
        ("NFTablesProxyMode=true", Gate::NftablesProxyMode, true),
        ("", Gate::NftablesNetlink, true),
        ("AllBeta=false", Gate::NftablesNetlink, false),
        ("", Gate::KubeProxyIpvs, true),
        ("AllAlpha=true", Gate::KubeProxyNftablesLocalhostNodePorts, true),
    ] {
        let config = load(&format!("--feature-gates={gates}"), None).unwrap().config;
        assert_eq!(config.enabled(gate), expected, "{gates}: {}", gate.name());
    }
}

#[test]
fn node_names() {
    // Spec §1.6.
    for (flag, host, expected) in [
        ("", "Host1.example\n", Some("host1.example")),
        ("--hostname-override=Node", "host1", Some("node")),
        ("", " \n", None),
    ] {
        let config = load(flag, None).unwrap().config;
        assert_eq!(config.node_name(host).as_deref(), expected, "{flag} {host:?}");
    }
}

#[test]
fn all_flags_have_values() {
    let values = flags("--v=3 --masquerade-all").values();
    let value = |name: &str| values.iter().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str());
    assert_eq!(value("v"), Some("3"));
    assert_eq!(value("masquerade-all"), Some("true"));
    assert_eq!(value("conntrack-tcp-timeout-established"), Some("24h0m0s"));
    assert_eq!(value("metrics-port"), Some("10249"));
}
