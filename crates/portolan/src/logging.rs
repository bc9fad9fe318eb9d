//! Log output: text for people on a terminal, JSON for programs, always on standard error.

use std::io::IsTerminal;

use portolan_config::config::LogFormat;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The client library warns at each connection that a kubeconfig asks it not to look at the
/// server's certificate; we say so once.
const REPEATED: &str = "kube_client::client::tls";

/// Starts logging. `verbosity` is kube-proxy's `-v`: 0-1 shows what happened, 2-3 also details, 4 and up everything.
pub(crate) fn start(verbosity: u32, format: LogFormat) {
    let level = match verbosity {
        0 | 1 => LevelFilter::INFO,
        2 | 3 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal());
    let said = Targets::new().with_default(level).with_target(REPEATED, LevelFilter::OFF);
    match format {
        LogFormat::Text => lines.finish().with(said).init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().with(said).init(),
    }
}

/// Starts logging for commands that a person waits for.
pub(crate) fn start_plain() {
    start(0, LogFormat::Text);
}
