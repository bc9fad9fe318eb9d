//! Listening and serving connections, within bounds whatever the clients do.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::Answer;

/// Answers one request.
pub(crate) type Handler =
    Arc<dyn Fn(Request<Incoming>) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// What clients may use up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at one time; more wait in the kernel's queue.
    pub(crate) connections: usize,
    /// For sending a request, and for being silent before the next.
    pub(crate) request: Duration,
    /// A connection that is older gets no further request answered; one that does not even then end
    /// is cut.
    pub(crate) connection: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { connections: 64, request: Duration::from_secs(10), connection: Duration::from_mins(2) }
    }
}

/// After its time a connection has this long to take the last answer.
const LAST_ANSWER: Duration = Duration::from_secs(10);

/// Something to accept connections from.
pub(crate) trait Accept: Send + 'static {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(TcpListener::accept(self).await?.0)
    }
}

/// Whether `[::]` means IPv4, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// As the system is configured, which is: yes.
    AsAddressed,
    /// Only IPv6; another socket answers on `0.0.0.0`.
    OneFamily,
}

/// Listens on `address`. Needs the runtime's context.
pub(crate) fn bind(address: SocketAddr, scope: Scope) -> io::Result<TcpListener> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if address.is_ipv6() && scope == Scope::OneFamily {
        socket2::SockRef::from(&socket).set_only_v6(true)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

/// Answers all connections for as long as it is polled; dropping it closes them.
pub(crate) async fn accept_all<A: Accept>(listener: A, handler: Handler, limits: Limits) {
    let slots = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    let handler = handler.clone();
                    connections.spawn(async move {
                        serve_connection(stream, handler, limits).await;
                        drop(slot);
                    });
                }
                // Out of file descriptors, for example: give others the time to close some.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve_connection<S>(stream: S, handler: Handler, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let end = Instant::now() + limits.connection;
    // A client that goes away or talks nonsense is no concern of ours.
    if tokio::time::timeout_at(end, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
    }
}
