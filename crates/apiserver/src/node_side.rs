//! What is asked about pods, where they are: their logs, commands in them, and their ports.

use std::future::Future;
use std::io;
use std::pin::Pin;

use bytes::Bytes;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

/// What a node answers: later, and perhaps not at all. The message is for whoever asked.
pub type Later<T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send>>;

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Who is asked about pods. The methods are called in the server's thread, and must not block it.
pub trait NodeSide: Send + Sync {
    /// Pieces of a container's log; the stream ends with the log.
    fn log(&self, pod: PodRef, options: LogOptions) -> Later<mpsc::Receiver<io::Result<Bytes>>>;

    /// Runs a command in a container, or attaches to the one that runs there.
    fn run(&self, pod: PodRef, run: Run) -> Later<Process>;

    /// Connects to a port of a pod.
    fn connect(&self, pod: PodRef, forward: Forward) -> Later<Box<dyn Duplex>>;
}

/// A container of a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct PodRef {
    /// The pod, as it is stored.
    pub pod: Value,
    /// The name of the container; the first one's, if none was asked for.
    pub container: String,
}

/// Which part of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on as it is written.
    pub follow: bool,
    /// Of the run before this one.
    pub previous: bool,
    /// Write the time before each line.
    pub timestamps: bool,
    /// The last so many lines only.
    pub tail: Option<u64>,
    /// Lines of the last so many seconds only.
    pub since: Option<u64>,
    /// At most so many bytes.
    pub limit: Option<u64>,
}

/// A command.
#[expect(clippy::struct_excessive_bools, reason = "each is a parameter of a request")]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run {
    /// The program and its arguments; empty to attach to what runs.
    pub command: Vec<String>,
    /// Whether it gets input.
    pub stdin: bool,
    /// Whether its output is wanted.
    pub stdout: bool,
    /// Whether its errors are wanted.
    pub stderr: bool,
    /// Whether it has a terminal; errors then come as output.
    pub tty: bool,
}

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// A command that runs. Dropping it ends the interest in it.
#[derive(Debug)]
pub struct Process {
    /// What is typed; closed at the end of input.
    pub stdin: mpsc::Sender<Bytes>,
    /// Output; closed at its end.
    pub stdout: mpsc::Receiver<Bytes>,
    /// Errors; closed at their end.
    pub stderr: mpsc::Receiver<Bytes>,
    /// Sizes of the terminal.
    pub resize: mpsc::Sender<Size>,
    /// The exit code, or why there is none.
    pub exit: tokio::sync::oneshot::Receiver<Result<i32, String>>,
}

/// Where to connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The port within the pod.
    pub port: u16,
}
