//! Which kinds and fields the Kubernetes API has, so that slips are reported instead of ignored.
//!
//! `kubectl` reports unknown fields by asking the API server; without a cluster, this is what
//! knows. What the API has and a service proxy does not use is no slip.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Write;
use std::sync::OnceLock;

use portolan_yaml::{Content, Tree};

use portolan_yaml::{nearest, slips};

/// Something that the API does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unknown {
    /// Path of the field.
    pub(crate) field: String,
    /// The line of its key.
    pub(crate) line: usize,
    /// What it is, and what was probably meant.
    pub(crate) message: String,
}

/// A field, and the type of its value if that has fields of its own.
#[derive(Debug, Clone, Copy)]
struct Field {
    of: Option<&'static str>,
    is_list: bool,
}

type Types = HashMap<&'static str, BTreeMap<&'static str, Field>>;

/// The lines of a table that are no comments.
fn table(text: &'static str) -> impl Iterator<Item = (&'static str, std::str::SplitWhitespace<'static>)> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?, words))
    })
}

fn types() -> &'static Types {
    static TYPES: OnceLock<Types> = OnceLock::new();
    TYPES.get_or_init(|| {
        let field = |word: &'static str| match word.split_once(':') {
            None => (word, Field { of: None, is_list: false }),
            Some((name, of)) => {
                let item = of.strip_suffix("[]");
                (name, Field { of: Some(item.unwrap_or(of)), is_list: item.is_some() })
            }
        };
        table(include_str!("schema/fields.txt"))
            .map(|(name, fields)| (name, fields.map(field).collect()))
            .collect()
    })
}

/// The kinds of each group; the core group is `-`.
fn kinds() -> &'static BTreeMap<&'static str, BTreeSet<&'static str>> {
    static KINDS: OnceLock<BTreeMap<&'static str, BTreeSet<&'static str>>> = OnceLock::new();
    KINDS.get_or_init(|| {
        table(include_str!("schema/kinds.txt")).map(|(group, kinds)| (group, kinds.collect())).collect()
    })
}

/// What is wrong with the kind of an object that is none of those that are read; `None` if it is a
/// kind of the API, or of an API group that is somebody else's. `line_of` gives the lines of
/// `apiVersion` and `kind`.
pub(crate) fn unknown_kind(api_version: Option<&str>, kind: &str, tree: &Tree) -> Option<Unknown> {
    let unknown = |field: &str, message: String| {
        let line = tree.get(field).map_or(tree.line, |value| value.key_line);
        Some(Unknown { field: field.to_owned(), line, message })
    };
    let everywhere = || kinds().values().flatten().copied();
    let meant = |found: Option<&str>| found.map_or(String::new(), |found| format!("; is {found} meant?"));
    let Some(api_version) = api_version else {
        if everywhere().any(|known| known == kind) {
            return None;
        }
        let likely = meant(nearest(kind, everywhere()));
        return unknown("kind", format!("{kind:?} is no kind of the Kubernetes API, and is ignored{likely}"));
    };
    let group = api_version.split_once('/').map_or("-", |(group, _)| group);
    let Some(of_group) = kinds().get(group) else {
        if is_foreign(api_version) {
            return None;
        }
        let groups =
            kinds().keys().copied().filter(|known| *known != "-" && slips(group, known) <= GROUP_SLIPS);
        let likely = meant(nearest(group, groups).map(|likely| format!("{likely}/v1")).as_deref());
        return unknown("apiVersion", format!("{api_version:?} is no version of the Kubernetes API{likely}"));
    };
    if of_group.contains(kind) {
        return None;
    }
    if let Some((other, _)) = kinds().iter().find(|(_, kinds)| kinds.contains(kind)) {
        let right =
            if *other == "-" { "v1".to_owned() } else { format!("of the group {other}, as {other}/v1") };
        return unknown(
            "apiVersion",
            format!("{api_version} has no kind {kind}, which is {right}; it is ignored"),
        );
    }
    let likely = nearest(kind, of_group.iter().copied()).or_else(|| nearest(kind, everywhere()));
    unknown("kind", format!("{kind:?} is no kind of {api_version}, and is ignored{}", meant(likely)))
}

/// Whether the objects of this version are custom resources, of somebody else's API group: its name
/// has a dot, as it must.
pub(crate) fn is_foreign(api_version: &str) -> bool {
    let group = api_version.split_once('/').map_or("-", |(group, _)| group);
    group.contains('.') && !kinds().keys().any(|known| slips(group, known) <= GROUP_SLIPS)
}

/// So many letters apart, one group's name is a slip of another's.
const GROUP_SLIPS: usize = 2;

/// The fields of an object of this kind that the API does not have; none if the kind's fields are
/// not known here.
pub(crate) fn unknown_fields(kind: &str, tree: &Tree) -> Vec<Unknown> {
    let mut found = Vec::new();
    if let Some((kind, _)) = types().get_key_value(kind) {
        walk(kind, kind, tree, &mut String::new(), &mut found);
    }
    found
}

/// `tree` is a value of the type `of`, at `path` in an object of kind `kind`.
fn walk(kind: &'static str, of: &'static str, tree: &Tree, path: &mut String, found: &mut Vec<Unknown>) {
    match &tree.content {
        Content::List(items) => {
            for (index, item) in items.iter().enumerate() {
                let length = path.len();
                let _ = write!(path, "[{index}]");
                walk(kind, of, item, path, found);
                path.truncate(length);
            }
        }
        Content::Map(map) => {
            let Some(fields) = types().get(of) else { return };
            for (name, value) in map {
                let length = path.len();
                if length > 0 {
                    path.push('.');
                }
                path.push_str(name);
                match fields.get(name.as_str()) {
                    Some(Field { of: Some(inner), .. }) => walk(kind, inner, value, path, found),
                    Some(_) => {}
                    None => {
                        let likely = likely(kind, fields, name);
                        let message = format!("unknown field, which is ignored{likely}");
                        found.push(Unknown { field: path.clone(), line: value.key_line, message });
                    }
                }
                path.truncate(length);
            }
        }
        _ => {}
    }
}

/// What was probably meant by a field that its type does not have: one that is written almost the
/// same, or the same in another place.
fn likely(kind: &'static str, fields: &BTreeMap<&'static str, Field>, name: &str) -> String {
    let near = nearest(name, fields.keys().copied());
    let elsewhere = place_of(kind, name);
    match (near, elsewhere) {
        (Some(near), None) => format!("; is {near} meant?"),
        (Some(near), Some(_)) if slips(name, near) <= 1 => format!("; is {near} meant?"),
        (_, Some(elsewhere)) => format!("; is {elsewhere} meant?"),
        (None, None) => String::new(),
    }
}

/// The shortest path of a field called `name` in objects of this kind, as `spec.ports[].nodePort`.
fn place_of(kind: &'static str, name: &str) -> Option<String> {
    let mut queue = VecDeque::from([(kind, String::new())]);
    let mut seen = BTreeSet::from([kind]);
    while let Some((of, path)) = queue.pop_front() {
        let fields = types().get(of)?;
        if fields.contains_key(name) {
            return Some(format!("{path}{name}"));
        }
        for (field, Field { of, is_list }) in fields {
            // Nobody writes by hand what the cluster says of an object.
            let written = *field != "status" && *field != "managedFields";
            if let Some(of) = of.filter(|of| written && seen.insert(of)) {
                queue.push_back((of, format!("{path}{field}{}.", if *is_list { "[]" } else { "" })));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        portolan_yaml::parse(text, 1).unwrap().remove(0)
    }

    fn fields(text: &str) -> Vec<String> {
        let tree = tree(text);
        let kind = tree.get("kind").and_then(Tree::text).unwrap().to_owned();
        unknown_fields(&kind, &tree)
            .iter()
            .map(|unknown| format!("{}: {}: {}", unknown.line, unknown.field, unknown.message))
            .collect()
    }

    #[test]
    fn every_type_of_the_table_is_in_the_table() {
        for (name, fields) in types() {
            for (field, Field { of, .. }) in fields {
                assert!(of.is_none_or(|of| types().contains_key(of)), "{name}.{field}: {of:?}");
            }
        }
        for kind in
            ["Service", "EndpointSlice", "Endpoints", "Pod", "Node", "Namespace", "Deployment", "ReplicaSet"]
        {
            assert!(types()[kind].contains_key("metadata"), "{kind}");
        }
    }

    #[test]
    fn unknown_fields_come_with_the_likely_one() {
        for (situation, text, expected) in [
            (
                "letters missing",
                "kind: Service\nspec:\n  selectr:\n    app: a\n",
                "3: spec.selectr: unknown field, which is ignored; is selector meant?",
            ),
            (
                "upper and lower case",
                "kind: Service\nspec:\n  ports:\n  - targetport: 5\n",
                "4: spec.ports[0].targetport: unknown field, which is ignored; is targetPort meant?",
            ),
            (
                "in the wrong place",
                "kind: Service\nspec:\n  type: NodePort\n  nodePort: 30080\n",
                "4: spec.nodePort: unknown field, which is ignored; is spec.ports[].nodePort meant?",
            ),
            (
                "too far out",
                "kind: Deployment\nspec:\n  containers: []\n",
                "3: spec.containers: unknown field, which is ignored; is spec.template.spec.containers meant?",
            ),
            ("like nothing", "kind: Pod\ncolour: red\n", "2: colour: unknown field, which is ignored"),
            (
                "deep inside",
                "kind: Deployment\nspec: {template: {spec: {containers: [{ports: [{containerPrt: 1}]}]}}}\n",
                "2: spec.template.spec.containers[0].ports[0].containerPrt: unknown field, which is ignored; is \
                 containerPort meant?",
            ),
        ] {
            assert_eq!(fields(text), [expected], "{situation}");
        }
    }

    #[test]
    fn what_the_api_has_is_no_slip() {
        let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {any/thing: x}, annotations: {a.b/c: d}}
spec:
  replicas: 1
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 1}}
  selector: {matchLabels: {app: web}, matchExpressions: [{key: a, operator: Exists}]}
  template:
    metadata: {labels: {app: web}, creationTimestamp: null}
    spec:
      tolerations: [{key: a, operator: Exists}]
      volumes: [{name: v, emptyDir: {}}, {name: c, configMap: {name: c, items: [{key: k, path: p}]}}]
      containers:
      - name: web
        image: nginx
        env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.podIP}}}]
        resources: {limits: {cpu: 1, 'example.com/gpu': 2}, requests: {memory: 1Gi}}
        readinessProbe: {httpGet: {path: /, port: http, httpHeaders: [{name: a, value: b}]}, periodSeconds: 1}
        securityContext: {capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
        ports: [{name: http, containerPort: 80, protocol: TCP, hostPort: 80}]
status: {conditions: [{type: Available, status: 'True'}]}
";
        assert_eq!(fields(text), [""; 0]);
    }

    #[test]
    fn kinds_that_nobody_has() {
        for (version, kind, expected) in [
            (
                Some("v1"),
                "Servcie",
                Some("kind: \"Servcie\" is no kind of v1, and is ignored; is Service meant?"),
            ),
            (
                Some("v1"),
                "service",
                Some("kind: \"service\" is no kind of v1, and is ignored; is Service meant?"),
            ),
            (
                None,
                "Servcie",
                Some("kind: \"Servcie\" is no kind of the Kubernetes API, and is ignored; is Service meant?"),
            ),
            (
                Some("v1"),
                "Deploymnt",
                Some("kind: \"Deploymnt\" is no kind of v1, and is ignored; is Deployment meant?"),
            ),
            (Some("v1"), "Thing", Some("kind: \"Thing\" is no kind of v1, and is ignored")),
            (
                Some("v1"),
                "Deployment",
                Some(
                    "apiVersion: v1 has no kind Deployment, which is of the group apps, as apps/v1; it is ignored",
                ),
            ),
            (
                Some("apps/v1"),
                "ConfigMap",
                Some("apiVersion: apps/v1 has no kind ConfigMap, which is v1; it is ignored"),
            ),
            (
                Some("app/v1"),
                "Deployment",
                Some("apiVersion: \"app/v1\" is no version of the Kubernetes API; is apps/v1 meant?"),
            ),
            (Some("v1"), "ConfigMap", None),
            (Some("apps/v1"), "Deployment", None),
            (Some("batch/v1"), "CronJob", None),
            (Some("gateway.networking.k8s.io/v1"), "HTTPRoute", None),
            (Some("cert-manager.io/v1"), "Certificate", None),
            (None, "Secret", None),
        ] {
            let found = unknown_kind(version, kind, &tree("apiVersion: a\nkind: b\n"))
                .map(|unknown| format!("{}: {}", unknown.field, unknown.message));
            assert_eq!(found.as_deref(), expected, "{version:?} {kind}");
        }
    }
}
