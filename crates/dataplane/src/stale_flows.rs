//! Stale UDP flows: connection tracking keeps sending a client's datagrams where its first one
//! went, even when that endpoint is gone, for as long as they keep coming (spec §8A).
//!
//! The kernel walks its whole table for each question, and lists as many flows as clients sent
//! datagrams, so a thread of its own asks: no commit waits for it.

mod decision;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portolan_netfilter::conntrack::Conntrack;
use portolan_netfilter::nft::TableFamily;
use portolan_service::{Family, PerFamily, ServicePlan};

use self::decision::StaleFlows;
use crate::dataplane::Reconciled;

/// Above this many questions, fewer and wider ones are cheaper: the kernel walks its whole table
/// for each.
const QUESTIONS: usize = 4;

/// How long to wait after the first failure; twice as long after each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// But no longer than this.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// Removes stale flows in the network namespace of the thread that first gives it something to do.
/// Its thread ends with it.
#[derive(Debug, Default)]
pub(crate) struct Reconciler {
    shared: Arc<Shared>,
    started: bool,
}

/// What the thread and its owner share.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// The state has changed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: StaleFlows,
    /// What was done and not yet fetched.
    done: Vec<Reconciled>,
    /// The owner is gone.
    ended: bool,
}

impl Reconciler {
    /// What a change set makes stale is removed: for each Service its plan before and after, both
    /// as they were and are in force.
    pub(crate) fn changes<'a, S>(&mut self, steps: impl Fn() -> S)
    where
        S: Iterator<Item = (Option<&'a ServicePlan>, Option<&'a ServicePlan>)>,
    {
        self.update(|pending| pending.changes(steps));
    }

    /// After a start: all flows are looked through, to the frontends of `plans`, which are in
    /// force, and to those that the kernel had before.
    pub(crate) fn everything<'a>(
        &mut self,
        plans: impl IntoIterator<Item = &'a ServicePlan>,
        before: impl IntoIterator<Item = (IpAddr, u16)>,
    ) {
        self.update(|pending| pending.everything(plans, before));
    }

    /// What was done since the last call. Waits at most `patience` for what is to be done yet.
    pub(crate) fn reconciled(&mut self, patience: Duration) -> Vec<Reconciled> {
        let state = self.shared.lock();
        let waited =
            self.shared.changed.wait_timeout_while(state, patience, |state| !state.pending.is_empty());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.done)
    }

    fn update(&mut self, change: impl FnOnce(&mut StaleFlows)) {
        let mut state = self.shared.lock();
        change(&mut state.pending);
        if state.pending.is_empty() {
            return;
        }
        drop(state);
        self.shared.changed.notify_all();
        if !self.started {
            let shared = self.shared.clone();
            let thread = thread::Builder::new().name("conntrack".to_owned());
            match thread.spawn(move || remove_stale_flows(&shared)) {
                Ok(_) => self.started = true,
                Err(error) => tracing::warn!(
                    %error,
                    "stale UDP flows are not removed, no thread can be started: clients may send to \
                     endpoints that left; will be tried again at the next change"
                ),
            }
        }
    }
}

impl Drop for Reconciler {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// A thread that panicked while it held the lock has ended the process, but in tests.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is to be done, not before `not_before`. `None` in the end.
    fn next(&self, not_before: Option<Instant>) -> Option<StaleFlows> {
        let mut state = self.lock();
        loop {
            if state.ended {
                return None;
            }
            let wait = not_before.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
            state = if state.pending.is_empty() {
                self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else if wait.is_zero() {
                return Some(state.pending.clone());
            } else {
                self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0
            };
        }
    }

    fn finish(&self, seen: &StaleFlows, reconciled: Reconciled) {
        let mut state = self.lock();
        state.pending.done(seen);
        state.done.push(reconciled);
        drop(state);
        self.changed.notify_all();
    }
}

/// The thread. What fails stays pending: the rules are in force already. Trouble that lasts is
/// reported once, and tried again less and less often.
fn remove_stale_flows(shared: &Shared) {
    let mut conntrack = None;
    let mut trouble: Option<Trouble> = None;
    while let Some(seen) = shared.next(trouble.map(|trouble| trouble.next)) {
        match pass(&mut conntrack, &seen, shared) {
            Ok(reconciled) => {
                if trouble.take().is_some() {
                    tracing::info!("stale UDP flows are removed again");
                }
                shared.finish(&seen, reconciled);
            }
            Err(error) => {
                conntrack = None;
                let after = Trouble::after(trouble, Instant::now());
                if trouble.replace(after).is_none() {
                    tracing::warn!(
                        %error,
                        "stale UDP flows could not be removed: clients may send to endpoints that \
                         left; will be tried again until it works"
                    );
                } else {
                    tracing::debug!(%error, again_in = ?after.wait, "stale UDP flows could not be removed");
                }
            }
        }
    }
}

/// Looks the flows to the frontends of `seen` through and removes the stale ones.
///
/// The socket stays open from one pass to the next: the kernel waits in `close` of any netfilter
/// socket until it has freed what earlier nftables transactions removed, 10 to 30 ms (Linux 6.18,
/// `nft_rcv_nl_event`).
fn pass(conntrack: &mut Option<Conntrack>, seen: &StaleFlows, shared: &Shared) -> io::Result<Reconciled> {
    let started = Instant::now();
    let conntrack = match conntrack {
        Some(open) => open,
        None => conntrack.insert(Conntrack::open()?),
    };
    let mut stale = Vec::new();
    let mut look = |flow: &_| {
        if seen.is_stale(flow) {
            stale.push(*flow);
        }
    };
    let pairs = seen.suspects(QUESTIONS);
    if let Some(pairs) = pairs {
        for (frontend, suspect) in pairs {
            conntrack.udp_flows_between(frontend, suspect, &mut look)?;
        }
    } else if seen.frontends().len() <= QUESTIONS {
        for frontend in seen.frontends() {
            conntrack.udp_flows(table_family(Family::of(frontend.0)), Some(frontend), &mut look)?;
        }
    } else {
        for family in Family::ALL {
            if seen.frontends().any(|(address, _)| Family::of(address) == family) {
                conntrack.udp_flows(table_family(family), None, &mut look)?;
            }
        }
    }
    let mut removed = PerFamily::<usize>::default();
    for flow in &stale {
        // A commit since then may have made it right.
        if shared.lock().pending.is_stale(flow) {
            let family = Family::of(flow.original.destination);
            *removed.get_mut(family) += usize::from(conntrack.delete(flow)?);
        }
    }
    Ok(Reconciled { removed, took: started.elapsed() })
}

fn table_family(family: Family) -> TableFamily {
    match family {
        Family::V4 => TableFamily::Ip,
        Family::V6 => TableFamily::Ip6,
    }
}

/// Connection tracking cannot be asked or changed at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trouble {
    /// How long the last wait was.
    wait: Duration,
    /// When to try again.
    next: Instant,
}

impl Trouble {
    /// What follows from one more failure `now`.
    fn after(earlier: Option<Trouble>, now: Instant) -> Trouble {
        let wait = earlier.map_or(FIRST_WAIT, |trouble| (trouble.wait * 2).min(LONGEST_WAIT));
        Trouble { wait, next: now + wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_tried_again_less_and_less_often() {
        let mut now = Instant::now();
        let mut trouble = None;
        let mut waits = Vec::new();
        for _ in 0..12 {
            let after = Trouble::after(trouble, now);
            waits.push(after.wait.as_secs());
            now = after.next;
            trouble = Some(after);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    }

    #[test]
    fn what_is_pending_waits_for_its_time_and_ends_with_the_owner() {
        let shared = Arc::new(Shared::default());
        shared.lock().pending.everything([], [("10.96.0.7".parse().expect("an address"), 53)]);
        let soon = Instant::now() + Duration::from_millis(50);
        assert!(shared.next(Some(soon)).is_some());
        assert!(Instant::now() >= soon, "not before its time");

        drop(Reconciler { shared: shared.clone(), started: true });
        assert!(shared.next(None).is_none(), "the owner is gone, whatever is pending");
    }
}
