//! A server, and what stands in for controllers and nodes: pods run on `node-1` at once, and
//! Deployments are always as they should be.

use std::future;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use portolan_apiserver::{
    Credentials, DeleteOptions, Duplex, Forward, Later, LogOptions, NodeSide, Objects, Options, PodRef,
    Process, Resource, Run, Server, Update,
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

pub(crate) struct Cluster {
    server: Server,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let options = Options { node_side: Some(Arc::new(Echo)), ..Options::cluster() };
        let server = Server::start(options).expect("a server on a free port");
        let objects = server.objects();
        objects
            .create(json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node-1" } }))
            .expect("a node");
        let status = json!({ "status": {
            "addresses": [{ "type": "InternalIP", "address": "192.0.2.1" }],
            "conditions": [{ "type": "Ready", "status": "True" }],
            "nodeInfo": { "kubeletVersion": "v1.36.0", "osImage": "Lab", "kernelVersion": "6.1",
                "containerRuntimeVersion": "lab://1" },
        } });
        objects.patch_status(Resource::Nodes, "", "node-1", status).expect("its status");
        let done = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&done);
        let thread = std::thread::spawn(move || control(&objects, &over));
        Self { server, done, thread: Some(thread) }
    }

    pub(crate) fn kubeconfig(&self, path: &Path) -> io::Result<()> {
        self.server.kubeconfig(path, &Credentials::ClientCertificate)
    }

    /// Ends the stand-in.
    pub(crate) fn stop(mut self) {
        self.done.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it runs until now");
        thread.join().expect("the stand-in does not panic");
    }
}

fn control(objects: &Objects, done: &AtomicBool) {
    let mut follow = objects.follow(&[Resource::Pods, Resource::Deployments, Resource::Namespaces]);
    while !done.load(Ordering::Relaxed) {
        for update in follow.next(Duration::from_millis(50)) {
            if let Update::Put(resource, object) = update {
                // Whoever changed it in the meantime is followed again.
                let _later = match resource {
                    Resource::Pods => pod(objects, &object),
                    Resource::Deployments => deployment(objects, &object),
                    _ => namespace(objects, object),
                };
            }
        }
    }
}

fn key(object: &Value) -> (&str, &str) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}

fn pod(objects: &Objects, pod: &Value) -> Result<(), portolan_apiserver::Failure> {
    let (namespace, name) = key(pod);
    if pod["metadata"]["deletionTimestamp"].is_string() {
        let now = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
        return objects.delete(Resource::Pods, namespace, name, &now).map(drop);
    }
    if pod["spec"]["nodeName"].is_null() {
        return objects.bind(namespace, name, "node-1");
    }
    if pod["status"]["phase"] == "Running" {
        return Ok(());
    }
    let container = &pod["spec"]["containers"][0];
    let status = json!({ "status": { "phase": "Running", "podIP": "10.0.0.7", "podIPs": [{ "ip": "10.0.0.7" }],
        "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{ "name": container["name"], "image": container["image"], "imageID": "",
            "ready": true, "restartCount": 0, "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } } }] } });
    objects.patch_status(Resource::Pods, namespace, name, status).map(drop)
}

fn deployment(objects: &Objects, deployment: &Value) -> Result<(), portolan_apiserver::Failure> {
    let (namespace, name) = key(deployment);
    let (generation, replicas) = (&deployment["metadata"]["generation"], &deployment["spec"]["replicas"]);
    if deployment["status"]["observedGeneration"] == *generation {
        return Ok(());
    }
    let status = json!({ "status": { "observedGeneration": generation, "replicas": replicas,
        "updatedReplicas": replicas, "readyReplicas": replicas, "availableReplicas": replicas,
        "conditions": [{ "type": "Available", "status": "True", "reason": "MinimumReplicasAvailable" }] } });
    objects.patch_status(Resource::Deployments, namespace, name, status).map(drop)
}

fn namespace(objects: &Objects, mut namespace: Value) -> Result<(), portolan_apiserver::Failure> {
    if namespace["metadata"]["deletionTimestamp"].is_string() {
        namespace["spec"]["finalizers"] = json!([]);
        return objects.finalize(namespace).map(drop);
    }
    Ok(())
}

/// Every pod is one that repeats what it is sent.
struct Echo;

impl NodeSide for Echo {
    fn log(&self, pod: PodRef, options: LogOptions) -> Later<mpsc::Receiver<io::Result<Bytes>>> {
        Box::pin(async move {
            let (sender, receiver) = mpsc::channel(4);
            let name = &pod.pod["metadata"]["name"];
            let lines = [format!("{name} has started\n"), format!("container {} runs\n", pod.container)];
            let skipped =
                options.tail.map_or(0, |tail| 2_usize.saturating_sub(usize::try_from(tail).unwrap_or(2)));
            for line in lines.into_iter().skip(skipped) {
                sender.send(Ok(line.into())).await.map_err(|error| error.to_string())?;
            }
            Ok(receiver)
        })
    }

    /// `echo WORDS`, `cat`, `exit CODE`; anything else is not there.
    fn run(&self, _pod: PodRef, run: Run) -> Later<Process> {
        Box::pin(future::ready(process(&run)))
    }

    fn connect(&self, _pod: PodRef, forward: Forward) -> Later<Box<dyn Duplex>> {
        Box::pin(async move {
            if forward.port != 80 {
                return Err(format!("nothing listens on port {}", forward.port));
            }
            let (here, there) = tokio::io::duplex(1 << 12);
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let (mut from, mut to) = tokio::io::split(there);
                let mut request = [0; 1024];
                let _length = from.read(&mut request).await;
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nforwarded\n";
                let _gone = to.write_all(answer.as_bytes()).await;
                let _gone = to.shutdown().await;
            });
            Ok(Box::new(here) as Box<dyn Duplex>)
        })
    }
}

fn process(run: &Run) -> Result<Process, String> {
    let (stdin, mut typed) = mpsc::channel::<Bytes>(4);
    let (output, stdout) = mpsc::channel(4);
    let (_errors, stderr) = mpsc::channel(4);
    let (resize, _sizes) = mpsc::channel(4);
    let (exit, code) = oneshot::channel();
    let Some((program, arguments)) = run.command.split_first() else {
        return Err("nothing to attach to".to_owned());
    };
    let arguments = arguments.to_vec();
    match &**program {
        "echo" => drop(tokio::spawn(async move {
            let _gone = output.send(format!("{}\n", arguments.join(" ")).into()).await;
            let _gone = exit.send(Ok(0));
        })),
        "cat" => drop(tokio::spawn(async move {
            while let Some(piece) = typed.recv().await {
                let _gone = output.send(piece).await;
            }
            let _gone = exit.send(Ok(0));
        })),
        "exit" => {
            let wanted = arguments.first().and_then(|code| code.parse().ok()).unwrap_or(0);
            let _gone = exit.send(Ok(wanted));
        }
        other => return Err(format!("exec: {other:?}: executable file not found in $PATH")),
    }
    Ok(Process { stdin, stdout, stderr, resize, exit: code })
}
