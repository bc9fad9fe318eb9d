use super::*;

fn found(text: &str) -> Vec<String> {
    let files = [(PathBuf::from("a.yaml"), text.to_owned())];
    find(&files, Workloads::Run).iter().map(ToString::to_string).collect()
}

#[test]
fn pods_that_get_no_connections_are_reported_where_nobody_runs_them() {
    let ready = "conditions: [{type: Ready, status: 'True'}]";
    let refused = |lacks: &str| {
        vec![format!(
            "a.yaml:7: Service default/s: spec.selector: no selected pod is ready, so that connections are refused: Pod \
             default/p {lacks}; in a cluster the kubelet writes it"
        )]
    };
    let no_address = || refused("has no address in status.podIP");
    let no_condition = || refused("has no condition of type Ready with status \"True\" in status.conditions");
    for (status, spec, expected) in [
        (format!("{{podIP: 10.0.0.1, {ready}}}"), "", vec![]),
        ("{podIP: 10.0.0.1}".to_owned(), "", no_condition()),
        ("{podIP: 10.0.0.1}".to_owned(), ", publishNotReadyAddresses: true", vec![]),
        (
            "{podIP: 10.0.0.1}\nspec: {containers: [{readinessProbe: {tcpSocket: {port: 80}}}]}".to_owned(),
            "",
            vec![],
        ),
        (format!("{{{ready}}}"), "", no_address()),
        (format!("{{{ready}}}"), ", publishNotReadyAddresses: true", no_address()),
        ("{podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]}".to_owned(), "", no_condition()),
    ] {
        let text = format!(
            "kind: Pod\nmetadata: {{name: p, labels: {{a: b}}}}\nstatus: {status}\n---\nkind: Service\n\
             metadata: {{name: s}}\nspec: {{selector: {{a: b}}{spec}}}\n"
        );
        let files = [(PathBuf::from("a.yaml"), text)];
        let found =
            |workloads| -> Vec<String> { find(&files, workloads).iter().map(ToString::to_string).collect() };
        assert_eq!(found(Workloads::Ignored), expected, "{status} {spec}");
        assert_eq!(found(Workloads::Run), [""; 0], "{status} {spec}");
    }
}

const POD: &str = "
kind: Pod
metadata: {name: web-1, labels: {app: web, tier: x}}
spec: {nodeName: one, containers: [{ports: [{name: http, containerPort: 80}, {name: dns, containerPort: 53, protocol: UDP}]}]}
---";
const DEPLOYMENT: &str = "
kind: Deployment
metadata: {name: front}
spec:
  selector: {matchLabels: {app: front}}
  template:
    metadata: {labels: {app: front}}
    spec: {containers: [{ports: [{name: http, containerPort: 80}]}]}
---";

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn what_matches_nothing_is_found() {
    let service =
        |spec: &str| format!("{POD}{DEPLOYMENT}\nkind: Service\nmetadata: {{name: s}}\nspec: {spec}\n");
    let slice = |labels: &str| {
        format!(
            "kind: Service\nmetadata: {{name: s}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\nkind: \
             EndpointSlice\nmetadata: {{name: x, labels: {labels}}}\nports: [{{name: htp, port: 80}}]\n"
        )
    };
    for (situation, text, expected) in [
        (
            "a selector that fits a Pod",
            service("{selector: {app: web}, ports: [{targetPort: http}]}"),
            &[][..],
        ),
        ("one that fits a template", service("{selector: {app: front}, ports: [{targetPort: 80}]}"), &[]),
        (
            "one that fits nothing, by a slip",
            service("{selector: {app: wbe}}"),
            &[
                "a.yaml:16: Service default/s: spec.selector: no pod here has the labels app=wbe; is app=web meant?",
            ],
        ),
        (
            "one that fits in another namespace",
            service("{selector: {app: web}}").replace("name: s}", "name: s, namespace: shop}"),
            &[
                "a.yaml:16: Service shop/s: spec.selector: no pod here has the labels app=web; Pod default/web-1 has, in \
                 another namespace",
            ],
        ),
        (
            "a port name that no pod has",
            service("{selector: {app: web}, ports: [{targetPort: http}, {targetPort: htpp}]}"),
            &[
                "a.yaml:16: Service default/s: spec.ports[1].targetPort: no selected pod has a TCP port called \"htpp\"; \
                 they have \"http\"",
            ],
        ),
        (
            "one that is of another protocol",
            service("{selector: {app: front}, ports: [{targetPort: http, protocol: UDP}]}"),
            &[
                "a.yaml:16: Service default/s: spec.ports[0].targetPort: no selected pod has a UDP port called \"http\"; \
                 give one of their container ports this name, or write a number",
            ],
        ),
        ("a number that a pod has", service("{selector: {app: web}, ports: [{port: 80}]}"), &[]),
        (
            "a number that no pod has",
            service("{selector: {app: web}, ports: [{port: 80, targetPort: 9999}]}"),
            &[
                "a.yaml:16: Service default/s: spec.ports[0].targetPort: no selected pod has a container port 9999; they \
                 have 53, 80",
            ],
        ),
        (
            "the number of the Service port, which no pod has",
            service("{selector: {app: web}, ports: [{port: 81}]}"),
            &[
                "a.yaml:16: Service default/s: spec.ports[0].port: no selected pod has a container port 81; they have \
                 53, 80",
            ],
        ),
        (
            "a number, where a pod does not say which ports it has",
            format!(
                "{}---\nkind: Pod\nmetadata: {{name: q, labels: {{app: web}}}}\n",
                service("{selector: {app: web}, ports: [{port: 81}]}")
            ),
            &[],
        ),
        (
            "no selector and no slices",
            service("{ports: [{port: 80}]}"),
            &[
                "a.yaml:14: Service default/s: nothing gives it endpoints: it has no selector, and no EndpointSlice here \
                 names it; connections are refused",
            ],
        ),
        ("an ExternalName needs none", service("{type: ExternalName, externalName: a.b}"), &[]),
        (
            "a slice whose port names differ",
            slice("{kubernetes.io/service-name: s}"),
            &[
                "a.yaml:3: Service default/s: spec.ports[0].name: no EndpointSlice of this Service has a port called \
                 \"http\"; they have \"htp\"; is \"htp\" meant?",
            ],
        ),
        (
            "a slice of no Service",
            format!(
                "{}---\nkind: EndpointSlice\nmetadata: {{name: y, labels: {{kubernetes.io/service-name: t}}}}\n",
                slice("{kubernetes.io/service-name: s}").replace("htp,", "http,")
            ),
            &[
                "a.yaml:10: EndpointSlice default/y: metadata.labels.kubernetes.io/service-name: there is no Service \
                 default/t here; is s meant?",
            ],
        ),
        (
            "a slice without the label",
            "kind: EndpointSlice\nmetadata: {name: y}\n".to_owned(),
            &[
                "a.yaml:2: EndpointSlice default/y: metadata.labels: the label kubernetes.io/service-name is missing, so \
                 that no Service uses this slice; let it name the Service",
            ],
        ),
        (
            "Endpoints of no Service",
            "kind: Endpoints\nmetadata: {name: y}\n".to_owned(),
            &["a.yaml:2: Endpoints default/y: metadata.name: there is no Service default/y here"],
        ),
        (
            "a node that is not there, beside one that is",
            format!("{POD}\nkind: Node\nmetadata: {{name: onee}}\n"),
            &["a.yaml:4: Pod default/web-1: spec.nodeName: there is no Node one here; is onee meant?"],
        ),
        (
            "a Deployment whose template has other labels",
            DEPLOYMENT.replace("metadata: {labels: {app: front}}", "metadata: {labels: {app: back}}"),
            &[
                "a.yaml:5: Deployment default/front: spec.selector.matchLabels: asks for app=front, but its own template \
                 has app=back",
            ],
        ),
    ] {
        assert_eq!(found(&text), *expected, "{situation}");
    }
}

#[test]
fn what_dns_has_no_name_for_is_found() {
    let headless = "kind: Service\nmetadata: {name: db}\nspec: {clusterIP: None, selector: {app: db}}\n---\n";
    let pod = |spec: &str| {
        format!("{headless}kind: Pod\nmetadata: {{name: p, labels: {{app: db}}}}\nspec: {{{spec}}}\n")
    };
    let workload = |kind: &str, spec: &str, of_pods: &str| {
        format!(
            "{headless}kind: {kind}\nmetadata: {{name: w}}\nspec:\n  {spec}\n  template:\n    \
             metadata: {{labels: {{app: db}}}}\n    spec: {{{of_pods}}}\n"
        )
    };
    let alias = |target: &str| {
        format!(
            "kind: Service\nmetadata: {{name: a}}\nspec: {{type: ExternalName, externalName: {target}}}\n"
        )
    };
    let (label, long) = ("a".repeat(64), "a.".repeat(127));
    for (situation, text, expected) in [
        ("a pod in its Service", pod("hostname: h, subdomain: db"), String::new()),
        ("a hostname alone is none's business", pod("hostname: h"), String::new()),
        (
            "a pod in no Service",
            pod("hostname: h, subdomain: dbs"),
            "a.yaml:7: Pod default/p: spec.subdomain: there is no Service default/dbs here, so that DNS has no name for this \
             pod; is db meant?"
                .to_owned(),
        ),
        ("a StatefulSet in its Service", workload("StatefulSet", "serviceName: db", ""), String::new()),
        (
            "one in no Service",
            workload("StatefulSet", "serviceName: none", ""),
            "a.yaml:8: StatefulSet default/w: spec.serviceName: there is no Service default/none here, so that DNS has no \
             name for its pods"
                .to_owned(),
        ),
        (
            "one with a long name",
            workload("StatefulSet", "serviceName: db", "").replace("name: w", &format!("name: {}", "w".repeat(62))),
            format!(
                "a.yaml:6: StatefulSet default/{}: metadata.name: has 62 characters; with their numbers its pods' names are \
                 longer than 63, which no host name can be: shorten it",
                "w".repeat(62)
            ),
        ),
        (
            "a Deployment whose pods have no hostname",
            workload("Deployment", "replicas: 1", "subdomain: db"),
            "a.yaml:11: Deployment default/w: spec.template.spec.subdomain: without a hostname beside it, DNS has no name \
             by it for any of its pods; give one, or use a StatefulSet"
                .to_owned(),
        ),
        ("an alias", alias("a.example."), String::new()),
        (
            "an alias for an address",
            alias("10.0.0.1"),
            "a.yaml:3: Service default/a: spec.externalName: 10.0.0.1 is an address, to which DNS leads nobody; use a Service \
             without selector, and an EndpointSlice"
                .to_owned(),
        ),
        (
            "a part of 64",
            alias(&format!("{label}.b")),
            format!(
                "a.yaml:3: Service default/a: spec.externalName: {label:?} has 64 characters, and a part of a name at most \
                 63; DNS leads nobody there"
            ),
        ),
        (
            "a name of 254",
            alias(&format!("{long}a")),
            "a.yaml:3: Service default/a: spec.externalName: has 255 characters, and a name at most 253; DNS leads nobody \
             there"
                .to_owned(),
        ),
    ] {
        assert_eq!(found(&text).join("\n"), expected, "{situation}");
    }
}

#[test]
fn pods_that_nobody_makes_are_reported_where_nobody_makes_them() {
    let files = [(PathBuf::from("a.yaml"), DEPLOYMENT.to_owned())];
    assert_eq!(find(&files, Workloads::Run), []);
    let found = find(&files, Workloads::Ignored);
    assert_eq!(found.len(), 1);
    assert!(found[0].to_string().starts_with("a.yaml:2: Deployment default/front: kind: is passed over"));
}
