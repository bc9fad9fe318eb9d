use super::*;

fn read(text: &str) -> Result<Contents, String> {
    super::read(Path::new("a.yaml"), text).map_err(|error| error.to_string())
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}]}]}
";

#[test]
fn deployments_want_replicas() {
    let contents = read(DEPLOYMENT).unwrap();
    assert_eq!(contents.text, None);
    let [Wanted::Pods(pods)] = &contents.wanted[..] else { panic!("{contents:?}") };
    assert_eq!(names(pods), ["shop/web-1", "shop/web-2"]);
    assert_eq!((&pods.ports[..], &pods.labels["app"]), (&[8080][..], &json!("web")));
}

fn names(pods: &WantedPods) -> Vec<String> {
    pods.pods(["host1", "host2"].into_iter()).into_iter().map(|(name, _)| name).collect()
}

#[test]
fn each_workload_names_its_pods() {
    for (kind, expected) in [
        ("ReplicaSet", &["shop/web-1", "shop/web-2"]),
        ("ReplicationController", &["shop/web-1", "shop/web-2"]),
        ("StatefulSet", &["shop/web-0", "shop/web-1"]),
        ("DaemonSet", &["shop/web-host1", "shop/web-host2"]),
    ] {
        let contents = read(&DEPLOYMENT.replace("Deployment", kind)).unwrap();
        let [Wanted::Pods(pods)] = &contents.wanted[..] else { panic!("{contents:?}") };
        assert_eq!(names(pods), *expected, "{kind}");
    }
}

#[test]
fn what_pods_say_of_names_is_taken_over() {
    let with = |spec: &str| DEPLOYMENT.replace("spec: {containers", &format!("spec: {{{spec}, containers"));
    let naming = |text: &str, pod: &str| {
        let contents = read(text).unwrap();
        let [Wanted::Pods(pods)] = &contents.wanted[..] else { panic!("{contents:?}") };
        let Naming { hostname, subdomain, .. } = pods.naming(pod);
        format!("{} {}", hostname.as_deref().unwrap_or("-"), subdomain.as_deref().unwrap_or("-"))
    };
    let set = |text: &str| text.replace("Deployment", "StatefulSet");
    let of_service = set(DEPLOYMENT).replace("replicas: 2", "serviceName: db");
    for (situation, text, expected) in [
        ("nothing", DEPLOYMENT.to_owned(), "- -"),
        ("hostname and subdomain", with("hostname: h, subdomain: s"), "h s"),
        ("those of a StatefulSet", of_service, "web-0 db"),
        ("without a Service", set(&with("hostname: h, subdomain: s")), "web-0 -"),
    ] {
        assert_eq!(naming(&text, "web-0"), expected, "{situation}");
    }
    assert_eq!(
        read(&with("dnsPolicy: None")).unwrap_err(),
        "a.yaml:9: Deployment web: spec.template.spec.dnsConfig.nameservers: empty, but dnsPolicy is None: give at \
         least one, or another dnsPolicy"
    );
}

#[test]
fn what_the_lab_does_not_do_is_reported() {
    let reported = |text: &str| {
        let warnings = read(text).unwrap().warnings;
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let port = "{containerPort: 8080, protocol: UDP}";
    assert_eq!(reported(DEPLOYMENT), [""; 0]);
    assert_eq!(
        reported(&DEPLOYMENT.replace(port, "{containerPort: 8080, hostPort: 80}")),
        [
            "a.yaml:9: Deployment web: spec.template.spec.containers[0].ports[1].hostPort: is ignored: in a cluster the \
             network plugin opens it, and the lab has none; a Service of type NodePort opens a port on the nodes"
        ]
    );
    assert_eq!(
        reported("kind: Job\nmetadata: {name: j}\n"),
        ["a.yaml:1: Job j: kind: is passed over: the lab makes no pods of a Job"]
    );
    assert_eq!(
        reported("kind: NetworkPolicy\nmetadata: {name: n}\n"),
        [
            "a.yaml:1: NetworkPolicy n: kind: is passed over: in a cluster the network plugin enforces it, and the lab has none"
        ]
    );
    assert_eq!(
        reported("kind: Ingress\nmetadata: {name: i}\n"),
        [
            "a.yaml:1: Ingress i: kind: is passed over: the lab has no Ingress controller; ask its Services themselves"
        ]
    );
    let balanced = "kind: Service\nmetadata: {name: s}\nspec: {type: LoadBalancer}\n";
    assert_eq!(
        reported(balanced),
        [
            "a.yaml:3: Service s: spec.type: LoadBalancer, but the lab allocates no load-balancer address; give it one, such \
             as status: {loadBalancer: {ingress: [{ip: 203.0.113.5}]}}"
        ]
    );
    assert_eq!(
        reported(&format!("{balanced}status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.5}}]}}}}\n")),
        [""; 0]
    );
    assert_eq!(
        reported("kind: Pod\nmetadata: {name: p}\nspec:\n  nodeSelector: {a: b}\n"),
        [
            "a.yaml:4: Pod p: spec.nodeSelector: is ignored: the lab places pods round its nodes; nodeName chooses one"
        ]
    );
}

#[test]
fn pods_that_name_no_port_answer_where_services_lead() {
    let service = |spec: &str| format!("kind: Service\nmetadata: {{name: s}}\nspec: {spec}\n");
    let selecting =
        |spec: &str| read(&service(spec)).unwrap().services.into_iter().next().expect("it selects");
    let pods = |ports: &str| {
        let pod = format!(
            "kind: Pod\nmetadata: {{name: p, labels: {{app: web, tier: x}}}}\nspec: {{containers: [{{name: c{ports}}}]}}\n"
        );
        match read(&pod).unwrap().wanted.into_iter().next() {
            Some(Wanted::Pods(pods)) => pods,
            other => panic!("{other:?}"),
        }
    };
    for (situation, ports, specs, expected) in [
        ("a number", "", &["{selector: {app: web}, ports: [{port: 80, targetPort: 3000}]}"][..], &[3000][..]),
        ("none", "", &["{selector: {app: web}, ports: [{port: 80}]}"], &[80]),
        ("a name", "", &["{selector: {app: web}, ports: [{port: 80, targetPort: http}]}"], &[]),
        ("other labels", "", &["{selector: {app: web, tier: y}, ports: [{port: 80}]}"], &[]),
        (
            "several",
            "",
            &[
                "{selector: {app: web}, ports: [{port: 80}, {port: 81}]}",
                "{selector: {tier: x}, ports: [{port: 81}]}",
            ],
            &[80, 81],
        ),
        (
            "pods that name one",
            ", ports: [{containerPort: 8080}]",
            &["{selector: {app: web}, ports: [{port: 80}]}"],
            &[8080],
        ),
    ] {
        let services: Vec<Selecting> = specs.iter().map(|spec| selecting(spec)).collect();
        let mut pods = pods(ports);
        Selecting::open(&services, &mut pods);
        assert_eq!(pods.ports, expected, "{situation}");
    }
    assert_eq!(read(&service("{ports: [{port: 80}]}")).unwrap().services, []);
}

#[test]
fn a_pod_is_ready_as_it_says() {
    let whole = "spec: {nodeName: n}\nstatus: {podIP: 10.0.0.9";
    let condition = |status: &str| format!("conditions: [{{type: Ready, status: '{status}'}}]");
    for (rest, expected) in [
        (String::new(), true),
        (format!("status: {{{}}}", condition("False")), false),
        (format!("status: {{{}}}", condition("Unknown")), false),
        (format!("status: {{{}}}", condition("True")), true),
        (format!("{whole}}}"), false),
        (format!("{whole}, {}}}", condition("True")), true),
    ] {
        let contents = read(&format!("kind: Pod\nmetadata: {{name: p}}\n{rest}\n")).unwrap();
        let [Wanted::Pods(pods)] = &contents.wanted[..] else { panic!("{contents:?}") };
        assert_eq!(pods.ready, expected, "{rest}");
    }
}

#[test]
fn what_the_lab_completes_is_blank_for_the_proxies() {
    let service = "kind: Service\nmetadata: {name: s}\n";
    for (situation, text, expected) in [
        ("a Service alone", service.to_owned(), None),
        (
            "a Pod without address before it",
            format!("kind: Pod\nmetadata: {{name: p}}\n---\n{service}"),
            Some(format!("\n\n---\n{service}")),
        ),
        (
            "a Pod without address behind it",
            format!("{service}---\nkind: Pod\nmetadata: {{name: p}}\n"),
            Some(format!("{service}---\n\n\n")),
        ),
        (
            "a Pod with everything",
            "kind: Pod\nmetadata: {name: p}\nspec: {nodeName: n}\nstatus: {podIP: 10.0.0.9}\n".to_owned(),
            None,
        ),
    ] {
        assert_eq!(read(&text).unwrap().text, expected, "{situation}");
    }
}

#[test]
fn mistakes_are_named() {
    for (text, message) in [
        ("a: [\n", "a.yaml:2: not valid YAML: while parsing a node, did not find expected node content"),
        ("kind: Pod\nspec: {}\n", "a.yaml:1: Pod ?: metadata.name: is missing; give one"),
        (
            "kind: Deployment\nmetadata: {name: d}\nspec: {replicas: -1}\n",
            "a.yaml:3: Deployment d: spec.replicas: -1 is not a number from 0 to 1000",
        ),
        (
            "kind: Pod\nmetadata: {name: p}\nspec: {containers: [{ports: [{containerPort: 0}]}]}\n",
            "a.yaml:3: Pod p: spec.containers[0].ports[0].containerPort: 0 is not in 1-65535",
        ),
        (
            "kind: Node\nmetadata: {name: n}\nspec: {podCIDRs: [10.0.0.0]}\n",
            "a.yaml:3: Node n: spec.podCIDRs: \"10.0.0.0\" is not a network such as 10.244.1.0/24",
        ),
        (
            "kind: List\nitems: [{kind: Pod, metadata: {name: p}}]\n",
            "a.yaml:2: Pod p: items: the lab completes Pods and Nodes that are documents of their own; take it out of \
             the list, or give it its node and addresses",
        ),
    ] {
        assert_eq!(read(text).unwrap_err(), message);
    }
}
