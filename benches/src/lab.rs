//! A lab from the outside, as a user of kubectl meets it: how soon it is there, how soon pods are
//! ready and gone, what it holds, and what its API server takes in.

mod client;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::client::{Access, Client};
use crate::forwarding;
use crate::process;
use crate::report::{Figure, Line, Required};
use crate::sample::Sample;

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WATCHERS: usize = 10;
const WRITERS: usize = 4;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Amount {
    pub(crate) rounds: usize,
    pub(crate) pods: usize,
    pub(crate) writes: usize,
}

/// What it takes at most, for `pods` of 200.
pub(crate) fn bench(program: &Path, amount: Amount) -> anyhow::Result<Vec<Line>> {
    forwarding::raise_loopback()?;
    let line = |case: &str, measure: &str, figure, most| {
        Line::new("lab", case, measure, figure).required(Required::AtMost(most))
    };
    let time = |time| Figure::time(time);
    let mut up = Vec::new();
    let mut first = Vec::new();
    let mut memory = Vec::new();
    let mut writes = Vec::new();
    for round in 0..amount.rounds {
        let begin = Instant::now();
        let lab = Lab::up(program, 2)?;
        // Every node says that it is ready before this comes back.
        up.push(begin.elapsed());
        memory.push(lab.memory()?);
        first.push(lab.first_pod(round)?);
        writes.push(lab.writes(amount.writes)?);
    }
    let lab = Lab::up(program, 5)?;
    let (ready, gone) = lab.pods(amount.pods)?;
    let pods = format!("5 nodes, {} pods", amount.pods);
    let watched = format!("2 nodes, {WATCHERS} watchers");
    Ok(vec![
        line(
            "2 nodes",
            "`lab up` until it is there",
            time(Sample::new(up).median()),
            time(Duration::from_secs(1)),
        ),
        line(
            "2 nodes",
            "Deployment created to pod ready",
            time(Sample::new(first).median()),
            time(Duration::from_millis(150)),
        ),
        line(
            "2 nodes",
            "memory of all processes",
            Figure::Bytes(Sample::new(memory).median()),
            Figure::Bytes(80_000_000),
        ),
        line(&watched, "a write", time(Sample::new(writes).median()), time(Duration::from_micros(500))),
        line(&pods, "Deployment created to all ready", time(ready), time(Duration::from_secs(5))),
        line(&pods, "scaled to zero to all gone", time(gone), time(Duration::from_secs(2))),
    ])
}

/// A running lab. Ended when dropped.
struct Lab {
    program: PathBuf,
    folder: TempDir,
    access: Access,
}

impl Lab {
    fn up(program: &Path, nodes: usize) -> anyhow::Result<Lab> {
        let folder = tempfile::tempdir().context("a folder for the lab")?;
        let command = |args: &[&str]| {
            let mut command = Command::new(program);
            command.arg("lab").args(args).env("XDG_RUNTIME_DIR", folder.path());
            command.stdin(Stdio::null());
            command
        };
        let nodes = nodes.to_string();
        let up = command(&["up", "--nodes", &nodes]).output().context("starting the lab")?;
        ensure!(up.status.success(), "lab up: {}", String::from_utf8_lossy(&up.stderr));
        let kubeconfig = command(&["kubeconfig"]).output().context("asking for the kubeconfig")?;
        let kubeconfig = String::from_utf8(kubeconfig.stdout).context("the path of the kubeconfig")?;
        let access = Access::read(Path::new(kubeconfig.trim()))?;
        Ok(Lab { program: program.to_owned(), folder, access })
    }

    /// Proportional set size of all processes of the lab, in bytes.
    fn memory(&self) -> anyhow::Result<u64> {
        let marker = format!("XDG_RUNTIME_DIR={}", self.folder.path().display());
        let mut parents = Vec::new();
        let mut ours = HashSet::new();
        for entry in fs::read_dir("/proc").context("listing processes")?.flatten() {
            let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // Processes come and go meanwhile.
            let Ok(parent) = process::parent(process) else { continue };
            parents.push((process, parent));
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes()) {
                ours.insert(process);
            }
        }
        // A pod has variables of its own: it is known by its parent.
        loop {
            let before = ours.len();
            for (process, parent) in &parents {
                if ours.contains(parent) {
                    ours.insert(*process);
                }
            }
            if ours.len() == before {
                break;
            }
        }
        ensure!(!ours.is_empty(), "no process of the lab was found");
        Ok(ours.into_iter().filter_map(|process| process::proportional(process).ok()).sum())
    }

    /// From the answer to a new Deployment until its pod is ready.
    fn first_pod(&self, round: usize) -> anyhow::Result<Duration> {
        let name = format!("first-{round}");
        let mut watch = self.access.connect()?;
        watch.watch(&pods_of(&name))?;
        self.access.connect()?.send("POST", DEPLOYMENTS, &deployment(&name, 1))?;
        let begin = Instant::now();
        until_ready(&mut watch, 1)?;
        Ok(begin.elapsed())
    }

    /// How long a Deployment of so many pods takes until all are ready, and all gone.
    fn pods(&self, count: usize) -> anyhow::Result<(Duration, Duration)> {
        let mut watch = self.access.connect()?;
        watch.watch(&pods_of("many"))?;
        let mut client = self.access.connect()?;
        let begin = Instant::now();
        client.send("POST", DEPLOYMENTS, &deployment("many", count))?;
        until_ready(&mut watch, count)?;
        let ready = begin.elapsed();
        let begin = Instant::now();
        client.send("PATCH", &format!("{DEPLOYMENTS}/many"), &json!({ "spec": { "replicas": 0 } }))?;
        let mut gone = 0;
        while gone < count {
            gone += usize::from(watch.event()?.starts_with(r#"{"type":"DELETED""#));
        }
        Ok((ready, begin.elapsed()))
    }

    /// The time of one write, while watchers read every one and several clients write.
    fn writes(&self, count: usize) -> anyhow::Result<Duration> {
        let each = count / WRITERS;
        let all = each * WRITERS;
        let mut watches = Vec::new();
        for _ in 0..WATCHERS {
            let mut watch = self.access.connect()?;
            watch
                .watch(&format!("{CONFIG_MAPS}?watch=1&fieldSelector=metadata.name%21%3Dkube-root-ca.crt"))?;
            watches.push(watch);
        }
        let clients = (0..WRITERS).map(|_| self.access.connect()).collect::<anyhow::Result<Vec<_>>>()?;
        let begin = Instant::now();
        thread::scope(|scope| {
            let writers = clients.into_iter().enumerate().map(|(writer, mut client)| {
                scope.spawn(move || {
                    for number in 0..each {
                        let object = json!({ "apiVersion": "v1", "kind": "ConfigMap",
                            "metadata": { "name": format!("written-{writer}-{number}") },
                            "data": { "key": "value" } });
                        client.send("POST", CONFIG_MAPS, &object)?;
                    }
                    Ok::<_, anyhow::Error>(())
                })
            });
            let watchers = watches
                .into_iter()
                .map(|mut watch| scope.spawn(move || (0..all).try_for_each(|_| watch.event().map(drop))));
            let threads: Vec<_> = writers.chain(watchers).collect();
            threads.into_iter().try_for_each(|thread| thread.join().expect("a client does not panic"))
        })?;
        Ok(begin.elapsed() / u32::try_from(all)?)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mut down = Command::new(&self.program);
        down.args(["lab", "down"]).env("XDG_RUNTIME_DIR", self.folder.path()).stdout(Stdio::null());
        // Whatever is left of it is seen by whoever looks.
        let _ = down.status();
    }
}

fn deployment(name: &str, replicas: usize) -> Value {
    json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
        "spec": { "replicas": replicas, "selector": { "matchLabels": { "app": name } },
            "template": { "metadata": { "labels": { "app": name } },
                "spec": { "containers": [
                    { "name": "web", "image": "nginx", "ports": [{ "containerPort": 80 }] }] } } } })
}

fn pods_of(name: &str) -> String {
    format!("/api/v1/namespaces/default/pods?watch=1&labelSelector=app%3D{name}")
}

/// Waits until so many pods are ready.
fn until_ready(watch: &mut Client, count: usize) -> anyhow::Result<()> {
    let mut ready = HashSet::new();
    while ready.len() < count {
        let event: Value = serde_json::from_str(&watch.event()?).context("an event")?;
        let pod = &event["object"];
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        if conditions.into_iter().any(|it| it["type"] == "Ready" && it["status"] == "True") {
            ready.insert(pod["metadata"]["name"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(())
}
