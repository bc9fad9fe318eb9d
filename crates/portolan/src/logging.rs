//! Log output: text for people on a terminal, JSON for programs, always on standard error.

use std::io::IsTerminal;

use portolan_config::config::LogFormat;
use tracing_subscriber::filter::LevelFilter;

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
    match format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}

/// Starts logging for commands that a person waits for.
pub(crate) fn start_plain() {
    start(0, LogFormat::Text);
}
