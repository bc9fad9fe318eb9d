//! `portolan dns` in a pod: started, and started again when it ends.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::super::{DnsTrouble, own_files, proxy};
use super::{COREFILE, PORTS};
use crate::Error;
use crate::netns::Namespace;

/// From its start to its first answer, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between two questions whether it answers yet.
const PAUSE: Duration = Duration::from_millis(20);
/// So often it is started again. What ends more often would do so for ever.
const RESTARTS: u32 = 5;
/// Before it is started again for the first time; twice as long each time after that.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What all servers of a cluster are started with.
#[derive(Debug)]
pub(in super::super) struct DnsLaunch {
    program: PathBuf,
    manifests: PathBuf,
    state: PathBuf,
}

impl DnsLaunch {
    pub(in super::super) fn new(program: &Path, manifests: &Path, state: &Path) -> Result<DnsLaunch, Error> {
        let conf = state.join("Corefile");
        fs::write(&conf, COREFILE).map_err(Error::io(format!("writing {}", conf.display())))?;
        Ok(DnsLaunch {
            program: program.to_owned(),
            manifests: manifests.to_owned(),
            state: state.to_owned(),
        })
    }

    /// Starts the server in a pod; [`DnsServer::wait_ready`] waits until it answers.
    pub(in super::super) fn start(
        &self,
        pod: &str,
        addresses: &[IpAddr],
        at: &Namespace,
    ) -> Result<DnsServer, Error> {
        own_files(&self.state, pod).create()?;
        let mut arguments = vec!["dns".into(), "--manifests".into(), self.manifests.clone()];
        arguments.extend(["--conf".into(), self.state.join("Corefile")]);
        // Where the proxies write down which addresses they gave to whom.
        arguments.extend(["--state-dir".into(), proxy::state_dir(&self.state)]);
        let process = Process {
            pod: pod.to_owned(),
            program: self.program.clone(),
            arguments,
            log: self.state.join(format!("{}.log", pod.replace('/', "+"))),
            at: at.clone(),
        };
        let child = process.start()?;
        let run = Run { child, stopping: false, restarts: 0, ended: None, given_up: None };
        let watched = Arc::new(Watched { process, run: Mutex::new(run), stop: Condvar::new() });
        Ok(DnsServer { watched, watcher: None, address: addresses.first().copied() })
    }
}

/// How the process is started, each time.
#[derive(Debug)]
struct Process {
    pod: String,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    log: PathBuf,
    at: Namespace,
}

impl Process {
    fn start(&self) -> Result<Child, Error> {
        let what = || format!("starting the DNS server of pod {}", self.pod);
        let output = File::options().create(true).append(true).open(&self.log);
        let output = output.map_err(Error::io(format!("opening {}", self.log.display())))?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null());
        command.stdout(output.try_clone().map_err(Error::io(what()))?).stderr(output);
        self.at.spawn(&mut command)
    }
}

/// A process, and what became of those before it.
#[derive(Debug)]
struct Run {
    child: Child,
    /// Its end is wanted.
    stopping: bool,
    restarts: u32,
    /// How the last one ended that did so by itself.
    ended: Option<ExitStatus>,
    /// Why it is not started again.
    given_up: Option<String>,
}

#[derive(Debug)]
struct Watched {
    process: Process,
    run: Mutex<Run>,
    stop: Condvar,
}

impl Watched {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the process again when it ends, until its end is wanted or it has ended too often.
    fn watch(&self) {
        loop {
            let pid = Pid::from_raw(self.run().child.id().cast_signed());
            // It is not reaped here, so that its number stays its own.
            while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(Errno::EINTR) {}
            let mut run = self.run();
            if run.stopping {
                return;
            }
            let Ok(Some(status)) = run.child.try_wait() else { return };
            run.ended = Some(status);
            if run.restarts == RESTARTS {
                run.given_up = Some(format!("ended, {status}; see {}", self.process.log.display()));
                return;
            }
            let pause = BACK_OFF * 2u32.pow(run.restarts);
            let waited = self.stop.wait_timeout_while(run, pause, |run| !run.stopping);
            let (mut run, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if run.stopping {
                return;
            }
            match self.process.start() {
                Ok(child) => {
                    run.child = child;
                    run.restarts += 1;
                }
                Err(error) => {
                    run.given_up = Some(error.to_string());
                    return;
                }
            }
        }
    }
}

/// A server that was started. It is killed when this is dropped.
#[derive(Debug)]
pub(in super::super) struct DnsServer {
    watched: Arc<Watched>,
    watcher: Option<JoinHandle<()>>,
    address: Option<IpAddr>,
}

impl DnsServer {
    /// Waits until it answers for the cluster's names. From then on it is started again if it ends.
    pub(in super::super) fn wait_ready(&mut self) -> Result<(), Error> {
        let process = &self.watched.process;
        if let Some(address) = self.address {
            let to = SocketAddr::new(address, PORTS[0]);
            let until = Instant::now() + READY_WITHIN;
            while !process.at.run(|| answers(to))? {
                let ended = self.watched.run().child.try_wait();
                let ended = ended.map_err(Error::io("waiting for a DNS server"))?;
                if ended.is_some() || Instant::now() >= until {
                    let log = proxy::last_lines(&process.log);
                    return Err(Error::Dns { pod: process.pod.clone(), log });
                }
                // Another process; nothing of it can be awaited.
                thread::sleep(PAUSE);
            }
        }
        let watched = self.watched.clone();
        let watcher = thread::Builder::new().name("dns-server".to_owned()).spawn(move || watched.watch());
        self.watcher = Some(watcher.map_err(Error::io("starting a thread"))?);
        Ok(())
    }

    /// What is wrong: that it has ended, and whether it was started again.
    pub(in super::super) fn trouble(&self) -> Option<DnsTrouble> {
        let run = self.watched.run();
        if let Some(what) = &run.given_up {
            return Some(DnsTrouble { what: what.clone(), gone: true });
        }
        let ended = run.ended?;
        let times = if run.restarts == 1 { "once".to_owned() } else { format!("{} times", run.restarts) };
        Some(DnsTrouble { what: format!("ended, {ended}; it was started again {times}"), gone: false })
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        let mut run = self.watched.run();
        run.stopping = true;
        // It may have ended by itself; then there is nothing to kill.
        let _ = run.child.kill();
        let _ = run.child.wait();
        drop(run);
        self.watched.stop.notify_all();
        if let Some(watcher) = self.watcher.take() {
            // A panic there has been reported.
            let _ = watcher.join();
        }
    }
}

/// Whether `to` answers a question for the SOA record of the cluster's domain.
fn answers(to: SocketAddr) -> bool {
    const QUESTION: &[u8] = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x07cluster\x05local\0\0\x06\0\x01";
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() };
    let asked = || -> io::Result<bool> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.connect(to)?;
        socket.send(QUESTION)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        // Its code is the low half of the fourth octet.
        Ok(length > 3 && answer[3] % 16 == 0)
    };
    asked().unwrap_or_default()
}
