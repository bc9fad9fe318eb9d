//! The server: its thread, and what a test asks of it.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use portolan_store::{Failure, Store, error_line};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::acceptor::Acceptor;
use crate::faults::{Corruption, Starting};
use crate::invalid::Invalid;
use crate::kubeconfig::{self, Credentials};
use crate::resource::Resource;
use crate::state::{Authentication, Shared, State};
use crate::tls::{Identities, TlsError};

/// How long a call may take until the server has followed it.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a server starts.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// How often a watch that asks for bookmarks gets one. A real server: about a minute.
    pub bookmark_interval: Duration,
    /// How many events of each resource a watch can catch up on.
    pub history: usize,
    /// Whether `sendInitialEvents` is offered; older servers refuse it.
    pub streaming_lists: bool,
    /// Whether HTTP/2 is offered beside HTTP/1.1.
    pub http2: bool,
    /// Who may ask.
    pub authentication: Authentication,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            bookmark_interval: Duration::from_mins(1),
            history: 10_000,
            streaming_lists: true,
            http2: true,
            authentication: Authentication::Anonymous,
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
        let Options { listen, bookmark_interval, history, streaming_lists, http2, authentication } = options;
        let failed = |source| StartError::Listen { address: listen, source };
        let port = reserve(listen).map_err(failed)?;
        let address = port.local_addr().map_err(failed)?;
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let identities = Identities::make(address.ip(), http2)?;
        let shared = Shared::new(Store::new(history), authentication, streaming_lists);
        let acceptor = Acceptor {
            shared: Arc::clone(&shared),
            tls: TlsAcceptor::from(Arc::clone(&identities.server)),
            address,
            bookmark_interval,
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("apiserver".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = acceptor.run(listener) => {}
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

    /// Writes a kubeconfig (mode 0600) that leads here.
    pub fn kubeconfig(&self, path: &Path, credentials: &Credentials) -> io::Result<()> {
        kubeconfig::write(path, &self.url(), &self.identities, credentials)
    }

    /// Creates or updates an object and returns its resource version. As in a real server, what is
    /// the same already keeps its version and is no event.
    pub fn apply(&self, object: Value) -> Result<u64, Invalid> {
        self.shared.change(|state| state.apply(object))
    }

    /// Applies many objects, so that watches see all of them at once. A watch that is open
    /// meanwhile sees as many as the history keeps, or gets an error that it is too old.
    pub fn load(&self, objects: impl IntoIterator<Item = Value>) -> Result<(), Invalid> {
        self.shared.change(|state| objects.into_iter().try_for_each(|object| state.apply(object).map(drop)))
    }

    /// Deletes an object; says whether it was there.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> bool {
        self.shared.change(|state| state.delete(resource, namespace, name))
    }

    /// Sends an object from now on in a way that does not decode; applying it again repairs it.
    /// Says whether it was there.
    pub fn corrupt(&self, resource: Resource, namespace: &str, name: &str, how: &Corruption) -> bool {
        self.shared.change(|state| state.corrupt(resource, namespace, name, how.clone()))
    }

    /// Closes the listening socket (connections are refused, those that are open stay), or opens it
    /// again. Returns once it is done.
    pub fn refuse_connections(&self, refuse: bool) {
        self.shared.change(|state| state.faults.refusing = refuse);
        assert!(
            self.wait_for(|state| state.listening != refuse, PATIENCE),
            "the server does not {} {}",
            if refuse { "leave" } else { "come back to" },
            self.address
        );
    }

    /// Cuts every connection, without an end of its streams.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Refuses new connections and cuts those there are: the server is down. Returns once it is
    /// done.
    pub fn down(&self) {
        self.refuse_connections(true);
        self.cut();
        assert!(self.wait_for(|state| state.connections() == 0, PATIENCE), "connections stay open");
    }

    /// Undoes [`Self::down`].
    pub fn up(&self) {
        self.refuse_connections(false);
    }

    /// Starts again after [`Self::down`], as a real server does. Its watch caches begin with what
    /// there is now: no version that was given out before can be continued from (410). Until
    /// [`Self::ready`] it refuses everything about resources.
    pub fn boot(&self, starting: Starting) {
        self.shared.change(|state| {
            state.store.compact();
            state.faults.starting = Some(starting);
        });
        self.up();
    }

    /// Ends what [`Self::boot`] began: it answers everything.
    pub fn ready(&self) {
        self.shared.change(|state| state.faults.starting = None);
    }

    /// Sends nothing more about a resource (none: about anything) on connections that stay open,
    /// new requests included, until [`Self::resume`].
    pub fn stall(&self, resource: Option<Resource>) {
        self.set_stalled(resource, true);
    }

    /// Undoes [`Self::stall`]; whatever was held back is sent.
    pub fn resume(&self, resource: Option<Resource>) {
        self.set_stalled(resource, false);
    }

    fn set_stalled(&self, resource: Option<Resource>, stalled: bool) {
        self.shared.change(|state| match resource {
            Some(resource) => state.faults.stalled[resource.index()] = stalled,
            None => state.faults.stalled.fill(stalled),
        });
    }

    /// Silences for ever the watches of a resource (none: of all) that are open now, as if their
    /// connections were half open: they send neither events nor bookmarks nor their end. New ones
    /// work.
    pub fn mute_watches(&self, resource: Option<Resource>) {
        self.shared.change(|state| state.watchers_of(resource).for_each(|watcher| watcher.muted = true));
    }

    /// Ends the open watches of a resource (none: of all) regularly, as when their time is over.
    pub fn end_watches(&self, resource: Option<Resource>) {
        self.shared.change(|state| state.watchers_of(resource).for_each(|watcher| watcher.finish = true));
    }

    /// Ends the open watches of a resource (none: of all) with an `ERROR` event of this code.
    pub fn fail_watches(&self, resource: Option<Resource>, code: u16, message: &str) {
        let line = error_line(&Failure::new(code, message));
        self.shared.change(|state| {
            for watcher in state.watchers_of(resource) {
                watcher.inject.push_back(line.clone());
                watcher.finish = true;
            }
        });
    }

    /// Sends this line, whatever it is, on the open watches of a resource (none: of all).
    pub fn inject(&self, resource: Option<Resource>, line: &str) {
        let line = Bytes::from(format!("{line}\n"));
        self.shared.change(|state| {
            state.watchers_of(resource).for_each(|watcher| watcher.inject.push_back(line.clone()));
        });
    }

    /// Forgets the history: no version that was given out so far, be it in a list, an event or a
    /// bookmark, can be continued from (410), nor can lists that are half read. Watches that are
    /// open go on; cut or end them to make their clients notice.
    pub fn forget(&self) {
        self.shared.change(|state| state.store.compact());
    }

    /// Whether a watch from a forgotten version is answered 410, as older servers do, instead of
    /// 200 and an `ERROR` event with 410 in it.
    pub fn gone_as_status(&self, as_status: bool) {
        self.shared.change(|state| state.faults.gone_as_status = as_status);
    }

    /// Comes back from a backup, and cuts all connections. The objects stay (apply and delete to
    /// change them), under versions counted from `version`, which may be lower than those that
    /// clients know. None is corrupted any more.
    pub fn restore(&self, version: u64) {
        self.shared.change(|state| state.restore(version));
        self.cut();
    }

    /// Breaks the next list of a resource off after so many objects of a page.
    pub fn break_next_list(&self, resource: Resource, after: usize) {
        self.shared.change(|state| state.faults.break_lists[resource.index()] = Some(after));
    }

    /// Answers the next `count` requests about a resource (none: about anything) with this code
    /// (401, 429, 500, 503, ...).
    pub fn answer_next(
        &self,
        count: usize,
        resource: Option<Resource>,
        code: u16,
        retry_after_seconds: Option<u32>,
    ) {
        let failure = Failure {
            retry_after: retry_after_seconds,
            ..Failure::new(code, "this answer was asked for by the test")
        };
        self.shared.change(|state| {
            let answers = std::iter::repeat_n((resource, failure), count);
            state.faults.next_answers.extend(answers);
        });
    }

    /// Answers all requests about a resource with this code (404: not served, 403: not allowed),
    /// until none is given.
    pub fn answer_always(&self, resource: Resource, code: Option<u16>) {
        self.shared.change(|state| match code {
            Some(code) => {
                let message = format!("{} cannot be had", resource.plural());
                state.faults.always.insert(resource, Failure::new(code, message));
            }
            None => drop(state.faults.always.remove(&resource)),
        });
    }

    /// Waits so long before each answer begins.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|state| state.faults.delay = delay);
    }

    /// Changes who may ask; connections and watches that are open stay.
    pub fn authenticate(&self, authentication: Authentication) {
        self.shared.change(|state| state.authentication = authentication);
    }

    /// Whether `sendInitialEvents` is offered.
    pub fn offer_streaming_lists(&self, offer: bool) {
        self.shared.change(|state| state.streaming_lists = offer);
    }

    /// Looks at the state.
    pub fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.shared.lock())
    }

    /// Waits, without polling, until something is true of the state; says whether it became so in
    /// time.
    pub fn wait_for(&self, holds: impl FnMut(&State) -> bool, timeout: Duration) -> bool {
        self.shared.wait_for(holds, timeout)
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
