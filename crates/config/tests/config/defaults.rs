//! What is in force without a word, and with flags alone (spec §10A, §10B).

use std::path::Path;

use portolan_config::{Config, Gate, Loaded, to_json};
use serde_json::{Value, json};

use crate::loading::{Expected, differences, flags, load, values};

#[test]
fn defaults() {
    // Spec §10B, but for mode, sync periods without a least, and NodePorts on the node's own
    // address.
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
    let text = include_str!("../files/kubeadm.yaml");
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
#[expect(clippy::too_many_lines, reason = "one table of cases")]
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
        ("", Gate::KubeProxyNftablesLocalhostNodePorts, true),
        ("AllBeta=false", Gate::KubeProxyNftablesLocalhostNodePorts, false),
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
