use portolan_service::ProxyProtocol;
use serde_json::{Value, json};

use super::*;
use crate::decode::{self, Object};
use crate::resource::Resource;

fn decoded(resource: Resource, mut object: Value, check: impl FnOnce(&Object<'_>)) {
    object["metadata"]["name"] = json!("b");
    if matches!(resource, Resource::Services | Resource::EndpointSlices) {
        object["metadata"]["namespace"] = json!("a");
    }
    let text = object.to_string();
    let object = decode::object(resource, text.as_bytes()).expect("a decodable object");
    check(&object);
    // What the snapshot keeps says the same.
    let kept = object.to_json();
    assert_eq!(decode::object(resource, &kept).expect("a kept object"), object, "{text}");
}

fn service_of(spec: &Value, status: &Value) -> Service {
    let mut service = None;
    decoded(Resource::Services, json!({"metadata": {}, "spec": spec, "status": status}), |object| {
        let Object::Service(wire) = object else { panic!("not a Service") };
        service = Some(super::service(object.name(), wire, &mut Names::default()));
    });
    service.expect("a Service")
}

fn slice_of(slice: Value) -> Option<EndpointSlice> {
    let mut result = None;
    decoded(Resource::EndpointSlices, slice, |object| {
        let Object::EndpointSlice(wire) = object else { panic!("not a slice") };
        result = super::slice(object.name(), wire, &mut Names::default());
    });
    result
}

fn node_of(node: Value) -> Node {
    let mut result = None;
    decoded(Resource::Nodes, node, |object| {
        let Object::Node(wire) = object else { panic!("not a Node") };
        result = Some(super::node(wire));
    });
    result.expect("a Node")
}

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|text| text.parse().expect("an address")).collect()
}

#[test]
fn cluster_ips_go_with_their_families() {
    type Row = (&'static str, Value, Option<&'static str>, &'static [&'static str], &'static [Family]);
    let table: [Row; 9] = [
        ("none", json!({}), None, &[], &[]),
        ("headless, §1.10", json!({"clusterIP": "None", "clusterIPs": ["None"]}), None, &[], &[]),
        ("no families, §1.11", json!({"clusterIP": "10.0.0.1"}), Some("10.0.0.1"), &[], &[]),
        ("leading zeros, §1.12", json!({"clusterIP": "172.30.0.041"}), Some("172.30.0.41"), &[], &[]),
        (
            "dual stack",
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}),
            Some("10.0.0.1"),
            &["10.0.0.1", "fd00::1"],
            &[Family::V4, Family::V6],
        ),
        (
            "the second family has no address yet",
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4", "IPv6"]}),
            Some("10.0.0.1"),
            &["10.0.0.1"],
            &[Family::V4],
        ),
        (
            "an unusable first address leaves the second in its place",
            json!({"clusterIP": "x", "clusterIPs": ["x", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]}),
            None,
            &["fd00::1"],
            &[Family::V6],
        ),
        (
            "families without any address",
            json!({"clusterIP": "10.0.0.1", "clusterIPs": [], "ipFamilies": ["IPv6"]}),
            None,
            &[],
            &[],
        ),
        ("null", json!({"clusterIP": null, "clusterIPs": null, "ipFamilies": null}), None, &[], &[]),
    ];
    for (name, spec, ip, all, families) in table {
        let service = service_of(&spec, &json!({}));
        assert_eq!(service.cluster_ip, ip.map(|ip| ip.parse().unwrap()), "{name}");
        assert_eq!(service.cluster_ips, ips(all), "{name}");
        assert_eq!(service.ip_families, families, "{name}");
    }
}

#[test]
fn unusable_parts_of_a_service_are_left_out() {
    let service = service_of(
        &json!({
            "type": "LoadBalancer", "clusterIP": "10.0.0.1",
            "externalIPs": ["192.0.2.010", "", " ", "nonsense", "2001:db8::1"],
            "loadBalancerSourceRanges": [" 10.0.00.0/8 ", "10.0.0.0", "0.0.0.0/0", "fd00::/8"],
            "ports": [
                {"name": "a", "port": 80}, {"port": 81, "protocol": "UDP", "nodePort": 30081},
                {"port": 0}, {"port": 70000}, {"port": 82, "protocol": "GRE"}, {"port": 83, "nodePort": 99999},
            ],
            "healthCheckNodePort": 0,
        }),
        &json!({"loadBalancer": {"ingress": [
            {"ip": "203.0.113.1"}, {"ip": "203.0.113.2", "ipMode": "VIP"}, {"ip": "203.0.113.3", "ipMode": "Proxy"},
            {"hostname": "lb.example"}, {"ip": ""},
        ]}}),
    );
    assert_eq!(service.external_ips, ips(&["192.0.2.10", "2001:db8::1"]), "§1.12");
    let ranges: Vec<String> = service.source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(ranges, ["10.0.0.0/8", "0.0.0.0/0", "fd00::/8"], "§1.14");
    let ports: Vec<_> = service.ports.iter().map(|port| (port.protocol, port.port, port.node_port)).collect();
    let expected = [(Protocol::Tcp, 80, None), (Protocol::Udp, 81, Some(30081)), (Protocol::Tcp, 83, None)];
    assert_eq!(ports, expected, "§1.8");
    let ingress: Vec<_> = service.load_balancer.iter().map(|ingress| (ingress.ip, ingress.mode)).collect();
    let modes = [IngressMode::Vip, IngressMode::Vip, IngressMode::Proxy];
    let expected = ips(&["203.0.113.1", "203.0.113.2", "203.0.113.3"]);
    assert_eq!(ingress, expected.into_iter().zip(modes).collect::<Vec<_>>(), "§1.13");
    assert_eq!(service.health_check_node_port, portolan_service::HealthCheckPort::Unset, "§1.16");
}

#[test]
fn words_of_a_service_have_their_meaning_and_their_defaults() {
    let of = |spec: Value| service_of(&spec, &json!(null));
    for (word, kind) in [
        (json!("ClusterIP"), ServiceType::ClusterIp),
        (json!("NodePort"), ServiceType::NodePort),
        (json!("LoadBalancer"), ServiceType::LoadBalancer),
        (json!("ExternalName"), ServiceType::ExternalName),
        (json!(null), ServiceType::ClusterIp),
    ] {
        assert_eq!(of(json!({"type": word})).kind, kind, "{word}");
    }
    for (name, config, expected) in [
        ("given", json!({"clientIP": {"timeoutSeconds": 60}}), Some(60)),
        ("missing, §1.17", json!(null), Some(10_800)),
        ("null", json!({"clientIP": {"timeoutSeconds": null}}), Some(10_800)),
        ("null further out", json!({"clientIP": null}), Some(10_800)),
        ("too small", json!({"clientIP": {"timeoutSeconds": 0}}), Some(1)),
        ("too large", json!({"clientIP": {"timeoutSeconds": 1_000_000}}), Some(86_400)),
    ] {
        let service = of(json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}));
        assert_eq!(service.affinity, expected, "{name}");
    }
    assert_eq!(of(json!({"sessionAffinity": "None"})).affinity, None);
    let local = of(json!({"internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local"}));
    assert_eq!(local.internal_policy, InternalPolicy::Local);
    assert_eq!(local.external_policy, ExternalPolicy::Local);
    let unset = of(json!({"internalTrafficPolicy": null}));
    assert_eq!(unset.internal_policy, InternalPolicy::Cluster, "§1.15");
    assert_eq!(unset.external_policy, ExternalPolicy::Cluster);
}

fn slice_with(part: &str, value: Value) -> Value {
    let mut slice = json!({
        "metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "endpoints": [{"addresses": ["10.1.0.1"]}],
    });
    slice[part] = value;
    slice
}

#[test]
fn slices_that_are_for_nobody_are_left_out() {
    let service = |labels: Value| slice_with("metadata", json!({"labels": labels}));
    assert_eq!(slice_of(service(json!({}))), None, "no label, §1.20");
    assert_eq!(slice_of(service(json!(null))), None, "null labels");
    assert_eq!(slice_of(service(json!({"kubernetes.io/service-name": ""}))), None, "empty label, §1.20");
    assert_eq!(slice_of(service(json!({"kubernetes.io/service-name": "a/b"}))), None, "not a name");
    for kind in ["FQDN", "", "MAC"] {
        assert_eq!(slice_of(slice_with("addressType", json!(kind))), None, "addressType {kind:?}, §1.21");
    }
    let slice = slice_of(slice_with("ports", json!(null))).expect("a slice");
    assert_eq!((slice.service.as_str(), slice.ports.len(), slice.endpoints.len()), ("a/web", 0, 1));
}

#[test]
fn ports_of_slices_need_a_name() {
    let slice = slice_of(slice_with(
        "ports",
        json!([
            {"name": "", "port": 80}, {"port": 81}, {"name": null, "port": 82}, {"name": "x"}, {"name": "y", "port": null},
            {"name": "z", "port": 0}, {"name": "udp", "port": 53, "protocol": "UDP"},
        ]),
    ));
    let ports = slice.expect("a slice").ports;
    let ports: Vec<_> = ports.iter().map(|port| (&*port.name, port.protocol, port.port)).collect();
    let all = |name| (name, Protocol::Tcp, None);
    let expected =
        [("", Protocol::Tcp, Some(80)), all("x"), all("y"), all("z"), ("udp", Protocol::Udp, Some(53))];
    assert_eq!(ports, expected, "§1.22");
}

#[test]
fn endpoints_have_one_address_and_conditions() {
    type Row = (&'static str, Value, Option<(&'static str, bool, bool, bool)>);
    let table: [Row; 9] = [
        (
            "first address, §1.23",
            json!({"addresses": ["10.1.0.1", "10.1.0.2"]}),
            Some(("10.1.0.1", true, true, false)),
        ),
        ("none, §1.23", json!({"addresses": []}), None),
        ("null", json!({"addresses": null}), None),
        ("unparsable, §1.23", json!({"addresses": ["x"]}), None),
        (
            "leading zeros, §1.12",
            json!({"addresses": ["10.1.0.010"]}),
            Some(("10.1.0.10", true, true, false)),
        ),
        ("other family", json!({"addresses": ["fd00::1"]}), None),
        (
            "nil conditions, §1.24",
            json!({"addresses": ["10.1.0.1"], "conditions": null}),
            Some(("10.1.0.1", true, true, false)),
        ),
        (
            "null conditions",
            json!({"addresses": ["10.1.0.1"], "conditions": {"ready": null, "serving": null, "terminating": null}}),
            Some(("10.1.0.1", true, true, false)),
        ),
        (
            "terminating",
            json!({"addresses": ["10.1.0.1"], "conditions": {"ready": false, "serving": true, "terminating": true}}),
            Some(("10.1.0.1", false, true, true)),
        ),
    ];
    for (name, endpoint, expected) in table {
        let slice = slice_of(slice_with("endpoints", json!([endpoint]))).expect("a slice");
        let found = slice.endpoints.first().map(|e| (e.address, e.ready, e.serving, e.terminating));
        assert_eq!(found, expected.map(|(ip, a, b, c)| (ip.parse().unwrap(), a, b, c)), "{name}");
    }
}

#[test]
fn names_of_nodes_and_zones_are_held_once() {
    let slice = slice_of(slice_with(
        "endpoints",
        json!([
            {"addresses": ["10.1.0.1"], "nodeName": "n", "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]}},
            {"addresses": ["10.1.0.2"], "nodeName": "n", "hints": {"forZones": [{"name": "z"}]}},
            {"addresses": ["10.1.0.3"], "nodeName": "", "hints": null},
        ]),
    ));
    let [a, b, c] = &slice.expect("a slice").endpoints[..] else { panic!("three endpoints") };
    assert!(Arc::ptr_eq(a.node.as_ref().unwrap(), b.node.as_ref().unwrap()));
    assert!(Arc::ptr_eq(a.node.as_ref().unwrap(), &a.hints.nodes()[0]));
    assert!(Arc::ptr_eq(&a.hints.zones()[0], &b.hints.zones()[0]), "§1.26");
    assert_eq!((c.node.as_ref(), c.hints.zones().len()), (None, 0), "§1.25");
}

#[test]
fn nodes_give_addresses_networks_and_whether_they_leave() {
    let node = node_of(json!({
        "metadata": {"labels": {"topology.kubernetes.io/zone": "z"}},
        "spec": {"podCIDR": "10.9.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00:1::/64", "x"]},
        "status": {"addresses": [
            {"type": "ExternalIP", "address": "203.0.113.1"}, {"type": "Hostname", "address": "n"},
            {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "2001:db8::1"},
        ]},
    }));
    assert_eq!(node.addresses, ips(&["192.0.2.1", "2001:db8::1", "203.0.113.1"]), "§1.33");
    assert_eq!(node.pod_cidrs.len(), 2);
    assert_eq!((node.zone.as_deref(), node.leaving), (Some("z"), false));

    let old = node_of(
        json!({"metadata": {"labels": {"topology.kubernetes.io/zone": ""}}, "spec": {"podCIDR": "10.9.0.0/24"}}),
    );
    assert_eq!((old.pod_cidrs.len(), old.zone.as_deref()), (1, None), "§2.2");
    let taints = json!([{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]);
    assert!(node_of(json!({"metadata": {}, "spec": {"taints": taints}})).leaving, "§12.7");
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    assert!(node_of(deleted).leaving, "§12.7");
    assert!(
        !node_of(json!({"metadata": {"deletionTimestamp": null}, "spec": {"taints": [{"key": "other"}]}}))
            .leaving
    );
}

#[test]
fn the_annotation_for_the_proxy_protocol() {
    for (annotations, expected) in [
        (json!({}), None),
        (json!({"portolan.dev/proxy-protocol": null}), None),
        (json!({"portolan.dev/proxy-protocol": "v1"}), Some(AskedProxyProtocol::Version(ProxyProtocol::V1))),
        (json!({"portolan.dev/proxy-protocol": "v2"}), Some(AskedProxyProtocol::Version(ProxyProtocol::V2))),
        (json!({"portolan.dev/proxy-protocol": ""}), Some(AskedProxyProtocol::Unknown("".into()))),
        (json!({"other/annotation": "v2"}), None),
    ] {
        decoded(Resource::Services, json!({"metadata": {"annotations": annotations}}), |object| {
            let Object::Service(wire) = object else { panic!("not a Service") };
            let found = super::service(object.name(), wire, &mut Names::default());
            assert_eq!(found.proxy_protocol, expected, "{annotations}");
        });
    }
}

#[test]
fn the_annotations_for_the_scheduler() {
    const OWN: &str = "portolan.dev/ipvs-scheduler";
    const KUBE_ROUTER: &str = "kube-router.io/service.scheduler";
    for (annotations, expected) in [
        (json!({}), None),
        (json!({OWN: null}), None),
        (json!({OWN: "lc"}), AskedScheduler::parse(Some("lc"), None)),
        (json!({KUBE_ROUTER: "sh"}), AskedScheduler::parse(None, Some("sh"))),
        (json!({OWN: "lc", KUBE_ROUTER: "sh"}), AskedScheduler::parse(Some("lc"), None)),
    ] {
        decoded(Resource::Services, json!({"metadata": {"annotations": annotations}}), |object| {
            let Object::Service(wire) = object else { panic!("not a Service") };
            let found = super::service(object.name(), wire, &mut Names::default());
            assert_eq!(found.scheduler, expected, "{annotations}");
        });
    }
}

#[test]
fn the_annotation_for_weights() {
    for (annotations, expected) in [
        (json!({}), None),
        (json!({"portolan.dev/endpoint-weights": "a: 1, *: 9"}), Some(Weights::parse("a: 1, *: 9"))),
        (json!({"portolan.dev/endpoint-weights": "many"}), Some(Weights::parse("many"))),
    ] {
        decoded(Resource::Services, json!({"metadata": {"annotations": annotations}}), |object| {
            let Object::Service(wire) = object else { panic!("not a Service") };
            let found = super::service(object.name(), wire, &mut Names::default());
            assert_eq!(found.weights, expected, "{annotations}");
        });
    }
}

#[test]
fn what_only_names_need_is_kept() {
    let of = |spec: Value| service_of(&spec, &json!({}));
    let headless = of(json!({"clusterIP": "None", "clusterIPs": ["None"]}));
    assert!(headless.headless && headless.cluster_ip.is_none());
    let pending = of(json!({"clusterIP": ""}));
    assert!(!pending.headless && pending.cluster_ip.is_none());
    assert!(of(json!({"publishNotReadyAddresses": true})).publish_not_ready);
    assert!(!of(json!({"publishNotReadyAddresses": null})).publish_not_ready);
    let alias = of(json!({"type": "ExternalName", "externalName": "a.example"}));
    assert_eq!(alias.external_name.as_deref(), Some("a.example"));
    assert_eq!(of(json!({"externalName": ""})).external_name, None);

    let slice = slice_of(slice_with(
        "endpoints",
        json!([
            {"addresses": ["10.1.0.1"], "hostname": "web-0", "zone": "z", "targetRef": {"kind": "Pod", "name": "p"}},
            {"addresses": ["10.1.0.2"], "zone": "z", "targetRef": {"kind": "Node", "name": "n"},
             "conditions": {"ready": false}},
            {"addresses": ["10.1.0.3"], "hostname": null, "zone": null, "targetRef": null},
        ]),
    ));
    let endpoints = slice.expect("a slice").endpoints;
    let names: Vec<_> = endpoints
        .iter()
        .map(|it| (it.names.hostname(), it.names.pod(), it.zone.as_deref(), it.ready))
        .collect();
    let expected = [
        (Some("web-0"), Some("p"), Some("z"), true),
        (None, None, Some("z"), false),
        (None, None, None, true),
    ];
    assert_eq!(names, expected);
    let zones = [&endpoints[0].zone, &endpoints[1].zone].map(|zone| zone.as_ref().unwrap());
    assert!(Arc::ptr_eq(zones[0], zones[1]), "held once");
}

#[test]
fn service_cidrs_give_networks() {
    decoded(
        Resource::ServiceCidrs,
        json!({"metadata": {}, "spec": {"cidrs": ["10.96.0.0/12", "fd00::/108", "x"]}}),
        |object| {
            let Object::ServiceCidr(cidr) = object else { panic!("not a ServiceCIDR") };
            assert_eq!(networks(cidr).len(), 2);
        },
    );
}

#[test]
fn names_that_nobody_uses_any_more_are_freed() {
    let mut names = Names::default();
    let mut catalog = portolan_service::Catalog::default();
    for number in 0..20_000 {
        let json = format!(
            r#"{{"metadata":{{"namespace":"a","name":"b"}},"spec":{{"ports":[{{"name":"p{number}","port":1}}]}}}}"#
        );
        let service: wire::Service<'_> = serde_json::from_str(&json).unwrap();
        let service = super::service(ObjectName::new("a", "b"), &service, &mut names);
        catalog.apply(portolan_service::Change::from(service));
    }
    let alive = names.names.values().filter(|name| name.strong_count() > 0).count();
    assert!(names.names.len() <= 2100 && alive <= 1100, "{} names, {alive} of them alive", names.names.len());
    let one = names.shared("p19999");
    assert!(Arc::strong_count(&one) >= 2, "one copy for the Service and us");
}
