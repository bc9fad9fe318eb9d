//! Questions over connections, several at a time on each (RFC 7766 §6.2.1.1), which are kept for
//! the next ones.

mod connection;

use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::{Instant, timeout_at};

use super::Failure;
use crate::metrics::ServerMetrics;
use crate::question::{Match, Message};
use connection::Connection;

/// So many questions are under way on a connection before there is another one.
const PIPELINE: usize = 32;
/// So many connections to a server there are at most.
const CONNECTIONS_MAX: usize = 16;

/// What can be spoken over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for S {}

/// How a connection becomes one that can be spoken over.
#[derive(Debug, Clone)]
pub(crate) enum Security {
    /// As it is.
    Plain,
    /// With TLS.
    #[cfg(feature = "tls")]
    Tls(crate::tls::Connector),
}

/// The connections to one server.
#[derive(Debug)]
pub(crate) struct Streams {
    server: SocketAddr,
    security: Security,
    expire: Duration,
    open: Mutex<Vec<Connection>>,
    /// Whoever holds it makes a connection; others wait, and then use it too.
    connecting: AsyncMutex<()>,
    metrics: ServerMetrics,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) message: Vec<u8>,
    /// It repeats the case of letters.
    pub(crate) kept_case: bool,
}

impl Streams {
    /// None as yet. A connection that is not used for `expire` is closed.
    pub(crate) fn new(
        server: SocketAddr,
        security: Security,
        expire: Duration,
        metrics: ServerMetrics,
    ) -> Streams {
        Streams {
            server,
            security,
            expire,
            open: Mutex::default(),
            connecting: AsyncMutex::default(),
            metrics,
        }
    }

    /// Asks, and waits until `deadline`.
    pub(crate) async fn ask(&self, message: &Message, deadline: Instant) -> Result<Heard, Failure> {
        if let Some(connection) = self.idle() {
            self.metrics.reused.inc();
            match self.ask_on(&connection, message, deadline).await {
                // The server may close a connection at any time. Then another one is made.
                Err(Failure::Unreachable(_)) => {}
                result => return result,
            }
        }
        let connection = timeout_at(deadline, self.connect()).await.map_err(|_| Failure::Silent)??;
        self.ask_on(&connection, message, deadline).await
    }

    async fn ask_on(
        &self,
        connection: &Connection,
        message: &Message,
        deadline: Instant,
    ) -> Result<Heard, Failure> {
        let since = Instant::now();
        let Ok(result) = timeout_at(deadline, connection.ask(message.clone())).await else {
            if connection.heard_last() < since {
                // Nothing at all has come: nobody else shall wait for this one.
                self.forget(connection);
            }
            return Err(Failure::Silent);
        };
        let (message, matched) = result.inspect_err(|_| self.forget(connection))?;
        match matched {
            Match::Answer | Match::OtherCase | Match::Rejection => {
                Ok(Heard { message, kept_case: matched != Match::OtherCase })
            }
            Match::No => {
                self.forget(connection);
                Err(Failure::Malformed(portolan_names::wire::Malformed))
            }
        }
    }

    /// A connection with room for another question.
    fn idle(&self) -> Option<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(Connection::is_open);
        let full = open.len() >= CONNECTIONS_MAX;
        let least = open.iter().min_by_key(|connection| connection.waiting())?;
        (full || least.waiting() < PIPELINE).then(|| least.clone())
    }

    fn forget(&self, connection: &Connection) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|other| !other.is_same(connection));
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let _turn = self.connecting.lock().await;
        if let Some(connection) = self.idle() {
            return Ok(connection);
        }
        self.metrics.connected.inc();
        let stream = TcpStream::connect(self.server).await.map_err(|error| match error.raw_os_error() {
            Some(code) if is_shortage(code) => Failure::Local(error),
            _ => Failure::Unreachable(error),
        })?;
        stream.set_nodelay(true)?;
        let connection = match &self.security {
            Security::Plain => Connection::open(stream, self.expire),
            #[cfg(feature = "tls")]
            Security::Tls(connector) => Connection::open(connector.connect(stream).await?, self.expire),
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push(connection.clone());
        Ok(connection)
    }
}

/// Whether the system has no more sockets.
fn is_shortage(code: i32) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].iter().any(|known| known.raw_os_error() == code)
}

/// Why a connection cannot be used any more.
fn ended() -> Failure {
    Failure::Unreachable(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection has ended"))
}
