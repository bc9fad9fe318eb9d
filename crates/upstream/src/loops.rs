//! Whether questions come back to us. Each server is asked for a name that nobody else knows; if we
//! are asked for it then, the server's questions lead here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use portolan_names::wire::Name;
use tokio::time::{Instant, sleep};
use tracing::{error, info};

use crate::entropy;
use crate::group::Group;
use crate::question::Question;
use crate::server::{Limits, Server};

/// The type of record that is asked for. Nobody else asks for it.
const HINFO: u16 = 13;
/// How long an answer is waited for.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// After so many intervals servers whose questions do not come back are asked again.
const CALM: u32 = 10;

/// Names that servers are being asked for.
#[derive(Debug, Default)]
pub(crate) struct Probes(Mutex<HashMap<Box<[u8]>, Probe>>);

#[derive(Debug)]
struct Probe {
    server: Weak<Server>,
    returned: bool,
}

impl Probes {
    fn names(&self) -> MutexGuard<'_, HashMap<Box<[u8]>, Probe>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the question is one that we have asked a server. Then that server loops.
    pub(crate) fn returned(&self, name: &Name, kind: u16) -> bool {
        if kind != HINFO {
            return false;
        }
        let mut names = self.names();
        let Some(probe) = names.get_mut(name.as_wire()) else { return false };
        probe.returned = true;
        if let Some(server) = probe.server.upgrade()
            && server.set_loops(true)
        {
            error!(
                server = %server.address(),
                "loop: what this server is asked comes back; it is left out, and the cluster's names are \
                 answered; give forward other servers, or a resolv.conf that does not lead here"
            );
        }
        true
    }

    /// Asks `server` for a name in `zone` that nobody knows. Returns whether it has been found not
    /// to loop.
    async fn probe(&self, server: &Arc<Server>, zone: &Name, timeout: Duration) -> bool {
        let mut name = Name::root();
        for _ in 0..2 {
            name.push(format!("{:016x}", entropy::number()).as_bytes());
        }
        if !name.push_wire(zone.as_wire()) {
            // There is no room for it. Loops in so long a domain are not found.
            return true;
        }
        let known = Known { probes: self, key: name.as_wire().into() };
        let probe = Probe { server: Arc::downgrade(server), returned: false };
        self.names().insert(known.key.clone(), probe);
        let asked = Question { name, kind: HINFO, dnssec_ok: false, checking_disabled: false };
        let limits = Limits { timeout, end: Instant::now() + timeout };
        let answered = server.ask(&asked, limits).await.is_ok();
        let returned = self.names().get(&known.key).is_some_and(|probe| probe.returned);
        if answered && !returned && server.set_loops(false) {
            info!(server = %server.address(), "loop: what this server is asked does not come back any more");
        }
        answered && !returned
    }
}

/// Takes a name out again.
struct Known<'p> {
    probes: &'p Probes,
    key: Box<[u8]>,
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.probes.names().remove(&self.key);
    }
}

/// Asks the servers of `group` again and again, those that loop or do not answer each `interval`.
pub(crate) async fn watch(probes: Arc<Probes>, group: Arc<Group>, zone: Name, interval: Duration) {
    let mut servers = group.subscribe();
    let mut fine: Vec<Arc<Server>> = Vec::new();
    let mut round: u32 = 0;
    loop {
        if round.is_multiple_of(CALM) {
            fine.clear();
        }
        round = round.wrapping_add(1);
        let now = Arc::clone(&servers.borrow_and_update());
        fine.retain(|known| now.iter().any(|server| Arc::ptr_eq(server, known)));
        for server in now.iter() {
            if !fine.iter().any(|known| Arc::ptr_eq(server, known))
                && probes.probe(server, &zone, PROBE_TIMEOUT).await
            {
                fine.push(Arc::clone(server));
            }
        }
        tokio::select! {
            changed = servers.changed() => if changed.is_err() { return },
            () = sleep(interval) => {}
        }
    }
}
