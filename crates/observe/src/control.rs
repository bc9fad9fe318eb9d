//! What `portolan get` asks the running proxy over its control socket, and how.
//!
//! HTTP over a Unix socket that only root and the proxy's own user may use. The server is
//! [`crate::servers`]' part.

mod client;

use std::sync::Arc;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

pub use self::client::{Error, ask};
use crate::rows::{AddressRow, EndpointRow, NameRow, PodRow, ServiceRow};

/// Where the socket is, if no flag says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/portolan/portolan.sock";

/// The socket of a process that only answers for names, if no flag says otherwise. In a container
/// whose own files cannot be written it is in the folder for what is remembered.
pub const DNS_SOCKET: &str = "/run/portolan/dns.sock";

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// The Services in force: `{"services": [ServiceRow]}`
    Services,
    /// Their endpoints: `{"endpoints": [EndpointRow], "probedPods": [PodRow]}`; the latter only if
    /// any Pod is probed
    Endpoints,
    /// The load-balancer addresses in force, and who announces them: `{"addresses": [AddressRow]}`
    Addresses,
    /// The last changes, oldest first: `{"changes": [ChangeRow]}`
    Changes,
    /// Version, mode, health.
    Status,
    /// The names that are served, a page of them: `{"names": [NameRow], "next": Place}`
    Names,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 6] =
        [Table::Services, Table::Endpoints, Table::Addresses, Table::Changes, Table::Status, Table::Names];

    /// The name, which is also the path and the key of the answer.
    pub fn name(self) -> &'static str {
        match self {
            Table::Services => "services",
            Table::Endpoints => "endpoints",
            Table::Addresses => "addresses",
            Table::Changes => "changes",
            Table::Status => "status",
            Table::Names => "names",
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
    /// Which names, in a question for [`Table::Names`]; which Service, in one for
    /// [`Table::Services`] or [`Table::Endpoints`].
    pub which: Which,
}

/// Which of the names that are served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Which {
    /// Only those of this Service (`web`, `web.shop`), or this one (`db-0.db.shop`). The rest of
    /// the domain may follow. Of Services and endpoints, a name alone (`web`).
    pub name: Option<String>,
    /// Those of ports and endpoints, too.
    pub all: bool,
    /// Those after this place.
    pub after: Option<Place>,
}

/// A place in the list of names, which is in the order of Services.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// `NAMESPACE/NAME` of a Service.
    pub service: String,
    /// How many of its rows are before the place; 0: all of them.
    pub rows: usize,
}

/// What the proxy's loop answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Answered {
    /// To [`Table::Services`].
    Services(Vec<ServiceRow>),
    /// To [`Table::Endpoints`]: those in force, and the Pods that are probed.
    Endpoints(Vec<EndpointRow>, Vec<PodRow>),
    /// To [`Table::Addresses`].
    Addresses(Vec<AddressRow>),
    /// To [`Table::Names`]: some of them, and the place that the others are after.
    Names(Vec<NameRow>, Option<Place>),
    /// It cannot answer now; why, for people.
    Unavailable(String),
}

/// Asks the process for what [`Answered`] has. May block; called by one thread at a time.
pub type AskProxy = Arc<dyn Fn(Query) -> Answered + Send + Sync>;

impl Query {
    /// All of `table`.
    pub fn of(table: Table) -> Query {
        Query { table, namespace: None, which: Which::default() }
    }

    /// Path and query string of the question. Nothing in them needs escapes.
    fn target(&self) -> String {
        let Which { name, all, after } = &self.which;
        let after = after.as_ref();
        let parts = [
            self.namespace.as_ref().map(|name| format!("namespace={name}")),
            name.as_ref().map(|name| format!("name={name}")),
            all.then(|| "all=true".to_owned()),
            after.map(|place| format!("after={}", place.service)),
            after.map(|place| format!("rows={}", place.rows)),
        ];
        let mut target = format!("/{}", self.table.name());
        for (at, part) in parts.into_iter().flatten().enumerate() {
            target.push(if at == 0 { '?' } else { '&' });
            target.push_str(&part);
        }
        target
    }

    /// The question in a path and a query string. The error is for whoever asked.
    pub(crate) fn parse(path: &str, query: Option<&str>) -> Result<Query, (StatusCode, &'static str)> {
        let table = Table::ALL.into_iter().find(|table| path.strip_prefix('/') == Some(table.name())).ok_or(
            (StatusCode::NOT_FOUND, "ask for /services, /endpoints, /addresses, /changes, /status or /names"),
        )?;
        let mut asked = Query::of(table);
        let mut place = Place { service: String::new(), rows: 0 };
        for part in query.unwrap_or_default().split('&').filter(|part| !part.is_empty()) {
            let names = table == Table::Names;
            let named = names || matches!(table, Table::Services | Table::Endpoints);
            match part.split_once('=') {
                Some(("namespace", name)) => asked.namespace = Some(name.to_owned()),
                Some(("name", name)) if named => asked.which.name = Some(name.to_owned()),
                Some(("all", "true")) if names => asked.which.all = true,
                Some(("after", service)) if names => service.clone_into(&mut place.service),
                Some(("rows", rows)) if names => {
                    let bad = (StatusCode::BAD_REQUEST, "rows is a number");
                    place.rows = rows.parse().map_err(|_| bad)?;
                }
                _ if names => {
                    let parameters = "the parameters are namespace, name, all=true, after and rows";
                    return Err((StatusCode::BAD_REQUEST, parameters));
                }
                _ if named => return Err((StatusCode::BAD_REQUEST, "the parameters are namespace and name")),
                _ => return Err((StatusCode::BAD_REQUEST, "the only parameter is namespace")),
            }
        }
        asked.which.after = (!place.service.is_empty()).then_some(place);
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_a_path_and_a_namespace() {
        let services = |namespace: Option<&str>| {
            Ok(Query { namespace: namespace.map(str::to_owned), ..Query::of(Table::Services) })
        };
        let names = |name: Option<&str>, all, after: Option<(&str, usize)>| {
            let after = after.map(|(service, rows)| Place { service: service.to_owned(), rows });
            Ok(Query {
                which: Which { name: name.map(str::to_owned), all, after },
                ..Query::of(Table::Names)
            })
        };
        for (path, query, expected) in [
            ("/services", None, services(None)),
            ("/services", Some(""), services(None)),
            ("/services", Some("namespace=shop"), services(Some("shop"))),
            (
                "/endpoints",
                Some("name=web"),
                Ok(Query {
                    which: Which { name: Some("web".to_owned()), ..Which::default() },
                    ..Query::of(Table::Endpoints)
                }),
            ),
            ("/changes", None, Ok(Query::of(Table::Changes))),
            ("/names", None, names(None, false, None)),
            ("/names", Some("name=db-0.db.shop&all=true"), names(Some("db-0.db.shop"), true, None)),
            ("/names", Some("all=true&after=shop/web&rows=7"), names(None, true, Some(("shop/web", 7)))),
            ("/names", Some("rows=x"), Err(StatusCode::BAD_REQUEST)),
            ("/names", Some("all=false"), Err(StatusCode::BAD_REQUEST)),
            ("/services", Some("all=true"), Err(StatusCode::BAD_REQUEST)),
            ("/changes", Some("name=web"), Err(StatusCode::BAD_REQUEST)),
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
