//! The server: how it starts, and its thread.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use portolan_store::Store;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::acceptor::Acceptor;
use crate::allocation::Ranges;
use crate::bootstrap::bootstrap;
use crate::kubeconfig::{self, Credentials};
use crate::node_side::NodeSide;
use crate::objects::Objects;
use crate::state::{Authentication, Rules, Shared};
use crate::tls::{Identities, TlsError};

/// How a server starts.
#[derive(Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Sockets that listen already, such as in other network namespaces: it answers there, too.
    pub more: Vec<Arc<TcpListener>>,
    /// How often a watch that asks for bookmarks gets one. A real server: about a minute.
    pub bookmark_interval: Duration,
    /// How long a client may take to send the head of a request, and its body, and may be silent
    /// between requests. A real server: about a minute.
    pub patience: Duration,
    /// How many events of each resource a watch can catch up on.
    pub history: usize,
    /// Whether `sendInitialEvents` is offered; older servers refuse it.
    pub streaming_lists: bool,
    /// Whether HTTP/2 is offered beside HTTP/1.1.
    pub http2: bool,
    /// Who may ask.
    pub authentication: Authentication,
    /// Where ClusterIPs are allocated: at most one network of each family. The family of the first
    /// is the one for Services that do not say.
    pub service_networks: Vec<IpNet>,
    /// Where NodePorts are allocated.
    pub node_ports: RangeInclusive<u16>,
    /// Whether namespaces must exist before something is created in them, and are kept until
    /// somebody has emptied them. Without it, a namespace is a name.
    pub namespaces: bool,
    /// A folder that keeps the certificate authority (`ca.crt`, `ca.key`), which is made at the
    /// first start. Without it, each start has a new one.
    pub authority: Option<PathBuf>,
    /// Names and addresses of the server in its certificate, beside those that it always has.
    pub names: Vec<String>,
    /// What is asked about pods, where they are. Without it, there are no logs and no commands.
    pub node_side: Option<Arc<dyn NodeSide>>,
}

impl Options {
    /// A cluster's server: known clients only, and namespaces that must exist.
    pub fn cluster() -> Self {
        let authentication = Authentication::TokensOrCertificate(Vec::new());
        Self { namespaces: true, authentication, ..Self::default() }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            more: Vec::new(),
            bookmark_interval: Duration::from_mins(1),
            patience: Duration::from_mins(1),
            history: 10_000,
            streaming_lists: true,
            http2: true,
            authentication: Authentication::Anonymous,
            service_networks: vec![IpNet::new_assert(Ipv4Addr::new(10, 96, 0, 0).into(), 12)],
            node_ports: 30_000..=32_767,
            namespaces: false,
            authority: None,
            names: Vec::new(),
            node_side: None,
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Threads or descriptors have run out.
    #[error("cannot start the server's thread: {0}")]
    Thread(io::Error),
}

/// A running server; dropping it ends its thread and every connection.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    identities: Identities,
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Keeps the port while nobody listens on it.
    _port: TcpSocket,
}

impl Server {
    /// Starts listening (in the network namespace of the calling thread) and serving.
    pub fn start(options: Options) -> Result<Self, StartError> {
        Self::start_recording(options, false)
    }

    /// The same; `records` says whether requests are noted for tests to look at.
    pub(crate) fn start_recording(options: Options, records: bool) -> Result<Self, StartError> {
        let Options { listen, bookmark_interval, history, streaming_lists, http2, authentication, .. } =
            options;
        let rules = Rules {
            ranges: Ranges { networks: options.service_networks, node_ports: options.node_ports },
            namespaces: options.namespaces,
            records,
        };
        let failed = |source| StartError::Listen { address: listen, source };
        let port = reserve(listen).map_err(failed)?;
        let address = port.local_addr().map_err(failed)?;
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let more = options.more.iter().map(|listener| {
            let listener = listener.try_clone()?;
            listener.set_nonblocking(true).map(|()| listener)
        });
        let more = more.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        let identities = Identities::make(options.authority.as_deref(), address.ip(), &options.names, http2)?;
        let shared = Shared::new(Store::new(history), rules, authentication, streaming_lists);
        if options.namespaces {
            bootstrap(&shared, address.port());
        }
        let acceptor = Acceptor {
            shared: Arc::clone(&shared),
            tls: TlsAcceptor::from(Arc::clone(&identities.server)),
            address,
            bookmark_interval,
            patience: options.patience,
            node_side: options.node_side,
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("apiserver".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = acceptor.run(listener, more) => {}
                        _ = stopped => {}
                    }
                });
            })
            .map_err(StartError::Thread)?;
        Ok(Self { shared, identities, address, stop: Some(stop), thread: Some(thread), _port: port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://<address>`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The certificate that clients trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.identities.ca_pem
    }

    /// The objects, for controllers in the same process.
    pub fn objects(&self) -> Objects {
        Objects::new(Arc::clone(&self.shared))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Writes a kubeconfig (mode 0600) that leads here.
    pub fn kubeconfig(&self, path: &Path, credentials: &Credentials) -> io::Result<()> {
        self.kubeconfig_for(path, &self.url(), credentials)
    }

    /// The same, for clients that find the server at another URL.
    pub fn kubeconfig_for(&self, path: &Path, url: &str, credentials: &Credentials) -> io::Result<()> {
        kubeconfig::write(path, url, &self.identities, credentials)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that it has stopped already.
            let _stopped = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// A socket that is bound to `address` and does not listen. A listening one can be bound beside it,
/// since both allow that. Without it, somebody's outgoing connection might get the port as its own
/// while the server refuses connections, and the server could not come back.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}
