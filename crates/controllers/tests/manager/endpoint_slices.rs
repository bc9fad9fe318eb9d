//! EndpointSlices and Endpoints.

use portolan_controllers::manager::{EndpointSlice, Node, Pod, Service, Step, endpoint_slices, endpoints};
use serde_json::{Value, json};

use crate::world::{World, lines, text};

fn service(more: &Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "web", "uid": "s", "labels": { "team": "a" } },
        "spec": { "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"], "selector": { "app": "web" },
            "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }] },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        service["spec"][key] = value.clone();
    }
    service
}

fn pod(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "uid": name, "labels": { "app": "web" } },
        "spec": { "nodeName": "a", "containers": [{ "ports": [{ "name": "web-port", "containerPort": 9090 }] }] },
        "status": { "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": [{ "type": "Ready", "status": "True" }] },
    })
}

fn look(world: &mut World) -> Step {
    world.with(|world, circumstances| {
        let (pods, nodes): (Vec<Pod>, Vec<Node>) = (world.read("Pod"), world.read("Node"));
        let slices = world.of_kind("EndpointSlice").into_iter();
        let slices: Vec<EndpointSlice> =
            slices.map(|slice| EndpointSlice::read(slice).expect("readable")).collect();
        let service = Service::read(world.get("Service", "web")).expect("readable");
        let mut step = endpoint_slices(&service, &pods, &nodes, &slices, circumstances);
        let held = world.of_kind("Endpoints").pop();
        step.writes.extend(endpoints(&service, &pods, held).expect("readable").writes);
        step
    })
}

/// Endpoints by slice: addresses, then `ready serving terminating` as digits, then the ports.
fn slices(world: &World) -> Vec<String> {
    let slices = world.of_kind("EndpointSlice").into_iter();
    slices
        .map(|slice| {
            let endpoints = slice["endpoints"].as_array().expect("endpoints").iter().map(|endpoint| {
                let condition = |name: &str| i32::from(endpoint["conditions"][name] == true);
                let [ready, serving, terminating] = ["ready", "serving", "terminating"].map(condition);
                format!("{} {ready}{serving}{terminating}", text(endpoint, "/addresses/0"))
            });
            let ports = slice["ports"].as_array().expect("ports").iter();
            let ports: Vec<String> =
                ports.map(|port| format!("{}:{}", text(port, "/name"), port["port"])).collect();
            format!("{} [{}]", endpoints.collect::<Vec<_>>().join(", "), ports.join(" "))
        })
        .collect()
}

fn settled(objects: &[Value]) -> World {
    let mut world = World::new();
    for object in objects {
        world.put(object.clone());
    }
    let step = look(&mut world);
    world.apply(&step);
    assert_eq!(look(&mut world).writes, [], "once is enough");
    world
}

#[test]
fn writes_what_the_real_one_writes() {
    let node = json!({ "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": "a", "labels": { "topology.kubernetes.io/zone": "z" } } });
    let world = settled(&[service(&json!({})), pod("p", "10.0.0.1"), node]);
    let slice = world.of_kind("EndpointSlice")[0];
    assert_eq!(text(slice, "/metadata/generateName"), "web-");
    assert_eq!(
        slice["metadata"]["labels"],
        json!({ "team": "a", "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" })
    );
    assert_eq!(slice["metadata"]["ownerReferences"][0]["uid"], "s");
    assert_eq!(slice["addressType"], "IPv4");
    assert_eq!(
        slice["endpoints"],
        json!([{ "addresses": ["10.0.0.1"], "conditions": { "ready": true, "serving": true, "terminating": false },
            "nodeName": "a", "zone": "z",
            "targetRef": { "kind": "Pod", "namespace": "shop", "name": "p", "uid": "p" } }])
    );
    assert_eq!(slice["ports"], json!([{ "name": "http", "protocol": "TCP", "port": 8080 }]));
    assert_eq!(
        world.get("Endpoints", "web")["subsets"],
        json!([{ "addresses": [{ "ip": "10.0.0.1", "nodeName": "a",
            "targetRef": { "kind": "Pod", "namespace": "shop", "name": "p", "uid": "p" } }],
            "ports": [{ "name": "http", "protocol": "TCP", "port": 8080 }] }])
    );
}

#[test]
fn takes_pods_that_serve() {
    let with = |pointer: &str, value: Value| {
        let mut pod = pod("p", "10.0.0.1");
        let (parent, field) = pointer.rsplit_once('/').expect("a field");
        pod.pointer_mut(parent).expect("there")[field] = value;
        pod
    };
    let web_port = json!({ "ports": [{ "name": "http", "port": 80, "targetPort": "web-port" }] });
    // what, the Service's fields, the pod, slices
    let table: [(&str, Value, Value, &[&str]); 11] = [
        ("ready", json!({}), pod("p", "10.0.0.1"), &["10.0.0.1 110 [http:8080]"]),
        ("not ready", json!({}), with("/status/conditions", json!([])), &["10.0.0.1 000 [http:8080]"]),
        (
            "not ready, nor need it be",
            json!({ "publishNotReadyAddresses": true }),
            with("/status/conditions", json!([])),
            &["10.0.0.1 100 [http:8080]"],
        ),
        (
            "on its way out",
            json!({}),
            with("/metadata/deletionTimestamp", json!("2026-11-30T00:00:00Z")),
            &["10.0.0.1 011 [http:8080]"],
        ),
        ("at its end", json!({}), with("/status/phase", json!("Succeeded")), &[" []"]),
        ("another's", json!({}), with("/metadata/labels/app", json!("db")), &[" []"]),
        ("of another namespace", json!({}), with("/metadata/namespace", json!("other")), &[" []"]),
        ("a named port", web_port.clone(), pod("p", "10.0.0.1"), &["10.0.0.1 110 [http:9090]"]),
        ("a name that it lacks", web_port, with("/spec/containers", json!([])), &["10.0.0.1 110 []"]),
        (
            "both families, one of which it lacks",
            json!({ "ipFamilies": ["IPv6", "IPv4"] }),
            pod("p", "10.0.0.1"),
            &[" []", "10.0.0.1 110 [http:8080]"],
        ),
        ("no selector", json!({ "selector": {} }), pod("p", "10.0.0.1"), &[]),
    ];
    for (name, more, pod, expected) in table {
        let world = settled(&[service(&more), pod]);
        assert_eq!(slices(&world), expected, "{name}");
    }
}

#[test]
fn keeps_to_its_slices() {
    let mut world = settled(&[service(&json!({})), pod("p", "10.0.0.1")]);
    let other = json!({ "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "mine", "labels": { "kubernetes.io/service-name": "web" } },
        "endpoints": [{ "addresses": ["192.0.2.1"] }], "ports": [] });
    world.put(other);
    let name = world.names("EndpointSlice")[1].clone();
    world.put(pod("q", "10.0.0.2"));
    let step = look(&mut world);
    let log = world.apply(&step);
    assert!(log[0].starts_with(&format!("update EndpointSlice {name}")), "{log:?}");
    assert_eq!(slices(&world), ["192.0.2.1 000 []", "10.0.0.1 110, 10.0.0.2 110 [http:8080]"]);
    // Another port: the same slice.
    world.change("Service", "web", &json!({ "spec": { "ports": [{ "port": 80, "targetPort": "9090" }] } }));
    let step = look(&mut world);
    world.apply(&step);
    assert_eq!(world.names("EndpointSlice")[1], name);
    // Pods with other numbers for a name are in slices of their own.
    let named = json!([{ "name": "http", "port": 80, "targetPort": "web-port" }]);
    world.change("Service", "web", &json!({ "spec": { "ports": named } }));
    let port = json!([{ "ports": [{ "name": "web-port", "containerPort": 8080 }] }]);
    world.change("Pod", "q", &json!({ "spec": { "containers": port } }));
    let step = look(&mut world);
    world.apply(&step);
    assert_eq!(world.of_kind("EndpointSlice").len(), 3);
    world.change("Pod", "q", &json!({ "status": { "phase": "Failed" } }));
    assert!(lines(&look(&mut world)).iter().any(|line| line.starts_with("delete EndpointSlice web-")));
}

#[test]
fn divides_what_is_too_much_for_one() {
    let mut objects = vec![service(&json!({}))];
    objects.extend((0..250).map(|number| pod(&format!("p{number}"), &format!("10.0.1.{number}"))));
    let world = settled(&objects);
    let sizes = world
        .of_kind("EndpointSlice")
        .into_iter()
        .map(|slice| slice["endpoints"].as_array().map_or(0, Vec::len));
    let mut sizes: Vec<usize> = sizes.collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
}

/// A proxy says how long it took since the cause of a change.
#[test]
fn says_when_what_it_follows_from_changed() {
    let mut made = service(&json!({}));
    made["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
    let since = |name: &str, address: &str, status: &str, time: &str| {
        let mut pod = pod(name, address);
        pod["status"]["conditions"][0] =
            json!({ "type": "Ready", "status": status, "lastTransitionTime": time });
        pod
    };
    let trigger = "/metadata/annotations/endpoints.kubernetes.io~1last-change-trigger-time";
    let mut world = settled(&[made, since("p", "10.0.0.1", "True", "2026-01-01T00:00:05Z")]);
    assert_eq!(text(world.of_kind("EndpointSlice")[0], trigger), "2026-01-01T00:00:00Z", "of the Service");
    let mut no_endpoint = pod("q", "10.0.0.2");
    no_endpoint["metadata"]["labels"] = json!({});
    for (situation, change, expected) in [
        (
            "a second pod",
            since("q", "10.0.0.2", "True", "2026-01-01T00:01:00Z"),
            Some("2026-01-01T00:01:00Z"),
        ),
        (
            "it is not ready",
            since("q", "10.0.0.2", "False", "2026-01-01T00:02:00Z"),
            Some("2026-01-01T00:02:00Z"),
        ),
        ("it is no endpoint", no_endpoint, None),
    ] {
        world.put(change);
        let step = look(&mut world);
        world.apply(&step);
        let slice = world.of_kind("EndpointSlice")[0];
        assert_eq!(slice.pointer(trigger).and_then(Value::as_str), expected, "{situation}");
    }
}
