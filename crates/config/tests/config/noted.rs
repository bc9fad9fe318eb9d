//! What is accepted, and noted for the operator (spec §0.4, §10A).

use crate::loading::{load, notes};

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn files_that_are_accepted_with_a_word() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "nothing to say",
            "iptables: {masqueradeBit: 14, localhostNodePorts: true}\nconfigSyncPeriod: 15m",
            &[],
        ),
        (
            "§10.2: unknown fields",
            "Mode: ipvs\niptables:\n  masqueradebit: 3\n  foo: {}\nlogging: {vmodule: [{filePattern: a, verbosity: 1, x: 1}]}\n",
            &[
                "c:8: logging.vmodule[0].x: unknown field, ignored",
                "c:7: iptables.foo: unknown field, ignored",
                "c:6: iptables.masqueradebit: unknown field, ignored; is masqueradeBit meant?",
                "c:4: Mode: unknown field, ignored; is mode meant?",
                "c:8: logging.vmodule: no effect: there are no Go files here; logging.verbosity is for all",
            ],
        ),
        (
            "a slip in the name of a field",
            "acceptForwardd: true",
            &["c:4: acceptForwardd: unknown field, ignored; is acceptForwarded meant?"],
        ),
        (
            "§10.2: fields given twice",
            "oomScoreAdj: 1\noomScoreAdj: -999\nconntrack:\n  min: 1\n  min: 131072\n",
            &[
                "c:5: oomScoreAdj: is given twice; this one counts, not the one on line 4",
                "c:8: conntrack.min: is given twice; this one counts, not the one on line 7",
            ],
        ),
        (
            "more than one document",
            "---\nmode: iptables\n",
            &["c:5: only the first document of the file is read; the rest is ignored"],
        ),
        (
            "no marks",
            "iptables: {masqueradeBit: 15, localhostNodePorts: false}\nnftables: {masqueradeBit: 16}",
            &[
                "c:5: nftables.masqueradeBit: no effect: nftables mode uses no packet marks",
                "c:4: iptables.masqueradeBit: no effect: nftables mode uses no packet marks",
                "c:4: iptables.localhostNodePorts: it is for iptables mode: in nftables mode, NodePorts answer on \
                 loopback addresses where nodePortAddresses names them",
            ],
        ),
        (
            "sections of other modes",
            "iptables: {syncPeriod: 1m, minSyncPeriod: 2s, masqueradeAll: true}\nipvs: {scheduler: lc, strictARP: true}",
            &[
                "c:4: iptables.syncPeriod: no effect: it is for iptables mode, and this is nftables",
                "c:4: iptables.minSyncPeriod: no effect: it is for iptables mode, and this is nftables",
                "c:4: iptables.masqueradeAll: no effect: it is for iptables mode, and this is nftables",
                "c:5: ipvs.scheduler: no effect: it is for ipvs mode, and this is nftables",
                "c:5: ipvs.strictARP: no effect: it is for ipvs mode, and this is nftables",
            ],
        ),
        (
            "values of other ways to recognise pods",
            "detectLocalMode: NodeCIDR\nclusterCIDR: 10.0.0.0/8\ndetectLocal: {bridgeInterface: b}",
            &[
                "c:5: clusterCIDR: no effect: it is for detectLocalMode ClusterCIDR, which is NodeCIDR",
                "c:6: detectLocal.bridgeInterface: no effect: it is for detectLocalMode BridgeInterface, which is NodeCIDR",
            ],
        ),
        (
            "what is not here",
            "clientConnection: {contentType: application/cbor}\nenableProfiling: true\nconfigSyncPeriod: 1m\nportRange: 1-2\n\
             winkernel: {enableDSR: true}\nwindowsRunAsService: true\nshowHiddenMetricsForVersion: '1.35'\nlogging: \
             {flushFrequency: 1s}\nuserspace: {diversion: iptables}",
            &[
                "c:4: clientConnection.contentType: no effect: objects are read as JSON",
                "c:5: enableProfiling: no effect: there are no Go profiles here; use perf",
                "c:10: showHiddenMetricsForVersion: no effect: no metric is hidden",
                "c:6: configSyncPeriod: no effect: objects are followed by watches that are renewed when they go quiet",
                "c:8: winkernel.enableDSR: no effect: it is for Windows",
                "c:9: windowsRunAsService: no effect: it is for Windows",
                "c:7: portRange: no effect: it is for userspace mode, and this is nftables",
                "c:12: userspace.diversion: no effect: it is for userspace mode, and this is nftables",
                "c:11: logging.flushFrequency: no effect: each log line is written to stderr at once",
            ],
        ),
        (
            "settings of announcements that are off",
            "announcement: {keyFile: /key, interfaces: [eth0]}",
            &[
                "c:4: announcement.keyFile: no effect: announcement.layer2 is not true",
                "c:4: announcement.interfaces: no effect: announcement.layer2 is not true",
            ],
        ),
        ("NodePorts on loopback addresses", "nodePortAddresses: [primary, localhost]", &[]),
        (
            "NodePorts on loopback addresses, switched off",
            "nodePortAddresses: [primary, localhost]\nfeatureGates: {KubeProxyNFTablesLocalhostNodePorts: false}",
            &[
                "c:4: nodePortAddresses: no effect on loopback addresses: feature gate KubeProxyNFTablesLocalhostNodePorts is off",
            ],
        ),
        (
            "gates of 1.37",
            "featureGates: {NFTablesNetlink: false, KubeProxyIPVS: true}",
            &[
                "c:4: featureGates.KubeProxyIPVS: KubeProxyIPVS is deprecated: it will go with its feature in a later \
                 release of Kubernetes",
                "c:4: featureGates.NFTablesNetlink: no effect: rules are always written over netlink, and the program \
                 nft is not needed",
            ],
        ),
        (
            "§0.4: unknown gates",
            "featureGates:\n  Sidecars: true\n  AllAlpha: false\n  PreferSameTrafficDistribution: true",
            &["c:5: featureGates.Sidecars: feature gate Sidecars is not known here and has no effect"],
        ),
    ];
    for (name, lines, expected) in cases {
        let lines = format!("mode: nftables\n{lines}");
        let loaded = load("", Some(&lines)).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        assert_eq!(notes(&loaded), *expected, "{name}");
    }
}

#[test]
fn flags_that_are_accepted_with_a_word() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "nothing to say",
            "--proxy-mode=nftables --oom-score-adj=5 --iptables-sync-period=1m --masquerade-all",
            &[],
        ),
        (
            "the default mode",
            "",
            &[
                "mode: not set, so nftables is used; kube-proxy would use iptables. Set it to one of the two to be sure of \
             it",
            ],
        ),
        (
            "flags of other modes",
            "--proxy-mode=ipvs --iptables-sync-period=1m --masquerade-all",
            &["--iptables-sync-period: no effect: it is for iptables mode, and this is ipvs"],
        ),
        (
            "and of ipvs",
            "--proxy-mode=iptables --ipvs-scheduler=lc --ipvs-udp-timeout=1s --nodeport-addresses=primary",
            &[
                "--ipvs-scheduler: no effect: it is for ipvs mode, and this is iptables",
                "--ipvs-udp-timeout: no effect: it is for ipvs mode, and this is iptables",
            ],
        ),
        (
            "§10.9: ports of their own have no effect",
            "--proxy-mode=nftables --healthz-port=81 --metrics-port=10249",
            &[
                "--healthz-port: deprecated, and without effect on an address with a port; use --healthz-bind-address",
            ],
        ),
        (
            "files that nothing depends on",
            "--proxy-mode=nftables --boot-id-file=/b --machine-id-file=/etc/machine-id,/var/lib/dbus/machine-id",
            &["--boot-id-file: no effect: nothing here depends on it"],
        ),
    ];
    for (name, words, expected) in cases {
        let loaded = load(words, None).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        assert_eq!(notes(&loaded), *expected, "{name}");
    }
}
