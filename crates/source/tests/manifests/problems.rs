//! What is reported about manifests that are wrong.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use portolan_source::manifests::{Manifests, Options, validate};
use proptest::prelude::*;

use crate::fields::reported;

#[test]
#[expect(clippy::too_many_lines, reason = "one table of cases")]
fn a_wrong_object_or_document_is_named() {
    let table: &[(&str, &str, &str, &[&str])] = &[
        ("empty", "a.yaml", "", &[]),
        ("comments only", "a.yaml", "# nothing\n---\n# here\n---\n", &[]),
        (
            "kinds of others",
            "a.yaml",
            "kind: Deployment\napiVersion: apps/v1\n---\nkind: Widget\napiVersion: example.com/v1\n---\n\
             kind: Service\napiVersion: serving.knative.dev/v1\n",
            &[],
        ),
        (
            "kinds that nobody has",
            "a.yaml",
            "kind: Servcie\napiVersion: v1\n---\nkind: Widget\n---\nkind: Deployment\napiVersion: app/v1\n",
            &[
                "a.yaml:1: kind: \"Servcie\" is no kind of v1, and is ignored; is Service meant?",
                "a.yaml:4: kind: \"Widget\" is no kind of the Kubernetes API, and is ignored",
                "a.yaml:7: apiVersion: \"app/v1\" is no version of the Kubernetes API; is apps/v1 meant?",
            ],
        ),
        (
            "unknown fields, of a Service and of what makes its pods",
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  selectr:\n    app: a\n  ports: [{port: 80}]\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {replica: 2}\n",
            &[
                "a.yaml:5: Service default/a: spec.selectr: unknown field, which is ignored; is selector meant?",
                "a.yaml:12: Deployment default/a: spec.replica: unknown field, which is ignored; is replicas meant?",
            ],
        ),
        (
            "no kind",
            "a.yaml",
            "apiVersion: v1\n",
            &["a.yaml:1: kind: missing; say what kind of object this is"],
        ),
        (
            "no object",
            "a.yaml",
            "- 1\n- 2\n",
            &["a.yaml:1: not a Kubernetes object: it has no apiVersion, kind and metadata"],
        ),
        (
            "no name",
            "a.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  labels: {a: b}\n",
            &["a.yaml:4: Pod: metadata.name: missing; every object needs a name"],
        ),
        (
            "name with capitals",
            "a.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: Web}\nspec: {ports: [{port: 1}]}\n",
            &[
                "a.yaml:3: Service default/Web: metadata.name: \"Web\" is not a DNS label: up to 63 of a-z, 0-9 and -, not beginning or ending with -",
            ],
        ),
        (
            "name with a slash",
            "a.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a/b}\n",
            &[
                "a.yaml:3: Pod default/a/b: metadata.name: \"a/b\" is not a DNS name: up to 253 of a-z, 0-9, - and ., each part beginning and ending with a letter or digit",
            ],
        ),
        (
            "version of a known kind",
            "a.yaml",
            "apiVersion: discovery.k8s.io/v1beta1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\n",
            &[
                "a.yaml:1: EndpointSlice default/a: apiVersion: discovery.k8s.io/v1beta1 is not supported; for this kind it is discovery.k8s.io/v1",
            ],
        ),
        (
            "slice with an endpoint of the other family",
            "a.yaml",
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a}\naddressType: IPv4\nendpoints:\n- addresses: ['fd00::1']\n- addresses: [127.0.0.1]\n",
            &[
                "a.yaml:6: EndpointSlice default/a: endpoints[0].addresses[0]: fd00::1 is not IPv4, as addressType says",
                "a.yaml:7: EndpointSlice default/a: endpoints[1].addresses[0]: 127.0.0.1 cannot be an endpoint: it is unspecified, loopback, link-local or multicast",
            ],
        ),
        (
            "slice called like a generated one",
            "a.yaml",
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: web-portolan-ipv4-1}\naddressType: IPv4\n",
            &[
                "a.yaml:3: EndpointSlice default/web-portolan-ipv4-1: metadata.name: web-portolan-ipv4-1 is how slices made for Services with a selector are called; choose another name",
            ],
        ),
        (
            "the second document",
            "a.yaml",
            "# first\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\n",
            &["a.yaml:6: Namespace: metadata.name: missing; every object needs a name"],
        ),
        (
            "a document that is no YAML, and one after it",
            "a.yaml",
            "a: [1\n---\nkind: Pod\napiVersion: v1\nmetadata: {name: 1}\n",
            &[
                "a.yaml:2: not valid YAML: while parsing a flow sequence, expected ',' or ']'",
                "a.yaml:5: Pod: metadata.name: not text; put it in quotes",
            ],
        ),
        (
            "a key twice",
            "a.yaml",
            "kind: Pod\napiVersion: v1\nkind: Service\n",
            &["a.yaml:3: key kind is written twice (first on line 1); remove one"],
        ),
        (
            "an item of a list",
            "a.yaml",
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: ok}\n- apiVersion: v1\n  kind: Namespace\n  metadata: {}\n",
            &["a.yaml:9: Namespace: metadata.name: missing; every object needs a name"],
        ),
        (
            "an item of a typed list, without kind",
            "a.yaml",
            "apiVersion: v1\nkind: ServiceList\nitems:\n- metadata: {name: a}\n  spec:\n    ports:\n    - port: -1\n",
            &["a.yaml:7: Service default/a: spec.ports[0].port: -1 is not in 1-65535"],
        ),
        (
            "the same twice",
            "a.yaml",
            "kind: Namespace\napiVersion: v1\nmetadata: {name: a}\n---\nkind: Namespace\napiVersion: v1\nmetadata: {name: a}\n",
            &["a.yaml:5: Namespace a: declared twice in this file; the first counts"],
        ),
        (
            "JSON",
            "a.json",
            "{\"apiVersion\": \"v1\",\n\t\"kind\": \"Service\",\n\t\"metadata\": {\"name\": \"a\"},\n\t\"spec\": {\"ports\": [\n\t\t{\"port\": 0}]}}",
            &["a.json:5: Service default/a: spec.ports[0].port: 0 is not in 1-65535"],
        ),
        (
            "JSON cut off",
            "a.json",
            "{\"apiVersion\": \"v1\",\n\"kind\": ",
            &["a.json:2: not valid JSON: EOF while parsing a value at line 2 column 8"],
        ),
        (
            "JSON with paired escapes",
            "a.json",
            "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"\\ud83d\\ude00\"}}",
            &[
                "a.json:1: Namespace \u{1f600}: metadata.name: \"\u{1f600}\" is not a DNS label: up to 63 of a-z, 0-9 and -, not beginning or ending with -",
            ],
        ),
        (
            "anchors, aliases and merge keys",
            "a.yaml",
            "x: &x {name: a}\nkind: Namespace\napiVersion: v1\nmetadata:\n  <<: *x\n  labels: {a: b}\n",
            &["a.yaml:1: Namespace a: x: unknown field, which is ignored"],
        ),
    ];
    for (name, file, text, expected) in table {
        assert_eq!(reported(file, text), *expected, "{name}");
    }
}

#[test]
fn small_text_cannot_grow_without_bound() {
    let mut bomb = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (name, inner) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"]) {
        let aliases = vec![format!("*{inner}"); 10].join(", ");
        writeln!(bomb, "{name}: &{name} [{aliases}]").unwrap();
    }
    assert!(reported("a.yaml", &bomb)[0].contains("aliases stand for more than 100000 values"));
    assert_eq!(
        reported("a.yaml", &"- ".repeat(100)),
        ["a.yaml:1: more than 64 collections inside of each other"]
    );
    let deep = "[".repeat(10_000);
    assert!(!reported("a.yaml", &deep).is_empty());
    assert!(!reported("a.json", &deep).is_empty());
}

/// What is wrong only beside other objects.
#[test]
fn conflicts_between_objects_are_named() {
    type Situation<'a> = (&'a str, &'a [(&'a str, String)], &'a [&'a str]);
    let web = |name: &str, spec: &str| {
        format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  type: NodePort\n{spec}")
    };
    let table: &[Situation<'_>] = &[
        (
            "one ClusterIP for two: the first by name has it",
            &[
                ("1.yaml", web("b", "  clusterIP: 10.96.0.9\n  ports: [{port: 80, nodePort: 30001}]\n")),
                ("2.yaml", web("a", "  clusterIP: 10.96.0.9\n  ports: [{port: 80, nodePort: 30002}]\n")),
            ],
            &[
                "1.yaml:6: Service default/b: spec.clusterIP: 10.96.0.9 belongs to Service default/a; this Service is left out until one of the two asks for another or for none",
            ],
        ),
        (
            "one NodePort for two",
            &[
                ("1.yaml", web("b", "  ports:\n  - port: 80\n    nodePort: 30001\n")),
                ("2.yaml", web("a", "  ports: [{port: 80, nodePort: 30001}]\n")),
            ],
            &[
                "1.yaml:8: Service default/b: spec.ports[0].nodePort: 30001 belongs to Service default/a; this port is not opened on nodes until one of the two asks for another or for none",
            ],
        ),
        (
            "one number for TCP and UDP is no conflict",
            &[
                ("1.yaml", web("b", "  ports: [{port: 80, nodePort: 30001}]\n")),
                ("2.yaml", web("a", "  ports: [{port: 80, nodePort: 30001, protocol: UDP}]\n")),
            ],
            &[],
        ),
        (
            "NodePort out of range",
            &[("1.yaml", web("a", "  ports: [{port: 80, nodePort: 8080}]\n"))],
            &[
                "1.yaml:6: Service default/a: spec.ports[0].nodePort: 8080 is used as asked, but is not in --service-node-port-range 30000-32767",
            ],
        ),
        (
            "one object in two files: the first file counts",
            &[
                ("1.yaml", web("a", "  ports: [{port: 80}]\n")),
                ("2.yaml", web("a", "  ports: [{port: 81}]\n")),
            ],
            &["2.yaml:1: Service default/a: also declared at 1.yaml:1, which counts; remove one of the two"],
        ),
        (
            "Endpoints beside a selector",
            &[
                ("1.yaml", web("a", "  selector: {app: a}\n  ports: [{port: 80}]\n")),
                ("2.yaml", "apiVersion: v1\nkind: Endpoints\nmetadata: {name: a}\n".to_owned()),
            ],
            &[
                "1.yaml:6: Service default/a: spec.selector: the Endpoints object of the same name is not used, because pods are selected; remove one of the two",
            ],
        ),
    ];
    for (name, files, expected) in table {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in *files {
            fs::write(folder.path().join(file), text).unwrap();
        }
        let mut manifests = Manifests::open(folder.path(), Options::default()).unwrap();
        let update = manifests.load();
        let found: Vec<String> = manifests.problems().iter().map(ToString::to_string).collect();
        assert_eq!(found, *expected, "{name}");
        assert_eq!(update.new_problems.len(), expected.len(), "{name}: all are new");
    }
}

#[test]
fn a_health_check_port_of_another_is_reported_once() {
    let folder = tempfile::tempdir().unwrap();
    let checked = |name: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: LoadBalancer, \
             externalTrafficPolicy: Local, healthCheckNodePort: 30073, ports: [{{port: 80}}]}}\n---\n"
        )
    };
    fs::write(folder.path().join("a.yaml"), checked("one") + &checked("two")).unwrap();
    let mut manifests = Manifests::open(folder.path(), Options::default()).unwrap();
    let update = manifests.load();
    assert_eq!(manifests.problems().len(), 1);
    let mut planner = portolan_service::Planner::new(portolan_service::LocalNode::default());
    planner.apply(update.changes);
    assert_eq!(planner.problems(), [], "the planner has nothing to add");
}

#[test]
fn what_is_no_folder_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.yaml");
    fs::write(&file, "").unwrap();
    let error = Manifests::open(&file, Options::default()).unwrap_err().to_string();
    assert!(
        error.ends_with("a.yaml: is not a folder; give the folder in which the manifests are"),
        "{error}"
    );
    let error = Manifests::open(folder.path().join("none"), Options::default()).unwrap_err().to_string();
    assert!(error.contains("none: cannot open the folder of manifests: No such file"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Bad input never panics, and every problem points into the text.
    #[test]
    fn any_text_is_read(pieces in prop::collection::vec(piece(), 0..40), json: bool) {
        let text = pieces.concat();
        let lines = text.lines().count().max(1);
        for problem in validate(Path::new(if json { "a.json" } else { "a.yaml" }), &text) {
            prop_assert!(problem.line.is_some_and(|line| (1..=lines).contains(&line)), "{} of {:?}", problem, text);
        }
    }
}

/// Pieces out of which nearly valid manifests fall together.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "apiVersion: v1\n",
        "kind: Service\n",
        "kind: Pod\n",
        "kind: List\n",
        "items:\n",
        "- ",
        "  ",
        "\n",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "ports:\n",
        "port: 80\n",
        "targetPort: ",
        "clusterIP: ",
        "10.0.0.1",
        "fd00::1/64",
        "&a ",
        "*a ",
        "<<: ",
        "{",
        "}",
        "[",
        "]",
        ": ",
        ", ",
        "\"",
        "'",
        "|\n",
        ">-\n",
        "#",
        "!!str ",
        "null",
        "-1",
        "1e400",
        "\\ud83d",
        "\t",
        "\u{feff}",
        "addressType: IPv4\n",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => ".{0,4}"]
}
