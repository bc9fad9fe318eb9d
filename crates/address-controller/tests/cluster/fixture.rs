//! A server, controllers that work on it, and connections that can be held up.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portolan_address_controller::election::Timing;
use portolan_address_controller::{Controller, Options, Pools, start};
use portolan_apiserver::{Credential, Credentials, Double, Options as ServerOptions, Resource, State};
use portolan_service::AddressPool;
use serde_json::{Value, json};
use tempfile::TempDir;

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
/// How long to wait for what may not come, before it is asked for again.
const SOON: Duration = Duration::from_secs(2);

/// In a hurry: a Lease is over soon.
pub(crate) fn hurried() -> Timing {
    Timing {
        lease: Duration::from_secs(4),
        renew_within: Duration::from_secs(2),
        retry: Duration::from_millis(200),
    }
}

pub(crate) struct Cluster {
    pub(crate) server: Double,
    folder: TempDir,
}

pub(crate) fn pools(ranges: &[&str]) -> Pools {
    let pools = ranges.iter().map(|text| AddressPool::new(text, vec![text.parse().expect("a range")]));
    Pools { pools: pools.collect(), is_default: true, of_metallb: true }
}

pub(crate) fn service(name: &str, mut spec: Value) -> Value {
    spec["ipFamilies"] = json!(["IPv4"]);
    spec["ports"] = json!([{"port": 80, "protocol": "TCP"}]);
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

/// The addresses in the status of a Service.
pub(crate) fn addresses(service: &Value) -> Vec<String> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    ingress.into_iter().flatten().filter_map(|entry| Some(entry["ip"].as_str()?.to_owned())).collect()
}

impl Cluster {
    pub(crate) fn new() -> Cluster {
        let server = Double::start(ServerOptions::default()).expect("a server on loopback");
        Cluster { server, folder: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn apply(&self, object: Value) {
        self.server.apply(object).expect("an object");
    }

    /// Starts a controller that goes by `name`.
    pub(crate) fn start(&self, name: &str, pools: &Pools) -> Controller {
        self.start_with(name, pools, &self.server.url(), hurried())
    }

    /// Starts a controller that finds the server at `url`.
    pub(crate) fn start_with(&self, name: &str, pools: &Pools, url: &str, timing: Timing) -> Controller {
        let kubeconfig = self.kubeconfig(name, url);
        let api = portolan_kubernetes::Options {
            kubeconfig: Some(kubeconfig),
            master: None,
            qps: 0.0,
            burst: 0,
            node_name: "".into(),
            followed: portolan_kubernetes::Followed::default(),
            snapshot: None,
        };
        let options = Options {
            api,
            api_timing: portolan_kubernetes::Timing::default(),
            lease_namespace: "kube-system".to_owned(),
            lease_name: "portolan-controller".to_owned(),
            identity: name.to_owned(),
            timing,
        };
        start(options, pools.clone()).expect("a controller")
    }

    fn kubeconfig(&self, name: &str, url: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let token = Credentials::Token(name.to_owned());
        self.server.kubeconfig_for(&path, url, &token).expect("a kubeconfig");
        path
    }

    pub(crate) fn service(&self, name: &str) -> Value {
        self.server.look(|state| state.object(Resource::Services, "shop", name)).expect("a Service")
    }

    pub(crate) fn lease(&self) -> Value {
        let lease = |state: &State| state.object(Resource::Leases, "kube-system", "portolan-controller");
        self.server.look(lease).unwrap_or_default()
    }

    /// The paths that a controller has written statuses to.
    pub(crate) fn writes(&self, name: &str) -> Vec<String> {
        let of = Credential::Token(name.to_owned());
        self.server.look(|state| {
            let requests = state.requests().iter();
            let writes = requests.filter(|request| request.method == "PATCH" && request.credential == of);
            writes
                .filter(|request| request.path.ends_with("/status"))
                .map(|request| request.path.clone())
                .collect()
        })
    }

    pub(crate) fn wait(&self, what: &str, holds: impl FnMut(&State) -> bool) {
        assert!(self.server.wait_for(holds, PATIENCE), "not within {PATIENCE:?}: {what}");
    }

    /// Whether something becomes true within a little while.
    pub(crate) fn soon(&self, holds: impl FnMut(&State) -> bool) -> bool {
        self.server.wait_for(holds, SOON)
    }

    /// Waits for what the server does not know.
    pub(crate) fn wait_with(&self, what: &str, mut holds: impl FnMut(&Cluster) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn await_addresses(&self, name: &str, expected: &[&str]) {
        let has = |state: &State| state.object(Resource::Services, "shop", name).map(|it| addresses(&it));
        let come = self.server.wait_for(|state| has(state).is_some_and(|has| has == expected), PATIENCE);
        assert!(come, "{name} has {:?}, and not {expected:?}", self.server.look(has));
    }

    pub(crate) fn await_event(&self, service: &str, reason: &str, part: &str) {
        let uid = self.service(service)["metadata"]["uid"].clone();
        self.wait(&format!("{reason} of {service}"), |state| {
            state.objects(Resource::Events).iter().any(|event| {
                event["reason"] == reason
                    && event["regarding"]["name"] == service
                    && event["regarding"]["uid"] == uid
                    && event["note"].as_str().is_some_and(|note| note.contains(part))
            })
        });
    }
}

/// Connections to a server that can be held up: they stay open, and nothing comes through.
pub(crate) struct Path {
    address: SocketAddr,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    /// Waits until nothing is held up.
    fn pass(&self) {
        let closed = self.closed.lock().expect("nobody panics with it");
        drop(self.opened.wait_while(closed, |closed| *closed));
    }
}

impl Path {
    /// A path to `server`. Its threads end with the connections.
    pub(crate) fn to(server: SocketAddr) -> Path {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let gate = Arc::new(Gate::default());
        let held = gate.clone();
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let copies = (client.try_clone().expect("a copy"), server.try_clone().expect("a copy"));
                let (there, back) = (held.clone(), held.clone());
                thread::spawn(move || carry(client, server, &there));
                thread::spawn(move || carry(copies.1, copies.0, &back));
            }
        });
        Path { address, gate }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub(crate) fn hold_up(&self, hold_up: bool) {
        *self.gate.closed.lock().expect("nobody panics with it") = hold_up;
        self.gate.opened.notify_all();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, gate: &Gate) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(read) = from.read(&mut buffer) {
        gate.pass();
        if read == 0 || to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    // The other direction may be over, too.
    let _ = to.shutdown(std::net::Shutdown::Write);
}
