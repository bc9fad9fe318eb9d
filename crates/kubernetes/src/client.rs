//! Requests to the API server, with the credentials as they are now.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{AuthError, Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tower::{BoxError, ServiceBuilder};

use crate::pace::Throttle;
use crate::{Error, Options, Status, wire};

/// An unused connection is kept for as long: enough for the pages of a list, too short to become half-open unnoticed.
const IDLE_CONNECTION: Duration = Duration::from_secs(10);
/// The most of an answer that is read at once. Answers are taken in as they come.
const READ_BUFFER: usize = 64 * 1024;
/// The most that is read of an answer that says what went wrong.
const FAILURE_TEXT: usize = 16 * 1024;
/// Configuration and credentials are read again no more often than this.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// While nothing answers, they are read again this often: the address or the authority may have changed.
const RENEW_UNREACHABLE: Duration = Duration::from_mins(1);
/// The longest that the server may tell us to wait.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_mins(5);

/// Why a list or watch did not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    #[error("the connection was cut: {0}")]
    Cut(String),
    #[error("nothing has come for {0:?}, not even a bookmark")]
    Quiet(Duration),
    #[error("the version is too old: {0}")]
    Expired(String),
    #[error("the server's history goes back from {from} to {to}: it was restored, or is another one")]
    WentBack { from: String, to: String },
    #[error("credentials cannot be had: {0}")]
    Credentials(String),
    #[error("{code}: {message}")]
    Refused { code: u16, message: String, retry_after: Option<Duration> },
    #[error("the answer is not understood: {0}")]
    Unintelligible(String),
}

impl Failure {
    /// One word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Failure::Unreachable(_) => "unreachable",
            Failure::NoAnswer(_) => "timeout",
            Failure::Cut(_) => "cut",
            Failure::Quiet(_) => "quiet",
            Failure::Expired(_) => "expired",
            Failure::WentBack { .. } => "went_back",
            Failure::Credentials(_) => "credentials",
            Failure::Refused { code: 401, .. } => "unauthorized",
            Failure::Refused { code: 403, .. } => "forbidden",
            Failure::Refused { code: 404, .. } => "not_found",
            Failure::Refused { code: 429, .. } => "throttled",
            Failure::Refused { code: 500.., .. } => "server_error",
            Failure::Refused { .. } => "refused",
            Failure::Unintelligible(_) => "unintelligible",
        }
    }
}

/// Sends requests to the API server.
#[derive(Debug)]
pub(crate) struct Client {
    access: Arc<Access>,
    connection: RefCell<Connection>,
    throttle: RefCell<Throttle>,
    status: Arc<Status>,
}

/// What to send requests through.
#[derive(Clone)]
struct Connection {
    client: Option<kube::Client>,
    made: Instant,
    number: u64,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Where the API server is and where the credentials come from.
#[derive(Debug)]
struct Access {
    kubeconfig: Option<PathBuf>,
    master: Option<String>,
    connect_timeout: Duration,
}

impl Client {
    /// A client as `options` say. Fails if the configuration is unusable, not if credentials cannot be had at the moment.
    pub(crate) async fn new(options: &Options, connect_timeout: Duration) -> Result<Client, Error> {
        let access = Arc::new(Access {
            kubeconfig: options.kubeconfig.clone(),
            master: options.master.clone().filter(|url| !url.is_empty()),
            connect_timeout,
        });
        let config = access.config().await?;
        let host = config.cluster_url.authority().map_or_else(String::new, ToString::to_string);
        let client = match access.connect(config) {
            Ok(client) => Some(client),
            Err(error) if passing(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Client {
            access,
            connection: RefCell::new(Connection { client, made: Instant::now(), number: 0 }),
            throttle: RefCell::new(Throttle::new(options.qps, options.burst)),
            status: Arc::new(Status::new(host)),
        })
    }

    /// Where requests are counted.
    pub(crate) fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Sends a request and returns the answer when its headers are there, which must be within `timeout`. An answer that is no success
    /// is a failure. Credentials that are not accepted are read again, for the next request.
    pub(crate) async fn send(
        &self,
        method: &'static str,
        target: &str,
        body: Option<(&'static str, Vec<u8>)>,
        timeout: Duration,
    ) -> Result<Response<Body>, Failure> {
        let at = self.throttle.borrow_mut().take(Instant::now());
        tokio::time::sleep_until(at.into()).await;
        self.send_now(method, target, body, timeout).await
    }

    /// [`Client::send`], whatever the limit of requests.
    pub(crate) async fn send_now(
        &self,
        method: &'static str,
        target: &str,
        body: Option<(&'static str, Vec<u8>)>,
        timeout: Duration,
    ) -> Result<Response<Body>, Failure> {
        let mut request =
            Request::builder().method(method).uri(target).header(header::ACCEPT, "application/json");
        if let Some((media_type, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *media_type);
        }
        let body = body.map_or_else(Body::empty, |(_, bytes)| Body::from(bytes));
        let request = request.body(body).map_err(|error| Failure::Unintelligible(error.to_string()))?;

        let (number, client) = self.connection().await?;
        let sent = Instant::now();
        let answer = tokio::time::timeout(timeout, client.send(request)).await;
        let code = answer
            .as_ref()
            .ok()
            .and_then(|answer| answer.as_ref().ok())
            .map(|answer| answer.status().as_u16());
        self.status.request(method, code, sent.elapsed());
        let answer = match answer {
            Err(_) => {
                self.renew(number, RENEW_UNREACHABLE);
                return Err(Failure::NoAnswer(timeout));
            }
            Ok(Err(error @ kube::Error::Auth(_))) => {
                self.renew(number, RENEW_EVERY);
                return Err(Failure::Credentials(error.to_string()));
            }
            Ok(Err(error)) => {
                self.renew(number, RENEW_UNREACHABLE);
                return Err(Failure::Unreachable(causes(&error)));
            }
            Ok(Ok(answer)) => answer,
        };
        if answer.status().is_success() {
            return Ok(answer);
        }
        if answer.status() == StatusCode::UNAUTHORIZED {
            self.renew(number, RENEW_EVERY);
        }
        Err(refusal(answer, timeout).await)
    }

    /// The connection, made anew if it was given up.
    async fn connection(&self) -> Result<(u64, kube::Client), Failure> {
        let current = self.connection.borrow().clone();
        if let Some(client) = current.client {
            return Ok((current.number, client));
        }
        let access = self.access.clone();
        // Credentials may come from files and from programs: those may take their time, off this thread.
        let handle = tokio::runtime::Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            handle.block_on(async { access.config().await.and_then(|config| access.connect(config)) })
        });
        let client = made.await.map_err(|error| Failure::Credentials(error.to_string()))?;
        let client = client.map_err(|error| Failure::Credentials(error.to_string()))?;
        let mut connection = self.connection.borrow_mut();
        *connection =
            Connection { client: Some(client.clone()), made: Instant::now(), number: connection.number + 1 };
        Ok((connection.number, client))
    }

    /// Gives up connection `number` if it is older than `age`, so that the next request reads configuration and credentials again.
    fn renew(&self, number: u64, age: Duration) {
        let mut connection = self.connection.borrow_mut();
        if connection.number == number && connection.made.elapsed() >= age {
            connection.client = None;
        }
    }
}

impl Access {
    async fn config(&self) -> Result<kube::Config, Error> {
        let url = |text: &String| {
            let text = text.trim_end_matches('/');
            let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
            text.parse::<Uri>()
        };
        let master = match &self.master {
            Some(text) => Some(url(text).map_err(|reason| Error::Master { url: text.clone(), reason })?),
            None => None,
        };
        let config = match (&self.kubeconfig, master) {
            (Some(path), master) => {
                let failed = |reason| Error::Kubeconfig { path: path.clone(), reason: Box::new(reason) };
                let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
                let proxy =
                    kubeconfig.clusters.iter().find_map(|named| named.cluster.as_ref()?.proxy_url.clone());
                let choice = KubeConfigOptions::default();
                let config = kube::Config::from_custom_kubeconfig(kubeconfig, &choice);
                let mut config = config.await.map_err(failed)?;
                if let Some(url) = config.proxy_url.take().map(|url| url.to_string()) {
                    if proxy.is_some_and(|proxy| url.starts_with(proxy.trim_end_matches('/'))) {
                        return Err(Error::Proxy { url });
                    }
                    tracing::warn!(url, "HTTPS_PROXY is not used for the API server");
                }
                config.cluster_url = master.unwrap_or(config.cluster_url);
                config
            }
            (None, Some(master)) => kube::Config::new(master),
            (None, None) => kube::Config::incluster().map_err(|reason| Error::InCluster(Box::new(reason)))?,
        };
        Ok(config)
    }

    fn connect(&self, config: kube::Config) -> Result<kube::Client, Error> {
        let from = match &self.kubeconfig {
            Some(path) => format!("kubeconfig {}", path.display()),
            None => "the pod's service account".to_owned(),
        };
        let failed = |reason| Error::Credentials { from: from.clone(), reason: Box::new(reason) };
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.connect_timeout));
        connector.set_keepalive(Some(Duration::from_secs(30)));
        let connector = config.rustls_https_connector_with_connector(connector).map_err(failed)?;
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_CONNECTION)
            .pool_max_idle_per_host(2)
            .http1_max_buf_size(READ_BUFFER)
            .build(connector);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer().map_err(failed)?)
            .layer(config.extra_headers_layer().map_err(failed)?)
            .map_err(BoxError::from)
            .service(client);
        Ok(kube::Client::new(service, config.default_namespace))
    }
}

/// Whether what stands against a start may pass by itself: a program that gives credentials has run, and given none.
fn passing(error: &Error) -> bool {
    let Error::Credentials { reason, .. } = error else { return false };
    matches!(**reason, kube::Error::Auth(AuthError::AuthExecRun { .. }))
}

/// What an answer that is no success says.
async fn refusal(answer: Response<Body>, timeout: Duration) -> Failure {
    let code = answer.status().as_u16();
    let retry_after =
        answer.headers().get(header::RETRY_AFTER).and_then(|value| retry_after(value.to_str().ok()?));
    let text = async {
        let (mut text, mut body) = (Vec::new(), answer.into_body());
        while let Some(Ok(frame)) = body.frame().await {
            text.extend(frame.into_data().as_ref().map_or(&[][..], Bytes::as_ref));
            if text.len() >= FAILURE_TEXT {
                break;
            }
        }
        text
    };
    let text = tokio::time::timeout(timeout, text).await.unwrap_or_default();
    let message = match serde_json::from_slice::<wire::Status<'_>>(&text) {
        Ok(status) if !status.message.is_empty() => status.message.to_string(),
        _ => String::from_utf8_lossy(&text[..text.len().min(200)]).trim().to_owned(),
    };
    if code == StatusCode::GONE.as_u16() {
        return Failure::Expired(message);
    }
    Failure::Refused { code, message, retry_after }
}

/// `Retry-After`: seconds, or the date when (RFC 9110 §10.2.3).
fn retry_after(value: &str) -> Option<Duration> {
    let after = if let Ok(seconds) = value.trim().parse() {
        Duration::from_secs(seconds)
    } else {
        let date = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
        SystemTime::from(date).duration_since(SystemTime::now()).unwrap_or_default()
    };
    Some(after.min(RETRY_AFTER_AT_MOST))
}

/// An error with what caused it, each once.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let table = [
            ("seconds", "7", Some(7)),
            ("spaces", " 1 ", Some(1)),
            ("too long", "86400", Some(300)),
            ("date past", "Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("nonsense", "soon", None),
            ("negative", "-1", None),
        ];
        for (name, value, expected) in table {
            assert_eq!(retry_after(value), expected.map(Duration::from_secs), "{name}");
        }
    }
}
