//! Requests to the API server, with the credentials as they are now.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;

use crate::access::{Access, Authorization, PluginError, Way};
use crate::pace::Throttle;
use crate::reach::Reach;
use crate::{Error, Observation, Options, Status, wire};

/// What is asked for: objects without the fields that say who changed what, where the server can
/// leave them out (KEP-5958, alpha in Kubernetes 1.38). One that cannot does not mind.
const ACCEPT: &str = "application/json;drop=metadata.managedFields,application/json";
/// The most that is read of an answer that says what went wrong.
const FAILURE_TEXT: usize = 16 * 1024;
/// Configuration and credentials are read again no more often than this.
const RENEW_EVERY: Duration = Duration::from_secs(1);
/// While nothing answers, they are read again this often: the address or the authority may have
/// changed.
const RENEW_UNREACHABLE: Duration = Duration::from_mins(1);
/// The longest that the server may ask us to wait.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_mins(5);

/// Why a request, a list or a watch did not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no connection.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// The server has said nothing.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// The answer has begun, and not come to its end.
    #[error("the connection was cut: {0}")]
    Cut(String),
    /// A watch says nothing.
    #[error("nothing has come for {0:?}, not even a bookmark")]
    Quiet(Duration),
    /// 410: only another list can help.
    #[error("the version is too old: {0}")]
    Expired(String),
    /// Versions count up in one history.
    #[error("the server's history goes back from {from} to {to}: it was restored, or is another one")]
    WentBack {
        /// The last version seen before.
        from: String,
        /// The version seen then.
        to: String,
    },
    /// Nobody can be asked without them.
    #[error("credentials cannot be had: {0}")]
    Credentials(String),
    /// Any other status.
    #[error("{code}: {message}")]
    Refused {
        /// The status.
        code: u16,
        /// What the server says.
        message: String,
        /// When it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The answer is none.
    #[error("the answer is not understood: {0}")]
    Unintelligible(String),
}

impl Failure {
    /// When the server wants to be asked again, if it says so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Failure::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The status that the server has refused with, if it has.
    pub fn code(&self) -> Option<u16> {
        match self {
            Failure::Refused { code, .. } => Some(*code),
            Failure::Expired(_) => Some(StatusCode::GONE.as_u16()),
            _ => None,
        }
    }

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
pub(crate) struct Client {
    access: Arc<Access>,
    connection: RefCell<Option<Connection>>,
    /// Held by whoever makes a connection: programs that give credentials are not run side by side.
    making: tokio::sync::Mutex<Option<(Instant, Failure)>>,
    throttle: RefCell<Throttle>,
    status: Arc<Status>,
    reach: Reach,
}

/// What to send requests through.
#[derive(Clone)]
struct Connection {
    client: kube::Client,
    authorization: Rc<Authorization>,
    expires: Option<SystemTime>,
    made: Instant,
}

impl Connection {
    fn new(way: Way) -> Connection {
        let Way { client, authorization, expires } = way;
        Connection { client, authorization: Rc::new(authorization), expires, made: Instant::now() }
    }

    fn is_valid(&self) -> bool {
        // Credentials that are over when they are given are still asked for no more often than
        // this.
        self.made.elapsed() < RENEW_EVERY || self.expires.is_none_or(|at| SystemTime::now() < at)
    }
}

impl Client {
    /// A client as `options` say. Fails if the configuration is unusable, not if credentials cannot
    /// be had at the moment.
    pub(crate) async fn new(options: &Options, connect_timeout: Duration) -> Result<Client, Error> {
        let access = Arc::new(Access::new(options, connect_timeout));
        let configuration = access.configuration().await?;
        let host = configuration.library.cluster_url.authority();
        let status =
            Arc::new(Status::new(host.map_or_else(String::new, ToString::to_string), options.followed));
        let connection = match access.open(configuration, &status) {
            Ok(way) => Some(Connection::new(way)),
            Err(error) if passing(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Client {
            access,
            connection: RefCell::new(connection),
            making: tokio::sync::Mutex::new(None),
            throttle: RefCell::new(Throttle::new(options.qps, options.burst)),
            status,
            reach: Reach::new(),
        })
    }

    /// Where requests are counted.
    pub(crate) fn status(&self) -> Arc<Status> {
        self.status.clone()
    }

    /// Whether the server answers.
    pub(crate) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Sends a request and returns the answer when its headers are there, which must be within
    /// `timeout`. An answer that is no success is a failure. Credentials that are not accepted are
    /// read again, for the next request.
    pub(crate) async fn send(
        &self,
        method: &'static str,
        target: &str,
        body: Option<(&'static str, Vec<u8>)>,
        timeout: Duration,
    ) -> Result<Response<Body>, Failure> {
        let asked = Instant::now();
        let at = self.throttle.borrow_mut().take(asked);
        tokio::time::sleep_until(at.into()).await;
        self.status.observe(&Observation::Limited { method, took: asked.elapsed() });
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
        let mut request = Request::builder().method(method).uri(target).header(header::ACCEPT, ACCEPT);
        if let Some((media_type, _)) = &body {
            request = request.header(header::CONTENT_TYPE, *media_type);
        }
        let connection = self.connection().await?;
        if let Some(value) = connection.authorization.header() {
            request = request.header(header::AUTHORIZATION, value);
        }
        let length = body.as_ref().map_or(0, |(_, bytes)| bytes.len());
        let body = body.map_or_else(Body::empty, |(_, bytes)| Body::from(bytes));
        let request = request.body(body).map_err(|error| Failure::Unintelligible(error.to_string()))?;

        let sent = Instant::now();
        let answer = tokio::time::timeout(timeout, connection.client.send(request)).await;
        let code = answer.as_ref().ok().and_then(|answer| answer.as_ref().ok());
        let code = code.map(|answer| answer.status().as_u16());
        self.status.observe(&Observation::Request { method, code, took: sent.elapsed(), length });
        let answer = match answer {
            Err(_) => {
                self.renew(&connection, RENEW_UNREACHABLE);
                self.reach.absent();
                return Err(Failure::NoAnswer(timeout));
            }
            Ok(Err(error)) => {
                self.renew(&connection, RENEW_UNREACHABLE);
                self.reach.absent();
                return Err(Failure::Unreachable(causes(&error)));
            }
            Ok(Ok(answer)) => answer,
        };
        let status = answer.status();
        // That a version is too old is known only by a server that knows all there is.
        if status.is_success() || status == StatusCode::GONE {
            self.reach.answered(Instant::now());
        } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            self.reach.absent();
        }
        if status.is_success() {
            return Ok(answer);
        }
        if status == StatusCode::UNAUTHORIZED {
            self.renew(&connection, RENEW_EVERY);
        }
        let (failure, length) = refusal(answer, timeout).await;
        self.status.observe(&Observation::Answer { method, length });
        Err(failure)
    }

    fn current(&self) -> Option<Connection> {
        self.connection.borrow().clone().filter(Connection::is_valid)
    }

    /// The connection, made anew if it was given up.
    async fn connection(&self) -> Result<Connection, Failure> {
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        let mut failed = self.making.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        if let Some((at, failure)) = &*failed
            && at.elapsed() < RENEW_EVERY
        {
            return Err(failure.clone());
        }
        let (access, status) = (self.access.clone(), self.status.clone());
        // Credentials may come from files and from programs: those may take their time, off this
        // thread.
        let handle = tokio::runtime::Handle::current();
        let made = tokio::task::spawn_blocking(move || {
            let configuration = handle.block_on(access.configuration())?;
            access.open(configuration, &status)
        });
        let made = made.await.map_err(|error| error.to_string());
        let made = made.and_then(|way| way.map_err(|error| error.to_string()));
        match made {
            Ok(way) => {
                let connection = Connection::new(way);
                *failed = None;
                *self.connection.borrow_mut() = Some(connection.clone());
                Ok(connection)
            }
            Err(reason) => {
                let failure = Failure::Credentials(reason);
                *failed = Some((Instant::now(), failure.clone()));
                Err(failure)
            }
        }
    }

    /// Gives up `connection` if it is older than `age`, so that the next request reads
    /// configuration and credentials again.
    fn renew(&self, connection: &Connection, age: Duration) {
        let mut current = self.connection.borrow_mut();
        let same = current.as_ref().is_some_and(|current| current.made == connection.made);
        if same && connection.made.elapsed() >= age {
            *current = None;
        }
    }
}

/// Whether what stands against a start may pass by itself: a program that gives credentials has
/// run, and given none.
fn passing(error: &Error) -> bool {
    matches!(error, Error::Plugin { reason: PluginError::Failed { .. } | PluginError::Slow { .. }, .. })
}

/// What an answer that is no success says, and how many bytes of it were read.
async fn refusal(answer: Response<Body>, timeout: Duration) -> (Failure, usize) {
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
        return (Failure::Expired(message), text.len());
    }
    (Failure::Refused { code, message, retry_after }, text.len())
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
