//! What stands between clients and servers: ours, HAProxy, nginx, socat, or rules of the kernel
//! alone.

use std::fmt::Write as _;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_relay::{Limits, Listener, Order, Protocol, Relay, Settings, Table};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::server::{DATAGRAMS, ECHO, IDLE, SHORT, SOURCE};
use super::topology::{PROXY, SERVER};
use crate::group::{self, Group};
use crate::pace::Pace;
use crate::process;
use crate::step::Step;

/// Ports of TCP.
const CONNECTIONS: [u16; 4] = [SOURCE, SHORT, ECHO, IDLE];
/// A proxy listens at the latest so long after its start.
const PATIENCE: Duration = Duration::from_secs(10);

/// What stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Which {
    Portolan,
    HaProxy,
    Nginx,
    Socat,
    /// One rule of nftables that translates the destination.
    Dnat,
    /// Nothing: the servers are asked, by way of the same node.
    Direct,
}

impl Which {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Which::Portolan => "portolan",
            Which::HaProxy => "haproxy",
            Which::Nginx => "nginx",
            Which::Socat => "socat",
            Which::Dnat => "DNAT",
            Which::Direct => "no proxy",
        }
    }

    pub(crate) fn relays_datagrams(self) -> bool {
        self != Which::HaProxy
    }
}

/// A proxy at work. It ends when this is dropped.
pub(crate) struct Proxy {
    which: Which,
    groups: Vec<Group>,
    _folder: TempDir,
}

impl Proxy {
    /// Starts it on the first processor, with so many descriptors; `None` if it is not installed.
    pub(crate) fn start(which: Which, descriptors: usize) -> anyhow::Result<Option<Proxy>> {
        let folder = tempfile::tempdir().context("creating a temporary folder")?;
        let Some(commands) = commands(which, folder.path(), descriptors)? else { return Ok(None) };
        let groups = commands.into_iter().map(|mut command| {
            command.stdin(Stdio::piped());
            Group::start(command, &[0], Pace::Share)
        });
        let groups = groups.collect::<anyhow::Result<_>>()?;
        let mut proxy = Proxy { which, groups, _folder: folder };
        proxy.await_listening()?;
        Ok(Some(proxy))
    }

    /// Where a client finds this port.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        let host = if self.which == Which::Direct { SERVER } else { PROXY };
        (host, port).into()
    }

    /// Processor time of its processes; 0 for rules, and for socat, whose processes come and go.
    pub(crate) fn processor(&self) -> anyhow::Result<Duration> {
        if self.which == Which::Socat {
            return Ok(Duration::ZERO);
        }
        self.groups.iter().map(Group::processor).sum()
    }

    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        self.groups.iter().map(Group::resident).sum()
    }

    /// The proxy is in this thread's namespace.
    fn await_listening(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        for port in CONNECTIONS {
            while !self.groups.is_empty() && TcpStream::connect((PROXY, port)).is_err() {
                ensure!(Instant::now() < deadline, "{} does not listen", self.which.name());
                for group in &mut self.groups {
                    group.assert_alive().context(self.which.name())?;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if self.which == Which::Dnat {
            // The next one would not be asked.
            let _ = process::run(Command::new("nft").args(["flush", "ruleset"]));
        }
    }
}

/// The processes of a proxy.
fn commands(which: Which, folder: &Path, descriptors: usize) -> anyhow::Result<Option<Vec<Command>>> {
    let settings = folder.join("settings");
    let with = |text: String| std::fs::write(&settings, text).context("writing settings");
    let command = match which {
        Which::Portolan => {
            let mut command = Command::new(std::env::current_exe().context("finding this program")?);
            command.args(["step", "600", &serde_json::to_string(&Step::ServeRelay)?]);
            command
        }
        Which::HaProxy => {
            let Some(program) = group::find("haproxy") else { return Ok(None) };
            with(haproxy(descriptors))?;
            let mut command = Command::new(program);
            command.arg("-db").arg("-f").arg(&settings);
            command
        }
        Which::Nginx => {
            let Some(program) = group::find("nginx") else { return Ok(None) };
            let module = "lib/nginx/modules/ngx_stream_module.so";
            // Beside the program, if that is only unpacked.
            let Some(root) = program.parent().and_then(Path::parent) else { return Ok(None) };
            with(nginx(&root.join(module).display().to_string(), &folder.display().to_string()))?;
            let mut command = Command::new(program);
            command.arg("-p").arg(folder).arg("-e").arg(folder.join("log")).arg("-c").arg(&settings);
            command
        }
        Which::Socat => {
            let Some(program) = group::find("socat") else { return Ok(None) };
            let tcp = CONNECTIONS.map(|port| {
                let from = format!("TCP-LISTEN:{port},bind={PROXY},fork,reuseaddr,backlog=1024,nodelay");
                (from, format!("TCP:{SERVER}:{port},nodelay"))
            });
            let from = format!("UDP-LISTEN:{DATAGRAMS},bind={PROXY},fork,reuseaddr");
            let all = tcp.into_iter().chain([(from, format!("UDP:{SERVER}:{DATAGRAMS}"))]);
            let commands = all.map(|(from, to)| {
                let mut command = Command::new(&program);
                command.args([from, to]).stderr(Stdio::null());
                command
            });
            return Ok(Some(commands.collect()));
        }
        Which::Dnat => {
            with(dnat())?;
            let loaded = process::run(Command::new("nft").arg("-f").arg(&settings));
            // Without nft there is nothing to compare with.
            return Ok(loaded.is_ok_and(|loaded| loaded.status.success()).then(Vec::new));
        }
        Which::Direct => return Ok(Some(Vec::new())),
    };
    Ok(Some(vec![command]))
}

fn haproxy(descriptors: usize) -> String {
    // Two a connection and pipe, and some for itself.
    let (pipes, most) = (500, descriptors / 2 - 600);
    let mut text = format!(
        "global\n  nbthread 1\n  maxpipes {pipes}\n  maxconn {most}\ndefaults\n  mode tcp\n  maxconn {most}\n  \
                    option splice-request\n  option splice-response\n  timeout connect 5s\n  \
                    timeout client 10m\n  timeout server 10m\n"
    );
    for port in CONNECTIONS {
        let _ = writeln!(
            text,
            "listen port{port}\n  bind {PROXY}:{port} backlog 4096\n  server one {SERVER}:{port}"
        );
    }
    text
}

fn nginx(module: &str, folder: &str) -> String {
    let mut text = format!(
        "load_module {module};\nuser root;\nworker_processes 1;\nworker_rlimit_nofile 70000;\ndaemon off;\n\
         pid {folder}/pid;\nevents {{ worker_connections 30000; }}\nstream {{\n  proxy_timeout 10m;\n  \
         tcp_nodelay on;\n"
    );
    for port in CONNECTIONS {
        let _ =
            writeln!(text, "  server {{ listen {PROXY}:{port} backlog=4096; proxy_pass {SERVER}:{port}; }}");
    }
    text + &format!(
        "  server {{ listen {PROXY}:{DATAGRAMS} udp reuseport; proxy_pass {SERVER}:{DATAGRAMS}; }}\n}}\n"
    )
}

fn dnat() -> String {
    format!(
        "table ip proxy {{\n\
         chain in {{\n type nat hook prerouting priority dstnat\n ip daddr {PROXY} dnat to {SERVER}\n }}\n\
         chain out {{\n type nat hook postrouting priority srcnat\n ct status dnat masquerade\n }}\n}}\n"
    )
}

/// Relays, on one thread, until the input ends.
pub(crate) fn serve() -> anyhow::Result<()> {
    let limits = Limits { connections: 12_000, clients: 3_500, pipes: 200 };
    let relay = Relay::start(Settings { threads: Some(1), limits, ..Settings::default() })?;
    let tcp = CONNECTIONS.map(|port| (Protocol::Tcp, port));
    for (protocol, port) in tcp.into_iter().chain([(Protocol::Udp, DATAGRAMS)]) {
        let table = Arc::new(Table::new(Order::RoundRobin, None));
        table.set(vec![(SERVER, port).into()]);
        relay.add(Listener::new(port.to_string(), protocol, (PROXY, port).into(), table))?;
    }
    let _ = std::io::stdin().read(&mut [0]);
    Ok(())
}
