//! Servers of the same names: ours, knot and nsd, each in a process of its own.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use portolan_dns::{Block, Listener, Server, Settings};
use portolan_names::Names;
use portolan_service::{Change, Protocol};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::client;
use crate::cluster::{Member, Shape, cluster_ip, members, nodes};
use crate::group::{self, Group};
use crate::pace::{self, Pace};
use crate::step::Step;

const PORT: u16 = 5300;
/// A server answers at the latest so long after its start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Which {
    Portolan,
    Knot,
    Nsd,
    CoreDns,
}

impl Which {
    pub(crate) fn program(self) -> &'static str {
        match self {
            Which::Portolan => "portolan",
            Which::Knot => "knotd",
            Which::Nsd => "nsd",
            Which::CoreDns => "coredns",
        }
    }
}

/// A server that answers. Killed when dropped.
pub(crate) struct Running {
    group: Group,
    address: SocketAddr,
    _folder: TempDir,
}

impl Running {
    /// Starts a server of so many Services on the first processor; `None` if it is not installed.
    pub(crate) fn start(which: Which, services: u32) -> anyhow::Result<Option<Running>> {
        let folder = tempfile::tempdir().context("creating a temporary folder")?;
        let path = folder.path().display().to_string();
        let (settings, arguments): (String, &[&str]) = match which {
            Which::Portolan => {
                return Ok(Some(Running::ours(Shape::new(services, 1), 1, &[0], Pace::RealTime)?));
            }
            Which::Knot => (knot(&path), &["-c"]),
            Which::Nsd => (nsd(&path), &["-d", "-c"]),
            Which::CoreDns => (coredns(&path), &["-conf"]),
        };
        let Some(program) = group::find(which.program()) else { return Ok(None) };
        std::fs::write(folder.path().join("zone"), zone(services)).context("writing a zone")?;
        let file = folder.path().join("settings");
        std::fs::write(&file, settings).context("writing settings")?;
        let log = std::fs::File::create(folder.path().join("log")).context("creating a log")?;
        let mut command = Command::new(program);
        command.args(arguments).arg(&file).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        Ok(Some(Running::spawn(command, &[0], Pace::RealTime, folder)?))
    }

    /// Ours, with so many threads on these processors.
    pub(crate) fn ours(
        shape: Shape,
        threads: usize,
        processors: &[usize],
        pace: Pace,
    ) -> anyhow::Result<Running> {
        let folder = tempfile::tempdir().context("creating a temporary folder")?;
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        let step = serde_json::to_string(&Step::ServeNames { shape, threads })?;
        command.args(["step", "600", &step]).stdin(Stdio::piped());
        Running::spawn(command, processors, pace, folder)
    }

    fn spawn(command: Command, processors: &[usize], pace: Pace, folder: TempDir) -> anyhow::Result<Running> {
        let group = Group::start(command, processors, pace)?;
        let mut running = Running { group, address: (Ipv4Addr::LOCALHOST, PORT).into(), _folder: folder };
        running.await_first_answer()?;
        Ok(running)
    }

    fn await_first_answer(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let socket = client::socket(self.address())?;
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .context("setting a client's patience")?;
            match client::ask(&socket, 0) {
                Ok(answer) if answer.windows(4).any(|octets| octets == cluster_ip(0).octets()) => {
                    return Ok(());
                }
                // Refused, while nobody listens, or no answer yet.
                _ if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                Ok(answer) => bail!("the first answer is {answer:?}"),
                Err(error) => return Err(error).context("waiting for the first answer"),
            }
            self.group.assert_alive()?;
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time of all its processes.
    pub(crate) fn processor(&self) -> anyhow::Result<Duration> {
        self.group.processor()
    }

    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        self.group.resident()
    }

    /// Has ours give a Service another address.
    pub(crate) fn change(&mut self, service: u32, address: Ipv4Addr) -> anyhow::Result<()> {
        writeln!(self.group.input()?, "{service} {address}").context("changing a Service")
    }
}

/// Serves the names of a cluster until the input ends. Lines of it change the addresses of
/// Services.
pub(crate) fn serve(shape: Shape, threads: usize) -> anyhow::Result<()> {
    let mut names = Names::new(portolan_names::Settings::default(), 0x5eed)?;
    let nodes = nodes();
    for member in members(shape, Protocol::Tcp) {
        names.apply([Change::from(member.service()).into(), Change::from(member.slice(&nodes)).into()], 1);
    }
    names.set_synced();
    let names = Arc::new(RwLock::new(names));
    let block = Block { zones: vec![".".to_owned()], names: Some(names.clone()), ..Block::default() };
    let listeners = vec![Listener::new((Ipv4Addr::LOCALHOST, PORT).into(), vec![block])];
    let server = Server::start(Settings { listeners, threads: Some(threads), ..Settings::default() })?;
    // Of the same real-time priority, they would let it have their processor only when they are
    // idle.
    if pace::is_real_time() {
        pace::hurry(pace::URGENT + 1);
    }
    for line in BufReader::new(std::io::stdin()).lines() {
        let line = line.context("reading a change")?;
        let change = line.split_once(' ').context("a change without an address")?;
        let mut service = Member::new(shape, Protocol::Tcp, change.0.parse()?).service();
        service.cluster_ips = vec![change.1.parse()?];
        let mut names = names.write().map_err(|_| anyhow::anyhow!("a change of names panicked"))?;
        names.apply([Change::from(service).into()], 2);
    }
    ensure!(server.counts().panics == 0, "answers panicked");
    Ok(())
}

fn zone(services: u32) -> String {
    let mut text = "$ORIGIN cluster.local.\n$TTL 5\n\
                    @ SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ NS ns.dns\nns.dns A 10.96.0.10\n"
        .to_owned();
    for member in members(Shape::new(services, 1), Protocol::Tcp) {
        let name = member.name();
        let (name, namespace) = (name.name(), name.namespace());
        writeln!(text, "{name}.{namespace}.svc A {}", member.cluster_ip())
            .expect("a String takes everything");
    }
    text
}

fn knot(folder: &str) -> String {
    format!(
        "server:\n  listen: 127.0.0.1@{PORT}\n  rundir: {folder}\n  udp-workers: 1\n  tcp-workers: 1\n  \
         background-workers: 1\n  user: root:root\n\
         database:\n  storage: {folder}\n\
         zone:\n  - domain: cluster.local\n    file: {folder}/zone\n    zonefile-load: whole\n"
    )
}

fn coredns(folder: &str) -> String {
    format!("cluster.local:{PORT} {{\n    bind 127.0.0.1\n    file {folder}/zone\n}}\n")
}

/// Its limit of answers to one client, 200 a second, is taken away.
fn nsd(folder: &str) -> String {
    format!(
        "server:\n  ip-address: 127.0.0.1@{PORT}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  \
         zonesdir: {folder}\n  database: \"\"\n  pidfile: {folder}/pid\n  xfrdfile: {folder}/xfrd\n  \
         zonelistfile: {folder}/zonelist\n  xfrdir: {folder}\n  minimal-responses: yes\n  rrl-ratelimit: 0\n  \
         rrl-whitelist-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: cluster.local\n  zonefile: {folder}/zone\n"
    )
}
