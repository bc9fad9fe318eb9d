//! What is written reads back as the same configuration (spec §10.5), and no text is too strange to
//! be read.

use std::path::Path;

use portolan_config::{Config, Flags, write};
use proptest::prelude::*;

use crate::loading::{flags, load};

fn read_back(config: &Config) -> Config {
    let text = write(config);
    let loaded = portolan_config::load(&Flags::default(), Some((Path::new("c"), &text)));
    loaded.unwrap_or_else(|errors| panic!("{errors:?} in\n{text}")).config
}

#[test]
fn written_as_yaml() {
    let words = "--proxy-mode=iptables --masquerade-all --nodeport-addresses=10.0.0.0/8,::/0 --bind-address=::1 \
                 --healthz-bind-address=[::]:80 --vmodule=a*=1 --feature-gates=A=true --hostname-override=no";
    let config = load(words, None).unwrap().config;
    let text = write(&config);
    assert_eq!(text, include_str!("../files/written.yaml"));
    assert_eq!(read_back(&config), config);
}

#[test]
fn pools_of_flags_are_written_with_those_of_a_file() {
    let words = "--load-balancer-pool=192.0.2.240/28 --load-balancer-pool=wan=198.51.100.7 \
                 --load-balancer-pool=2001:db8::/64";
    let config = load(words, None).unwrap().config;
    let pools = config.load_balancer.pools.iter();
    let pools: Vec<(&str, usize)> = pools.map(|pool| (&*pool.name, pool.ranges.len())).collect();
    assert_eq!(pools, [("default", 2), ("wan", 1)]);
    assert_eq!(read_back(&config), config);
    let text = "loadBalancer: {default: false, pools: [{name: a, addresses: [192.0.2.1], autoAssign: false, \
                avoidBuggyIPs: true, serviceAllocation: {priority: 7, namespaceSelectors: [{matchExpressions: \
                [{key: k, operator: NotIn, values: [a, b]}]}]}}]}";
    let config = load("", Some(text)).unwrap().config;
    assert!(!config.load_balancer.default && config.load_balancer.pools[0].avoid_buggy);
    assert_eq!(read_back(&config), config);
}

/// Text that YAML might take for something else, and any other.
fn text() -> impl Strategy<Value = String> {
    let words = vec![
        "", "no", "1:30", "0x10", "1e3", "~", "null", "a: b", "a #b", "- a", "'", "\"", "a:", "1.5", "::",
    ];
    prop_oneof![
        prop::sample::select(words).prop_map(str::to_owned),
        "[ -~]{0,12}",
        any::<String>().prop_map(|text| text.chars().take(12).collect()),
    ]
}

fn duration() -> impl Strategy<Value = String> {
    prop_oneof![Just("0s".to_owned()), (0_u64..1 << 50).prop_map(|nanos| format!("{nanos}ns"))]
}

fn network() -> impl Strategy<Value = String> {
    prop_oneof![
        (any::<std::net::Ipv4Addr>(), 0..=32).prop_map(|(ip, length)| format!("{ip}/{length}")),
        (any::<std::net::Ipv6Addr>(), 0..=128).prop_map(|(ip, length)| format!("{ip}/{length}")),
    ]
}

fn address() -> impl Strategy<Value = String> {
    (any::<std::net::IpAddr>(), 1..=u16::MAX)
        .prop_map(|(ip, port)| std::net::SocketAddr::new(ip, port).to_string())
}

prop_compose! {
    /// A file that is valid, as lines of `field: value` with values in JSON.
    fn valid_file()(
        mode in prop::sample::select(vec!["", "iptables", "ipvs", "nftables"]),
        texts in prop::collection::vec(text(), 10),
        networks in prop::collection::vec(network(), 0..4),
        durations in prop::collection::vec(duration(), 9),
        period in 1_u64..1 << 40,
        addresses in prop::collection::vec(address(), 2),
        ip in any::<std::net::IpAddr>(),
        numbers in prop::collection::vec(0..i32::MAX, 4),
        qps in any::<f32>().prop_filter("finite", |qps| qps.is_finite()),
        bit in 0..32,
        score in -1000..=1000,
        switches in prop::collection::vec(any::<bool>(), 12),
        gates in prop::collection::btree_map("[A-Za-z]{1,9}", any::<bool>(), 0..3),
        interface in "[!-~]{1,15}",
        local in prop::sample::select(vec!["", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]),
    ) -> String {
        let section = |sections: serde_json::Value| sections;
        let periods = serde_json::json!({
            "syncPeriod": format!("{}ns", period * 2), "minSyncPeriod": format!("{period}ns"),
            "masqueradeBit": bit, "masqueradeAll": switches[0],
        });
        let mut iptables = periods.clone();
        iptables["localhostNodePorts"] = switches[1].into();
        let v4 = networks.iter().find(|network| network.contains('.'));
        let object = serde_json::json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": mode,
            "featureGates": gates,
            "clientConnection": section(serde_json::json!({
                "kubeconfig": texts[0], "acceptContentTypes": texts[1], "contentType": texts[2],
                "qps": qps, "burst": numbers[0],
            })),
            "hostnameOverride": format!("a{}", texts[3]),
            "bindAddress": ip.to_string(),
            "healthzBindAddress": addresses[0],
            "metricsBindAddress": addresses[1],
            "bindAddressHardFail": switches[2],
            "enableProfiling": switches[3],
            "showHiddenMetricsForVersion": if switches[4] { "1.35" } else { "" },
            "iptables": iptables,
            "nftables": periods,
            "ipvs": {
                "syncPeriod": format!("{}ns", period * 3), "minSyncPeriod": format!("{period}ns"),
                "scheduler": texts[4], "excludeCIDRs": networks, "strictARP": switches[5],
                "tcpTimeout": durations[0], "tcpFinTimeout": durations[1], "udpTimeout": durations[2],
            },
            "winkernel": {
                "networkName": texts[5], "sourceVip": texts[6], "enableDSR": switches[6],
                "rootHnsEndpointName": texts[7], "forwardHealthCheckVip": switches[7],
            },
            "windowsRunAsService": switches[8],
            "detectLocalMode": local,
            "detectLocal": { "bridgeInterface": interface, "interfaceNamePrefix": interface },
            "clusterCIDR": v4.cloned().unwrap_or_default(),
            "nodePortAddresses": networks,
            "acceptForwarded": switches[1],
            "oomScoreAdj": score,
            "conntrack": {
                "maxPerCore": numbers[1], "min": numbers[2], "tcpBeLiberal": switches[9],
                "tcpEstablishedTimeout": durations[3], "tcpCloseWaitTimeout": durations[4],
                "udpTimeout": durations[5], "udpStreamTimeout": durations[6],
            },
            "configSyncPeriod": durations[7],
            "portRange": texts[8],
            "userspace": { "diversion": if switches[10] { "iptables" } else { "" } },
            "announcement": {
                "layer2": switches[0], "keyFile": texts[9], "interfaces": ["eth0", "bond*"],
                "routingTable": if switches[3] { 20_557 } else { 0 },
            },
            "logging": {
                "flushFrequency": durations[8], "verbosity": numbers[3],
                "format": "text",
                "vmodule": [{ "filePattern": interface.replace(['=', ','], "x"), "verbosity": 1 }],
            },
        });
        object.to_string()
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(file in valid_file()) {
        let loaded = portolan_config::load(&Flags::default(), Some((Path::new("c"), &file)));
        let config = loaded.unwrap_or_else(|errors| panic!("{errors:?} in\n{file}")).config;
        prop_assert_eq!(read_back(&config), config);
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = portolan_config::load(&flags(""), Some((Path::new("c"), &text)));
    }

    #[test]
    fn any_value_is_read_or_refused(
        field in prop::sample::select(vec!["mode", "conntrack", "nodePortAddresses", "iptables", "logging",
            "healthzBindAddress", "clusterCIDR", "featureGates", "oomScoreAdj", "ipvs: {excludeCIDRs"]),
        value in "[-0-9a-z:{}\\[\\] ,.'/]{0,20}",
    ) {
        if let Err(errors) = load("", Some(&format!("{field}: {value}"))) {
            for error in errors {
                prop_assert!(error.starts_with("c:"), "{} says where", error);
            }
        }
    }
}
