//! What is reported about fields that are wrong.

use std::fmt::Write;
use std::path::Path;

use portolan_source::manifests::validate;

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n{spec}")
}

/// What is reported about the text of a file.
pub(crate) fn reported(file: &str, text: &str) -> Vec<String> {
    validate(Path::new(file), text).iter().map(ToString::to_string).collect()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn a_wrong_field_is_named_with_file_line_and_remedy() {
    let table: &[(&str, &str, &[&str])] = &[
        ("nothing wrong", "  ports: [{port: 80}]", &[]),
        (
            "port 0",
            "  ports:\n  - name: a\n    port: 0",
            &["web.yaml:7: Service shop/web: spec.ports[0].port: 0 is not in 1-65535"],
        ),
        (
            "port too large",
            "  ports: [{port: 65536}]",
            &["web.yaml:5: Service shop/web: spec.ports[0].port: 65536 is not in 1-65535"],
        ),
        (
            "no ports",
            "  type: ClusterIP",
            &["web.yaml:5: Service shop/web: spec.ports: missing; a Service needs at least one port"],
        ),
        ("headless without ports", "  clusterIP: None", &[]),
        (
            "addresses that no Service can have",
            "  externalIPs:\n  - 127.0.0.1\n  - 203.0.113.1\n  - 169.254.169.254\n  ports: [{port: 80}]\n\
             status: {loadBalancer: {ingress: [{ip: \"::1\"}, {ip: 127.0.0.1, ipMode: Proxy}, {ip: ff02::1}]}}",
            &[
                "web.yaml:6: Service shop/web: spec.externalIPs[0]: 127.0.0.1 is a loopback address, which is no Service's to have, and is not served: remove it",
                "web.yaml:8: Service shop/web: spec.externalIPs[2]: 169.254.169.254 is a link-local address, which is no Service's to have, and is not served: remove it",
                "web.yaml:10: Service shop/web: status.loadBalancer.ingress[0].ip: ::1 is a loopback address, which is no Service's to have, and is not served: remove it",
                "web.yaml:10: Service shop/web: status.loadBalancer.ingress[2].ip: ff02::1 is a link-local multicast address, which is no Service's to have, and is not served: remove it",
            ],
        ),
        (
            "a ClusterIP that no Service can have",
            "  clusterIPs: [10.96.0.1, \"fe80::1\"]\n  ports: [{port: 80}]",
            &[
                "web.yaml:5: Service shop/web: spec.clusterIPs[1]: fe80::1 is a link-local address, which is no Service's to have, and is not served: remove it",
            ],
        ),
        (
            "the unspecified address as ClusterIP",
            "  clusterIP: 0.0.0.0\n  ports: [{port: 80}]",
            &[
                "web.yaml:5: Service shop/web: spec.clusterIP: 0.0.0.0 is the unspecified address, which is no Service's to have, and is not served: remove it",
            ],
        ),
        (
            "port as text",
            "  ports:\n  - port: http",
            &[
                "web.yaml:6: Service shop/web: spec.ports[0].port: invalid type: string \"http\", expected i64",
            ],
        ),
        (
            "port without number",
            "  ports:\n  - name: http",
            &["web.yaml:6: Service shop/web: spec.ports[0]: missing field `port`"],
        ),
        (
            "label that is a number",
            "  ports: [{port: 80}]\n  selector:\n    version: 1",
            &[
                "web.yaml:7: Service shop/web: spec.selector.version: invalid type: integer `1`, expected a string; put it in quotes",
            ],
        ),
        (
            "protocol",
            "  ports: [{port: 80, protocol: tcp}]",
            &["web.yaml:5: Service shop/web: spec.ports[0].protocol: tcp is not one of TCP, UDP, SCTP"],
        ),
        (
            "names missing",
            "  ports: [{port: 80}, {port: 81, name: b}]",
            &[
                "web.yaml:5: Service shop/web: spec.ports[0].name: missing; ports need names when there is more than one",
            ],
        ),
        (
            "name twice",
            "  ports: [{port: 80, name: a}, {port: 81, name: a}]",
            &["web.yaml:5: Service shop/web: spec.ports[1].name: a is the name of two ports; rename one"],
        ),
        (
            "port twice",
            "  ports: [{port: 80, name: a}, {port: 80, name: b}, {port: 80, name: c, protocol: UDP}]",
            &[
                "web.yaml:5: Service shop/web: spec.ports[1].port: 80/tcp is used by two ports of this Service",
            ],
        ),
        (
            "NodePort without the type",
            "  ports: [{port: 80, nodePort: 30000}]",
            &[
                "web.yaml:5: Service shop/web: spec.ports[0].nodePort: 30000 is not possible for type ClusterIP or ExternalName; use type NodePort",
            ],
        ),
        (
            "target port name",
            "  ports: [{port: 80, targetPort: Web_Port}]",
            &[
                "web.yaml:5: Service shop/web: spec.ports[0].targetPort: \"Web_Port\" is not the name of a container port: up to 15 of a-z, 0-9 and -, with a letter",
            ],
        ),
        (
            "type",
            "  type: Nodeport\n  ports: [{port: 80}]",
            &[
                "web.yaml:5: Service shop/web: spec.type: Nodeport is not one of ClusterIP, NodePort, LoadBalancer, ExternalName",
            ],
        ),
        (
            "address",
            "  clusterIP: 10.96.0.300\n  ports: [{port: 80}]",
            &["web.yaml:5: Service shop/web: spec.clusterIP: \"10.96.0.300\" is not an IP address"],
        ),
        ("leading zeros, §1.12", "  clusterIP: 172.30.0.041\n  ports: [{port: 80}]", &[]),
        (
            "two addresses of one family",
            "  clusterIPs: [10.96.0.3, 10.96.0.4]\n  ports: [{port: 80}]",
            &[
                "web.yaml:5: Service shop/web: spec.clusterIPs[1]: 10.96.0.4 is IPv4 like 10.96.0.3; one of each family at most",
            ],
        ),
        (
            "clusterIP and clusterIPs",
            "  clusterIP: 10.96.0.3\n  clusterIPs: [10.96.0.4]\n  ports: [{port: 80}]",
            &[
                "web.yaml:6: Service shop/web: spec.clusterIPs[0]: 10.96.0.4 must be the same as clusterIP, which is 10.96.0.3",
            ],
        ),
        (
            "family of address",
            "  clusterIP: 10.96.0.3\n  ipFamilies: [IPv6]\n  ports: [{port: 80}]",
            &[
                "web.yaml:6: Service shop/web: spec.ipFamilies[0]: IPv6 does not fit ClusterIP 10.96.0.3, which is IPv4",
            ],
        ),
        (
            "external address and range, both reported",
            "  externalIPs:\n  - 1.2.3\n  loadBalancerSourceRanges:\n  - 10.0.0.0/8\n  - 10.0.0.1\n  ports: [{port: 80}]",
            &[
                "web.yaml:6: Service shop/web: spec.externalIPs[0]: \"1.2.3\" is not an IP address",
                "web.yaml:9: Service shop/web: spec.loadBalancerSourceRanges[1]: \"10.0.0.1\" is not a network such as 10.0.0.0/8 or fd00::/64",
            ],
        ),
        (
            "policy",
            "  externalTrafficPolicy: local\n  ports: [{port: 80}]",
            &["web.yaml:5: Service shop/web: spec.externalTrafficPolicy: local is not one of Cluster, Local"],
        ),
        (
            "affinity timeout, §1.17",
            "  sessionAffinity: ClientIP\n  sessionAffinityConfig:\n    clientIP:\n      timeoutSeconds: 86401\n  ports: [{port: 80}]",
            &[
                "web.yaml:8: Service shop/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 is not in 1-86400 seconds",
            ],
        ),
        ("null is unset", "  clusterIP: null\n  selector:\n  ports: [{port: 80, nodePort: ~}]", &[]),
    ];
    for (name, spec, expected) in table {
        assert_eq!(reported("web.yaml", &service(spec)), *expected, "{name}");
    }
}

#[test]
fn what_pods_say_of_names_is_checked() {
    let pod = |spec: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n{spec}");
    let searches = (0..33).map(|number| format!("d{number}")).collect::<Vec<_>>().join(", ");
    let searches = format!("  dnsConfig: {{searches: [{searches}]}}");
    let table: &[(&str, &str, &[&str])] = &[
        (
            "nothing wrong",
            "  hostname: h\n  subdomain: s\n  setHostnameAsFQDN: true\n  hostNetwork: true\n\
             \x20 dnsPolicy: None\n  dnsConfig: {nameservers: [1.1.1.1, \"fd00::1\"], searches: [a.b, ., _x.c.],\n\
             \x20   options: [{name: ndots, value: \"2\"}, {name: edns0}]}\n\
             \x20 hostAliases: [{ip: 1.2.3.4, hostnames: [a, b.c]}]",
            &[],
        ),
        (
            "names that are none",
            "  hostname: a.b\n  subdomain: S",
            &[
                "web.yaml:5: Pod default/web: spec.hostname: \"a.b\" is not a DNS label: up to 63 of a-z, 0-9 and -, not beginning or ending with -",
                "web.yaml:6: Pod default/web: spec.subdomain: \"S\" is not a DNS label: up to 63 of a-z, 0-9 and -, not beginning or ending with -",
            ],
        ),
        (
            "a policy that is none",
            "  dnsPolicy: Cluster",
            &[
                "web.yaml:5: Pod default/web: spec.dnsPolicy: Cluster is not one of ClusterFirst, ClusterFirstWithHostNet, Default, None",
            ],
        ),
        (
            "nobody to ask",
            "  dnsPolicy: None\n  dnsConfig: {searches: [a]}",
            &[
                "web.yaml:6: Pod default/web: spec.dnsConfig.nameservers: empty, but dnsPolicy is None: give at least one, or another dnsPolicy",
            ],
        ),
        (
            "too many name servers, and one that is none",
            "  dnsConfig:\n    nameservers:\n    - 1.1.1.1\n    - dns.example\n    - 1.1.1.2\n    - 1.1.1.3",
            &[
                "web.yaml:7: Pod default/web: spec.dnsConfig.nameservers: 4 of them; resolvers ask 3 at most",
                "web.yaml:8: Pod default/web: spec.dnsConfig.nameservers[1]: \"dns.example\" is not an IP address",
            ],
        ),
        (
            "too many domains",
            &searches,
            &[
                "web.yaml:5: Pod default/web: spec.dnsConfig.searches: 33 domains of 121 characters; at most are 32 of 2048",
            ],
        ),
        (
            "a domain, an option and aliases that are none",
            "  dnsConfig: {searches: [a b], options: [{value: x}]}\n  hostAliases: [{ip: x, hostnames: [a_b]}]",
            &[
                "web.yaml:5: Pod default/web: spec.dnsConfig.searches[0]: \"a b\" is not a DNS name",
                "web.yaml:5: Pod default/web: spec.dnsConfig.options[0].name: missing; give one",
                "web.yaml:6: Pod default/web: spec.hostAliases[0].ip: \"x\" is not an IP address",
                "web.yaml:6: Pod default/web: spec.hostAliases[0].hostnames[0]: \"a_b\" is not a DNS name",
            ],
        ),
        (
            "a name beside what it replaces",
            "  hostnameOverride: a.b\n  hostNetwork: true",
            &[
                "web.yaml:5: Pod default/web: spec.hostnameOverride: cannot be given beside hostNetwork; take one of the two out",
            ],
        ),
        (
            "a type",
            "  setHostnameAsFQDN: \"yes\"",
            &[
                "web.yaml:5: Pod default/web: spec.setHostnameAsFQDN: invalid type: string \"yes\", expected a boolean",
            ],
        ),
    ];
    for (name, spec, expected) in table {
        assert_eq!(reported("web.yaml", &pod(spec)), *expected, "{name}");
    }
}

#[test]
fn of_one_object_a_few_problems_are_listed() {
    let mut ports = String::from("  ports:\n");
    for i in 0..5000 {
        writeln!(ports, "  - {{name: p{i}, port: 0}}").unwrap();
    }
    let reported = reported("web.yaml", &service(&ports));
    assert_eq!(reported.len(), 21);
    assert_eq!(reported[20], "web.yaml:1: Service shop/web: 4980 more problems, which are not listed");
}
