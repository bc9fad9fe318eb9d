//! Files, and what becomes of them on a real API server.

use std::fs;
use std::path::Path;

use portolan_apiserver::{Options, Server};

use super::*;

/// A folder of files, and a server.
struct World {
    folder: tempfile::TempDir,
    objects: Objects,
    _server: Server,
}

impl World {
    fn new(files: &[(&str, &str)]) -> (World, Applied) {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::start(Options::cluster()).expect("a server");
        let world = World { folder, objects: server.objects(), _server: server };
        for (name, text) in files {
            world.write(name, text);
        }
        let mut applied = Applied::read(vec![world.folder.path().to_owned()]).expect("readable");
        applied.apply(&world.objects);
        (world, applied)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.folder.path().join(name)).expect("removed");
    }

    fn get(&self, resource: Resource, name: &str) -> Value {
        self.objects.get(resource, "default", name).unwrap_or_default()
    }

    fn names(&self, resource: Resource) -> Vec<String> {
        let found = self.objects.list(resource);
        let names =
            found.iter().map(|object| object["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        names.filter(|name| name != "kubernetes").collect()
    }

    /// Findings as `file:line: message`, without the folder.
    fn findings(&self, applied: &Applied) -> Vec<String> {
        applied.findings().iter().map(|finding| line(finding, self.folder.path())).collect()
    }
}

fn line(finding: &Finding, folder: &Path) -> String {
    let file =
        finding.file.as_deref().map(|file| file.strip_prefix(folder).unwrap_or(file).display().to_string());
    let place = [file, finding.line.map(|line| line.to_string())].into_iter().flatten().collect::<Vec<_>>();
    format!("{}: {}", place.join(":"), finding.message)
}

fn configuration(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{key: '{value}'}}\n")
}

fn service(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  selector: {{app: {name}}}\n  \
         ports: [{{port: 80}}]\n{more}"
    )
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: a, image: one}]}
";

/// What a text declares.
fn declared(text: &str) -> Result<Vec<Declared>, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a.yaml");
    fs::write(&file, text).expect("written");
    files::read(&file).map_err(|error| line(&Finding::of_error(&error), folder.path()))
}

/// What it is, a text, and the keys that it declares or the problem.
type Case = (&'static str, &'static str, Result<&'static [&'static str], &'static str>);

#[test]
fn reads_what_files_declare() {
    let list = "kind: List\nitems:\n- {kind: Service, metadata: {name: a, namespace: shop}}\n- {kind: Namespace, \
                metadata: {name: b, namespace: no}}\n";
    // what, text, keys or the problem
    let table: [Case; 11] = [
        ("one", "kind: Pod\nmetadata: {name: a}\n", Ok(&["Pods default a"])),
        ("JSON", r#"{"kind": "Pod", "metadata": {"name": "a"}}"#, Ok(&["Pods default a"])),
        (
            "several, and nothing",
            "---\n---\nkind: Pod\nmetadata: {name: a}\n---\n# no\n---\nkind: Secret\nmetadata: \
                                  {name: b}\n",
            Ok(&["Pods default a", "Secrets default b"]),
        ),
        ("a list", list, Ok(&["Services shop a", "Namespaces  b"])),
        (
            "an old group",
            "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: a}\n",
            Ok(&["Deployments default a"]),
        ),
        ("not served", "apiVersion: example.org/v1\nkind: Pod\nmetadata: {name: a}\n", Ok(&["?"])),
        ("nothing", "", Ok(&[])),
        ("no YAML", "kind: Pod\nmetadata: {name: [a}\n", Err("a.yaml:2: ")),
        ("no object", "- a\n", Err("a.yaml:1: ? ?: kind: is missing; give one")),
        ("no kind", "a: 1\nmetadata: {name: a}\n", Err("a.yaml:1: ? a: kind: is missing; give one")),
        (
            "no name",
            "kind: Pod\nmetadata:\n  labels: {}\n",
            Err("a.yaml:3: Pod ?: metadata.name: is missing; give one"),
        ),
    ];
    for (what, text, expected) in table {
        let key = |declared: &Declared| match declared.key() {
            Some((resource, namespace, name)) => format!("{resource:?} {namespace} {name}"),
            None => "?".to_owned(),
        };
        match (declared(text), expected) {
            (Ok(found), Ok(expected)) => {
                assert_eq!(found.iter().map(key).collect::<Vec<_>>(), expected, "{what}");
            }
            (Err(found), Err(expected)) => assert!(found.starts_with(expected), "{what}: {found}"),
            (found, _) => panic!("{what}: {found:?}"),
        }
    }
}

#[test]
fn takes_what_is_a_users() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, uid: x, resourceVersion: '1', labels: {b: c}}, \
               status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}";
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {clusterIP: 10.96.0.9, clusterIPs: \
                   [10.96.0.9, 'fd00::9']}, status: {loadBalancer: {ingress: [{ip: 203.0.113.5}]}}}";
    let found = declared(&format!("{pod}\n---\n{service}\n")).expect("readable");
    assert_eq!(
        found[0].wanted(),
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a", "labels": { "b": "c" },
            "annotations": { "lab.portolan/pod-ips": "10.0.0.1,fd00::1" } } })
    );
    assert_eq!((found[0].load_balancer(), found[0].cluster_ips()), (None, Vec::new()));
    assert_eq!(found[1].wanted()["status"], Value::Null);
    assert_eq!(found[1].load_balancer(), Some(json!({ "ingress": [{ "ip": "203.0.113.5" }] })));
    let texts: Vec<String> = found[1].cluster_ips().iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["10.96.0.9", "fd00::9", "10.96.0.9"]);
}

#[test]
fn says_what_the_lab_does_not_do() {
    let pod = |spec: &str| format!("kind: Pod\nmetadata: {{name: p}}\nspec:\n  {spec}\n");
    let balanced = service("s", "  type: LoadBalancer\n");
    let addressed = format!("{balanced}status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.5}}]}}}}\n");
    // text, line and beginning of the warning
    let table = [
        (DEPLOYMENT.to_owned(), ""),
        ("kind: Job\nmetadata: {name: j}\n".to_owned(), ""),
        ("kind: CronJob\nmetadata: {name: j}\n".to_owned(), "a.yaml:1: CronJob j: kind: is passed over"),
        ("kind: Ingress\nmetadata: {name: j}\n".to_owned(), "a.yaml:1: Ingress j: kind: is passed over"),
        (
            "kind: NetworkPolicy\nmetadata: {name: j}\n".to_owned(),
            "a.yaml:1: NetworkPolicy j: kind: is passed over",
        ),
        (
            "apiVersion: a.b/v1\nkind: C\nmetadata: {name: j}\n".to_owned(),
            "a.yaml:2: C j: kind: is passed over: the lab's API server does not serve it in a.b/v1",
        ),
        (balanced, "a.yaml:7: Service s: spec.type: LoadBalancer, but"),
        (addressed, ""),
        (pod("nodeSelector: {a: b}"), ""),
        (pod("affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {}}}"), ""),
        (pod("affinity: {podAffinity: {}}"), "a.yaml:4: Pod p: spec.affinity.podAffinity: is ignored"),
        (pod("containers: [{ports: [{hostPort: 80}]}]"), ""),
        (pod("{}\nstatus: {conditions: []}"), "a.yaml:5: Pod p: status.conditions: is ignored"),
    ];
    for (text, expected) in table {
        let found = declared(&text).expect(&text);
        let findings = not_done(&found[0], false);
        let folder = findings.first().and_then(|finding| finding.file.as_deref()?.parent());
        let found =
            findings.first().map(|finding| line(finding, folder.expect("a folder"))).unwrap_or_default();
        assert!(found.starts_with(expected) && found.is_empty() == expected.is_empty(), "{text}: {found}");
        assert!(findings.iter().all(|finding| finding.is_warning), "{text}");
    }
}

#[test]
fn applies_and_follows_files() {
    let (world, mut applied) = World::new(&[
        ("a.yaml", &format!("{}---\n{}", configuration("one", "1"), configuration("two", "1"))),
        ("b.yaml", DEPLOYMENT),
        ("c.yaml", "kind: Service\nmetadata: {name: web, namespace: shop}\nspec: {ports: [{port: 80}]}\n"),
        ("notes.txt", "nothing"),
    ]);
    assert_eq!(world.findings(&applied), [""; 0]);
    assert_eq!(world.names(Resource::ConfigMaps), ["one", "two"]);
    assert!(world.names(Resource::Namespaces).contains(&"shop".to_owned()));
    let fields = &world.get(Resource::ConfigMaps, "one")["metadata"]["managedFields"][0];
    assert_eq!((&fields["manager"], &fields["operation"]), (&json!("lab-up"), &json!("Apply")));

    // What somebody else sets stays until the file says something else of this object.
    let scale = |replicas: u32| json!({ "spec": { "replicas": replicas } });
    world.objects.patch(Resource::Deployments, "default", "web", scale(5)).expect("patched");
    world.write("a.yaml", &configuration("one", "2"));
    applied.follow(&world.objects).expect("followed");
    assert_eq!(world.get(Resource::ConfigMaps, "one")["data"]["key"], "2");
    assert_eq!(world.names(Resource::ConfigMaps), ["one"], "two is in no file any more");
    assert_eq!(world.get(Resource::Deployments, "web")["spec"]["replicas"], 5);
    world.write("b.yaml", &DEPLOYMENT.replace("image: one", "image: two"));
    applied.follow(&world.objects).expect("followed");
    let deployment = world.get(Resource::Deployments, "web");
    assert_eq!(deployment["spec"]["replicas"], 2);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["image"], "two");

    world.write("new.yml", &configuration("three", "1"));
    world.remove("b.yaml");
    applied.follow(&world.objects).expect("followed");
    assert_eq!(world.names(Resource::ConfigMaps), ["one", "three"]);
    assert_eq!(world.names(Resource::Deployments), [""; 0]);
}

#[test]
fn what_is_wrong_changes_nothing_else() {
    let (world, mut applied) = World::new(&[
        ("a.yaml", &configuration("one", "1")),
        ("b.yaml", &service("web", "  type: NodePort\n")),
    ]);
    let port = world.get(Resource::Services, "web")["spec"]["ports"][0]["nodePort"].clone();
    // Not YAML: the file stays as it was.
    world.write("a.yaml", "kind: ConfigMap\nmetadata: {name: [}\n");
    // Not allowed: the object stays as it was, and what is beside it is applied.
    let refused = service("web", "  type: NodePort\n").replace("port: 80", "port: 80, nodePort: 80");
    world.write("b.yaml", &format!("{refused}---\n{}", configuration("two", "1")));
    applied.follow(&world.objects).expect("followed");
    assert_eq!(world.names(Resource::ConfigMaps), ["one", "two"]);
    assert_eq!(world.get(Resource::Services, "web")["spec"]["ports"][0]["nodePort"], port);
    let findings = world.findings(&applied);
    assert_eq!(findings.len(), 2, "{findings:#?}");
    assert!(findings[0].starts_with("a.yaml:2: "), "{findings:#?}");
    let wanted =
        "b.yaml:6: Service web: Service \"web\" is invalid: spec.ports[0].nodePort: Invalid value: 80";
    assert!(findings[1].starts_with(wanted), "{findings:#?}");

    world.write("a.yaml", &configuration("one", "3"));
    world.write("b.yaml", &service("web", "  type: ClusterIP\n  unknown: 1\n"));
    applied.follow(&world.objects).expect("followed");
    assert_eq!(world.get(Resource::ConfigMaps, "one")["data"]["key"], "3");
    let findings = world.findings(&applied);
    assert!(findings[0].contains("unknown field \"spec.unknown\""), "{findings:#?}");
    world.write("b.yaml", &service("web", "  type: ClusterIP\n"));
    applied.follow(&world.objects).expect("followed");
    assert_eq!(world.findings(&applied), [""; 0]);
    assert_eq!(world.get(Resource::Services, "web")["spec"]["type"], "ClusterIP");
}

#[test]
fn the_first_of_two_counts() {
    let (world, applied) =
        World::new(&[("a.yaml", &configuration("one", "1")), ("b.yaml", &configuration("one", "2"))]);
    assert_eq!(world.get(Resource::ConfigMaps, "one")["data"]["key"], "1");
    let findings = world.findings(&applied);
    assert!(findings[0].starts_with("b.yaml:3: ConfigMap one: metadata.name: is in "), "{findings:?}");
    assert!(!applied.findings()[0].is_warning);
}

#[test]
fn a_load_balancer_has_what_the_file_says() {
    let with = |ip: &str| {
        service(
            "web",
            &format!("  type: LoadBalancer\nstatus: {{loadBalancer: {{ingress: [{{ip: {ip}}}]}}}}\n"),
        )
    };
    let (world, mut applied) = World::new(&[("a.yaml", &with("203.0.113.5"))]);
    let ingress =
        |world: &World| world.get(Resource::Services, "web")["status"]["loadBalancer"]["ingress"].clone();
    assert_eq!(ingress(&world)[0]["ip"], "203.0.113.5");
    world.write("a.yaml", &with("203.0.113.6"));
    applied.follow(&world.objects).expect("followed");
    assert_eq!(ingress(&world)[0]["ip"], "203.0.113.6");
    world.write("a.yaml", &service("web", "  type: LoadBalancer\n"));
    applied.follow(&world.objects).expect("followed");
    assert_eq!(ingress(&world), Value::Null);
    assert_eq!(applied.findings().len(), 1, "it has no address");
}

#[test]
fn old_groups_and_nodes() {
    let old = "apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n    metadata: \
               {labels: {app: web}}\n    spec: {containers: [{name: a, image: one}]}\n";
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\n";
    let (world, mut applied) = World::new(&[("a.yaml", old), ("n.yaml", node)]);
    assert_eq!(world.findings(&applied), [""; 0]);
    let deployment = world.get(Resource::Deployments, "web");
    assert_eq!(deployment["apiVersion"], "apps/v1");
    assert_eq!(deployment["spec"]["selector"]["matchLabels"]["app"], "web");
    assert_eq!(world.names(Resource::Nodes), [""; 0]);
    assert_eq!(applied.nodes().len(), 1);
    world.write("n.yaml", &format!("{node}spec: {{podCIDR: 10.9.0.0/24}}\n"));
    applied.follow(&world.objects).expect("followed");
    let findings = world.findings(&applied);
    assert!(findings[0].starts_with("n.yaml:2: Node n1: kind: is not taken over"), "{findings:?}");
    assert_eq!(applied.nodes()[0]["spec"], Value::Null);
}

#[test]
fn files_that_are_not_there_are_an_error_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("a.yaml");
    let error = Applied::read(vec![missing.clone()]).expect_err("missing").to_string();
    assert!(error.contains("a.yaml: cannot be read"), "{error}");
    fs::write(&missing, configuration("one", "1")).expect("written");
    let server = Server::start(Options::cluster()).expect("a server");
    let objects = server.objects();
    let mut applied = Applied::read(vec![missing.clone()]).expect("readable");
    applied.apply(&objects);
    // One that is named and goes away stays as it was.
    fs::remove_file(&missing).expect("removed");
    applied.follow(&objects).expect("followed");
    assert!(objects.get(Resource::ConfigMaps, "default", "one").is_some());
    assert_eq!(applied.findings().len(), 1);
}
