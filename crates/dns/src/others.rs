//! Who answers what the cluster's names do not: the traits that the server asks through.

use std::net::SocketAddr;

use portolan_names::Transport;
use portolan_names::wire::{Name, Query};

/// Takes a whole answer. Dropped without being called, it stands for SERVFAIL.
pub type Answered = Box<dyn FnOnce(Vec<u8>) + Send>;

/// Takes another server's answer, or `None` if there is none. Dropped without being called, it
/// stands for `None`.
pub type LookedUp = Box<dyn FnOnce(Option<Vec<u8>>) + Send>;

/// Others who know names outside the cluster: upstream servers, with their cache.
///
/// The server's threads call these methods, and answer nobody else meanwhile. So each returns at
/// once, without waiting for a peer or for a lock that is held for long. How many questions may be
/// under way is theirs to bound: one too many is answered with SERVFAIL, or its callback dropped.
/// A callback may be called from any thread, also before the method returns.
pub trait Others: Send + Sync {
    /// Answers `message`, a question of one name in class IN that can be decoded, as `client` sent
    /// it. The answer that `done` takes is complete: it has the message's number and question, and
    /// is no longer than the question's limit for `transport` ([`Query::limit`]). One that is
    /// longer is sent as a header with the flag TC.
    fn ask(&self, message: Box<[u8]>, client: SocketAddr, transport: Transport, done: Answered);

    /// Looks up the records of type `kind` (A or AAAA) at `name`, which an alias in the cluster
    /// leads to. `done` takes an answer that was checked to be one to this question.
    fn look_up(&self, name: &Name, kind: u16, done: LookedUp);

    /// Answers `message` with what there is at `name` in place of the question's own name: behind
    /// an alias for `name`, if there are records. `done` takes a complete answer as with
    /// [`Others::ask`], also where `name` does not exist; `None` stands for SERVFAIL.
    fn search(&self, message: Box<[u8]>, name: &Name, transport: Transport, done: LookedUp) {
        let _ = (message, name, transport);
        done(None);
    }

    /// Appends the answer to `query` to `reply`, if it is at hand: in a cache. Returns whether it
    /// was; if not, nothing was appended, and [`Others::ask`] follows. `message` is what the client
    /// sent.
    fn at_hand(&self, query: &Query<'_>, message: &[u8], transport: Transport, reply: &mut Vec<u8>) -> bool {
        let _ = (query, message, transport, reply);
        false
    }
}

/// Names that are known before any other: a table of hosts.
pub trait Known: Send + Sync {
    /// Appends the complete answer to `query` to `reply`, if it has one; it is as with
    /// [`Others::at_hand`].
    fn answer(&self, query: &Query<'_>, transport: Transport, reply: &mut Vec<u8>) -> bool;
}
