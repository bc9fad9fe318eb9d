//! The listening socket, and the connections that come in through it.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
#[cfg(feature = "http2")]
use hyper_util::rt::TokioExecutor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::body::Body;
use crate::node_side::NodeSide;
use crate::serve::Service;
use crate::state::Shared;

/// A client that takes longer to agree on TLS is not waited for.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How often a client of HTTP/2 is asked whether it is still there.
#[cfg(feature = "http2")]
const PING: Duration = Duration::from_secs(30);

/// How long to wait for descriptors that have run out.
const EXHAUSTED: Duration = Duration::from_millis(20);

/// What the server's thread runs.
pub(crate) struct Acceptor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) tls: TlsAcceptor,
    pub(crate) address: SocketAddr,
    pub(crate) bookmark_interval: Duration,
    pub(crate) patience: Duration,
    pub(crate) node_side: Option<Arc<dyn NodeSide>>,
}

impl Acceptor {
    /// Serves who comes by `listener`, which opens and closes as faults say, and by `more`.
    pub(crate) async fn run(self, listener: TcpListener, more: Vec<TcpListener>) {
        let acceptor = Arc::new(self);
        for listener in more.into_iter().filter_map(|it| tokio::net::TcpListener::from_std(it).ok()) {
            let acceptor = Arc::clone(&acceptor);
            tokio::spawn(async move {
                loop {
                    let stream = accept(Some(&listener)).await;
                    drop(tokio::spawn(acceptor.connection(stream)));
                }
            });
        }
        acceptor.follow_faults(listener).await;
    }

    async fn follow_faults(&self, listener: TcpListener) {
        let mut changed = self.shared.subscribe_faults();
        let mut listener = tokio::net::TcpListener::from_std(listener).ok();
        loop {
            changed.mark_unchanged();
            let refusing = self.shared.lock().faults.refusing;
            if refusing {
                listener = None;
            } else if listener.is_none() {
                listener = tokio::net::TcpListener::bind(self.address).await.ok();
            }
            let listening = listener.is_some();
            self.shared.note(|state| state.listening = listening);
            tokio::select! {
                stream = accept(listener.as_ref()) => drop(tokio::spawn(self.connection(stream))),
                _ = changed.changed() => {}
            }
        }
    }

    /// Serves one connection until it ends or is cut.
    fn connection(&self, stream: TcpStream) -> impl Future<Output = ()> + use<> {
        let open = OpenConnection::new(&self.shared);
        let mut cut = self.shared.subscribe_cut();
        let shared = Arc::clone(&self.shared);
        let tls = self.tls.clone();
        let (bookmark_interval, patience) = (self.bookmark_interval, self.patience);
        let node_side = self.node_side.clone();
        async move {
            let _open = open;
            let serve = async {
                // What comes in parts is sent in parts: an event must not wait for the next one.
                let _unsupported = stream.set_nodelay(true);
                let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await else { return };
                let certificate = stream.get_ref().1.peer_certificates().is_some();
                let service = Service { shared, certificate, bookmark_interval, patience, node_side };
                let service = service_fn(move |request| service.clone().serve(request));
                // An error means that the client went away in the middle, or was too slow to ask.
                let _gone = serve_http(stream, service, patience).await;
            };
            tokio::select! {
                () = serve => {}
                _ = cut.changed() => {}
            }
        }
    }
}

/// Serves the protocol that was agreed on with TLS. kubectl's streams need upgrades, which only
/// HTTP/1.1 has.
async fn serve_http<S>(stream: TlsStream<TcpStream>, service: S, patience: Duration) -> hyper::Result<()>
where
    S: hyper::service::Service<Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    #[cfg(feature = "http2")]
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        return hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .serve_connection(TokioIo::new(stream), service)
            .await;
    }
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await
}

/// The next connection; never comes while nothing listens.
async fn accept(listener: Option<&tokio::net::TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            // The client gave up, or descriptors have run out for now: nothing says when there are
            // some again.
            Err(_) => sleep(EXHAUSTED).await,
        }
    }
}

/// Counts a connection while it lives.
struct OpenConnection {
    shared: Arc<Shared>,
}

impl OpenConnection {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.note(|state| state.connections += 1);
        Self { shared: Arc::clone(shared) }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.shared.note(|state| state.connections -= 1);
    }
}
