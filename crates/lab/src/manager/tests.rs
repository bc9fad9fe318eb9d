//! The controllers against a real API server, with something in place of the nodes that makes pods
//! ready.

use std::time::Instant;

use portolan_apiserver::{Options, Propagation, Server};
use portolan_controllers::manager::healthy_conditions;
use serde_json::{Value, json};

use super::*;

/// No wait is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Something in place of the nodes: pods that have one are ready, pods that are to go are gone.
struct Kubelets {
    ends: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Kubelets {
    fn start(objects: Objects) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let mut follow = objects.follow(&[Resource::Pods]);
        let waker = follow.waker();
        let ended = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut count = 0;
            let mut sign = Instant::now();
            while !ended.load(Ordering::SeqCst) {
                if sign <= Instant::now() {
                    sign = Instant::now() + Duration::from_millis(500);
                    renew(&objects);
                }
                for update in follow.next(sign.saturating_duration_since(Instant::now())) {
                    if let Update::Put(_, pod) = update {
                        count += 1;
                        attend(&objects, &pod, count);
                    }
                }
            }
        });
        Self { ends, waker, thread: Some(thread) }
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the nodes do not panic");
        }
    }
}

/// All nodes but one give signs of life.
fn renew(objects: &Objects) {
    for node in objects.list(Resource::Nodes) {
        let name = place(&node).1;
        if name != "silent" {
            let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": { "name": name, "namespace": "kube-node-lease" },
                "spec": { "renewTime": now().to_string().replace('Z', ".000000Z") } });
            if objects.update(lease.clone()).is_err() {
                objects.create(lease).expect("created");
            }
        }
    }
}

/// What a node does about a pod.
fn attend(objects: &Objects, pod: &Value, count: u32) {
    let (namespace, name) = place(pod);
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if node.is_empty() || node == "silent" {
        return;
    }
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let at_once = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
        let _gone = objects.delete(Resource::Pods, namespace, name, &at_once);
    } else if pod["status"]["podIP"].is_null() {
        let address = format!("10.1.{}.{}", count / 250, count % 250 + 1);
        let ready = json!([{ "type": "Ready", "status": "True", "lastTransitionTime": now() }]);
        let status = json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }],
            "conditions": ready });
        let _gone = objects.patch_status(Resource::Pods, namespace, name, json!({ "status": status }));
    }
}

struct Cluster {
    objects: Objects,
    manager: Option<Manager>,
    _kubelets: Kubelets,
    _server: Server,
}

impl Cluster {
    fn new(nodes: &[&str]) -> Self {
        Self::with_patience(nodes, Patience::default())
    }

    fn with_patience(nodes: &[&str], patience: Patience) -> Self {
        Self::with(nodes, patience, Options::cluster())
    }

    fn with(nodes: &[&str], patience: Patience, options: Options) -> Self {
        let server = Server::start(options).expect("a server");
        let objects = server.objects();
        let facts = Facts { ca_pem: server.ca_pem().to_owned(), api: vec![([10, 0, 0, 1], 6443).into()] };
        let manager = Manager::start_with(objects.clone(), facts, patience).expect("a thread");
        let kubelets = Kubelets::start(objects.clone());
        let cluster = Self { objects, manager: Some(manager), _kubelets: kubelets, _server: server };
        for node in nodes {
            cluster.add_node(node);
        }
        cluster
    }

    /// Ready from the first moment on, as a kubelet registers it: no controller ever finds it
    /// silent, or some pods would be given to the others meanwhile.
    fn add_node(&self, name: &str) {
        self.create(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name },
            "status": { "conditions": healthy_conditions(now(), None) } }));
    }

    fn create(&self, object: Value) {
        self.objects.create(object).expect("created");
    }

    fn patch(&self, resource: Resource, name: &str, patch: Value) {
        self.objects.patch(resource, "default", name, patch).expect("patched");
    }

    fn delete(&self, resource: Resource, namespace: &str, name: &str, propagation: Propagation) {
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        self.objects.delete(resource, namespace, name, &options).expect("deleted");
    }

    /// Waits until something is there, or so.
    fn until<T>(&self, what: &str, mut look: impl FnMut(&Objects) -> Option<T>) -> T {
        let mut follow = self.objects.follow(&Resource::ALL);
        let end = Instant::now() + PATIENCE;
        loop {
            follow.take();
            if let Some(found) = look(&self.objects) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "never: {what}; there is {:#?}", self.summary());
            follow.next(left);
        }
    }

    fn until_field(&self, resource: Resource, name: &str, pointer: &str, wanted: &Value) {
        let what = format!("{name} {pointer} is {wanted}");
        self.until(&what, |objects| {
            let object = objects.get(resource, "default", name)?;
            let found = object.pointer(pointer).unwrap_or(&Value::Null);
            (found == wanted).then_some(())
        });
    }

    fn until_gone(&self, resource: Resource, namespace: &str, name: &str) {
        let what = format!("{name} is gone");
        self.until(&what, |objects| objects.get(resource, namespace, name).is_none().then_some(()));
    }

    fn until_count(&self, resource: Resource, count: usize) {
        let what = format!("{count} {resource:?} in default");
        self.until(&what, |_| (self.names(resource).len() == count).then_some(()));
    }

    fn names(&self, resource: Resource) -> Vec<String> {
        let found = self.objects.select(resource, Some("default"), "", "").expect("selected");
        found.iter().map(|object| place(object).1.to_owned()).collect()
    }

    fn nodes_of_pods(&self) -> Vec<String> {
        let pods = self.objects.list(Resource::Pods);
        let mut nodes: Vec<String> =
            pods.iter().map(|pod| pod["spec"]["nodeName"].as_str().unwrap_or_default().to_owned()).collect();
        nodes.sort();
        nodes
    }

    /// The reasons of events about objects of a kind.
    fn reasons(&self, kind: &str) -> Vec<String> {
        let events = self.objects.list(Resource::Events);
        let events = events.iter().filter(|event| event["regarding"]["kind"] == kind);
        events.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// How many endpoints of a Service are ready, in its slice.
    fn ready(&self, service: &str) -> Option<usize> {
        let slices = self.objects.list(Resource::EndpointSlices);
        let mut of_service = slices
            .iter()
            .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service)
            .peekable();
        of_service.peek()?;
        let endpoints = of_service.flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
        Some(endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count())
    }

    fn summary(&self) -> Vec<String> {
        let of = |resource: Resource| {
            self.objects
                .list(resource)
                .into_iter()
                .map(move |object| format!("{} {:?} {}", resource.kind(), place(&object), object["status"]))
        };
        let all = Resource::ALL.into_iter().filter(|resource| *resource != Resource::Events);
        all.flat_map(of).collect()
    }
}

fn workload(kind: &str, name: &str, replicas: u32) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": name, "namespace": "default" },
        "spec": { "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "one" }] } } },
    });
    if kind != "DaemonSet" {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

fn service(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "labels": { "a": "b", "c": "d" } },
        "spec": { "selector": { "app": name }, "ports": [{ "port": 80 }] } })
}

#[test]
fn a_deployment_from_its_pods_to_its_endpoints_and_back() {
    let cluster = Cluster::new(&["n1", "n2"]);
    cluster.create(service("web"));
    cluster.create(workload("Deployment", "web", 4));
    cluster.until_field(Resource::Deployments, "web", "/status/availableReplicas", &json!(4));
    assert_eq!(cluster.nodes_of_pods(), ["n1", "n1", "n2", "n2"]);
    cluster.until("four are ready", |_| (cluster.ready("web") == Some(4)).then_some(()));
    cluster.until("Endpoints", |objects| {
        let endpoints = objects.get(Resource::Endpoints, "default", "web")?;
        (endpoints["subsets"][0]["addresses"].as_array()?.len() == 4).then_some(())
    });
    let mut reasons = cluster.reasons("ReplicaSet");
    reasons.dedup();
    assert_eq!(reasons, ["SuccessfulCreate"]);
    assert_eq!(cluster.reasons("Pod"), ["Scheduled"; 4]);
    assert_eq!(cluster.reasons("Deployment"), ["ScalingReplicaSet"]);

    let image =
        json!({ "spec": { "template": { "spec": { "containers": [{ "name": "c", "image": "two" }] } } } });
    cluster.patch(Resource::Deployments, "web", image);
    cluster.until("all pods are new", |objects| {
        let pods = objects.list(Resource::Pods);
        let new = pods.iter().filter(|pod| pod["spec"]["containers"][0]["image"] == "two").count();
        ((pods.len(), new) == (4, 4)).then_some(())
    });
    cluster.until_field(Resource::Deployments, "web", "/status/availableReplicas", &json!(4));
    assert_eq!(cluster.names(Resource::ReplicaSets).len(), 2);

    cluster.patch(Resource::Deployments, "web", json!({ "spec": { "replicas": 0 } }));
    cluster.until_count(Resource::Pods, 0);
    cluster.until("none is ready", |_| (cluster.ready("web") == Some(0)).then_some(()));

    // A label that the Service no longer has is taken off what it made.
    cluster.patch(Resource::Services, "web", json!({ "metadata": { "labels": { "a": null } } }));
    for (resource, name) in [(Resource::Endpoints, Some("web")), (Resource::EndpointSlices, None)] {
        cluster.until("the label is gone", |objects| {
            let found = objects.list(resource);
            let is_meant = |object: &&Value| name.is_none_or(|name| place(object).1 == name);
            let meant =
                found.iter().filter(is_meant).find(|object| object["metadata"]["labels"]["c"] == "d")?;
            meant["metadata"]["labels"]["a"].is_null().then_some(())
        });
    }
    cluster.delete(Resource::Services, "default", "web", Propagation::Background);
    cluster.until_gone(Resource::Endpoints, "default", "web");
    cluster.until("its slice is gone", |_| cluster.ready("web").is_none().then_some(()));
}

#[test]
fn a_stateful_set_starts_its_pods_in_order() {
    let cluster = Cluster::new(&["n1"]);
    let mut follow = cluster.objects.follow(&[Resource::Pods]);
    cluster.create(workload("StatefulSet", "db", 3));
    let mut story = Vec::new();
    let end = Instant::now() + PATIENCE;
    while story.last().is_none_or(|last| last != "db-2 is ready") {
        assert!(Instant::now() < end, "{story:?}");
        for update in follow.next(PATIENCE) {
            let Update::Put(_, pod) = update else { continue };
            let is_ready = pod["status"]["podIP"].is_string();
            let event = format!("{} {}", place(&pod).1, if is_ready { "is ready" } else { "is there" });
            if !story.contains(&event) {
                story.push(event);
            }
        }
    }
    let wanted: Vec<String> =
        (0..3).flat_map(|pod| [format!("db-{pod} is there"), format!("db-{pod} is ready")]).collect();
    assert_eq!(story, wanted);
}

#[test]
fn a_name_that_is_taken_is_tried_again() {
    let cluster = Cluster::new(&["n1"]);
    cluster.create(
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "db-0", "namespace": "default" },
        "spec": { "containers": [{ "name": "c", "image": "one" }] } }),
    );
    cluster.create(workload("StatefulSet", "db", 1));
    cluster.until("the other one has a node", |_| (cluster.nodes_of_pods() == ["n1"]).then_some(()));
    cluster.delete(Resource::Pods, "default", "db-0", Propagation::Background);
    cluster.until_field(Resource::StatefulSets, "db", "/status/readyReplicas", &json!(1));
}

#[test]
fn a_daemon_set_is_on_each_node_that_comes() {
    let cluster = Cluster::new(&["n1"]);
    cluster.create(workload("DaemonSet", "agent", 0));
    cluster.until_field(Resource::DaemonSets, "agent", "/status/numberAvailable", &json!(1));
    cluster.add_node("n2");
    cluster.until_field(Resource::DaemonSets, "agent", "/status/numberAvailable", &json!(2));
    assert_eq!(cluster.nodes_of_pods(), ["n1", "n2"]);
    cluster.delete(Resource::Nodes, "", "n1", Propagation::Background);
    cluster.until("its pod is gone", |_| (cluster.nodes_of_pods() == ["n2"]).then_some(()));
}

#[test]
fn a_namespace_is_emptied_and_gone() {
    let cluster = Cluster::new(&["n1"]);
    cluster.create(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "shop" } }));
    let account = |objects: &Objects| objects.get(Resource::ServiceAccounts, "shop", "default").map(drop);
    let authority = |objects: &Objects| objects.get(Resource::ConfigMaps, "shop", "kube-root-ca.crt");
    cluster.until("an account", account);
    let held = cluster.until("an authority", authority);
    assert!(held["data"]["ca.crt"].as_str().is_some_and(|pem| pem.contains("BEGIN CERTIFICATE")), "{held}");
    // Both come back.
    cluster.delete(Resource::ServiceAccounts, "shop", "default", Propagation::Background);
    cluster.delete(Resource::ConfigMaps, "shop", "kube-root-ca.crt", Propagation::Background);
    cluster.until("an account again", account);
    cluster.until("an authority again", authority);

    for mut object in [workload("Deployment", "web", 2), workload("StatefulSet", "db", 1), service("web")] {
        object["metadata"]["namespace"] = json!("shop");
        cluster.create(object);
    }
    cluster.until("pods", |objects| {
        let pods = objects.list(Resource::Pods);
        (pods.iter().filter(|pod| pod["status"]["podIP"].is_string()).count() == 3).then_some(())
    });
    cluster.delete(Resource::Namespaces, "", "shop", Propagation::Background);
    cluster.until_gone(Resource::Namespaces, "", "shop");
    for resource in Resource::ALL {
        let left = cluster.objects.select(resource, Some("shop"), "", "").expect("selected");
        assert!(!resource.namespaced() || left.is_empty(), "{left:?}");
    }
}

#[test]
fn what_is_owned_goes_as_the_deletion_says() {
    let cluster = Cluster::new(&["n1"]);
    for propagation in [Propagation::Background, Propagation::Foreground, Propagation::Orphan] {
        let pods = if propagation == Propagation::Orphan { 2 } else { 0 };
        cluster.create(workload("Deployment", "web", 2));
        cluster.until_field(Resource::Deployments, "web", "/status/availableReplicas", &json!(2));
        cluster.delete(Resource::Deployments, "default", "web", propagation);
        cluster.until_gone(Resource::Deployments, "default", "web");
        if propagation == Propagation::Foreground {
            assert_eq!(cluster.names(Resource::ReplicaSets), [""; 0], "they went before");
        }
        cluster.until_count(Resource::ReplicaSets, pods / 2);
        cluster.until_count(Resource::Pods, pods);
    }
    let sets = cluster.objects.list(Resource::ReplicaSets);
    assert!(sets[0]["metadata"]["ownerReferences"].is_null(), "{}", sets[0]);
}

#[test]
fn pods_leave_a_silent_node() {
    let cluster = Cluster::with_patience(&["silent", "n1"], Patience { node: 2, pod: 1 });
    let labels = json!({ "metadata": { "labels": { "only": "here" } } });
    cluster.objects.patch(Resource::Nodes, "", "silent", labels.clone()).expect("patched");
    let mut deployment = workload("Deployment", "web", 1);
    let spec = &mut deployment["spec"]["template"]["spec"];
    spec["nodeSelector"] = json!({ "only": "here" });
    // Five minutes, unless it says otherwise.
    spec["tolerations"] = json!([{ "key": "node.kubernetes.io/unreachable", "operator": "Exists",
        "effect": "NoExecute", "tolerationSeconds": 1 }]);
    cluster.create(deployment);
    cluster.until("it is there", |_| (cluster.nodes_of_pods() == ["silent"]).then_some(()));
    cluster.objects.patch(Resource::Nodes, "", "n1", labels).expect("patched");
    cluster.until("it is elsewhere", |objects| {
        let pods = objects.list(Resource::Pods);
        let is_new = |pod: &&Value| pod["spec"]["nodeName"] == "n1" && pod["status"]["podIP"].is_string();
        pods.iter().find(is_new).map(drop)
    });
    let node = cluster.objects.get(Resource::Nodes, "", "silent").expect("there");
    let conditions = node["status"]["conditions"].as_array().expect("conditions");
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready").expect("Ready");
    assert_eq!(ready["status"], "Unknown");
}

#[test]
fn what_leads_to_the_server_stays() {
    let cluster = Cluster::new(&[]);
    let held = [Resource::EndpointSlices, Resource::Endpoints, Resource::Services];
    for resource in held {
        cluster.until("it is there", |objects| objects.get(resource, "default", "kubernetes"));
    }
    let address = cluster.objects.get(Resource::Services, "default", "kubernetes").expect("there");
    for resource in held {
        cluster.delete(resource, "default", "kubernetes", Propagation::Background);
        cluster.until("it is there again", |objects| objects.get(resource, "default", "kubernetes"));
    }
    let again = cluster.objects.get(Resource::Services, "default", "kubernetes").expect("there");
    assert_eq!(again["spec"]["clusterIP"], address["spec"]["clusterIP"]);
    cluster.patch(Resource::EndpointSlices, "kubernetes", json!({ "endpoints": [] }));
    let slice = cluster.until("it is right again", |objects| {
        let slice = objects.get(Resource::EndpointSlices, "default", "kubernetes")?;
        (slice["endpoints"][0]["addresses"][0] == "10.0.0.1").then_some(slice)
    });
    assert_eq!((&slice["ports"][0]["name"], &slice["ports"][0]["port"]), (&json!("https"), &json!(6443)));
    assert_eq!(cluster.ready("kubernetes"), Some(1));
}

#[test]
fn two_hundred_pods_have_nodes_soon() {
    let cluster = Cluster::new(&["n1", "n2", "n3", "n4", "n5"]);
    cluster.create(service("web"));
    let begin = Instant::now();
    cluster.create(workload("Deployment", "web", 200));
    let mut follow = cluster.objects.follow(&[Resource::Pods]);
    let mut bound = std::collections::BTreeSet::new();
    while bound.len() < 200 {
        assert!(begin.elapsed() < PATIENCE, "only {}", bound.len());
        for update in follow.next(PATIENCE) {
            if let Update::Put(_, pod) = update
                && pod["spec"]["nodeName"].is_string()
            {
                bound.insert(place(&pod).1.to_owned());
            }
        }
    }
    let bound_after = begin.elapsed();
    cluster.until_field(Resource::Deployments, "web", "/status/availableReplicas", &json!(200));
    let available_after = begin.elapsed();
    cluster.until("200 are ready", |_| (cluster.ready("web") == Some(200)).then_some(()));
    println!("bound {bound_after:?}, available {available_after:?}, endpoints {:?}", begin.elapsed());
    let counts = cluster.nodes_of_pods().chunk_by(|a, b| a == b).map(<[String]>::len).collect::<Vec<_>>();
    assert_eq!(counts, [40; 5]);
    cluster.patch(Resource::Deployments, "web", json!({ "spec": { "replicas": 0 } }));
    let begin = Instant::now();
    cluster.until_count(Resource::Pods, 0);
    println!("gone {:?}", begin.elapsed());
}

#[test]
fn whoever_has_lost_track_begins_again() {
    // Hardly any change is kept until everybody has seen it.
    let options = Options { history: 3, ..Options::cluster() };
    let cluster = Cluster::with(&["n1", "n2"], Patience::default(), options);
    cluster.create(workload("Deployment", "web", 30));
    cluster.until_field(Resource::Deployments, "web", "/status/availableReplicas", &json!(30));
    cluster.delete(Resource::Nodes, "", "n1", Propagation::Background);
    cluster.until("all are on n2", |_| (cluster.nodes_of_pods() == ["n2"; 30]).then_some(()));
    cluster.delete(Resource::Deployments, "default", "web", Propagation::Background);
    cluster.until_count(Resource::Pods, 0);
}

#[test]
fn it_ends_when_dropped() {
    let mut cluster = Cluster::new(&["n1"]);
    cluster.create(workload("Deployment", "web", 3));
    let begin = Instant::now();
    drop(cluster.manager.take());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn who_is_refused_waits_longer_each_time() {
    let failure = |code| Failure::new(code, "no");
    // code, how often, seconds
    let table = [
        (409, 1, 0),
        (409, AT_ONCE, 0),
        (409, AT_ONCE + 1, 1),
        (422, 1, 1),
        (422, 4, 8),
        (422, 40, 64),
        (422, 4_000, 64),
    ];
    for (code, count, seconds) in table {
        assert_eq!(wait(&failure(code), count), seconds, "{code} {count}");
    }
}
