//! Endpoints, addresses and ports, as a cluster's controllers would make them of manifests.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::state::State;
use portolan_service::AddressPool;
use portolan_source::manifests::{Manifests, Options};

fn load(files: &[(&str, &str)], options: Options) -> (tempfile::TempDir, Manifests, State) {
    let folder = tempfile::tempdir().unwrap();
    for (file, text) in files {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let mut manifests = Manifests::open(folder.path(), options).unwrap();
    let mut state = State::default();
    state.apply(manifests.load().changes);
    (folder, manifests, state)
}

const READY: &str = "conditions: [{type: Ready, status: 'True'}]";

/// A pod `name` labelled `app: web` with more `metadata`, `spec` and `status`.
fn pod(name: &str, metadata: &str, spec: &str, status: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web, version: {name}}}, {metadata}}}\n\
         spec: {{{spec}}}\nstatus: {{{status}}}\n"
    )
}

/// A Service `web` that selects `app: web`, with more `spec`.
fn web(spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{selector: {{app: web}}, {spec}}}\n"
    )
}

fn node(name: &str, zone: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{topology.kubernetes.io/zone: {zone}}}}}\n"
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn endpoints_of_selected_pods() {
    let on = |ip: &str| format!("podIP: {ip}, {READY}");
    let named = "containers: [{ports: [{name: web-port, containerPort: 8080}]}]";
    let other = "containers: [{ports: [{name: web-port, containerPort: 9090}]}]";
    let udp = "containers: [{ports: [{name: web-port, containerPort: 53, protocol: UDP}]}]";
    let port = "ports: [{port: 80}]";
    let table: Vec<(&str, String, Vec<&str>)> = vec![
        (
            "target port is the port unless given",
            web(port) + &pod("a", "", "", &on("10.0.0.1")) + &pod("b", "", "", &on("10.0.0.2")),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1 10.0.0.2"],
        ),
        (
            "a number as target port",
            web("ports: [{port: 80, targetPort: 8080, name: http}]") + &pod("a", "", "", &on("10.0.0.1")),
            vec!["default/web-portolan-ipv4-1 [http/tcp=8080] 10.0.0.1"],
        ),
        (
            "a name as target port has another number in each pod (W5)",
            web("ports: [{port: 80, targetPort: web-port}]")
                + &pod("a", "", named, &on("10.0.0.1"))
                + &pod("b", "", other, &on("10.0.0.2"))
                + &pod("c", "", named, &on("10.0.0.3")),
            vec![
                "default/web-portolan-ipv4-1 [/tcp=8080] 10.0.0.1 10.0.0.3",
                "default/web-portolan-ipv4-2 [/tcp=9090] 10.0.0.2",
            ],
        ),
        (
            "a name is one of its protocol",
            web("ports: [{port: 80, targetPort: web-port}]") + &pod("a", "", udp, &on("10.0.0.1")),
            vec!["default/web-portolan-ipv4-1 [] 10.0.0.1"],
        ),
        ("a pod without address", web(port) + &pod("a", "", "", READY), vec![]),
        (
            "a pod that is not ready",
            web(port) + &pod("a", "", "", "podIP: 10.0.0.1"),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1?!"],
        ),
        (
            "publishNotReadyAddresses: ready, though not serving",
            web("ports: [{port: 80}], publishNotReadyAddresses: true") + &pod("a", "", "", "podIP: 10.0.0.1"),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1!"],
        ),
        (
            "a pod being deleted serves while it is ready",
            web(port)
                + &pod("a", "deletionTimestamp: '2026-01-01T00:00:00Z'", "", &on("10.0.0.1"))
                + &pod("b", "deletionTimestamp: '2026-01-01T00:00:00Z'", "", "podIP: 10.0.0.2"),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1?~ 10.0.0.2?!~"],
        ),
        (
            "pods that have ended",
            web(port)
                + &pod("a", "", "", "podIP: 10.0.0.1, phase: Succeeded")
                + &pod("b", "", "", "podIP: 10.0.0.2, phase: Failed"),
            vec![],
        ),
        (
            "a pod of another namespace",
            web(port) + &pod("a", "namespace: other", "", &on("10.0.0.1")),
            vec![],
        ),
        (
            "every label of the selector must fit",
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {selector: {app: web, version: b}, ports: [{port: 80}]}\n"
                .to_owned()
                + &pod("a", "", "", &on("10.0.0.1"))
                + &pod("b", "", "", &on("10.0.0.2")),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.2"],
        ),
        (
            "on the host's network",
            web(port) + &pod("a", "", "hostNetwork: true", &format!("hostIP: 192.0.2.1, {READY}")),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 192.0.2.1"],
        ),
        (
            "each family on its own",
            web("ports: [{port: 80}], ipFamilyPolicy: PreferDualStack")
                + &pod("a", "", "", &format!("podIP: 10.0.0.1, podIPs: [{{ip: 10.0.0.1}}, {{ip: 'fd00::1'}}], {READY}"))
                + &pod("b", "", "", &on("10.0.0.2")),
            vec![
                "default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1 10.0.0.2",
                "default/web-portolan-ipv6-1 [/tcp=80] fd00::1",
            ],
        ),
        (
            "PreferClose hints at the zone of the node",
            web("ports: [{port: 80}], trafficDistribution: PreferClose")
                + &node("n1", "z1")
                + &pod("a", "", "nodeName: n1", &on("10.0.0.1"))
                + &pod("b", "", "nodeName: n2", &on("10.0.0.2"))
                + &pod("c", "", "nodeName: n1", "podIP: 10.0.0.3"),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1@z1 10.0.0.2 10.0.0.3?!"],
        ),
        (
            "PreferSameNode hints at zone and node",
            web("ports: [{port: 80}], trafficDistribution: PreferSameNode")
                + &node("n1", "z1")
                + &pod("a", "", "nodeName: n1", &on("10.0.0.1")),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1@z1@n1"],
        ),
        (
            "headless",
            web("ports: [{port: 80}], clusterIP: None") + &pod("a", "", "", &on("10.0.0.1")),
            vec!["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1"],
        ),
        (
            "a given slice beside selected pods: both",
            web(port)
                + &pod("a", "", "", &on("10.0.0.1"))
                + "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: more, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{name: '', port: 8080}]\nendpoints: [{addresses: [10.9.0.1]}, {addresses: []}]\n",
            vec!["default/more [/tcp=8080] 10.9.0.1", "default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1"],
        ),
        (
            "without selector: a slice by hand (W1)",
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: hand}\nspec: {ports: [{port: 8909, targetPort: 8765}]}\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: hand-1, labels: {kubernetes.io/service-name: hand}}\naddressType: IPv4\nports: [{port: 8765}]\nendpoints: [{addresses: [15.0.0.1]}]\n"
                .to_owned(),
            vec!["default/hand-1 [/tcp=8765] 15.0.0.1"],
        ),
        (
            "slices that are for nobody here, §1.20, §1.21",
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\n\
             ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: b, labels: {kubernetes.io/service-name: a}}\naddressType: FQDN\n"
                .to_owned(),
            vec![],
        ),
        (
            "Endpoints of a Service without selector, by family",
            "---\napiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 5432, name: pg}]}\n\
             ---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: db}\nsubsets: [{addresses: [{ip: 10.1.0.1}, {ip: 'fd01::1'}], notReadyAddresses: [{ip: 10.1.0.2}], ports: [{name: pg, port: 5433}]}]\n"
                .to_owned(),
            vec![
                "default/db-portolan-ipv4-1 [pg/tcp=5433] 10.1.0.1 10.1.0.2?!",
                "default/db-portolan-ipv6-1 [pg/tcp=5433] fd01::1",
            ],
        ),
    ];
    for (name, text, expected) in table {
        let (_folder, manifests, state) = load(&[("a.yaml", &text)], Options::default());
        assert_eq!(manifests.problems(), Vec::<&_>::new(), "{name}");
        assert_eq!(state.slice_lines(), expected, "{name}");
    }
}

#[test]
fn addresses_and_ports_are_allocated() {
    let table = [
        ("one address of the first family", "ports: [{port: 80}]", 1, "IPv4", false, false),
        ("none for headless", "ports: [{port: 80}], clusterIP: None", 0, "IPv4", false, false),
        ("none for ExternalName", "type: ExternalName, externalName: a.example", 0, "IPv4", false, false),
        ("the family asked for", "ports: [{port: 80}], ipFamilies: [IPv6]", 1, "IPv6", false, false),
        ("both", "ports: [{port: 80}], ipFamilyPolicy: RequireDualStack", 2, "IPv4", false, false),
        (
            "both, the other first",
            "ports: [{port: 80}], ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]",
            2,
            "IPv6",
            false,
            false,
        ),
        ("a NodePort", "ports: [{port: 80}], type: NodePort", 1, "IPv4", true, false),
        ("a NodePort for load balancers", "ports: [{port: 80}], type: LoadBalancer", 1, "IPv4", true, false),
        (
            "none if not wanted",
            "ports: [{port: 80}], type: LoadBalancer, allocateLoadBalancerNodePorts: false",
            1,
            "IPv4",
            false,
            false,
        ),
        (
            "a health-check port, §1.16",
            "ports: [{port: 80}], type: LoadBalancer, externalTrafficPolicy: Local",
            1,
            "IPv4",
            true,
            true,
        ),
        (
            "no health-check port for NodePort",
            "ports: [{port: 80}], type: NodePort, externalTrafficPolicy: Local",
            1,
            "IPv4",
            true,
            false,
        ),
    ];
    for (name, spec, addresses, first, node_port, health_check) in table {
        let (_folder, manifests, state) = load(&[("a.yaml", &web(spec))], Options::default());
        assert_eq!(manifests.problems(), Vec::<&_>::new(), "{name}");
        let service = &state.services["default/web"];
        assert_eq!(service.cluster_ips.len(), addresses, "{name}");
        assert_eq!(service.cluster_ip, service.cluster_ips.first().copied(), "{name}");
        assert_eq!(service.ip_families[0].to_string(), first, "{name}");
        let options = Options::default();
        for ip in &service.cluster_ips {
            assert!(options.service_ranges.iter().any(|range| range.contains(ip)), "{name}: {ip}");
        }
        let port = service.ports.first().and_then(|port| port.node_port);
        assert_eq!(port.is_some_and(|port| options.node_port_range.contains(&port)), node_port, "{name}");
        let check = service.health_check_node_port.number();
        assert_eq!(
            check.is_some_and(|check| options.node_port_range.contains(&check)),
            health_check,
            "{name}"
        );
        assert!(port.is_none() || port != check, "{name}");
    }
}

fn small() -> Options {
    Options {
        service_ranges: vec!["10.96.0.0/29".parse().unwrap()],
        node_port_range: 30000..=30003,
        ..Options::default()
    }
}

fn node_port_service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: NodePort, ports: [{{port: 80}}], {spec}}}\n"
    )
}

#[test]
fn a_full_range_is_reported_and_used_again_when_something_is_free() {
    // Six addresses, one of them asked for; four ports.
    let asked = node_port_service("asked", "clusterIP: 10.96.0.5");
    let names = ["a", "b", "c", "d", "e"];
    let mut files: Vec<(String, String)> =
        names.iter().map(|name| (format!("{name}.yaml"), node_port_service(name, ""))).collect();
    files.push(("z.yaml".to_owned(), asked));
    let files: Vec<(&str, &str)> = files.iter().map(|(file, text)| (&**file, &**text)).collect();
    let (folder, mut manifests, mut state) = load(&files, small());
    let addresses: BTreeSet<_> = state.services.values().filter_map(|service| service.cluster_ip).collect();
    assert_eq!(addresses.len(), 6);
    assert_eq!(state.services["default/asked"].cluster_ip, Some("10.96.0.5".parse().unwrap()));
    let ports = |state: &State| -> BTreeSet<u16> {
        state.services.values().filter_map(|service| service.ports[0].node_port).collect()
    };
    assert_eq!(ports(&state).len(), 4);
    assert_eq!(manifests.problems().len(), 2);
    let reported = manifests.problems()[0].to_string();
    assert!(
        reported.ends_with("no port is left in 30000-30003; widen it with --service-node-port-range"),
        "{reported}"
    );

    let holder = state.services.values().find(|service| service.ports[0].node_port.is_some()).unwrap();
    fs::remove_file(folder.path().join(format!("{}.yaml", holder.name.name()))).unwrap();
    let update = manifests.wait(Some(std::time::Duration::from_secs(10))).unwrap().unwrap();
    state.apply(update.changes);
    assert_eq!(ports(&state).len(), 4);
    assert_eq!(manifests.problems().len(), 1);
}

#[test]
fn an_address_passes_to_who_waits_for_it() {
    let first = node_port_service("a", "clusterIP: 10.96.0.5");
    let second = node_port_service("b", "clusterIP: 10.96.0.5");
    let (folder, mut manifests, mut state) = load(&[("a.yaml", &first), ("b.yaml", &second)], small());
    assert_eq!(state.ports(), [("default/a", 80)]);
    fs::remove_file(folder.path().join("a.yaml")).unwrap();
    state.apply(manifests.wait(Some(std::time::Duration::from_secs(10))).unwrap().unwrap().changes);
    assert_eq!(state.ports(), [("default/b", 80)]);
    assert!(manifests.problems().is_empty());
}

fn with_ledger(path: &Path) -> Options {
    Options { ledger: Some(path.to_owned()), ..small() }
}

#[test]
fn the_ledger_keeps_allocations_over_restarts_and_between_proxies() {
    let place = tempfile::tempdir().unwrap();
    let ledger = place.path().join("state/ledger");
    let a = node_port_service("a", "");
    let (folder, mut manifests, mut first) = load(&[("b.yaml", &a)], with_ledger(&ledger));
    assert_eq!(manifests.problems(), Vec::<&_>::new());
    let had = first.services["default/a"].clone();

    // A Service whose name comes first, and which asks for what `a` was given, does not get it.
    let greedy = node_port_service("0", &format!("clusterIP: {}", had.cluster_ip.unwrap()));
    fs::write(folder.path().join("0.yaml"), greedy).unwrap();
    let mut other = Manifests::open(folder.path(), with_ledger(&ledger)).unwrap();
    let mut second = State::default();
    second.apply(other.load().changes);
    assert_eq!(second.services.keys().collect::<Vec<_>>(), ["default/a"]);
    assert_eq!(second.services["default/a"], had);
    while manifests.problems().is_empty() {
        let update = manifests.wait(Some(std::time::Duration::from_secs(10))).unwrap().unwrap();
        first.apply(update.changes);
    }
    assert_eq!(first, second);
    fs::remove_file(folder.path().join("0.yaml")).unwrap();

    // What one proxy allocates, the other adopts.
    fs::write(folder.path().join("c.yaml"), node_port_service("c", "")).unwrap();
    for (manifests, state) in [(&mut manifests, &mut first), (&mut other, &mut second)] {
        while !state.services.contains_key("default/c") {
            state.apply(manifests.wait(Some(std::time::Duration::from_secs(10))).unwrap().unwrap().changes);
        }
    }
    assert_eq!(first, second);

    // A reader uses it, but writes nothing.
    let before = fs::read(&ledger).unwrap();
    fs::write(folder.path().join("d.yaml"), node_port_service("d", "")).unwrap();
    let options = Options { read_only: true, ..with_ledger(&ledger) };
    let mut third = State::default();
    third.apply(Manifests::open(folder.path(), options).unwrap().load().changes);
    assert_eq!(third.services["default/a"], had);
    assert!(third.services["default/d"].cluster_ip.is_some());
    assert_eq!(fs::read(&ledger).unwrap(), before);
}

/// A Service of type LoadBalancer with `metadata` beside its name, and `more` beside its spec.
fn balanced(name: &str, metadata: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, {metadata}}}\n\
         spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n{more}"
    )
}

fn addresses(state: &State) -> Vec<(&str, String)> {
    let listed = |service: &portolan_service::Service| {
        let ingress = service.load_balancer.iter().map(|ingress| ingress.ip.to_string());
        ingress.collect::<Vec<_>>().join(" ")
    };
    state.services.iter().map(|(name, service)| (&name[8..], listed(service))).collect()
}

#[test]
fn load_balancer_addresses_stay_whatever_is_added() {
    let place = tempfile::tempdir().unwrap();
    let options = || Options {
        pools: vec![AddressPool::new("lan", vec!["192.0.2.240-192.0.2.242".parse().unwrap()])],
        ledger: Some(place.path().join("ledger")),
        ..Options::default()
    };
    let (folder, mut manifests, mut state) = load(&[("m.yaml", &balanced("m", "", ""))], options());
    assert_eq!(addresses(&state), [("m", "192.0.2.240".to_owned())]);
    let given = "status: {loadBalancer: {ingress: [{ip: 192.0.2.241}]}}\n";
    fs::write(folder.path().join("b.yaml"), balanced("given", "", given) + &balanced("b", "", "")).unwrap();
    while state.services.len() < 3 {
        state.apply(manifests.wait(Some(std::time::Duration::from_secs(15))).unwrap().unwrap().changes);
    }
    let expected = [
        ("b", "192.0.2.242".to_owned()),
        ("given", "192.0.2.241".to_owned()),
        ("m", "192.0.2.240".to_owned()),
    ];
    assert_eq!(addresses(&state), expected);

    // After a restart as well, although another one comes first, for which nothing is left.
    fs::write(folder.path().join("a.yaml"), balanced("a", "", "")).unwrap();
    let (mut again, mut state) = (Manifests::open(folder.path(), options()).unwrap(), State::default());
    state.apply(again.load().changes);
    assert_eq!(addresses(&state)[1..], expected);
    let problems: Vec<String> = again.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "a.yaml:2: Service default/a: spec.type: no IPv4 address is left in pool lan (192.0.2.240-192.0.2.242); \
          add a range to it, or delete a Service that has one"
        ]
    );

    // What is free goes to who waits.
    fs::remove_file(folder.path().join("m.yaml")).unwrap();
    while state.services.contains_key("default/m") || addresses(&state)[0].1.is_empty() {
        state.apply(again.wait(Some(std::time::Duration::from_secs(15))).unwrap().unwrap().changes);
    }
    assert_eq!(addresses(&state)[0], ("a", "192.0.2.240".to_owned()));
    assert_eq!(again.problems(), Vec::<&_>::new());
}

#[test]
fn what_a_manifest_asks_of_load_balancer_addresses() {
    let pools = vec![AddressPool::new("lan", vec!["192.0.2.240/28".parse().unwrap()])];
    let annotated = "annotations: {metallb.io/loadBalancerIPs: '192.0.2.250'}";
    let text = [
        balanced("a", annotated, ""),
        balanced("b", "annotations: {metallb.io/loadBalancerIPs: web}", ""),
        balanced("c", "", "").replace("{type", "{loadBalancerIP: 192.0.2.249, type"),
        balanced("d", "", "").replace("{type", "{loadBalancerClass: example.com/other, type"),
        balanced("e", "", "").replace("{type", "{loadBalancerClass: portolan.dev/load-balancer, type"),
    ];
    let (_folder, manifests, state) =
        load(&[("a.yaml", &text.concat())], Options { pools, ..Options::default() });
    let expected = ["192.0.2.250", "", "192.0.2.249", "", "192.0.2.240"];
    assert_eq!(addresses(&state).into_iter().map(|(_, address)| address).collect::<Vec<_>>(), expected);
    let problems: Vec<String> = manifests.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "a.yaml:7: Service default/b: metadata.annotations.metallb.io/loadBalancerIPs: \"web\" is not an IP address"
        ]
    );
}

#[test]
fn a_damaged_ledger_is_reported_and_rebuilt() {
    let place = tempfile::tempdir().unwrap();
    let ledger = place.path().join("ledger");
    let service = node_port_service("a", "");
    let (folder, _manifests, state) = load(&[("a.yaml", &service)], with_ledger(&ledger));
    let had = state.services["default/a"].clone();
    let good = fs::read_to_string(&ledger).unwrap();
    fs::write(&ledger, format!("{{\"service\": \"default/x\", \n{good}{}", &good[..10])).unwrap();

    let mut manifests = Manifests::open(folder.path(), with_ledger(&ledger)).unwrap();
    let mut again = State::default();
    again.apply(manifests.load().changes);
    assert_eq!(again.services["default/a"], had);
    let reported: Vec<String> = manifests.problems().iter().map(ToString::to_string).collect();
    assert_eq!(reported.len(), 2, "{reported:?}");
    assert!(
        reported[0].starts_with(&format!("{}:1: is not an entry of the ledger", ledger.display())),
        "{reported:?}"
    );
    // Of each Service, what was last written.
    let last = good.lines().last().unwrap();
    assert_eq!(fs::read_to_string(&ledger).unwrap().lines().collect::<Vec<_>>(), [last]);

    let unusable = Options { ledger: Some(folder.path().to_owned()), ..small() };
    let mut manifests = Manifests::open(folder.path(), unusable).unwrap();
    assert!(!manifests.load().changes.is_empty());
    assert!(
        manifests.problems()[0].message.starts_with("cannot open the ledger of allocations: Is a directory")
    );
}

#[test]
fn nodes_are_passed_on() {
    let text = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}\n\
        spec: {podCIDRs: [10.1.0.0/24, 'fd01::/64']}\n\
        status: {addresses: [{type: Hostname, address: n1}, {type: ExternalIP, address: 192.0.2.1}, {type: InternalIP, address: 10.0.0.1}]}\n";
    let (_folder, _manifests, state) = load(&[("a.yaml", text)], Options::default());
    let node = &state.nodes["n1"];
    assert_eq!(node.zone.as_deref(), Some("z1"));
    assert_eq!(
        node.addresses,
        ["10.0.0.1".parse::<std::net::IpAddr>().unwrap(), "192.0.2.1".parse().unwrap()]
    );
    assert_eq!(node.pod_cidrs.len(), 2);
    assert!(!node.leaving);
}

#[test]
fn a_node_that_will_be_deleted_is_leaving() {
    // spec §11.5
    for fields in [
        "metadata: {name: n1, deletionTimestamp: '2026-01-01T00:00:00Z'}",
        "metadata: {name: n1}\nspec: {taints: [{key: other}, {key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}]}",
    ] {
        let text = format!("apiVersion: v1\nkind: Node\n{fields}\n");
        let (_folder, _manifests, state) = load(&[("a.yaml", &text)], Options::default());
        assert!(state.nodes["n1"].leaving, "{fields}");
    }
}

#[test]
fn a_change_of_a_nodes_zone_changes_hints() {
    let text = web("ports: [{port: 80}], trafficDistribution: PreferClose")
        + &pod("a", "", "nodeName: n1", &format!("podIP: 10.0.0.1, {READY}"));
    let (folder, mut manifests, mut state) =
        load(&[("a.yaml", &text), ("n.yaml", &node("n1", "z1"))], Options::default());
    assert_eq!(state.slice_lines(), ["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1@z1"]);
    fs::write(folder.path().join("n.yaml"), node("n1", "z2")).unwrap();
    state.apply(manifests.wait(Some(std::time::Duration::from_secs(10))).unwrap().unwrap().changes);
    assert_eq!(state.slice_lines(), ["default/web-portolan-ipv4-1 [/tcp=80] 10.0.0.1@z2"]);
}

/// What only names for Services need arrives, too.
#[test]
fn names_are_kept() {
    let text = web("clusterIP: None, publishNotReadyAddresses: true, ports: [{name: http, port: 80}]")
        + &node("n1", "z1")
        + &pod("web-0", "", "hostname: web-0, subdomain: web, nodeName: n1", "podIP: 10.0.0.1")
        + &pod("web-1", "", "hostname: web-1, subdomain: other", &format!("podIP: 10.0.0.2, {READY}"))
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: alias}\n\
           spec: {type: ExternalName, externalName: a.example.}\n\
           ---\napiVersion: v1\nkind: Service\nmetadata: {name: hand}\nspec: {ports: [{port: 80}]}\n\
           ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
           metadata: {name: hand-1, labels: {kubernetes.io/service-name: hand}}\naddressType: IPv4\n\
           endpoints: [{addresses: [10.1.0.1], hostname: h, zone: z2, targetRef: {kind: Pod, name: p}},\
           {addresses: [10.1.0.2], targetRef: {kind: Node, name: n}}]\n\
           ---\napiVersion: v1\nkind: Service\nmetadata: {name: old}\nspec: {ports: [{port: 80}]}\n\
           ---\napiVersion: v1\nkind: Endpoints\nmetadata: {name: old}\n\
           subsets: [{addresses: [{ip: 10.2.0.1, hostname: o, targetRef: {kind: Pod, name: q}}]}]\n";
    let (_folder, manifests, state) = load(&[("a.yaml", &text)], Options::default());
    assert_eq!(manifests.problems(), Vec::<&_>::new());
    let service = |name: &str| &state.services[name];
    assert!(service("default/web").headless && service("default/web").publish_not_ready);
    assert!(!service("default/hand").headless && !service("default/hand").publish_not_ready);
    assert_eq!(service("default/alias").external_name.as_deref(), Some("a.example."));
    assert_eq!(service("default/web").external_name, None);
    let endpoints = state.slices.values().flat_map(|slice| &slice.endpoints).map(|endpoint| {
        let address = endpoint.address.to_string();
        (address, endpoint.names.hostname(), endpoint.names.pod(), endpoint.zone.as_deref(), endpoint.ready)
    });
    let expected = [
        ("10.1.0.1", Some("h"), Some("p"), Some("z2"), true),
        ("10.1.0.2", None, None, None, true),
        ("10.2.0.1", Some("o"), Some("q"), None, true),
        ("10.0.0.1", Some("web-0"), Some("web-0"), Some("z1"), true),
        // Its hostname is one in another Service.
        ("10.0.0.2", None, Some("web-1"), None, true),
    ];
    let expected = expected
        .map(|(address, hostname, pod, zone, ready)| (address.to_owned(), hostname, pod, zone, ready));
    assert_eq!(endpoints.collect::<Vec<_>>(), expected);
}
