//! A pod that lives: its containers run, in namespaces of their own, are looked after as kubelet
//! looks after them, and end.
//!
//! A pod is made of its object as the API has it, and reports its status the same way. `command`
//! and `args` run a program of this machine; images are never fetched, and a server of the lab's
//! own answers what the server of a known image answers. What a pod's life does, and when, is in
//! `life`, which knows neither processes nor a clock.

mod check;
mod image;
mod life;
mod log;
mod process;
mod server;
mod spec;

use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::Error;
use crate::netns::Namespace;
use life::{Action, Happening, Life, Moment};
pub use log::{Follower, Log, Piece};
pub use process::Namespaces;
use process::Running;
pub use server::serve;

/// Where a pod is, and what it has there.
#[derive(Debug, Clone)]
pub struct Place {
    /// Its network; its node's on the host network.
    pub network: Namespace,
    /// Its node's network, from where it is probed.
    pub node: Namespace,
    /// Its addresses; on the host network its node's.
    pub addresses: Vec<IpAddr>,
    /// Its node's addresses.
    pub host_addresses: Vec<IpAddr>,
    /// What `hostname` prints.
    pub host_name: String,
    /// Files that it has in the place of its node's: its own, and where they are in it.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// The program that calls [`serve`] with one more argument, and its arguments before that.
    pub server: Vec<OsString>,
    /// What runs for an image of a DNS server for clusters.
    pub dns: Vec<OsString>,
    /// Variables that all of its containers have, unless they have others of these names.
    pub environment: Vec<(String, String)>,
}

/// What a pod has to say.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// Its `status` is different now.
    Status(Value),
    /// An event.
    Event {
        /// Whether its type is `Warning`, and not `Normal`.
        warning: bool,
        /// `reason`
        reason: &'static str,
        /// `message`
        message: String,
    },
    /// Nothing runs in it, and nothing will.
    Ended,
}

/// A pod. When this is dropped, it is killed.
#[derive(Debug)]
pub struct Pod {
    messages: Sender<Message>,
    shared: Arc<Shared>,
    driver: Option<JoinHandle<()>>,
}

/// The logs of a pod. They outlive it.
#[derive(Debug, Clone)]
pub struct Logs(Arc<Shared>);

/// What others look at while the driver works.
#[derive(Debug, Default)]
struct Shared {
    containers: Mutex<HashMap<String, Visible>>,
    /// The name of the container that is meant where none is named.
    usual: String,
}

/// A container as others see it.
#[derive(Debug, Clone, Default)]
struct Visible {
    running: Option<Running>,
    log: Log,
    previous: Option<Log>,
}

enum Message {
    /// Something happened to this run of a container.
    OfRun(usize, u32, Happening),
    Delete(Option<Duration>),
}

impl Logs {
    /// The same as [`Pod::log`].
    pub fn of(&self, container: Option<&str>, previous: bool) -> Result<Option<Log>, Error> {
        let visible = self.0.visible(container.unwrap_or(&self.0.usual))?;
        Ok(if previous { visible.previous } else { Some(visible.log) })
    }
}

impl Shared {
    fn visible(&self, name: &str) -> Result<Visible, Error> {
        let containers = self.containers();
        containers.get(name).cloned().ok_or_else(|| Error::Unknown {
            kind: "container",
            name: name.to_owned(),
            known: containers.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    fn containers(&self) -> MutexGuard<'_, HashMap<String, Visible>> {
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pod {
    /// Starts the containers of a Pod object. `report` is called from a thread of the pod's, in
    /// order.
    pub fn start(
        place: Place,
        object: &Value,
        report: impl FnMut(Report) + Send + 'static,
    ) -> Result<Pod, Error> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let failed = || format!("reading the spec of pod {name}");
        let object = spec::Object::read(object).map_err(Error::io(failed()))?;
        let text = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect();
        let life = Life::new(object, text(&place.addresses), text(&place.host_addresses), now());
        let usual = life.find(None).map(|index| life.container(index).name.clone()).unwrap_or_default();
        let shared = Arc::new(Shared { containers: Mutex::default(), usual });
        let (messages, received) = channel();
        let driver = Driver {
            life,
            place: Arc::new(place),
            shared: Arc::clone(&shared),
            messages: messages.clone(),
            running: HashMap::new(),
            pending: VecDeque::from([Happening::Later]),
            last: Value::Null,
            report: Box::new(report),
        };
        let driver = thread::Builder::new()
            .name("pod".to_owned())
            .stack_size(256 << 10)
            .spawn(move || driver.drive(&received))
            .map_err(Error::io(format!("starting pod {name}")))?;
        Ok(Pod { messages, shared, driver: Some(driver) })
    }

    /// Ends the pod: its processes get SIGTERM, and SIGKILL after `grace`, or after
    /// `terminationGracePeriodSeconds`. Returns at once; [`Report::Ended`] comes when it is over.
    /// A second call can shorten the time.
    pub fn delete(&self, grace: Option<Duration>) {
        // If nobody takes it, the pod has ended.
        let _ = self.messages.send(Message::Delete(grace));
    }

    /// A command with the environment and the working folder of a container, the first one if none
    /// is named, for [`Pod::spawn`].
    pub fn command(&self, container: Option<&str>, program: &str) -> Result<Command, Error> {
        let (_, running) = self.running(container)?;
        Ok(running.command(program))
    }

    /// Starts one more process in a container, the first one if none is named. It must be waited
    /// for: a container has not ended before all of its processes are gone.
    pub fn spawn(&self, container: Option<&str>, command: &mut Command) -> Result<Child, Error> {
        let (name, running) = self.running(container)?;
        let what = format!("starting {} in container {name}", command.get_program().display());
        running.spawn(command).map_err(Error::io(what))
    }

    /// The namespaces of a container, the first one if none is named.
    pub fn namespaces(&self, container: Option<&str>) -> Result<Namespaces, Error> {
        let (name, running) = self.running(container)?;
        running.namespaces().map_err(Error::io(format!("opening the namespaces of container {name}")))
    }

    /// What a container has written, the first one if none is named: in its run of now, or in the
    /// one before.
    pub fn log(&self, container: Option<&str>, previous: bool) -> Result<Option<Log>, Error> {
        self.logs().of(container, previous)
    }

    /// The logs of all containers, for whoever asks when the pod is gone.
    pub fn logs(&self) -> Logs {
        Logs(Arc::clone(&self.shared))
    }

    fn running<'a>(&'a self, container: Option<&'a str>) -> Result<(&'a str, Running), Error> {
        let name = container.unwrap_or(&self.shared.usual);
        let running = self.shared.visible(name)?.running;
        Ok((name, running.ok_or_else(|| Error::NotRunning { container: name.to_owned() })?))
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.delete(Some(Duration::ZERO));
        if let Some(driver) = self.driver.take() {
            // A panic in there has been printed; nothing more can be done about it here.
            let _ = driver.join();
        }
    }
}

fn now() -> Moment {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The thread of a pod.
struct Driver {
    life: Life,
    place: Arc<Place>,
    shared: Arc<Shared>,
    messages: Sender<Message>,
    running: HashMap<usize, Running>,
    pending: VecDeque<Happening>,
    last: Value,
    report: Box<dyn FnMut(Report) + Send>,
}

impl Driver {
    fn drive(mut self, received: &Receiver<Message>) {
        loop {
            while let Some(happening) = self.pending.pop_front() {
                if let Happening::Exited(index, _) = &happening {
                    self.forget(*index);
                }
                for action in self.life.handle(happening, now()) {
                    self.perform(action);
                }
            }
            let status = self.life.status(now());
            if status != self.last {
                self.last.clone_from(&status);
                (self.report)(Report::Status(status));
            }
            if self.life.is_over() {
                (self.report)(Report::Ended);
                return;
            }
            let message = match self.life.due() {
                Some(due) => received.recv_timeout(due.saturating_sub(now())),
                None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Delete(grace)) => self.pending.push_back(Happening::Deleted(grace)),
                Ok(Message::OfRun(index, run, happening)) if run == self.life.restarts(index) => {
                    self.pending.push_back(happening);
                }
                // What comes of an earlier run comes too late.
                Ok(Message::OfRun(..)) | Err(RecvTimeoutError::Timeout) => {
                    self.pending.push_back(Happening::Later);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn forget(&mut self, index: usize) {
        self.running.remove(&index);
        if let Some(visible) = self.shared.containers().get_mut(&self.life.container(index).name) {
            visible.running = None;
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Event { warning, reason, message } => {
                (self.report)(Report::Event { warning, reason, message });
            }
            Action::Start(index) => {
                let happening = match self.start(index) {
                    Ok(()) => Happening::Started(index),
                    Err(why) => Happening::NotStarted(index, why),
                };
                self.pending.push_back(happening);
            }
            Action::Terminate(index) => {
                if let Some(running) = self.running.get(&index) {
                    running.terminate();
                }
            }
            Action::Kill(index) => {
                if let Some(running) = self.running.get(&index) {
                    running.kill();
                }
            }
            Action::Probe(index, kind) => self.probe(index, kind),
        }
    }

    fn start(&mut self, index: usize) -> Result<(), String> {
        let (runs, note) = image::runs(self.life.container(index));
        if let Some(message) = note.filter(|_| self.life.restarts(index) == 0) {
            (self.report)(Report::Event { warning: false, reason: "Pulled", message });
        }
        let container = self.life.container(index);
        let prepared = server::command(&runs, container, self.life.object(), &self.place)?;
        let (log, run) = (Log::default(), self.life.restarts(index));
        let messages = self.messages.clone();
        let ended = move |exit| {
            // If nobody takes it, nobody is interested any more.
            let _ = messages.send(Message::OfRun(index, run, Happening::Exited(index, exit)));
        };
        let program = prepared.command.get_program().display().to_string();
        let running = process::start(&self.place, prepared, log.clone(), ended)
            .map_err(|error| format!("starting {program}: {error}"))?;
        let mut containers = self.shared.containers();
        let visible = containers.entry(container.name.clone()).or_default();
        let before = std::mem::replace(&mut visible.log, log);
        visible.previous = (run > 0).then_some(before);
        visible.running = Some(running.clone());
        self.running.insert(index, running);
        Ok(())
    }

    fn probe(&self, index: usize, kind: life::ProbeKind) {
        let container = self.life.container(index).clone();
        let (Some(probe), Some(running)) =
            (container.probe(kind).cloned(), self.running.get(&index).cloned())
        else {
            return;
        };
        let (place, messages) = (Arc::clone(&self.place), self.messages.clone());
        let run = self.life.restarts(index);
        let work = move || {
            let address = place.addresses.first().copied();
            let outcome = check::check(&probe, &container, address, &place.node, &running);
            let probed = Happening::Probed(index, kind, outcome);
            // If nobody takes it, nobody is interested any more.
            let _ = messages.send(Message::OfRun(index, run, probed));
        };
        let thread = thread::Builder::new().name("probe".to_owned()).stack_size(256 << 10).spawn(work);
        if let Err(error) = thread {
            let probed = Happening::Probed(index, kind, Err(error.to_string()));
            let _ = self.messages.send(Message::OfRun(index, run, probed));
        }
    }
}
