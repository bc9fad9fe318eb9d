//! What only names come from: namespaces, pods with addresses, and slices of names.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use portolan_service::NamesChange;
use portolan_source::manifests::{Manifests, Options};

const ALWAYS: &str = "default kube-node-lease kube-public kube-system";

/// Objects by kind and name, with what is in them.
#[derive(Default)]
struct Known(BTreeMap<String, String>);

impl Known {
    fn apply(&mut self, changes: Vec<NamesChange>) {
        for change in changes {
            let (name, content) = match change {
                NamesChange::Namespace(namespace) => {
                    let labels = namespace.labels.iter().map(|(key, value)| format!("{key}={value}"));
                    (format!("namespace {}", namespace.name), Some(labels.collect::<Vec<_>>().join(" ")))
                }
                NamesChange::NamespaceRemoved(name) => (format!("namespace {name}"), None),
                NamesChange::Pod(pod) => {
                    let content = format!("{:?} {}", pod.addresses, pod.is_listed());
                    (format!("pod {}", pod.name), Some(content))
                }
                NamesChange::PodRemoved(name) => (format!("pod {name}"), None),
                NamesChange::Targets(slice) => {
                    let targets = slice.endpoints.iter().map(|one| format!("{} {}", one.target, one.ready));
                    (format!("targets {}", slice.name), Some(targets.collect::<Vec<_>>().join(" ")))
                }
                NamesChange::TargetsRemoved(name) => (format!("targets {name}"), None),
                NamesChange::Further(slice) => {
                    let addresses = slice.endpoints.iter().map(|one| one.address.to_string());
                    (format!("further {}", slice.name), Some(addresses.collect::<Vec<_>>().join(" ")))
                }
                NamesChange::FurtherRemoved(name) => (format!("further {name}"), None),
            };
            match content {
                Some(content) => drop(self.0.insert(name, content)),
                None => assert!(self.0.remove(&name).is_some(), "{name} was there"),
            }
        }
    }

    /// The namespaces.
    fn namespaces(&self) -> String {
        let names = self.0.keys().filter_map(|name| name.strip_prefix("namespace "));
        names.collect::<Vec<_>>().join(" ")
    }

    fn of(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// A folder with this file in it, and what is known of it.
struct Folder {
    place: tempfile::TempDir,
    manifests: Manifests,
    known: Known,
}

impl Folder {
    fn with(text: &str) -> Folder {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("a.yaml"), text).unwrap();
        let mut manifests = Manifests::open(place.path(), Options::default()).unwrap();
        let mut known = Known::default();
        known.apply(manifests.load().names);
        Folder { place, manifests, known }
    }

    fn becomes(&mut self, text: &str) {
        let beside = self.place.path().join("beside");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.place.path().join("a.yaml")).unwrap();
        let update = self.manifests.wait(Some(Duration::from_secs(10))).unwrap().expect("news");
        assert_eq!(self.manifests.problems(), [] as [&portolan_source::manifests::Problem; 0]);
        self.known.apply(update.names);
    }
}

#[test]
fn namespaces_exist_if_declared_or_if_something_is_in_them() {
    let mut folder = Folder::with("");
    assert_eq!(folder.known.namespaces(), ALWAYS, "those of every cluster");
    let shop = "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {team: x}}}\n---\n";
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: b}, status: {podIPs: [{ip: 10.1.0.1}]}}\n---\n";
    let service =
        "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: b}, spec: {clusterIP: None}}\n";
    folder.becomes(&format!("{shop}{pod}{service}"));
    assert_eq!(folder.known.namespaces(), format!("a b {ALWAYS}"));
    assert_eq!(folder.known.of("namespace a"), Some("team=x kubernetes.io/metadata.name=a"));
    assert_eq!(folder.known.of("namespace b"), Some("kubernetes.io/metadata.name=b"));
    folder.becomes(service);
    assert_eq!(folder.known.namespaces(), format!("b {ALWAYS}"), "the Service is still in it");
    folder.becomes(&shop.replace("team: x", "team: y"));
    assert_eq!(folder.known.of("namespace a"), Some("team=y kubernetes.io/metadata.name=a"));
    assert_eq!(folder.known.namespaces(), format!("a {ALWAYS}"));
    folder.becomes("{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {a: b}}}");
    folder.becomes("");
    assert_eq!(folder.known.of("namespace default"), Some("kubernetes.io/metadata.name=default"));
}

#[test]
fn pods_have_addresses_until_they_end() {
    let pod = |status: &str| {
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: p, namespace: b}}, status: {status}}}")
    };
    let mut folder = Folder::with(&pod("{phase: Running, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}"));
    assert_eq!(folder.known.of("pod b/p"), Some("[10.1.0.1, fd00::1] true"));
    for (phase, listed) in [("Pending", true), ("Succeeded", false), ("Running", true), ("Unknown", false)] {
        folder.becomes(&pod(&format!("{{phase: {phase}, podIP: 10.1.0.1}}")));
        assert_eq!(folder.known.of("pod b/p"), Some(format!("[10.1.0.1] {listed}").as_str()), "{phase}");
    }
    folder.becomes(&pod("{podIP: 10.1.0.1}"));
    assert_eq!(folder.known.of("pod b/p"), Some("[10.1.0.1] true"), "no phase");
    folder.becomes("");
    assert_eq!(folder.known.of("pod b/p"), None);
}

#[test]
fn slices_have_names_and_further_addresses() {
    let slice = |kind: &str, addresses: &str| {
        format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: {kind}, \
             metadata: {{name: s, namespace: b, labels: {{kubernetes.io/service-name: w}}}}, \
             endpoints: [{{addresses: {addresses}}}]}}"
        )
    };
    let mut folder = Folder::with(&slice("IPv4", "[10.1.0.1, 10.1.0.2, 10.1.0.3]"));
    assert_eq!(folder.known.of("further b/s+"), Some("10.1.0.2 10.1.0.3"));
    folder.becomes(&slice("FQDN", "[web.example]"));
    assert_eq!(folder.known.of("further b/s+"), None);
    assert_eq!(folder.known.of("targets b/s"), Some("web.example true"));
    folder.becomes(&slice("IPv4", "[10.1.0.1]"));
    assert_eq!(folder.known.namespaces(), format!("b {ALWAYS}"));
    assert_eq!(folder.known.0.len(), 5, "neither further addresses nor names");

    let folder = Folder::with(&slice("FQDN", "[web]"));
    let problems = folder.manifests.problems();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("endpoints[0].addresses[0]"), "{}", problems[0]);
}
