//! The local socket: `portolan get` asks the running proxy for its live table and its last changes. HTTP over a Unix socket that
//! only root and the proxy's own user may use.

mod client;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use serde_json::json;
use tracing::info;

pub use self::client::{Error, ask};
use crate::Telemetry;
use crate::rows::{EndpointRow, ServiceRow};
use crate::servers::answer::{self, Answer, TEXT};
use crate::servers::complaint::Complaint;
use crate::servers::listener::{self, Limits};
use crate::servers::pages::Status;
use crate::servers::{OnFailure, RETRY, Server, ServerFailure};
use crate::timestamp::rfc3339;

/// Where the socket is, if no flag says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/portolan/portolan.sock";

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The Services in force: `{"services": [ServiceRow]}`
    Services,
    /// Their endpoints: `{"endpoints": [EndpointRow]}`
    Endpoints,
    /// The last changes, oldest first: `{"changes": [ChangeRow]}`
    Changes,
    /// Version, mode, health.
    Status,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 4] = [Table::Services, Table::Endpoints, Table::Changes, Table::Status];

    /// The name, which is also the path and the key of the answer.
    pub fn name(self) -> &'static str {
        match self {
            Table::Services => "services",
            Table::Endpoints => "endpoints",
            Table::Changes => "changes",
            Table::Status => "status",
        }
    }
}

/// One question to the running proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What is asked for.
    pub table: Table,
    /// Only Services of this namespace.
    pub namespace: Option<String>,
}

/// What the proxy's loop answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answered {
    /// To [`Table::Services`].
    Services(Vec<ServiceRow>),
    /// To [`Table::Endpoints`].
    Endpoints(Vec<EndpointRow>),
    /// It cannot answer now; why, for people.
    Unavailable(String),
}

/// Asks the proxy's loop for [`Table::Services`] or [`Table::Endpoints`]. May block; called by one thread at a time.
pub type AskProxy = Arc<dyn Fn(Query) -> Answered + Send + Sync>;

/// The local socket as the proxy serves it.
pub struct Control {
    /// The path of the socket.
    pub path: PathBuf,
    /// Asks the proxy's loop.
    pub ask: AskProxy,
}

/// The local clients: few, and trusted.
const LIMITS: Limits =
    Limits { connections: 8, request: Duration::from_secs(5), connection: Duration::from_mins(1) };

/// Serves the socket for as long as it is polled.
pub(crate) async fn serve(
    control: Control,
    telemetry: Arc<Telemetry>,
    status: Status,
    on_failure: OnFailure,
) {
    let mut told = None;
    let listener = loop {
        match socket::listen(&control.path) {
            Ok(listener) => break listener,
            Err(error) => {
                let Some(lasting) = Complaint::note(&mut told, error.to_string(), Instant::now()) else {
                    tokio::time::sleep(RETRY).await;
                    continue;
                };
                on_failure(ServerFailure {
                    server: Server::Control,
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
    info!("local socket {} answers `portolan get`", control.path.display());
    let shared = Arc::new(Shared { ask: control.ask, one_at_a_time: Arc::default(), telemetry, status });
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
    status: Status,
}

impl Shared {
    async fn answer(&self, request: &Request<Incoming>) -> Answer {
        if request.method() != Method::GET {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET");
        }
        let query = match query_of(request.uri().path(), request.uri().query()) {
            Ok(query) => query,
            Err((status, text)) => return refuse(status, text),
        };
        match query.table {
            Table::Changes => answer::json(&json!({"changes": self.telemetry.changes.rows()})),
            Table::Status => self.tell_status(),
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

    fn tell_status(&self) -> Answer {
        let (code, health) = self.telemetry.health.healthz();
        let health: serde_json::Value = serde_json::from_str(&health).unwrap_or_default();
        let status = &self.status;
        answer::json(&json!({"status": {
            "build": status.build,
            "mode": status.mode,
            "startTime": rfc3339(status.started),
            "currentTime": rfc3339(SystemTime::now()),
            "healthz": {"code": code.as_u16(), "body": health},
        }}))
    }
}

fn refuse(status: StatusCode, text: &str) -> Answer {
    answer::answer(status, HeaderValue::clone(&TEXT), text.to_owned())
}

/// The question in a path and a query string. Names of namespaces need no escapes.
fn query_of(path: &str, query: Option<&str>) -> Result<Query, (StatusCode, &'static str)> {
    let table = Table::ALL
        .into_iter()
        .find(|table| path.strip_prefix('/') == Some(table.name()))
        .ok_or((StatusCode::NOT_FOUND, "ask for /services, /endpoints, /changes or /status"))?;
    let mut namespace = None;
    for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some(("namespace", name)) => namespace = Some(name.to_owned()),
            _ => return Err((StatusCode::BAD_REQUEST, "the only parameter is namespace")),
        }
    }
    Ok(Query { table, namespace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_path_and_a_namespace() {
        let services = |namespace: Option<&str>| {
            Ok(Query { table: Table::Services, namespace: namespace.map(str::to_owned) })
        };
        for (path, query, expected) in [
            ("/services", None, services(None)),
            ("/services", Some(""), services(None)),
            ("/services", Some("namespace=shop"), services(Some("shop"))),
            ("/changes", None, Ok(Query { table: Table::Changes, namespace: None })),
            ("/services", Some("name=web"), Err(StatusCode::BAD_REQUEST)),
            ("/services", Some("namespace"), Err(StatusCode::BAD_REQUEST)),
            ("/services/", None, Err(StatusCode::NOT_FOUND)),
            ("services", None, Err(StatusCode::NOT_FOUND)),
            ("/", None, Err(StatusCode::NOT_FOUND)),
        ] {
            assert_eq!(query_of(path, query).map_err(|(status, _)| status), expected, "{path} {query:?}");
        }
    }
}
