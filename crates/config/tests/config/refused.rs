//! What is refused, and how that is said (spec §10.2, §10C).

use std::path::Path;

use crate::loading::{flags, load};

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn files_that_are_refused() {
    // Lines of the file count from the third, behind apiVersion and kind.
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "§10.12: modes",
            "mode: user-space",
            &["c:3: mode: \"user-space\" is not one of nftables, iptables, ipvs, userspace"],
        ),
        (
            "§10.12: modes of Windows",
            "mode: kernelspace",
            &["c:3: mode: kernelspace is for Windows; use nftables, iptables or ipvs"],
        ),
        (
            "§10.12: others",
            "mode: IPVS",
            &["c:3: mode: \"IPVS\" is not one of nftables, iptables, ipvs, userspace"],
        ),
        (
            "§10.13: detectLocalMode",
            "detectLocalMode: clusterCIDR",
            &["c:3: detectLocalMode: \"clusterCIDR\" is not one of ClusterCIDR, NodeCIDR, BridgeInterface, \
             InterfaceNamePrefix"],
        ),
        (
            "pools of load-balancer addresses",
            "loadBalancer:\n  pools:\n  - addresses: []\n  - {name: a, addresses: [192.0.2.0/33]}\n  - name: a\n    \
             addresses: [192.0.2.0/24]\n  - name: b\n    addresses: [192.0.2.9]\n    serviceAllocation:\n      \
             priority: -1\n      serviceSelectors: [{matchExpressions: [{key: k, operator: Is}]}]",
            &[
                "c:5: loadBalancer.pools[0]: name is missing; Services ask for a pool by it",
                "c:5: loadBalancer.pools[0].addresses: missing; give networks or ranges such as 192.0.2.240/28",
                "c:6: loadBalancer.pools[1].addresses[0]: \"192.0.2.0/33\" is not a range of addresses such as \
                 192.0.2.240/28, 192.0.2.10-192.0.2.19 or 2001:db8::/64",
                "c:7: loadBalancer.pools[2].name: \"a\" is the name of two pools; rename one",
                "c:12: loadBalancer.pools[3].serviceAllocation.priority: -1 is below 0",
                "c:13: loadBalancer.pools[3].serviceAllocation.serviceSelectors[0].matchExpressions[0].operator: \
                 \"Is\" is not one of In, NotIn, Exists, DoesNotExist",
                "c:10: loadBalancer.pools[3].addresses: pool b has addresses that pool a has; leave them out of one",
            ],
        ),
        (
            "§10.13: no bridge",
            "detectLocalMode: BridgeInterface",
            &["c:1: detectLocal.bridgeInterface: missing; detectLocalMode BridgeInterface needs it"],
        ),
        (
            "§10.13: no prefix",
            "detectLocalMode: InterfaceNamePrefix\ndetectLocal:\n  interfaceNamePrefix: ''",
            &["c:5: detectLocal.interfaceNamePrefix: missing; detectLocalMode InterfaceNamePrefix needs it"],
        ),
        (
            "§10.13: no network",
            "clusterCIDR: 10.0.0.1",
            &["c:3: clusterCIDR: \"10.0.0.1\" is not a network such as 192.0.2.0/24"],
        ),
        (
            "§10.13: two of one family",
            "clusterCIDR: 10.0.0.0/8,11.0.0.0/8",
            &["c:3: clusterCIDR: 10.0.0.0/8,11.0.0.0/8: give at most one IPv4 and one IPv6 network"],
        ),
        (
            "§10.14: negative",
            "mode: nftables\nnftables: {syncPeriod: -1s, minSyncPeriod: -2s}",
            &[
                "c:4: nftables.syncPeriod: -1s is not more than 0s",
                "c:4: nftables.minSyncPeriod: -2s is less than 0s",
            ],
        ),
        (
            "§10.14: least more than period",
            "mode: ipvs\nipvs: {syncPeriod: 1s, minSyncPeriod: 2s}",
            &["c:4: ipvs.minSyncPeriod: 2s is more than ipvs.syncPeriod, which is 1s"],
        ),
        (
            "§10.14: least more than the default period",
            "mode: iptables\niptables: {minSyncPeriod: 31s}",
            &["c:4: iptables.minSyncPeriod: 31s is more than iptables.syncPeriod, which is 30s"],
        ),
        (
            "§10.14: configSyncPeriod",
            "configSyncPeriod: -1s",
            &["c:3: configSyncPeriod: -1s is not more than 0s"],
        ),
        (
            "§10.15: addresses",
            "bindAddress: localhost\nhealthzBindAddress: localhost:80\nmetricsBindAddress: ':10249'",
            &[
                "c:3: bindAddress: \"localhost\" is not an IP address",
                "c:4: healthzBindAddress: \"localhost:80\" is not an IP address and a port, such as 0.0.0.0:10256",
                "c:5: metricsBindAddress: \":10249\" is not an IP address and a port, such as 127.0.0.1:10249",
            ],
        ),
        (
            "§10.15: ports",
            "healthzBindAddress: 0.0.0.0:0\nmetricsBindAddress: '[::]:65536'",
            &[
                "c:3: healthzBindAddress: \"0.0.0.0:0\": port 0 is not in 1-65535",
                "c:4: metricsBindAddress: \"[::]:65536\" is not an IP address and a port, such as 127.0.0.1:10249",
            ],
        ),
        (
            "§10.16: words",
            "nodePortAddresses:\n- primary\n- Localhost",
            &[
                "c:5: nodePortAddresses[1]: \"Localhost\" is not a network such as 192.0.2.0/24, or one of primary, \
               localhost, all",
            ],
        ),
        (
            "§10.16: networks",
            "nodePortAddresses: [10.0.0.0/8, 10.0.0.1]",
            &[
                "c:3: nodePortAddresses[1]: \"10.0.0.1\" is not a network such as 192.0.2.0/24, or one of primary, \
                 localhost, all",
            ],
        ),
        (
            "§10.17: the bit of iptables in any mode",
            "mode: nftables\niptables: {masqueradeBit: 32}",
            &["c:4: iptables.masqueradeBit: 32 is not in 0-31"],
        ),
        (
            "§10.17: that of nftables in its mode",
            "mode: nftables\nnftables: {masqueradeBit: -1}",
            &["c:4: nftables.masqueradeBit: -1 is not in 0-31"],
        ),
        (
            "§10.17: ipvs",
            "mode: ipvs\nipvs: {tcpTimeout: -1s, excludeCIDRs: [x]}",
            &[
                "c:4: ipvs.tcpTimeout: -1s is less than 0s",
                "c:4: ipvs.excludeCIDRs[0]: \"x\" is not a network such as 192.0.2.0/24",
            ],
        ),
        (
            "§10.18: ranges",
            "conntrack:\n  maxPerCore: -1\n  min: -2\n  udpTimeout: -3s\noomScoreAdj: 1001\nclientConnection: {burst: -1}",
            &[
                "c:8: clientConnection.burst: -1 is less than 0",
                "c:7: oomScoreAdj: 1001 is not in -1000 to 1000",
                "c:4: conntrack.maxPerCore: -1 is less than 0",
                "c:5: conntrack.min: -2 is less than 0",
                "c:6: conntrack.udpTimeout: -3s is less than 0s",
            ],
        ),
        (
            "§0.4: locked gates",
            "featureGates:\n  NFTablesProxyMode: false",
            &[
                "c:4: featureGates.NFTablesProxyMode: NFTablesProxyMode can only be true since its feature is general; \
             remove it",
            ],
        ),
        (
            "§10.18: hidden metrics",
            "showHiddenMetricsForVersion: '1.34'",
            &["c:3: showHiddenMetricsForVersion: \"1.34\" is not the previous minor version, 1.35"],
        ),
        (
            "§10.18: logging",
            "logging:\n  format: xml\n  verbosity: -1\n  vmodule: [{filePattern: 'a=b', verbosity: 1}]\n  options: {text: \
             {splitStream: true}}",
            &[
                "c:4: logging.format: \"xml\" is not one of text, json",
                "c:5: logging.verbosity: -1 is not in 0-2147483647",
                "c:6: logging.vmodule[0].filePattern: \"a=b\" is not a file's name without = and ,",
                "c:7: logging.options.text.splitStream: is an alpha option: it needs the feature gate \
                 LoggingAlphaOptions",
            ],
        ),
        (
            "§10.18: gates of logging",
            "logging: {format: json}\nfeatureGates: {LoggingBetaOptions: false}",
            &["c:3: logging.format: json needs the feature gate LoggingBetaOptions"],
        ),
        (
            "a name of white space",
            "hostnameOverride: ' '",
            &["c:3: hostnameOverride: only white space; give a name, or nothing for the host's name"],
        ),
        (
            "types",
            "mode: 5\nbindAddressHardFail: 'true'\niptables: 7\nconntrack: {min: many, udpTimeout: 5}\nnodePortAddresses: \
             10.0.0.0/8\noomScoreAdj: 1.5\nfeatureGates: {A: 1}\nlogging: {vmodule: [x], options: []}",
            &[
                "c:9: featureGates.A: found the number 1, expected true or false",
                "c:10: logging.options: found a list, expected a mapping of fields",
                "c:10: logging.vmodule[0]: found \"x\", expected a mapping of fields",
                "c:4: bindAddressHardFail: found \"true\", expected true or false",
                "c:3: mode: found the number 5, expected text; put it in quotes",
                "c:5: iptables: found the number 7, expected a mapping of fields",
                "c:7: nodePortAddresses: found \"10.0.0.0/8\", expected a list of texts",
                "c:8: oomScoreAdj: found the number 1.5, expected a whole number from -2147483648 to 2147483647",
                "c:6: conntrack.min: found \"many\", expected a whole number from -2147483648 to 2147483647",
                "c:6: conntrack.udpTimeout: found the number 5, expected a duration such as 30s, 1h15m or 300ms; add a \
                 unit",
            ],
        ),
        (
            "durations",
            "configSyncPeriod: 5\nnftables: {syncPeriod: ''}",
            &[
                "c:4: nftables.syncPeriod: found \"\", expected a duration such as 30s, 1h15m or 300ms",
                "c:3: configSyncPeriod: found the number 5, expected a duration such as 30s, 1h15m or 300ms; add a unit",
            ],
        ),
    ];
    for (name, lines, expected) in cases {
        assert_eq!(load("", Some(lines)).map(|_| ()).unwrap_err(), *expected, "{name}");
    }
}

#[test]
fn files_that_are_something_else() {
    let cases = [
        (
            "nothing",
            "# nothing\n",
            &[
                "c:1: nothing in it; expected an object with apiVersion: kubeproxy.config.k8s.io/v1alpha1 and kind: \
             KubeProxyConfiguration",
            ][..],
        ),
        (
            "a list",
            "\n- a\n",
            &["c:2: found a list; expected an object with apiVersion: \
                               kubeproxy.config.k8s.io/v1alpha1 and kind: KubeProxyConfiguration"],
        ),
        ("§10.2: syntax", "mode: [a\nb: c\n", &["c:2: not valid YAML: illegal placement of ':' indicator"]),
        (
            "§10.2: neither version nor kind",
            "mode: ipvs",
            &[
                "c:1: apiVersion: is missing; it must be kubeproxy.config.k8s.io/v1alpha1",
                "c:1: kind: is missing; it must be KubeProxyConfiguration",
            ],
        ),
        (
            "§10.2: others",
            "mode: x\nkind: KubeletConfiguration\napiVersion: kubeproxy.config.k8s.io/v1\n",
            &[
                "c:3: apiVersion: \"kubeproxy.config.k8s.io/v1\" is not known here; it must be \
             kubeproxy.config.k8s.io/v1alpha1",
                "c:2: kind: \"KubeletConfiguration\" is not known here; it must be KubeProxyConfiguration",
            ],
        ),
        (
            "the next version",
            "apiVersion: kubeproxy.config.k8s.io/v1alpha2\nkind: KubeProxyConfiguration\nlinux: {}\n",
            &[
                "c:1: apiVersion: kubeproxy.config.k8s.io/v1alpha2 is not read by this version, as its fields are \
               arranged otherwise; write the file as kubeproxy.config.k8s.io/v1alpha1, which kube-proxy reads too",
            ],
        ),
    ];
    for (name, text, expected) in cases {
        let errors = portolan_config::load(&flags(""), Some((Path::new("c"), text))).unwrap_err();
        // Beside what the file is, its content is of no account.
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, *expected, "{name}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn flags_that_are_refused() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "all are named together",
            "--proxy-mode=x --iptables-masquerade-bit=32 --oom-score-adj=-1001",
            &[
                "--proxy-mode: \"x\" is not one of nftables, iptables, ipvs, userspace",
                "--iptables-masquerade-bit: 32 is not in 0-31",
                "--oom-score-adj: -1001 is not in -1000 to 1000",
            ],
        ),
        (
            "§10.14: zero is not unset",
            "--iptables-sync-period=0 --config-sync-period=0s",
            &[
                "--iptables-sync-period: 0s is not more than 0s",
                "--config-sync-period: 0s is not more than 0s",
            ],
        ),
        (
            "§10.14: ipvs",
            "--proxy-mode=ipvs --ipvs-sync-period=-1s",
            &["--ipvs-sync-period: -1s is not more than 0s"],
        ),
        (
            "§10.9: metrics cannot be switched off",
            "--metrics-port=0",
            &["--metrics-port: 0: the metrics server cannot be switched off; bind it to loopback to hide it"],
        ),
        (
            "ports",
            "--healthz-bind-address=::1 --healthz-port=65536",
            &["--healthz-port: 65536 is not in 1-65535"],
        ),
        (
            "addresses",
            "--metrics-bind-address=a:1 --bind-address=1.2.3",
            &[
                "--bind-address: \"1.2.3\" is not an IP address",
                "--metrics-bind-address: \"a:1\" is not an IP address and a port, such as 127.0.0.1:10249",
            ],
        ),
        (
            "missing brackets, of a text that is an address too",
            "--metrics-bind-address=::1:80 --healthz-bind-address=2001:db8:1:2:3:4:5:6:10256",
            &[
                "--healthz-bind-address: \"2001:db8:1:2:3:4:5:6:10256\": an IPv6 address with a port needs brackets; \
                 write [2001:db8:1:2:3:4:5:6]:10256",
                "--metrics-bind-address: \"::1:80\": an IPv6 address with a port needs brackets; write [::1]:80, or \
                 [::1:80]:10249 if this is an address without a port",
            ],
        ),
        (
            "lists",
            "--nodeport-addresses=10.0.0.0/8 --nodeport-addresses=primary,x",
            &[
                "--nodeport-addresses: \"x\" is not a network such as 192.0.2.0/24, or one of primary, localhost, all",
            ],
        ),
        (
            "§10.13: a name that is missing",
            "--detect-local-mode=BridgeInterface",
            &["detectLocal.bridgeInterface: missing; detectLocalMode BridgeInterface needs it"],
        ),
        (
            "a name that no interface has",
            "--detect-local-mode=InterfaceNamePrefix --pod-interface-name-prefix=0123456789abcdef",
            &[
                "--pod-interface-name-prefix: \"0123456789abcdef\" is longer than the 15 bytes of an interface's name",
            ],
        ),
        (
            "gates",
            "--feature-gates=A,B=maybe,PreferSameTrafficDistribution=false",
            &[
                "--feature-gates: \"A\" is not the name of a gate with =true or =false",
                "--feature-gates: \"B=maybe\" is not the name of a gate with =true or =false",
                "--feature-gates: PreferSameTrafficDistribution can only be true since its feature is general; remove it",
            ],
        ),
        (
            "logging",
            "--vmodule=x --log-json-info-buffer-size=1Q -v=-1",
            &[
                "--vmodule: \"x\" is not a pattern and a level, such as file=4",
                "--v: -1 is not in 0-2147483647",
                "--log-json-info-buffer-size: \"1Q\" is not a number of bytes such as 65536 or 64Ki",
            ],
        ),
        (
            "numbers",
            "--kube-api-qps=NaN --kube-api-burst=-1",
            &[
                "--kube-api-qps: NaN is not a number of requests a second",
                "--kube-api-burst: -1 is less than 0",
            ],
        ),
        (
            "what userspace mode cannot do",
            "--proxy-mode=userspace --udp-timeout=0s --proxy-port-range=9-8 --userspace-diversion=ipvs",
            &[
                "--userspace-diversion: \"ipvs\" is not one of nftables, iptables",
                "--proxy-port-range: \"9-8\" ends before it begins; give the lower port first",
                "--udp-timeout: 0s is not more than 0s",
            ],
        ),
        (
            "what cannot be announced on",
            "--announce-layer2 --announcement-interfaces=eth0,*eth,a/b --announcement-routing-table=254",
            &[
                "--announcement-interfaces: \"*eth\" is not the name of an interface, or its beginning and a *, such as \
                 eth0 or eth*",
                "--announcement-interfaces: \"a/b\" is not the name of an interface, or its beginning and a *, such as \
                 eth0 or eth*",
                "--announcement-routing-table: 254 is not in 1-4294967295, or packets are routed by it: 253, 254, 255, 20556",
            ],
        ),
        (
            "pools of load-balancer addresses",
            "--load-balancer-pool=192.0.2.0/24,x --load-balancer-pool=lan=192.0.2.9",
            &[
                "--load-balancer-pool: \"x\" is not a range of addresses such as 192.0.2.240/28, \
                 192.0.2.10-192.0.2.19 or 2001:db8::/64",
                "--load-balancer-pool: pool lan has addresses that pool default has; leave them out of one",
            ],
        ),
        (
            "what is for userspace mode, in another one",
            "--proxy-mode=iptables --userspace-diversion=iptables",
            &[
                "--userspace-diversion: is for userspace mode alone; take it out, or set --proxy-mode=userspace",
            ],
        ),
        (
            "§10.11: removed flags",
            "--log-dir /var/log --udp-timeout=5s --proxy-port-range=1-2 --cleanup-ipvs --logtostderr=true",
            &[
                "--udp-timeout: was removed from kube-proxy: it is for userspace mode alone; --conntrack-udp-timeout sets \
                 the timeout of connection tracking; take it out, or set --proxy-mode=userspace",
                "--proxy-port-range: was removed from kube-proxy: it is for userspace mode alone; take it out, or set \
                 --proxy-mode=userspace",
                "--cleanup-ipvs: was removed from kube-proxy: --cleanup removes the rules of all modes; take it out",
                "--logtostderr: was removed from kube-proxy: log lines go to standard error, which the container runtime \
                 or systemd keeps; take it out",
                "--log-dir: was removed from kube-proxy: log lines go to standard error, which the container runtime or \
                 systemd keeps; take it out",
            ],
        ),
    ];
    for (name, words, expected) in cases {
        assert_eq!(load(words, None).map(|_| ()).unwrap_err(), *expected, "{name}");
    }
    let both = load("--cleanup-ipvs --v=-1", Some("mode: x")).map(|_| ()).unwrap_err();
    assert_eq!(
        both,
        [
            "--cleanup-ipvs: was removed from kube-proxy: --cleanup removes the rules of all modes; take it out",
            "c:3: mode: \"x\" is not one of nftables, iptables, ipvs, userspace",
            "--v: -1 is not in 0-2147483647",
        ],
        "flags and file together"
    );
}
