//! The control socket: answers `portolan get`.

mod guard;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tracing::info;

use self::guard::Guarded;
use super::answer::{self, Answer, TEXT};
use super::complaint::Complaint;
use super::failure::{OnFailure, RETRY, Server, ServerFailure};
use super::listener::{self, Limits};
use crate::control::{Answered, AskProxy, Query, Table};
use crate::timestamp::rfc3339;
use crate::{BuildInfo, Telemetry};

/// The control socket as a process serves it.
pub struct ControlSocket {
    /// Where the socket may be: it is at the first path where it can be.
    pub paths: Vec<PathBuf>,
    /// Asks the process.
    pub ask: AskProxy,
}

/// The control socket of a process that forwards nothing. It ends when this is dropped.
#[derive(Debug)]
pub struct ControlServer(JoinHandle<()>);

impl ControlServer {
    /// Serves the socket in `runtime`. If it can be at none of its paths, that is tried again, and
    /// reported to `on_failure`. Changes and status are refused.
    pub fn start(runtime: &Handle, control: ControlSocket, on_failure: OnFailure) -> ControlServer {
        ControlServer(runtime.spawn(serve(control, None, on_failure)))
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What does not change while the process runs, for `/status`.
#[derive(Debug, Clone)]
pub(super) struct Constants {
    pub(super) started: SystemTime,
    pub(super) build: BuildInfo,
    pub(super) mode: String,
}

/// Its clients: few, and trusted.
const LIMITS: Limits =
    Limits { connections: 8, request: Duration::from_secs(5), connection: Duration::from_mins(1) };

/// Serves the socket for as long as it is polled.
pub(super) async fn serve(
    control: ControlSocket,
    proxy: Option<(Arc<Telemetry>, Constants)>,
    on_failure: OnFailure,
) {
    let mut reported = None;
    let (listener, path) = loop {
        match first(&control.paths) {
            Ok(listener) => break listener,
            Err(error) => {
                let Some(lasting) = Complaint::note(&mut reported, error.to_string(), Instant::now()) else {
                    tokio::time::sleep(RETRY).await;
                    continue;
                };
                on_failure(ServerFailure {
                    server: Server::ControlSocket,
                    address: display(&control.paths),
                    port: 0,
                    error,
                    fatal: false,
                    lasting,
                });
            }
        }
        tokio::time::sleep(RETRY).await;
    };
    info!("control socket {} answers `portolan get`", path.display());
    let shared = Arc::new(Shared { ask: control.ask, one_at_a_time: Arc::default(), proxy });
    let handler = move |request: Request<Incoming>| {
        let shared = shared.clone();
        Box::pin(async move { shared.answer(&request).await }) as _
    };
    listener::accept_all(listener, Arc::new(handler), LIMITS).await;
}

/// Listens at the first path where it can. The error is that of the first.
fn first(paths: &[PathBuf]) -> io::Result<(Guarded, &Path)> {
    let mut failure = None;
    for path in paths {
        match guard::listen(path) {
            Ok(listener) => return Ok((listener, path)),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::other("no path is given")))
}

fn display(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    paths.join(" or ")
}

struct Shared {
    ask: AskProxy,
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
    /// Of a process that forwards.
    proxy: Option<(Arc<Telemetry>, Constants)>,
}

impl Shared {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if request.method() != Method::GET {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        let query = match Query::parse(request.uri().path(), request.uri().query()) {
            Ok(query) => query,
            Err((status, text)) => return refuse(status, text),
        };
        match (query.table, &self.proxy) {
            (Table::Changes, Some((telemetry, _))) => {
                answer::json(&json!({"changes": telemetry.changes.rows()}))
            }
            (Table::Status, Some((telemetry, constants))) => status(telemetry, constants),
            (Table::Changes | Table::Status, None) => {
                refuse(StatusCode::SERVICE_UNAVAILABLE, "this process forwards nothing: ask for names")
            }
            (Table::Services | Table::Endpoints | Table::Addresses | Table::Names, _) => {
                let turn = self.one_at_a_time.clone().lock_owned().await;
                let ask = self.ask.clone();
                // The turn lasts as long as the question, also when the client has gone away.
                let asking = tokio::task::spawn_blocking(move || {
                    let answered = ask(query);
                    drop(turn);
                    answered
                });
                match asking.await {
                    Ok(Answered::Services(rows)) => answer::json(&json!({"services": rows})),
                    Ok(Answered::Endpoints(rows, pods)) if pods.is_empty() => {
                        answer::json(&json!({"endpoints": rows}))
                    }
                    Ok(Answered::Endpoints(rows, pods)) => {
                        answer::json(&json!({"endpoints": rows, "probedPods": pods}))
                    }
                    Ok(Answered::Addresses(rows)) => answer::json(&json!({"addresses": rows})),
                    Ok(Answered::Names(rows, next)) => answer::json(&json!({"names": rows, "next": next})),
                    Ok(Answered::Unavailable(why)) => refuse(StatusCode::SERVICE_UNAVAILABLE, &why),
                    Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the question was not answered"),
                }
            }
        }
    }
}

fn status(telemetry: &Telemetry, constants: &Constants) -> Answer {
    let (code, health) = telemetry.health.healthz();
    let health: serde_json::Value = serde_json::from_str(&health).unwrap_or_default();
    let Constants { started, build, mode } = constants;
    answer::json(&json!({"status": {
        "build": build,
        "mode": mode,
        "startTime": rfc3339(*started),
        "currentTime": rfc3339(SystemTime::now()),
        "healthz": {"code": code.as_u16(), "body": health},
        "unserved": telemetry.health.unserved(),
    }}))
}

fn refuse(status: StatusCode, text: &str) -> Answer {
    answer::answer(status, HeaderValue::clone(&TEXT), text.to_owned())
}
