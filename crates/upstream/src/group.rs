//! The servers of one `forward`: which of them is asked, and how often.

mod room;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use portolan_names::wire::Name;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::entropy;
use crate::exchange::Failure;
use crate::question::Question;
use crate::server::{Limits, Server};
use crate::settings::{AllDown, Error, Forward, Policy, domain, domains};

pub(crate) use room::Place;
use room::Room;

/// No client waits for as long.
const TIMEOUT_MAX: Duration = Duration::from_mins(1);
/// So many questions are under way if the settings give no bound: each takes a socket.
const CONCURRENT_MAX: usize = 4096;

/// Servers.
#[derive(Debug)]
pub(crate) struct Group {
    settings: Forward,
    from: Name,
    except: Vec<Name>,
    servers: watch::Sender<Arc<[Arc<Server>]>>,
    /// Whose turn it is.
    turn: AtomicUsize,
    room: Arc<Room>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// There is nobody to ask.
    #[error("no server to ask")]
    Nobody,
    /// All servers are left out.
    #[error("all servers are down")]
    AllDown,
    /// All servers ask us.
    #[error("questions come back: the servers ask this one")]
    Loop,
    /// The last server's failure.
    #[error("{0}")]
    Failed(Failure),
}

impl NoAnswer {
    /// Whether it says something about the servers, and asking again is of no use for a while.
    pub(crate) fn is_the_servers(&self) -> bool {
        matches!(self, NoAnswer::Failed(failure) if failure.is_the_servers())
    }
}

impl Group {
    pub(crate) fn new(settings: Forward) -> Result<Group, Error> {
        Ok(Group {
            from: domain("forward", &settings.from)?,
            except: domains("except", &settings.except)?,
            room: Arc::new(Room::new(settings.max_concurrent.unwrap_or(CONCURRENT_MAX))),
            settings,
            servers: watch::Sender::new(Arc::new([])),
            turn: AtomicUsize::new(0),
        })
    }

    pub(crate) fn settings(&self) -> &Forward {
        &self.settings
    }

    /// Whether it is asked for `name`.
    pub(crate) fn takes(&self, name: &Name) -> bool {
        name.is_within(&self.from) && !self.except.iter().any(|domain| name.is_within(domain))
    }

    /// The servers as they are now.
    pub(crate) fn servers(&self) -> Arc<[Arc<Server>]> {
        Arc::clone(&self.servers.borrow())
    }

    /// The servers, as they change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<[Arc<Server>]>> {
        self.servers.subscribe()
    }

    /// Has other servers from now on.
    pub(crate) fn set_servers(&self, servers: Vec<Arc<Server>>) {
        self.servers.send_replace(servers.into());
    }

    /// Room for another question; `None` if there is none.
    pub(crate) fn place(&self) -> Option<Place> {
        self.room.place()
    }

    /// Asks one server after the other until one has answered, for as long as `tries` of them may
    /// take.
    pub(crate) async fn ask(&self, asked: &Question) -> Result<Answer, NoAnswer> {
        let order = self.order()?;
        let timeout = self.settings.timeout.min(TIMEOUT_MAX);
        let end = Instant::now() + timeout.saturating_mul(self.settings.tries).min(TIMEOUT_MAX);
        let limits = Limits { timeout, end };
        let tries = order.len().max(usize::try_from(self.settings.tries).unwrap_or(usize::MAX));
        let mut last = Err(NoAnswer::Nobody);
        for server in order.iter().cycle().take(tries) {
            if Instant::now() >= end {
                break;
            }
            last = match server.ask(asked, limits).await {
                Ok(answer) if self.settings.failover.contains(&answer.rcode) => Ok(answer),
                Ok(answer) => return Ok(answer),
                Err(failure) => Err(NoAnswer::Failed(failure)),
            };
        }
        last
    }

    /// The servers in the order in which they are asked.
    fn order(&self) -> Result<Vec<Arc<Server>>, NoAnswer> {
        let servers = self.servers();
        if servers.is_empty() {
            return Err(NoAnswer::Nobody);
        }
        let mut order: Vec<Arc<Server>> = servers.iter().filter(|server| !server.loops()).cloned().collect();
        if order.is_empty() {
            return Err(NoAnswer::Loop);
        }
        if order.iter().all(|server| server.is_down()) {
            if self.settings.all_down == AllDown::Fail {
                return Err(NoAnswer::AllDown);
            }
            let start = entropy::below(order.len());
            order.rotate_left(start);
            return Ok(order);
        }
        order.retain(|server| !server.is_down());
        match self.settings.policy {
            Policy::Sequential => {}
            Policy::RoundRobin => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % order.len();
                order.rotate_left(turn);
            }
            Policy::Random => {
                for at in 0..order.len() {
                    let other = at + entropy::below(order.len() - at);
                    order.swap(at, other);
                }
            }
        }
        Ok(order)
    }
}
