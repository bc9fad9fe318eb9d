//! The servers: one thread with its own small runtime answers everybody. The proxy's loop never
//! waits for a client.

mod answer;
mod complaint;
mod control_socket;
mod failure;
mod health_check;
mod healthz;
mod listener;
mod page_server;
mod pages;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tracing::{debug, info};

use self::complaint::Complaint;
pub use self::control_socket::{ControlServer, ControlSocket};
use self::failure::RETRY;
pub use self::failure::{OnFailure, Server, ServerFailure};
pub use self::health_check::{Addresses, Listen, Responder, Responders};
use self::listener::{Handler, Limits};
pub use self::page_server::{Page, PageServer, Pages};
use crate::{BuildInfo, Telemetry};

/// Sets the verbosity of the log, as `PUT /debug/flags/v` asks. The error is for whoever asked.
pub type SetVerbosity = Arc<dyn Fn(u32) -> Result<(), String> + Send + Sync>;

/// What the servers need to know.
pub struct Options {
    /// Where `/healthz` and `/livez` answer; `None`: nowhere (spec §10.9).
    pub healthz: Option<SocketAddr>,
    /// Where `/metrics` answers; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// The control socket of `portolan get`; `None`: no socket.
    pub control: Option<ControlSocket>,
    /// An address of the first two that is taken is fatal, instead of being tried again (spec
    /// §9.14).
    pub hard_fail: bool,
    /// What `/proxyMode` answers.
    pub mode: String,
    /// The name of the component, in `/flagz` and `/statusz`.
    pub component: String,
    /// The configuration in use, a `KubeProxyConfiguration` with `kind` and `apiVersion` (spec
    /// §11.14).
    pub configz: serde_json::Value,
    /// The flags and their values (spec §11.15).
    pub flags: Vec<(String, String)>,
    /// What was built.
    pub build: BuildInfo,
    /// `enableProfiling`: serves `/debug/flags` and sets the verbosity. There are no profiles;
    /// their paths say so.
    pub profiling: bool,
    /// Sets the verbosity of the log.
    pub set_verbosity: SetVerbosity,
    /// Is called with servers that could not be started.
    pub on_failure: OnFailure,
}

/// The running servers. They end when this is dropped, and their ports are free after that.
#[derive(Debug)]
pub struct Servers {
    /// The thread ends when this does.
    wanted: Option<mpsc::UnboundedSender<(Responders, Addresses)>>,
    thread: Option<JoinHandle<()>>,
    healthz: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

impl Servers {
    /// Serves exactly `responders` from now on, on `addresses` (spec §11.8-11.9).
    pub fn set_responders(&self, responders: Responders, addresses: Addresses) {
        // The thread ends only with this.
        let _ = self.wanted.as_ref().map(|wanted| wanted.send((responders, addresses)));
    }

    /// Where `/healthz` answers, with the port that was chosen if 0 was asked for. `None` if it did
    /// not listen at start.
    pub fn healthz_address(&self) -> Option<SocketAddr> {
        self.healthz
    }

    /// Where `/metrics` answers, with the port that was chosen if 0 was asked for. `None` if it did
    /// not listen at start.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.wanted = None;
        // A panic of it was reported by the panic hook.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// Starts the thread. Each address is tried once before this returns, and then again every 5
/// seconds until it can be had; failures go to [`Options::on_failure`]. An error only if there can
/// be no thread.
pub fn start(options: Options, telemetry: Arc<Telemetry>) -> io::Result<Servers> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let context = runtime.enter();
    let on_failure = options.on_failure.clone();
    let hard_fail = options.hard_fail;
    let first = |server: Server, address: Option<SocketAddr>| {
        let mut attempts =
            Attempts { server, address: address?, hard_fail, on_failure: on_failure.clone(), reported: None };
        let listener = attempts.listen();
        Some((attempts, listener))
    };
    let healthz = first(Server::Healthz, options.healthz);
    let metrics = first(Server::Metrics, options.metrics);
    let bound = |first: &Option<(Attempts, Option<TcpListener>)>| {
        first.as_ref().and_then(|(_, listener)| listener.as_ref()?.local_addr().ok())
    };
    let (wanted, receiver) = mpsc::unbounded_channel();
    let (healthz_address, metrics_address) = (bound(&healthz), bound(&metrics));
    let mut options = options;
    let control = options.control.take();
    let constants = control_socket::Constants {
        started: SystemTime::now(),
        build: options.build.clone(),
        mode: options.mode.clone(),
    };
    let pages = Arc::new(pages::Pages::new(options, telemetry.clone(), constants.started));
    drop(context);
    let thread = std::thread::Builder::new().name("servers".to_owned()).spawn(move || {
        runtime.block_on(async move {
            if let Some((attempts, listener)) = healthz {
                tokio::spawn(serve(attempts, listener, healthz::handler(telemetry.clone())));
            }
            if let Some((attempts, listener)) = metrics {
                tokio::spawn(serve(attempts, listener, pages::handler(pages)));
            }
            if let Some(control) = control {
                let proxy = Some((telemetry.clone(), constants));
                tokio::spawn(control_socket::serve(control, proxy, on_failure.clone()));
            }
            health_check::serve(receiver, telemetry, on_failure).await;
        });
        // What still runs, such as a question to the proxy's loop, is not waited for.
        runtime.shutdown_background();
    })?;
    Ok(Servers {
        wanted: Some(wanted),
        thread: Some(thread),
        healthz: healthz_address,
        metrics: metrics_address,
    })
}

/// The attempts to listen on one address.
struct Attempts {
    server: Server,
    address: SocketAddr,
    hard_fail: bool,
    on_failure: OnFailure,
    /// The last reason that was reported.
    reported: Option<Complaint>,
}

impl Attempts {
    fn listen(&mut self) -> Option<TcpListener> {
        match listener::bind(self.address, listener::Scope::AsAddressed) {
            Ok(listener) => {
                if let Ok(address) = listener.local_addr() {
                    info!("{:?} server answers on {address}", self.server);
                }
                Some(listener)
            }
            Err(error) => {
                let text = error.to_string();
                debug!("{:?} server: {}: {text}", self.server, self.address);
                if let Some(lasting) = Complaint::note(&mut self.reported, text, Instant::now()) {
                    (self.on_failure)(ServerFailure {
                        server: self.server.clone(),
                        address: self.address.to_string(),
                        port: self.address.port(),
                        error,
                        fatal: self.hard_fail,
                        lasting,
                    });
                }
                None
            }
        }
    }
}

async fn serve(mut attempts: Attempts, first: Option<TcpListener>, handler: Handler) {
    let mut listener = first;
    while listener.is_none() && !attempts.hard_fail {
        tokio::time::sleep(RETRY).await;
        listener = attempts.listen();
    }
    if let Some(listener) = listener {
        listener::accept_all(listener, handler, Limits::default()).await;
    }
}
