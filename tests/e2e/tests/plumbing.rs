//! What the suite is made of, against the API server fixture: it has no controllers and no pods, so
//! the test plays the controllers.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use portolan_apiserver::{Credentials, Double, Options, Resource};
use portolan_e2e::api::{Api, is_status};
use portolan_e2e::cluster::Cluster;
use serde_json::{Value, json};

struct Fixture {
    server: Double,
    // Of the kubeconfig; removed at the end.
    _folder: tempfile::TempDir,
    kubeconfig: PathBuf,
}

impl Fixture {
    fn start() -> Fixture {
        let server = Double::start(Options::default()).unwrap();
        for (name, address) in [("node-b", "192.0.2.2"), ("node-a", "192.0.2.1")] {
            server
                .apply(json!({
                    "apiVersion": "v1",
                    "kind": "Node",
                    "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}},
                    "status": {
                        "addresses": [{"type": "InternalIP", "address": address}],
                        "conditions": [{"type": "Ready", "status": "True"}],
                    },
                }))
                .unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        server.kubeconfig(&kubeconfig, &Credentials::ClientCertificate).unwrap();
        Fixture { server, _folder: folder, kubeconfig }
    }

    fn api(&self) -> Api {
        Api::connect(self.kubeconfig.as_os_str()).unwrap()
    }

    fn cluster(&self) -> Cluster {
        Cluster::enter(self.api()).unwrap()
    }

    fn namespaces(&self) -> Vec<Value> {
        self.server.look(|state| state.objects(Resource::Namespaces))
    }
}

fn slice(namespace: &str, service: &str, pods: &[(&str, bool)]) -> Value {
    let endpoint = |(name, ready): &(&str, bool)| json!({"addresses": ["10.244.0.1"], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": name}});
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"namespace": namespace, "name": "slice", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

#[test]
fn a_namespace_is_created_and_deleted() {
    let fixture = Fixture::start();
    let cluster = fixture.cluster();
    assert!(cluster.namespace().starts_with("portolan-e2e-"), "{}", cluster.namespace());
    assert_eq!(
        cluster.nodes().iter().map(|node| node.name.as_str()).collect::<Vec<_>>(),
        ["node-a", "node-b"]
    );
    let found = fixture.namespaces();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"], "privileged");
    cluster.leave().unwrap();
    assert_eq!(fixture.namespaces(), Vec::<Value>::new());
}

#[test]
fn a_namespace_is_deleted_after_a_panic() {
    let fixture = Fixture::start();
    let cluster = fixture.cluster();
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        assert_eq!(cluster.namespace(), "another", "a case that fails");
    }));
    assert!(panicked.is_err());
    assert_eq!(fixture.namespaces(), Vec::<Value>::new());
}

#[test]
fn leaving_a_namespace_that_somebody_deleted_is_no_error() {
    let fixture = Fixture::start();
    let cluster = fixture.cluster();
    assert!(fixture.server.delete(Resource::Namespaces, "", cluster.namespace()));
    cluster.leave().unwrap();
}

#[test]
fn a_service_is_created_patched_and_seen_to_get_its_endpoints() {
    let fixture = Fixture::start();
    let cluster = fixture.cluster();
    let namespace = cluster.namespace().to_owned();
    let service = cluster.create_service("web", "tier", "web", &json!({"type": "NodePort"})).unwrap();
    assert_eq!(service["spec"]["type"], "NodePort");
    assert_eq!(service["spec"]["selector"], json!({"tier": "web"}));
    let path = format!("{}/web", cluster.path("services"));
    cluster.api().patch(&path, &json!({"spec": {"type": "ClusterIP", "selector": null}})).unwrap();
    let patched = cluster.api().get(&path).unwrap();
    assert_eq!((&patched["spec"]["type"], patched["spec"].get("selector")), (&json!("ClusterIP"), None));

    // The wait begins before there is a slice, then sees one that is not ready, and ends with one
    // that is.
    let (done, ended) = mpsc::channel();
    thread::scope(|scope| {
        let waiting = &cluster;
        scope.spawn(move || done.send(waiting.wait_for_endpoints("web", &["a", "b"])).unwrap());
        let watched = |state: &portolan_apiserver::State| state.watchers(Resource::EndpointSlices) > 0;
        for pods in [&[("a", true), ("b", false)][..], &[("a", true), ("c", true)]] {
            assert!(fixture.server.wait_for(watched, Duration::from_secs(10)), "nobody watches");
            fixture.server.apply(slice(&namespace, "web", pods)).unwrap();
            assert!(
                ended.recv_timeout(Duration::from_millis(200)).is_err(),
                "{pods:?} is not what is waited for"
            );
        }
        fixture.server.apply(slice(&namespace, "web", &[("b", true), ("a", true)])).unwrap();
        ended.recv_timeout(Duration::from_secs(10)).unwrap().unwrap();
    });
    cluster.leave().unwrap();
}

#[test]
fn a_wait_is_bounded_and_says_what_it_saw() {
    let fixture = Fixture::start();
    let api = fixture.api();
    let waited =
        api.wait("/api/v1/nodes", "node-a", "node-a is blue", Duration::from_millis(300), |_| Ok(None::<()>));
    let error = waited.unwrap_err().to_string();
    assert!(error.contains("node-a is blue") && error.contains("192.0.2.1"), "{error}");
}

#[test]
fn what_is_not_there_is_told_by_its_status() {
    let fixture = Fixture::start();
    let error = fixture.api().get("/api/v1/nodes/nobody").unwrap_err();
    assert!(is_status(&error, 404), "{error:#}");
    assert!(!is_status(&error, 403));
}
