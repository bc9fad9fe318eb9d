//! A node's proxy: a child process in the node's namespace.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
#[cfg(feature = "cluster")]
use nix::sys::signal::{Signal, kill};
#[cfg(feature = "cluster")]
use nix::unistd::Pid;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::netns::Namespace;
use crate::own_files::own_files;

/// From its start to its first commit, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// So much of a log is shown, in lines.
const LOG_LINES: usize = 20;

/// A mode that proxies can be started in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum, Serialize, Deserialize)]
pub enum ProxyMode {
    /// Portolan's own tables of nftables.
    #[default]
    Nftables,
    /// kube-proxy's chains of iptables.
    Iptables,
    /// Sockets of the proxy itself.
    Userspace,
}

impl ProxyMode {
    /// As `--proxy-mode` takes it.
    pub fn name(self) -> &'static str {
        match self {
            ProxyMode::Nftables => "nftables",
            ProxyMode::Iptables => "iptables",
            ProxyMode::Userspace => "userspace",
        }
    }
}

/// Where a proxy finds the objects that its rules follow from.
#[derive(Debug, Clone)]
pub(crate) enum Follows {
    /// A folder of manifests, and a folder for what the proxies allocate: one for all, so that they
    /// agree.
    Manifests { folder: PathBuf, allocations: PathBuf },
    /// The API server that a kubeconfig leads to.
    #[cfg(feature = "cluster")]
    Kubeconfig(PathBuf),
}

/// What all proxies of a lab are started with.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) follows: Follows,
    /// Logs, and what the proxies remember.
    pub(crate) state: PathBuf,
    pub(crate) cluster_networks: Vec<IpNet>,
    pub(crate) mode: ProxyMode,
    /// `--nodeport-addresses`; none: the default.
    pub(crate) nodeport_addresses: Vec<String>,
    /// The key by which they share the announcement of load-balancer addresses; without one, nobody
    /// announces any.
    pub(crate) announcement_key: Option<PathBuf>,
}

impl Launch {
    /// The same in another mode.
    #[cfg(feature = "cluster")]
    pub(crate) fn in_mode(&self, mode: ProxyMode) -> Launch {
        Launch { mode, ..self.clone() }
    }

    /// The command line for a node.
    fn command(&self, node: &str) -> Command {
        let networks = self.cluster_networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let own = own_files(&self.state, node);
        let mut command = Command::new(&self.program);
        command.arg("run");
        match &self.follows {
            Follows::Manifests { folder, allocations } => {
                command.arg("--manifests").arg(folder).arg("--state-dir").arg(allocations);
            }
            #[cfg(feature = "cluster")]
            Follows::Kubeconfig(kubeconfig) => {
                command.arg("--kubeconfig").arg(kubeconfig).arg("--state-dir").arg(&own.state);
            }
        }
        command.args(["--hostname-override", node, "--cluster-cidr", &networks]);
        command.args(["--proxy-mode", self.mode.name()]);
        if !self.nodeport_addresses.is_empty() {
            command.args(["--nodeport-addresses", &self.nodeport_addresses.join(",")]);
        }
        if let Some(key) = &self.announcement_key {
            command.arg("--announce-layer2").arg("--announcement-key-file").arg(key);
        }
        command.arg("--socket").arg(own.run.join("portolan.sock"));
        // Standard input is the one descriptor that can be handed over as a number without further
        // ado.
        command.args(["--ready-fd", "0"]);
        command
    }

    /// Starts the proxy of a node; [`Proxy::wait_ready`] waits until its rules are in force.
    pub(crate) fn start(&self, node: &str, namespace: &Namespace) -> Result<Proxy, Error> {
        let what = || format!("starting the proxy of node {node}");
        let log = self.state.join(format!("{node}.log"));
        own_files(&self.state, node).create()?;
        let output = File::create(&log).map_err(Error::io(format!("creating {}", log.display())))?;
        let (ready, writer) = io::pipe().map_err(Error::io(what()))?;
        let mut command = self.command(node);
        command.stdin(writer).stdout(output.try_clone().map_err(Error::io(what()))?).stderr(output);
        let child = namespace.spawn(&mut command)?;
        Ok(Proxy {
            node: node.to_owned(),
            mode: self.mode,
            child: Mutex::new(child),
            log,
            ready: Mutex::new(Some(ready)),
        })
    }
}

/// A proxy that was started. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Proxy {
    node: String,
    #[cfg_attr(not(feature = "cluster"), expect(dead_code, reason = "nobody asks"))]
    mode: ProxyMode,
    child: Mutex<Child>,
    log: PathBuf,
    ready: Mutex<Option<io::PipeReader>>,
}

impl Proxy {
    /// Waits until everything is first in force.
    pub(crate) fn wait_ready(&self) -> Result<(), Error> {
        let Some(mut ready) = self.ready.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return Ok(());
        };
        let failure = |what: &str| Error::Proxy {
            node: self.node.clone(),
            what: what.to_owned(),
            log: last_lines(&self.log),
        };
        let mut set = [PollFd::new(ready.as_fd(), PollFlags::POLLIN)];
        let within = PollTimeout::try_from(READY_WITHIN).unwrap_or(PollTimeout::MAX);
        match poll(&mut set, within) {
            Ok(0) => Err(failure("was not ready within 30 s")),
            Err(errno) => Err(Error::io::<io::Error>("waiting for a proxy")(errno.into())),
            Ok(_) => match ready.read(&mut [0]) {
                Ok(1) => Ok(()),
                _ => Err(failure("ended before it was ready")),
            },
        }
    }

    /// The mode that it was started in.
    #[cfg(feature = "cluster")]
    pub(crate) fn mode(&self) -> ProxyMode {
        self.mode
    }

    /// Ends it as a service manager does, and waits until it has ended.
    #[cfg(feature = "cluster")]
    pub(crate) fn terminate(&self) -> Result<(), Error> {
        let failed = || Error::io::<io::Error>(format!("ending the proxy of node {}", self.node));
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.try_wait().map_err(failed())?.is_none()
            && let Ok(pid) = i32::try_from(child.id())
        {
            // It is there, for it has not been waited for.
            kill(Pid::from_raw(pid), Signal::SIGTERM).map_err(|errno| failed()(errno.into()))?;
        }
        child.wait().map_err(failed())?;
        Ok(())
    }

    /// `running`, or how it ended.
    #[cfg(feature = "cluster")]
    pub(crate) fn state(&self) -> String {
        match self.child.lock().unwrap_or_else(PoisonError::into_inner).try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => format!("ended, {status}; see {}", self.log.display()),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It may have ended by itself; then there is nothing to kill.
        let _ = child.kill();
        let _ = child.wait();
    }
}

fn last_lines(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("{}: {error}", log.display()));
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
