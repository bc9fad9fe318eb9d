//! What `portolan get` asks the running proxy over its control socket, and how.
//!
//! HTTP over a Unix socket that only root and the proxy's own user may use. The server is
//! [`crate::servers`]' part.

mod client;

use std::sync::Arc;

use hyper::StatusCode;

pub use self::client::{Error, ask};
use crate::rows::{EndpointRow, ServiceRow};

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

/// Asks the proxy's loop for [`Table::Services`] or [`Table::Endpoints`]. May block; called by one
/// thread at a time.
pub type AskProxy = Arc<dyn Fn(Query) -> Answered + Send + Sync>;

impl Query {
    /// Path and query string of the question. Names of namespaces need no escapes.
    fn target(&self) -> String {
        let namespace = self.namespace.as_ref().map(|name| format!("?namespace={name}"));
        format!("/{}{}", self.table.name(), namespace.unwrap_or_default())
    }

    /// The question in a path and a query string. The error is for whoever asked.
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Result<Query, (StatusCode, &'static str)> {
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
            let parsed = Query::parse(path, query).map_err(|(status, _)| status);
            assert_eq!(parsed, expected, "{path} {query:?}");
            if let (Ok(question), true) = (parsed, query != Some("")) {
                let expected = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
                assert_eq!(question.target(), expected);
            }
        }
    }
}
