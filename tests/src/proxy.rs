//! A running `portolan run`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, PipeReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use portolan_lab::netns::Namespace;
use portolan_observe::control::{self, Query, Table, Which};
use portolan_observe::rows::{AddressRow, EndpointRow, PodRow, ServiceRow};
use portolan_service::Protocol;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

thread_local! {
    /// The proxies that were started on this thread, which runs one test at a time.
    static STARTED: RefCell<Vec<(String, Log)>> = const { RefCell::new(Vec::new()) };
}

/// The last lines of all proxies that were started on this thread since this was last called, for
/// people.
pub fn take_last_lines() -> String {
    STARTED.take().iter().map(|(node, log)| log.last_lines(node)).collect()
}

/// How many lines of a log are shown.
const SHOWN: usize = 30;
/// How long the proxy may take from its start to its first commit.
const READY_WITHIN: Duration = Duration::from_mins(2);

/// Where a proxy has its objects from.
#[derive(Debug, Clone)]
pub enum Objects {
    /// A folder of manifests.
    Manifests(PathBuf),
    /// The cluster of a kubeconfig.
    Cluster(PathBuf),
}

/// Starts proxies with the same binary, objects, state and flags.
#[derive(Debug, Clone)]
pub struct Launch {
    /// The program.
    pub binary: PathBuf,
    /// The node's name.
    pub node: String,
    /// Where the objects are.
    pub objects: Objects,
    /// What it remembers over restarts.
    pub state: PathBuf,
    /// Further flags of `portolan run`.
    pub flags: Vec<String>,
}

impl Launch {
    /// A proxy for the node whose namespace this is, once it says that everything is in force.
    pub fn start(&self, namespace: &Namespace) -> anyhow::Result<Proxy> {
        let mut proxy = self.begin(namespace)?;
        proxy.wait_until_ready(READY_WITHIN)?;
        Ok(proxy)
    }

    /// A proxy that has just been started and may be anywhere on its way.
    pub fn begin(&self, namespace: &Namespace) -> anyhow::Result<Proxy> {
        let (mut proxy, reader) = self.spawn(namespace)?;
        proxy.unread = Some(reader);
        Ok(proxy)
    }

    fn spawn(&self, namespace: &Namespace) -> anyhow::Result<(Proxy, PipeReader)> {
        let (reader, writer) = std::io::pipe().context("a pipe")?;
        let mut command = self.command("run");
        match &self.objects {
            Objects::Manifests(folder) => command.arg("--manifests").arg(folder),
            Objects::Cluster(kubeconfig) => command.arg("--kubeconfig").arg(kubeconfig),
        };
        let socket = self.state.join(format!("{}.sock", self.node));
        command.arg("--socket").arg(&socket);
        // Standard input is the one descriptor that can be handed over without unsafe code.
        command.args(["--ready-fd", "0"]).stdin(writer);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = namespace.spawn(&mut command)?;
        drop(command); // our copy of the pipe's other end
        let log = Log::default();
        if let Some(stderr) = child.stderr.take() {
            log.follow(stderr);
        }
        if let Some(stdout) = child.stdout.take() {
            log.follow(stdout);
        }
        let proxy = Proxy { node: self.node.clone(), child, log, socket, unread: None };
        STARTED.with_borrow_mut(|started| started.push((self.node.clone(), proxy.log.clone())));
        Ok((proxy, reader))
    }

    /// Runs `portolan check` of manifests in this namespace and returns its exit code and output.
    pub fn check(&self, namespace: &Namespace) -> anyhow::Result<(Option<i32>, String)> {
        let Objects::Manifests(folder) = &self.objects else { bail!("only manifests can be checked") };
        let mut command = self.command("check");
        command.arg(folder);
        output(namespace, &mut command)
    }

    /// Runs `portolan cleanup` in this namespace and returns its exit code and output.
    pub fn cleanup(&self, namespace: &Namespace) -> anyhow::Result<(Option<i32>, String)> {
        output(namespace, Command::new(&self.binary).arg("cleanup"))
    }

    fn command(&self, subcommand: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg(subcommand).args(["--hostname-override", &self.node]).arg("--state-dir").arg(&self.state);
        command.args(&self.flags);
        command
    }
}

/// Whether a proxy has announced itself on this pipe (or ended before that); none after `patience`.
fn announced(reader: PipeReader, patience: Duration) -> Option<bool> {
    let (ready, became_ready) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = reader;
        let _ = ready.send(reader.read(&mut [0]).is_ok_and(|read| read == 1));
    });
    became_ready.recv_timeout(patience).ok()
}

/// Runs a command to its end.
fn output(namespace: &Namespace, command: &mut Command) -> anyhow::Result<(Option<i32>, String)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = namespace.spawn(command)?.wait_with_output()?;
    let text = [done.stdout, done.stderr].concat();
    Ok((done.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

/// A running proxy. It is killed when this is dropped.
#[derive(Debug)]
pub struct Proxy {
    node: String,
    child: Child,
    log: Log,
    /// Where it answers `portolan get`.
    socket: PathBuf,
    /// Keeps the end of the pipe open that it announces itself on, when nobody waits for that.
    unread: Option<PipeReader>,
}

impl Proxy {
    /// Kills it as hard as can be (SIGKILL) and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Has it end as a supervisor does (SIGTERM), and waits for that. Returns its exit code.
    pub fn end(&mut self) -> anyhow::Result<Option<i32>> {
        self.ask_to_end()?;
        self.wait()
    }

    /// Asks it to end as a supervisor does (SIGTERM).
    pub fn ask_to_end(&self) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).context("sending SIGTERM")
    }

    /// Waits for its end. Returns its exit code.
    pub fn wait(&mut self) -> anyhow::Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }

    /// Its process id in the namespace of this program.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has written so far.
    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// The last lines of it, under the node's name.
    pub fn last_lines(&self) -> String {
        self.log.last_lines(&self.node)
    }

    /// Waits until it is ready: until everything is in force for the first time.
    pub fn wait_until_ready(&mut self, patience: Duration) -> anyhow::Result<()> {
        let reader = self.unread.take().context("nobody has waited for this proxy yet")?;
        match announced(reader, patience) {
            Some(true) => Ok(()),
            Some(false) => bail!("the proxy ended before it was ready{}", self.last_lines()),
            None => bail!("the proxy was not ready within {patience:?}{}", self.last_lines()),
        }
    }

    /// The endpoints that it has in force for new connections to the ports of a Service with this
    /// protocol, by the Service's namespace and name.
    pub fn endpoints(
        &self,
        (namespace, name): (&str, &str),
        protocol: Protocol,
    ) -> anyhow::Result<BTreeSet<SocketAddr>> {
        let query = Query { namespace: Some(namespace.to_owned()), ..Query::of(Table::Endpoints) };
        let mut answer = control::ask(&self.socket, &query)?;
        let rows: Vec<EndpointRow> = serde_json::from_value(answer[query.table.name()].take())?;
        let of_service =
            rows.iter().filter(|row| row.service == name && row.protocol == protocol.to_string());
        let new_connections = of_service.filter(|row| row.lists.iter().any(|list| list != "serving"));
        Ok(new_connections.map(EndpointRow::socket).collect())
    }

    /// What `portolan get services` shows of those with this name.
    pub fn services(&self, name: &str) -> anyhow::Result<Vec<ServiceRow>> {
        Ok(serde_json::from_value(self.named(Table::Services, name)?)?)
    }

    /// What `portolan get endpoints` shows of the Services with this name.
    pub fn endpoint_rows(&self, name: &str) -> anyhow::Result<Vec<EndpointRow>> {
        Ok(serde_json::from_value(self.named(Table::Endpoints, name)?)?)
    }

    fn named(&self, table: Table, name: &str) -> anyhow::Result<Value> {
        let which = Which { name: Some(name.to_owned()), ..Which::default() };
        let mut answer = control::ask(&self.socket, &Query { which, ..Query::of(table) })?;
        Ok(answer[table.name()].take())
    }

    /// The Pods that it probes.
    pub fn probed_pods(&self) -> anyhow::Result<Vec<PodRow>> {
        let mut answer = control::ask(&self.socket, &Query::of(Table::Endpoints))?;
        let pods = answer.get_mut("probedPods").map(Value::take);
        Ok(pods.map(serde_json::from_value).transpose()?.unwrap_or_default())
    }

    /// What `portolan get addresses` shows.
    pub fn addresses(&self) -> anyhow::Result<Vec<AddressRow>> {
        let mut answer = control::ask(&self.socket, &Query::of(Table::Addresses))?;
        Ok(serde_json::from_value(answer["addresses"].take())?)
    }

    /// What it says in `portolan get status` that it does not serve.
    pub fn unserved(&self) -> anyhow::Result<Vec<String>> {
        let answer = control::ask(&self.socket, &Query::of(Table::Status))?;
        Ok(serde_json::from_value(answer["status"]["unserved"].clone())?)
    }

    /// Waits until it has written a line that contains `text`.
    pub fn wait_for_log(&self, text: &str, patience: Duration) -> anyhow::Result<String> {
        self.log
            .wait_for(text, patience)
            .with_context(|| format!("the proxy did not write {text:?}; its log:\n{}", self.log()))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Lines that a process writes.
#[derive(Debug, Clone, Default)]
struct Log {
    shared: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Log {
    fn follow(&self, output: impl Read + Send + 'static) {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                log.lines().push(line);
                log.shared.1.notify_all();
            }
        });
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last_lines(&self, node: &str) -> String {
        let lines = self.lines();
        let shown = &lines[lines.len().saturating_sub(SHOWN)..];
        format!(
            "\n-- the proxy of {node}, last {} of {} lines:\n{}\n",
            shown.len(),
            lines.len(),
            shown.join("\n")
        )
    }

    /// The first line that contains `text`.
    fn wait_for(&self, text: &str, patience: Duration) -> Option<String> {
        let deadline = Instant::now() + patience;
        let mut lines = self.lines();
        let mut seen = 0;
        loop {
            for line in &lines[seen..] {
                seen += 1;
                if line.contains(text) {
                    return Some(line.clone());
                }
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            (lines, _) = self.shared.1.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
