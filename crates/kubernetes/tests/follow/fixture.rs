//! A server, and a proxy that follows it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use portolan_apiserver::{Credentials, Double, Options as ServerOptions, Resource};
use portolan_kubernetes::{Followed, Options, Origin, Problem, Source, Timing, Update, start_with};
use portolan_service::{Catalog, Change, NamesChange, Node, ObjectName};
use serde_json::{Value, json};
use tempfile::TempDir;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// In a hurry: what takes minutes in a cluster takes tenths of seconds here.
pub(crate) fn hurried() -> Timing {
    Timing {
        connect: Duration::from_secs(2),
        answer: Duration::from_secs(2),
        list: Duration::from_secs(1),
        quiet: Duration::from_millis(600),
        pause: Duration::from_millis(20),
        pause_at_most: Duration::from_millis(200),
        rarely: Duration::from_millis(100),
        proof: Duration::from_millis(50),
        snapshot: Duration::from_millis(500),
        grace: Duration::from_secs(2),
        ..Timing::default()
    }
}

pub(crate) fn service(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"],
                 "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]},
    })
}

pub(crate) fn slice(service: &str, addresses: &[&str]) -> Value {
    let endpoints: Vec<Value> =
        addresses.iter().map(|ip| json!({"addresses": [ip], "nodeName": "n1"})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"namespace": "shop", "name": format!("{service}-1"),
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

pub(crate) fn node(name: &str, address: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
           "status": {"addresses": [{"type": "InternalIP", "address": address}]}})
}

pub(crate) fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

pub(crate) fn pod(name: &str, phase: &str, addresses: &[&str]) -> Value {
    let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "SECRET", "value": "x"}]}]},
        "status": {"phase": phase, "podIP": addresses.first(), "podIPs": ips},
    })
}

pub(crate) fn service_cidr(name: &str, network: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": name},
           "spec": {"cidrs": [network]}})
}

/// A server, a source that follows it, and what a proxy would know of it.
pub(crate) struct Cluster {
    pub(crate) server: Double,
    pub(crate) folder: TempDir,
    pub(crate) snapshot: Option<PathBuf>,
    pub(crate) followed: Followed,
    pub(crate) proxy: Option<Proxy>,
}

pub(crate) struct Proxy {
    pub(crate) source: Source,
    pub(crate) updates: Receiver<Update>,
    pub(crate) catalog: Catalog,
    pub(crate) node: Option<Node>,
    pub(crate) networks: Option<Vec<String>>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) origins: Vec<Origin>,
    pub(crate) triggers: Vec<ObjectName>,
    /// What only names come from: Namespaces, Pods with their addresses, and slices with the
    /// targets or further addresses in them.
    pub(crate) names: BTreeMap<String, Vec<String>>,
    pub(crate) names_complete: bool,
    /// How many changes came.
    pub(crate) changes: usize,
}

impl Cluster {
    pub(crate) fn new(options: ServerOptions) -> Cluster {
        let server = Double::start(options).expect("a server on loopback");
        let folder = tempfile::tempdir().expect("a folder");
        Cluster { server, folder, snapshot: None, followed: Followed::default(), proxy: None }
    }

    /// A server with a Service, its slice and a Node.
    pub(crate) fn small() -> Cluster {
        let cluster = Cluster::new(ServerOptions {
            bookmark_interval: Duration::from_millis(100),
            ..ServerOptions::default()
        });
        let objects = [service("a", "10.96.0.1"), slice("a", &["10.1.0.1"]), node("n1", "192.0.2.1")];
        cluster.server.load(objects).expect("objects");
        cluster
    }

    pub(crate) fn follow(&mut self) -> &mut Proxy {
        self.follow_as(&Credentials::None, hurried())
    }

    pub(crate) fn follow_as(&mut self, credentials: &Credentials, timing: Timing) -> &mut Proxy {
        let kubeconfig = self.folder.path().join("kubeconfig");
        self.server.kubeconfig(&kubeconfig, credentials).expect("a kubeconfig");
        let (sender, updates) = channel();
        let options = Options {
            kubeconfig: Some(kubeconfig),
            master: None,
            qps: 0.0,
            burst: 0,
            node_name: "n1".into(),
            followed: self.followed,
            snapshot: self.snapshot.clone(),
        };
        let source = start_with(options, timing, move |update| drop(sender.send(update))).expect("a source");
        self.proxy.insert(Proxy {
            source,
            updates,
            catalog: Catalog::default(),
            node: None,
            networks: None,
            problems: Vec::new(),
            origins: Vec::new(),
            triggers: Vec::new(),
            names: BTreeMap::new(),
            names_complete: false,
            changes: 0,
        })
    }

    /// Waits until the proxy knows exactly what the server has.
    pub(crate) fn agree(&mut self, situation: &str) -> &mut Proxy {
        let expected = self.server.look(|state| {
            let mut expected = BTreeMap::new();
            for object in state.objects(Resource::Services) {
                expected.insert(key(&object["metadata"]["name"]), vec![key(&object["spec"]["clusterIP"])]);
            }
            let slices = state.objects(Resource::EndpointSlices);
            for object in slices.into_iter().filter(|object| object["addressType"] != "FQDN") {
                let service = key(&object["metadata"]["labels"]["kubernetes.io/service-name"]);
                let addresses = object["endpoints"].as_array().into_iter().flatten();
                expected
                    .entry(service)
                    .or_default()
                    .extend(addresses.map(|endpoint| key(&endpoint["addresses"][0])));
            }
            expected
        });
        let proxy = self.proxy.as_mut().expect("a proxy that follows");
        proxy.wait(situation, |proxy| proxy.known() == expected);
        proxy
    }

    pub(crate) fn watched(&self, situation: &str) {
        let watched = self.server.wait_for(
            |state| [Resource::Services, Resource::EndpointSlices].iter().all(|r| state.watchers(*r) == 1),
            PATIENCE,
        );
        assert!(watched, "{situation}: Services and EndpointSlices are watched");
    }

    /// How many lists of Services and EndpointSlices were asked for, streaming or not.
    pub(crate) fn lists(&self) -> usize {
        self.server.look(|state| {
            let of_interest =
                |resource| matches!(resource, Some(Resource::Services | Resource::EndpointSlices));
            let requests = state.requests().iter().filter(|request| of_interest(request.resource));
            // One object is asked for to learn the server's version.
            let requests = requests.filter(|r| r.parameter("limit") != Some("1"));
            requests.filter(|r| !r.is_watch() || r.parameter("sendInitialEvents").is_some()).count()
        })
    }
}

pub(crate) fn key(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

impl Proxy {
    /// Takes the next update.
    pub(crate) fn take(&mut self, situation: &str, until: Instant) {
        let wait = until.saturating_duration_since(Instant::now());
        let Ok(update) = self.updates.recv_timeout(wait) else {
            panic!("{situation}: no further update; known is {:?}", self.known());
        };
        assert!(update.received <= Instant::now());
        self.changes += update.changes.len();
        self.origins.push(update.origin);
        self.problems.extend(update.problems);
        self.triggers.extend(update.triggers.into_iter().map(|trigger| trigger.service));
        if let Some(networks) = update.service_networks {
            self.networks = Some(networks.iter().map(ToString::to_string).collect());
        }
        self.names_complete |= update.names_complete;
        for change in update.names {
            self.take_names(change);
        }
        for change in update.changes {
            match change {
                Change::Node(node) => self.node = Some(node),
                Change::NodeRemoved(_) => self.node = None,
                change => drop(self.catalog.apply(change)),
            }
        }
    }

    fn take_names(&mut self, change: NamesChange) {
        let (name, content) = match change {
            NamesChange::Namespace(namespace) => {
                let labels = namespace.labels.iter().map(|(key, value)| format!("{key}={value}"));
                (format!("namespace {}", namespace.name), Some(labels.collect()))
            }
            NamesChange::NamespaceRemoved(name) => (format!("namespace {name}"), None),
            NamesChange::Pod(pod) => {
                let addresses = pod.addresses.iter().map(ToString::to_string).collect();
                (format!("pod {}", pod.name), Some(addresses).filter(|_| pod.is_listed()))
            }
            NamesChange::PodRemoved(name) => (format!("pod {name}"), None),
            NamesChange::Targets(slice) => {
                let targets = slice.endpoints.iter().map(|target| target.target.to_string());
                (format!("targets {}", slice.name), Some(targets.collect()))
            }
            NamesChange::TargetsRemoved(name) => (format!("targets {name}"), None),
            NamesChange::Further(slice) => {
                let addresses = slice.endpoints.iter().map(|endpoint| endpoint.address.to_string());
                (format!("further {}", slice.name), Some(addresses.collect()))
            }
            NamesChange::FurtherRemoved(name) => (format!("further {name}"), None),
        };
        match content {
            Some(content) => drop(self.names.insert(name, content)),
            None => drop(self.names.remove(&name)),
        }
    }

    /// What only names come from, a word each, with what is in it.
    pub(crate) fn words(&self) -> String {
        let words: Vec<String> =
            self.names.iter().map(|(name, content)| format!("{name}: {}", content.join(" "))).collect();
        words.join("; ")
    }

    pub(crate) fn wait(&mut self, situation: &str, holds: impl Fn(&Proxy) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !holds(self) {
            self.take(situation, until);
        }
    }

    /// The ClusterIP and endpoints of each Service.
    pub(crate) fn known(&self) -> BTreeMap<String, Vec<String>> {
        let services = self.catalog.services().map(|service| {
            let slices = self.catalog.slices(&service.name).iter().flat_map(|slice| &slice.endpoints);
            let addresses = service.cluster_ip.into_iter().chain(slices.map(|endpoint| endpoint.address));
            (service.name.name().to_owned(), addresses.map(|ip| ip.to_string()).collect())
        });
        services.collect()
    }

    pub(crate) fn resource(&self, name: &str) -> portolan_kubernetes::ResourceReport {
        let report = self.source.status().report();
        report.resources.into_iter().find(|resource| resource.name == name).expect("a resource")
    }
}
