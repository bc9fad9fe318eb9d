//! The cluster of a tour, and what is done in it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::kubectl::{self, Stood};
use super::story::{Act, Place, Step, Tour};
use crate::cluster::{Cluster, Options};
use crate::netns::Namespace;
use crate::proxy::ProxyMode;
use crate::responder::{Identity, Responder};
use crate::search_path;

/// Where the cluster keeps its files: in the sandbox's private /run.
const STATE: &str = "/run/portolan-lab";
/// Where everything is typed.
const FOLDER: &str = "/run/tour";
/// No command takes longer.
const WITHIN: Duration = Duration::from_mins(1);
/// What is to be seen soon is seen within this time.
const SOON: Duration = Duration::from_mins(1);
/// One look takes no longer. A connection that began before the rules for it were in force is
/// tracked without them, and waits for ever.
const LOOK: Duration = Duration::from_secs(15);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// What would lead requests out of the lab.
const PROXIES: [&str; 8] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// Where a tour takes place.
pub(super) struct Stage {
    // What was started before the cluster that it runs in.
    behind: Option<Running>,
    servers: Vec<Responder>,
    cluster: Cluster,
    program: PathBuf,
    has_kubectl: bool,
}

/// What came of a step.
pub(super) struct Outcome {
    pub(super) text: String,
    pub(super) succeeded: bool,
}

impl Stage {
    /// Builds the cluster of a tour. The process must be in a sandbox.
    pub(super) fn build(tour: &Tour) -> anyhow::Result<Stage> {
        let folder = Path::new(FOLDER);
        fs::create_dir_all(folder).with_context(|| format!("creating {FOLDER}"))?;
        for (name, content) in tour.scenery.files {
            fs::write(folder.join(name), content).with_context(|| format!("writing {FOLDER}/{name}"))?;
        }
        let program = std::env::current_exe().context("finding this program")?;
        // Nobody outside of the lab asks its API server.
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).context("listening in the sandbox")?;
        let cluster = Cluster::start(&Options {
            files: vec![folder.join(tour.scenery.start)],
            nodes: 0,
            state: STATE.into(),
            program: program.clone(),
            proxy_mode: if has_iptables() { ProxyMode::Iptables } else { ProxyMode::Nftables },
            node_proxy_modes: BTreeMap::new(),
            nodeport_addresses: Vec::new(),
            load_balancer_pools: Vec::new(),
            dns: false,
            service_networks: vec![tour.scenery.services.parse().context("the network of Services")?],
            listener,
        })?;
        let has_kubectl = search_path::find("kubectl").is_some();
        Ok(Stage { behind: None, servers: Vec::new(), cluster, program, has_kubectl })
    }

    /// What is different because of what this machine lacks.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.has_kubectl {
            notes.push(
                "There is no kubectl on this machine. What it would do is done through the API, and what it would \
                 print is in brief."
                    .to_owned(),
            );
        }
        if !has_iptables() {
            notes.push(
                "There is no iptables on this machine, so the proxies are in mode nftables, and the chains of \
                 iptables are left out."
                    .to_owned(),
            );
        }
        notes
    }

    /// Does a step, again and again if what is to be seen comes soon.
    pub(super) fn perform(&mut self, step: &Step) -> anyhow::Result<Outcome> {
        if step.soon {
            self.cluster.settle();
        }
        let end = Instant::now() + SOON;
        loop {
            let outcome = self.once(step)?;
            let is_right = step.differs(outcome.succeeded, &outcome.text).is_none();
            if is_right || !step.soon || Instant::now() >= end {
                return Ok(outcome);
            }
            thread::sleep(PAUSE);
        }
    }

    fn once(&mut self, step: &Step) -> anyhow::Result<Outcome> {
        match step.act {
            Act::Run => match self.start(step)? {
                Started::Done(outcome) => Ok(outcome),
                Started::Running(running) if step.soon => running.end_within(LOOK),
                Started::Running(running) => running.end(),
            },
            Act::Behind(until) => {
                ensure!(self.behind.is_none(), "something runs in the background already");
                let Started::Running(mut running) = self.start(step)? else { bail!("it has ended already") };
                let said = running.wait_for(until)?;
                self.behind = Some(running);
                Ok(Outcome { text: said, succeeded: true })
            }
            Act::Fetch => self.behind.take().context("nothing runs in the background")?.end(),
            Act::Serve(name, address, port) => {
                let namespace = self.namespace(step.place)?;
                let identity = Identity { pod: name.to_owned(), node: namespace.name().to_owned() };
                let server = Responder::start(&namespace, &identity, &[address.into()], &[port])?;
                self.servers.push(server);
                Ok(Outcome { text: String::new(), succeeded: true })
            }
            Act::Restart(node, mode) => {
                self.cluster.restart_proxy(node, mode)?;
                let text = format!("the proxy of node {node} has its rules in force again\n");
                Ok(Outcome { text, succeeded: true })
            }
        }
    }

    /// Starts what is typed.
    fn start(&self, step: &Step) -> anyhow::Result<Started> {
        if !self.has_kubectl && step.line.starts_with("kubectl ") {
            return self.without_kubectl(step.line);
        }
        let namespace = self.namespace(step.place)?;
        let mut command = Command::new(&self.program);
        command.args(["lab", "at", namespace.name(), STATE, step.line]).current_dir(FOLDER);
        for name in PROXIES {
            command.env_remove(name);
        }
        // kubectl remembers things at home, and nothing is to stay.
        command.env("KUBECONFIG", Path::new(STATE).join("kubeconfig")).env("HOME", FOLDER);
        let output = connected(&mut command)?;
        let child = namespace.spawn(&mut command)?;
        drop(command);
        Ok(Started::Running(Running::new(child, output)?))
    }

    fn without_kubectl(&self, line: &str) -> anyhow::Result<Started> {
        let done = |text: String, succeeded| Ok(Started::Done(Outcome { text: text + "\n", succeeded }));
        match kubectl::stand_in(&self.cluster.objects(), Path::new(FOLDER), line) {
            Ok(Stood::Done(said)) => done(said, true),
            Ok(Stood::InPod { namespace, pod, command }) => {
                let mut output = Err(anyhow!("nothing was started"));
                let prepare = |command: &mut Command| output = connected(command);
                let child = kubectl::in_pod(&self.cluster, (&namespace, &pod, &command), prepare)?;
                Ok(Started::Running(Running::new(child, output?)?))
            }
            Err(error) => done(format!("{error:#}"), false),
        }
    }

    fn namespace(&self, place: Place) -> anyhow::Result<Namespace> {
        let lab = self.cluster.lab();
        Ok(match place {
            Place::Here | Place::Client => lab.client().clone(),
            Place::Node(name) => lab.node(name)?,
        })
    }
}

fn has_iptables() -> bool {
    search_path::find("iptables-restore").is_some()
}

/// Gives a command one pipe for all that it writes, as a terminal is one, nothing to read, and a
/// group that can be ended.
fn connected(command: &mut Command) -> anyhow::Result<PipeReader> {
    let (reader, writer) = io::pipe().context("a pipe")?;
    command.stdin(Stdio::null()).stdout(writer.try_clone().context("a pipe")?).stderr(writer);
    command.process_group(0);
    Ok(reader)
}

enum Started {
    Done(Outcome),
    Running(Running),
}

/// A command that runs.
struct Running {
    child: Child,
    lines: Receiver<String>,
    text: String,
}

impl Running {
    fn new(child: Child, output: PipeReader) -> anyhow::Result<Running> {
        let (sender, lines) = channel();
        let read = move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        };
        thread::Builder::new().name("reader".to_owned()).spawn(read).context("starting a thread")?;
        Ok(Running { child, lines, text: String::new() })
    }

    /// Waits until the command has written this, and gives all that it has written.
    fn wait_for(&mut self, wanted: &str) -> anyhow::Result<String> {
        let end = Instant::now() + WITHIN;
        while !self.text.contains(wanted) {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.text += &line,
                Err(_) => bail!("it does not write {wanted:?}, but: {}", self.text),
            }
        }
        Ok(std::mem::take(&mut self.text))
    }

    /// Waits for the end of the command.
    fn end(mut self) -> anyhow::Result<Outcome> {
        ensure!(
            self.read(WITHIN),
            "it has not ended within {} s; so far it has written:\n{}",
            WITHIN.as_secs(),
            self.text
        );
        self.outcome()
    }

    /// Waits for the end of the command no longer than this. Then it has failed.
    fn end_within(mut self, most: Duration) -> anyhow::Result<Outcome> {
        if self.read(most) {
            return self.outcome();
        }
        Ok(Outcome { text: std::mem::take(&mut self.text), succeeded: false })
    }

    /// Reads all that the command writes; whether it ends within this time.
    fn read(&mut self, within: Duration) -> bool {
        let end = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.text += &line,
                Err(error) => return error == RecvTimeoutError::Disconnected,
            }
        }
    }

    fn outcome(&mut self) -> anyhow::Result<Outcome> {
        let status = self.child.wait().context("waiting for a command")?;
        Ok(Outcome { text: std::mem::take(&mut self.text), succeeded: status.success() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.child.try_wait(), i32::try_from(self.child.id())) {
            // It has taken too long. It is there, for it has not been waited for.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}
