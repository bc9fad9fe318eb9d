//! The server as tests and benches use it: objects are stored as they are given, every request is
//! noted, and things go wrong on demand.

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use portolan_store::{Failure, error_line};
use serde_json::Value;

use crate::faults::{Corruption, Starting};
use crate::invalid::Invalid;
use crate::resource::Resource;
use crate::server::{Options, Server, StartError};
use crate::state::{Authentication, State};

/// How long a call may take until the server has followed it.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server with faults on demand; dropping it ends its thread and every connection.
#[derive(Debug)]
pub struct Double {
    server: Server,
}

impl Deref for Double {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl Double {
    /// Starts listening (in the network namespace of the calling thread) and serving.
    pub fn start(options: Options) -> Result<Self, StartError> {
        Server::start_recording(options, true).map(|server| Self { server })
    }

    /// Creates or updates an object and returns its resource version. As in a real server, what is
    /// the same already keeps its version and is no event.
    pub fn apply(&self, object: Value) -> Result<u64, Invalid> {
        self.shared().change(|state| state.apply(object))
    }

    /// Applies many objects, so that watches see all of them at once. A watch that is open
    /// meanwhile sees as many as the history keeps, or gets an error that it is too old.
    pub fn load(&self, objects: impl IntoIterator<Item = Value>) -> Result<(), Invalid> {
        self.shared().change(|state| objects.into_iter().try_for_each(|object| state.apply(object).map(drop)))
    }

    /// Deletes an object; says whether it was there.
    pub fn delete(&self, resource: Resource, namespace: &str, name: &str) -> bool {
        self.shared().change(|state| state.delete(resource, namespace, name))
    }

    /// Sends an object from now on in a way that does not decode; applying it again repairs it.
    /// Says whether it was there.
    pub fn corrupt(&self, resource: Resource, namespace: &str, name: &str, how: &Corruption) -> bool {
        self.shared().change(|state| state.corrupt(resource, namespace, name, how.clone()))
    }

    /// Closes the listening socket (connections are refused, those that are open stay), or opens it
    /// again. Returns once it is done.
    pub fn refuse_connections(&self, refuse: bool) {
        self.shared().change(|state| state.faults.refusing = refuse);
        assert!(
            self.wait_for(|state| state.listening != refuse, PATIENCE),
            "the server does not {} {}",
            if refuse { "leave" } else { "come back to" },
            self.address()
        );
    }

    /// Cuts every connection, without an end of its streams.
    pub fn cut(&self) {
        self.shared().cut();
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
        self.shared().change(|state| {
            state.store.compact();
            state.faults.starting = Some(starting);
        });
        self.up();
    }

    /// Ends what [`Self::boot`] began: it answers everything.
    pub fn ready(&self) {
        self.shared().change(|state| state.faults.starting = None);
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
        self.shared().change(|state| match resource {
            Some(resource) => state.faults.stalled[resource.index()] = stalled,
            None => state.faults.stalled.fill(stalled),
        });
    }

    /// Silences for ever the watches of a resource (none: of all) that are open now, as if their
    /// connections were half open: they send neither events nor bookmarks nor their end. New ones
    /// work.
    pub fn mute_watches(&self, resource: Option<Resource>) {
        self.shared().change(|state| state.watchers_of(resource).for_each(|watcher| watcher.muted = true));
    }

    /// Ends the open watches of a resource (none: of all) regularly, as when their time is over.
    pub fn end_watches(&self, resource: Option<Resource>) {
        self.shared().change(|state| state.watchers_of(resource).for_each(|watcher| watcher.finish = true));
    }

    /// Ends the open watches of a resource (none: of all) with an `ERROR` event of this code.
    pub fn fail_watches(&self, resource: Option<Resource>, code: u16, message: &str) {
        let line = error_line(&Failure::new(code, message));
        self.shared().change(|state| {
            for watcher in state.watchers_of(resource) {
                watcher.inject.push_back(line.clone());
                watcher.finish = true;
            }
        });
    }

    /// Sends this line, whatever it is, on the open watches of a resource (none: of all).
    pub fn inject(&self, resource: Option<Resource>, line: &str) {
        let line = Bytes::from(format!("{line}\n"));
        self.shared().change(|state| {
            state.watchers_of(resource).for_each(|watcher| watcher.inject.push_back(line.clone()));
        });
    }

    /// Forgets the history: no version that was given out so far, be it in a list, an event or a
    /// bookmark, can be continued from (410), nor can lists that are half read. Watches that are
    /// open go on; cut or end them to make their clients notice.
    pub fn forget(&self) {
        self.shared().change(|state| state.store.compact());
    }

    /// Whether a watch from a forgotten version is answered 410, as older servers do, instead of
    /// 200 and an `ERROR` event with 410 in it.
    pub fn gone_as_status(&self, as_status: bool) {
        self.shared().change(|state| state.faults.gone_as_status = as_status);
    }

    /// Comes back from a backup, and cuts all connections. The objects stay (apply and delete to
    /// change them), under versions counted from `version`, which may be lower than those that
    /// clients know. None is corrupted any more.
    pub fn restore(&self, version: u64) {
        self.shared().change(|state| state.restore(version));
        self.cut();
    }

    /// Breaks the next list of a resource off after so many objects of a page.
    pub fn break_next_list(&self, resource: Resource, after: usize) {
        self.shared().change(|state| state.faults.break_lists[resource.index()] = Some(after));
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
        self.shared().change(|state| {
            let answers = std::iter::repeat_n((resource, failure), count);
            state.faults.next_answers.extend(answers);
        });
    }

    /// Answers all requests about a resource with this code (404: not served, 403: not allowed),
    /// until none is given.
    pub fn answer_always(&self, resource: Resource, code: Option<u16>) {
        self.shared().change(|state| match code {
            Some(code) => {
                let message = format!("{} cannot be had", resource.plural());
                state.faults.always.insert(resource, Failure::new(code, message));
            }
            None => drop(state.faults.always.remove(&resource)),
        });
    }

    /// Waits so long before each answer begins.
    pub fn delay(&self, delay: Duration) {
        self.shared().change(|state| state.faults.delay = delay);
    }

    /// Changes who may ask; connections and watches that are open stay.
    pub fn authenticate(&self, authentication: Authentication) {
        self.shared().change(|state| state.authentication = authentication);
    }

    /// Whether `sendInitialEvents` is offered.
    pub fn offer_streaming_lists(&self, offer: bool) {
        self.shared().change(|state| state.streaming_lists = offer);
    }

    /// Looks at the state.
    pub fn look<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.shared().lock())
    }

    /// Waits, without polling, until something is true of the state; says whether it became so in
    /// time.
    pub fn wait_for(&self, holds: impl FnMut(&State) -> bool, timeout: Duration) -> bool {
        self.shared().wait_for(holds, timeout)
    }
}
