//! The control socket: answers `portolan get`.

mod guard;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use tracing::info;

use super::answer::{self, Answer, TEXT};
use super::complaint::Complaint;
use super::failure::{OnFailure, RETRY, Server, ServerFailure};
use super::listener::{self, Limits};
use crate::control::{Answered, AskProxy, Query, Table};
use crate::timestamp::rfc3339;
use crate::{BuildInfo, Telemetry};

/// The control socket as the proxy serves it.
pub struct ControlSocket {
    /// The path of the socket.
    pub path: PathBuf,
    /// Asks the proxy's loop.
    pub ask: AskProxy,
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
    telemetry: Arc<Telemetry>,
    constants: Constants,
    on_failure: OnFailure,
) {
    let mut reported = None;
    let listener = loop {
        match guard::listen(&control.path) {
            Ok(listener) => break listener,
            Err(error) => {
                let Some(lasting) = Complaint::note(&mut reported, error.to_string(), Instant::now()) else {
                    tokio::time::sleep(RETRY).await;
                    continue;
                };
                on_failure(ServerFailure {
                    server: Server::ControlSocket,
                    address: control.path.display().to_string(),
                    port: 0,
                    error,
                    fatal: false,
                    lasting,
                });
            }
        }
        tokio::time::sleep(RETRY).await;
    };
    info!("control socket {} answers `portolan get`", control.path.display());
    let shared = Arc::new(Shared { ask: control.ask, one_at_a_time: Arc::default(), telemetry, constants });
    let handler = move |request: Request<Incoming>| {
        let shared = shared.clone();
        Box::pin(async move { shared.answer(&request).await }) as _
    };
    listener::accept_all(listener, Arc::new(handler), LIMITS).await;
}

struct Shared {
    ask: AskProxy,
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
    telemetry: Arc<Telemetry>,
    constants: Constants,
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
        match query.table {
            Table::Changes => answer::json(&json!({"changes": self.telemetry.changes.rows()})),
            Table::Status => self.status(),
            Table::Services | Table::Endpoints => {
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
                    Ok(Answered::Endpoints(rows)) => answer::json(&json!({"endpoints": rows})),
                    Ok(Answered::Unavailable(why)) => refuse(StatusCode::SERVICE_UNAVAILABLE, &why),
                    Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the question was not answered"),
                }
            }
        }
    }

    fn status(&self) -> Answer {
        let (code, health) = self.telemetry.health.healthz();
        let health: serde_json::Value = serde_json::from_str(&health).unwrap_or_default();
        let Constants { started, build, mode } = &self.constants;
        answer::json(&json!({"status": {
            "build": build,
            "mode": mode,
            "startTime": rfc3339(*started),
            "currentTime": rfc3339(SystemTime::now()),
            "healthz": {"code": code.as_u16(), "body": health},
        }}))
    }
}

fn refuse(status: StatusCode, text: &str) -> Answer {
    answer::answer(status, HeaderValue::clone(&TEXT), text.to_owned())
}
