//! Log output: text for people on a terminal, JSON for programs, always on standard error.

use std::io::IsTerminal;
use std::sync::OnceLock;

use portolan_config::config::LogFormat;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry, fmt};

/// The client library warns at each connection that a kubeconfig asks it not to look at the
/// server's certificate; we say so once.
const REPEATED: &str = "kube_client::client::tls";

/// What is logged. It can be set anew while the program runs.
static LOGGED: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// Starts logging. `verbosity` is kube-proxy's `-v`: 0-1 shows what happened, 2-3 also details, 4
/// and up everything.
pub(crate) fn start(verbosity: u32, format: LogFormat) {
    let (logged, handle) = reload::Layer::new(logged(verbosity));
    let lines = fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(logged).with(lines).init();
    // Logging is started once.
    let _ = LOGGED.set(handle);
}

/// Starts logging for commands that a person waits for.
pub(crate) fn start_plain() {
    start(0, LogFormat::Text);
}

/// Logs as much as `verbosity` asks for from now on. The error is for whoever asked.
pub(crate) fn set_verbosity(verbosity: u32) -> Result<(), String> {
    let handle = LOGGED.get().ok_or("logging has not started")?;
    handle.reload(logged(verbosity)).map_err(|error| error.to_string())
}

fn logged(verbosity: u32) -> Targets {
    let level = match verbosity {
        0 | 1 => LevelFilter::INFO,
        2 | 3 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new().with_default(level).with_target(REPEATED, LevelFilter::OFF)
}
