//! Configuration files, and flags beside them (spec §10.1).

use std::path::Path;

use portolan_config::Mode;
use serde_json::{Value, json};

use crate::loading::{Expected, flags, load, notes, values};

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
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
            "userspace mode has the periods of iptables, and masquerades nothing",
            "mode: userspace\nportRange: 40000+99\nudpIdleTimeout: 5s\niptables: {syncPeriod: 6s, masqueradeAll: true}",
            &[
                ("iptables.syncPeriod", json!("6s")),
                ("iptables.masqueradeAll", json!(false)),
                ("portRange", json!("40000+99")),
                ("udpIdleTimeout", json!("5s")),
                ("nodePortAddresses", json!([])),
            ],
        ),
        (
            "userspace mode by default",
            "mode: userspace\nudpIdleTimeout: 0s",
            &[
                ("portRange", json!("")),
                ("udpIdleTimeout", json!("250ms")),
                ("userspace.diversion", json!("nftables")),
            ],
        ),
        (
            "userspace mode with rules of iptables",
            "mode: userspace\nuserspace: {diversion: iptables}",
            &[("userspace.diversion", json!("iptables"))],
        ),
        (
            "pools of load-balancer addresses",
            "loadBalancer:\n  pools:\n  - name: lan\n    addresses: [192.0.2.245/28, 2001:db8::1-2001:db8::9]\n    \
             serviceAllocation: {namespaces: [shop], serviceSelectors: [{matchLabels: {tier: front}}]}",
            &[
                ("loadBalancer.default", json!(true)),
                (
                    "loadBalancer.pools",
                    json!([{
                        "name": "lan",
                        "addresses": ["192.0.2.240/28", "2001:db8::1-2001:db8::9"],
                        "autoAssign": true,
                        "avoidBuggyIPs": false,
                        "serviceAllocation": {
                            "priority": 0,
                            "namespaces": ["shop"],
                            "namespaceSelectors": [],
                            "serviceSelectors": [{"matchLabels": {"tier": "front"}, "matchExpressions": []}],
                        },
                    }]),
                ),
            ],
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
