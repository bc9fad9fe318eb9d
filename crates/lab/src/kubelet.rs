//! What kubelet does on each node: registers it, reports that it lives, and has pods begin, live
//! and end as their objects say, with their ports of the node.
//!
//! One thread follows the objects of all nodes. What a pod reports is written by the pod's own
//! thread. A third thread buries pods that have ended, because no pod can wait for itself.

mod addresses;
mod files;
mod host_ports;
mod registration;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use portolan_apiserver::{DeleteOptions, Follow, Objects, Resource, Update, Waker};
use serde_json::{Value, json};

use crate::Error;
use crate::live::{Live, LivePods};
use crate::nodes::Node;
use crate::object::{Key, place, short_name, text};
use crate::pod::{Place, Pod, Report};
use crate::recorder::Recorder;
use crate::topology::{Lab, PodSpec};
use addresses::Addresses;
pub(crate) use files::ServiceAccount;
use host_ports::OpenPorts;

/// Between two attempts to start a pod that could not be started.
const RETRY: Duration = Duration::from_secs(5);
/// So many pods begin at the same time.
const AT_ONCE: usize = 4;
/// So many pods are buried at the same time.
const BURIED_AT_ONCE: usize = 64;
/// After this, it does not matter to whoever stops a node that a pod of it has not ended.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// The annotation that asks for addresses: one or two, with a comma between them.
pub(crate) const ASKED_ADDRESSES: &str = "lab.portolan/pod-ips";

/// What a kubelet is configured with.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) objects: Objects,
    pub(crate) lab: Arc<Lab>,
    /// The networks that hold all pods.
    pub(crate) cluster_networks: Vec<IpNet>,
    pub(crate) live: LivePods,
    /// A folder for files of pods.
    pub(crate) folder: PathBuf,
    /// The lab's program, and the arguments with which it is a pod's server.
    pub(crate) server: Vec<OsString>,
    /// What runs for the image of the cluster's DNS.
    pub(crate) dns: Vec<OsString>,
    /// What pods ask the API server with.
    pub(crate) account: ServiceAccount,
}

/// The kubelets of all nodes. They end, and with them all pods, when this is dropped.
#[derive(Debug)]
pub(crate) struct Kubelets {
    shared: Arc<Shared>,
    end: Arc<AtomicBool>,
    waker: Waker,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    setting: Setting,
    recorder: Recorder,
    addresses: Mutex<Addresses>,
    host_ports: Mutex<OpenPorts>,
    nodes: Mutex<BTreeMap<String, Node>>,
    /// Whoever waits until no pod is left of a node that has stopped: dropped when that is so.
    stopping: Mutex<Vec<Sender<()>>>,
    /// Held, for reading, while a pod begins: it may end before it counts as live.
    beginning: RwLock<()>,
}

/// A pod that has been given to a node.
#[derive(Debug)]
struct Known {
    uid: String,
    node: String,
    /// It could not be started; when to try again.
    retry: Option<Instant>,
}

/// A pod whose processes have all ended.
#[derive(Debug)]
struct Ended {
    key: Key,
    uid: String,
}

impl Kubelets {
    /// Registers the nodes, and begins to run pods on them.
    pub(crate) fn start(setting: Setting, nodes: Vec<Node>) -> Result<Kubelets, Error> {
        let shared = Arc::new(Shared {
            addresses: Mutex::default(),
            recorder: Recorder::new(setting.objects.clone()),
            setting,
            host_ports: Mutex::default(),
            nodes: Mutex::default(),
            stopping: Mutex::default(),
            beginning: RwLock::default(),
        });
        for node in nodes {
            shared.register(node)?;
        }
        let end = Arc::new(AtomicBool::new(false));
        let (ended, to_bury) = channel();
        let follower = Follower {
            shared: Arc::clone(&shared),
            end: Arc::clone(&end),
            follow: shared.setting.objects.follow(&[Resource::Pods, Resource::Nodes]),
            ended,
            known: BTreeMap::new(),
            to_begin: BTreeMap::new(),
            heartbeat: Instant::now(),
        };
        let waker = follower.follow.waker();
        let grave = Arc::clone(&shared);
        let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new()
                .name(name.to_owned())
                .spawn(work)
                .map_err(Error::io("starting a thread of kubelet"))
        };
        let threads = vec![
            thread("kubelet", Box::new(move || follower.run()))?,
            thread("burial", Box::new(move || grave.bury(&to_bury)))?,
        ];
        Ok(Kubelets { shared, end, waker, threads })
    }

    /// Registers one more node, and begins to run pods on it.
    pub(crate) fn add(&self, node: Node) -> Result<(), Error> {
        self.shared.register(node)
    }

    /// The nodes whose kubelets run.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        self.shared.nodes().values().cloned().collect()
    }

    /// The kubelet of a node ends, and all of its pods with it, as if the machine were switched
    /// off: nothing is reported. None of them is left when this returns.
    pub(crate) fn stop(&self, node: &str) {
        self.shared.nodes().remove(node);
        let (done, is_done) = channel();
        self.shared.stopping().push(done);
        self.waker.wake();
        // Nothing is ever sent. Processes that do not end at all are not waited for.
        let _ = is_done.recv_timeout(STOP_WITHIN);
        self.shared.host_ports().forget(node);
    }
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Release);
        self.waker.wake();
        for thread in self.threads.drain(..) {
            // A panic in there has been printed; nothing more can be done about it here.
            let _ = thread.join();
        }
    }
}

/// The thread that follows objects.
struct Follower {
    shared: Arc<Shared>,
    end: Arc<AtomicBool>,
    follow: Follow,
    ended: Sender<Ended>,
    known: BTreeMap<Key, Known>,
    /// Pods that have come since the last turn.
    to_begin: BTreeMap<Key, Value>,
    heartbeat: Instant,
}

impl Follower {
    fn run(mut self) {
        while !self.end.load(Ordering::Acquire) {
            let mut again = false;
            for update in self.follow.next(self.sleep()) {
                match update {
                    Update::Put(Resource::Pods, pod) => self.pod(&pod),
                    Update::Gone(Resource::Pods, pod) => {
                        self.to_begin.remove(&key(&pod));
                        self.gone(&key(&pod));
                    }
                    Update::Put(Resource::Nodes, node) => self.shared.revive(&node),
                    Update::Again(Resource::Pods) => again = true,
                    _ => {}
                }
            }
            if again {
                self.drop_missing();
            }
            self.due();
            self.begin();
        }
        for (namespace, name) in self.known.keys() {
            drop(self.shared.setting.live.remove(namespace, name));
        }
    }

    /// How long nothing is due.
    fn sleep(&self) -> Duration {
        let retries = self.known.values().filter_map(|known| known.retry);
        let next = retries.chain([self.heartbeat]).min().unwrap_or(self.heartbeat);
        next.saturating_duration_since(Instant::now())
    }

    /// What is due though nothing has changed.
    fn due(&mut self) {
        // Those whose node has gone by now: the others come with the next turn.
        let stopping = std::mem::take(&mut *self.shared.stopping());
        let now = Instant::now();
        if now >= self.heartbeat {
            self.heartbeat = now + registration::HEARTBEAT;
            self.shared.renew_leases();
        }
        let running: BTreeSet<String> = self.shared.nodes().keys().cloned().collect();
        let stopped: Vec<Key> = self
            .known
            .iter()
            .filter(|(_, known)| !running.contains(&known.node))
            .map(|(key, _)| key.clone())
            .collect();
        let stopped: Vec<Ended> = stopped
            .into_iter()
            .filter_map(|key| {
                let uid = self.known.remove(&key)?.uid;
                Some(Ended { key, uid })
            })
            .collect();
        self.shared.clear_away(&stopped);
        drop(stopping);
        let retried: Vec<Key> = self
            .known
            .iter()
            .filter(|(_, known)| known.retry.is_some_and(|at| now >= at))
            .map(|(key, _)| key.clone())
            .collect();
        for key in retried {
            let pod = self.shared.setting.objects.get(Resource::Pods, &key.0, &key.1);
            self.known.remove(&key);
            if let Some(pod) = pod {
                self.pod(&pod);
            }
        }
    }

    /// Has the pods begin that have come, some at the same time: most of what there is to do is
    /// waiting for the kernel.
    fn begin(&mut self) {
        let pods = std::mem::take(&mut self.to_begin);
        let left = Mutex::new(pods.iter());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let begin = || {
            let mut begun = Vec::new();
            while let Some((key, pod)) = next() {
                begun.push((key, pod, self.shared.begin(key, pod, &self.ended)));
            }
            begun
        };
        let begun = thread::scope(|scope| {
            let more = pods.len().saturating_sub(1).min(AT_ONCE - 1);
            let helpers: Vec<_> = (0..more).map(|_| scope.spawn(begin)).collect();
            let own = begin();
            // A panic in there has been printed; those pods have not begun.
            own.into_iter()
                .chain(helpers.into_iter().filter_map(|helper| helper.join().ok()).flatten())
                .collect::<Vec<_>>()
        });
        for (key, pod, begun) in begun {
            let retry = begun.err().map(|error| {
                let message = error.to_string();
                self.shared.recorder.record(pod, true, "FailedCreatePodSandBox", &message, "kubelet");
                Instant::now() + RETRY
            });
            let (uid, node) = (text(&pod["metadata"]["uid"]), text(&pod["spec"]["nodeName"]));
            self.known.insert(key.clone(), Known { uid: uid.to_owned(), node: node.to_owned(), retry });
        }
    }

    /// A Pod is like this now.
    fn pod(&mut self, pod: &Value) {
        let key = key(pod);
        if self
            .to_begin
            .get(&key)
            .is_some_and(|to_begin| to_begin["metadata"]["uid"] != pod["metadata"]["uid"])
        {
            self.to_begin.remove(&key);
        }
        let (uid, node) = (text(&pod["metadata"]["uid"]), text(&pod["spec"]["nodeName"]));
        if self.known.get(&key).is_some_and(|known| known.uid != uid) {
            self.gone(&key);
        }
        if !self.shared.nodes().contains_key(node) {
            return;
        }
        let live = self.shared.setting.live.get(&key.0, &key.1);
        if pod["metadata"]["deletionTimestamp"].is_string() {
            if let Some(live) = live {
                let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_u64();
                live.pod.delete(grace.map(Duration::from_secs));
            } else {
                self.to_begin.remove(&key);
                self.shared.delete(&key, uid);
            }
            return;
        }
        let is_over = matches!(text(&pod["status"]["phase"]), "Succeeded" | "Failed");
        if self.known.contains_key(&key) || is_over {
            return;
        }
        self.to_begin.insert(key, pod.clone());
    }

    /// A Pod is gone, or its node has stopped.
    fn gone(&mut self, key: &Key) {
        let Some(known) = self.known.remove(key) else { return };
        self.shared.clear_away(&[Ended { key: key.clone(), uid: known.uid }]);
    }

    /// After a gap in what could be followed.
    fn drop_missing(&mut self) {
        let objects = &self.shared.setting.objects;
        let missing: Vec<Key> = self
            .known
            .keys()
            .filter(|key| objects.get(Resource::Pods, &key.0, &key.1).is_none())
            .cloned()
            .collect();
        for key in missing {
            self.gone(&key);
        }
    }
}

impl Shared {
    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> MutexGuard<'_, Vec<Sender<()>>> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn host_ports(&self) -> MutexGuard<'_, OpenPorts> {
        self.host_ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a pod begin: its network, its files, its processes.
    fn begin(self: &Arc<Self>, key: &Key, pod: &Value, ended: &Sender<Ended>) -> Result<(), Error> {
        let uid = text(&pod["metadata"]["uid"]).to_owned();
        let node = text(&pod["spec"]["nodeName"]);
        let Some(node) = self.nodes().get(node).cloned() else { return Ok(()) };
        let own: Vec<IpAddr> = node.spec.addresses.iter().map(IpNet::addr).collect();
        let host_network = pod["spec"]["hostNetwork"] == true;
        let addresses = if host_network {
            self.addresses().give_none(&uid);
            own.clone()
        } else {
            let asked = text(&pod["metadata"]["annotations"][ASKED_ADDRESSES]);
            self.addresses().give(&uid, &node.spec, asked)?
        };
        let begun = self.begin_at(key, pod, &node, addresses, own, ended);
        if begun.is_err() {
            self.clear_away(&[Ended { key: key.clone(), uid }]);
        }
        begun
    }

    fn begin_at(
        self: &Arc<Self>,
        key: &Key,
        pod: &Value,
        node: &Node,
        addresses: Vec<IpAddr>,
        host_addresses: Vec<IpAddr>,
        ended: &Sender<Ended>,
    ) -> Result<(), Error> {
        let (setting, uid) = (&self.setting, text(&pod["metadata"]["uid"]).to_owned());
        let host_network = pod["spec"]["hostNetwork"] == true;
        let pod = &variables::filled_in(&setting.objects, &key.0, pod)?;
        let files = files::write(setting, pod, &node.spec.name, &addresses)?;
        let called = short_name(&key.0, &key.1);
        setting.lab.add_pod(PodSpec {
            name: called.clone(),
            node: node.spec.name.clone(),
            addresses: addresses.clone(),
            ports: Vec::new(),
            host_network,
        })?;
        let network = setting.lab.pod(&called)?;
        if !host_network {
            self.open_ports(key, pod, &node.spec.name, &addresses);
        }
        let place = Place {
            network: network.clone(),
            node: setting.lab.node(&node.spec.name)?,
            addresses,
            host_addresses,
            host_name: files.host_name,
            files: files.places,
            server: setting.server.clone(),
            dns: setting.dns.clone(),
            environment: files::environment(setting, &key.0, pod),
        };
        let (shared, of_pod, ended) = (Arc::clone(self), key.clone(), ended.clone());
        let (object, own_uid, of_node) = (pod.clone(), uid.clone(), node.spec.name.clone());
        let report = move |report: Report| match report {
            // Nobody speaks for a node that is switched off.
            Report::Status(_) | Report::Event { .. } if !shared.nodes().contains_key(&of_node) => {}
            Report::Status(status) => shared.report(&of_pod, &own_uid, &status),
            Report::Event { warning, reason, message } => {
                shared.recorder.record(&object, warning, reason, &message, "kubelet");
            }
            Report::Ended => {
                // If nobody takes it, all pods end.
                let _ = ended.send(Ended { key: of_pod.clone(), uid: own_uid.clone() });
            }
        };
        let _beginning = self.beginning.read().unwrap_or_else(PoisonError::into_inner);
        let pod = Pod::start(place, pod, report)?;
        let live = Live { uid, pod, network };
        setting.live.insert(&key.0, &key.1, Arc::new(live));
        Ok(())
    }

    /// Writes the status of a pod.
    fn report(&self, key: &Key, uid: &str, status: &Value) {
        let patch = json!({ "metadata": { "uid": uid }, "status": status });
        // Refused only if the pod is gone; then nobody wants to know.
        let _ = self.setting.objects.patch_status(Resource::Pods, &key.0, &key.1, patch);
    }

    /// Buries pods as they end.
    fn bury(&self, ended: &Receiver<Ended>) {
        while let Ok(first) = ended.recv() {
            let others = ended.try_iter().take(BURIED_AT_ONCE - 1);
            let all: Vec<Ended> = [first].into_iter().chain(others).collect();
            drop(self.beginning.write());
            self.clear_away(&all);
            for Ended { key, uid } in all {
                // One that was not asked to end stays to be looked at. Whoever asks from here on
                // finds it not alive, and deletes it.
                let pod = self.setting.objects.get(Resource::Pods, &key.0, &key.1);
                if pod.is_some_and(|pod| {
                    pod["metadata"]["deletionTimestamp"].is_string() && pod["metadata"]["uid"] == uid.as_str()
                }) {
                    self.delete(&key, &uid);
                }
            }
        }
    }

    /// Ends what is left of pods, and frees what they had.
    fn clear_away(&self, pods: &[Ended]) {
        let live = &self.setting.live;
        let is_own = |pod: &&Ended| live.get(&pod.key.0, &pod.key.1).is_some_and(|live| live.uid == pod.uid);
        let own: Vec<&Ended> = pods.iter().filter(is_own).collect();
        for Ended { key, .. } in &own {
            if let Some(live) = live.get(&key.0, &key.1) {
                live.pod.delete(Some(Duration::ZERO));
            }
        }
        for Ended { key, .. } in &own {
            drop(live.remove(&key.0, &key.1));
        }
        // Not the network of another pod that has the name by now.
        let left: Vec<(&Ended, Vec<IpAddr>)> =
            pods.iter().filter_map(|pod| Some((pod, self.addresses().leave(&pod.uid)?))).collect();
        let names: Vec<String> =
            left.iter().map(|(Ended { key, .. }, _)| short_name(&key.0, &key.1)).collect();
        // Some may have failed before they were there.
        let _ = self.setting.lab.remove_pods(&names.iter().map(String::as_str).collect::<Vec<_>>());
        for (Ended { key, .. }, addresses) in left {
            self.close_ports(key);
            self.addresses().release(addresses);
        }
        for Ended { uid, .. } in pods {
            // What cannot be removed is a few octets.
            let _ = std::fs::remove_dir_all(files::folder(&self.setting, uid));
        }
    }

    /// The object of a pod that has ended goes.
    fn delete(&self, key: &Key, uid: &str) {
        let now = DeleteOptions { grace: Some(0), uid: Some(uid.to_owned()), ..DeleteOptions::default() };
        // Somebody may have done it already.
        let _ = self.setting.objects.delete(Resource::Pods, &key.0, &key.1, &now);
    }
}

fn key(object: &Value) -> Key {
    let (namespace, name) = place(object);
    (namespace.to_owned(), name.to_owned())
}
