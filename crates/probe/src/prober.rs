//! Probes carried out, for many pods, from one thread.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use portolan_service::ObjectName;
use tokio::sync::Notify;

use crate::check::check;
use crate::health::Moment;
use crate::schedule::{Counters, PodReport, Schedule, Verdict};
use crate::spec::Target;

/// No probe takes longer, whatever its timeout: servers that say nothing keep no others waiting
/// for ever.
const LONGEST: Duration = Duration::from_mins(1);
/// So many probes are under way at most: each has a socket.
const AT_ONCE: usize = 512;

/// Probes pods. All clones are the same one, and it ends with the last of them.
#[derive(Debug, Clone)]
pub struct Prober(Arc<Handle>);

#[derive(Debug)]
struct Handle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    schedule: Mutex<Schedule>,
    /// There may be less that is undecided.
    decided: Condvar,
    /// There may be something to do.
    changed: Notify,
    begun: Instant,
    is_over: AtomicBool,
}

impl Default for Prober {
    fn default() -> Prober {
        let shared = Shared {
            schedule: Mutex::default(),
            decided: Condvar::new(),
            changed: Notify::new(),
            begun: Instant::now(),
            is_over: AtomicBool::new(false),
        };
        Prober(Arc::new(Handle(Arc::new(shared))))
    }
}

impl Prober {
    /// Begins to probe. `on_verdict` is called whenever [`Prober::take_verdicts`] has something
    /// new.
    pub fn start(&self, on_verdict: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (shared, on_verdict) = (Arc::clone(&self.0.0), Arc::new(on_verdict));
        let work = async move {
            while !shared.is_over.load(Ordering::Acquire) {
                let changed = shared.changed.notified();
                match shared.carry_out(&on_verdict) {
                    // Either is a reason to look again.
                    Some(wait) => drop(tokio::time::timeout(wait, changed).await),
                    None => changed.await,
                }
            }
        };
        thread::Builder::new().name("probes".to_owned()).spawn(move || runtime.block_on(work)).map(drop)
    }

    /// A pod is to be probed like this from now on, or no longer. If it `has_run`, there is no
    /// delay before its first probes, and their outcomes count at once.
    pub fn set(&self, pod: &ObjectName, target: Option<Arc<Target>>, has_run: bool) {
        let now = self.0.0.now();
        self.0.0.schedule().set(pod, target, has_run, now);
        self.0.0.changed.notify_one();
    }

    /// Waits until something has been found out about each pod, at most for `timeout`.
    pub fn wait_for_first(&self, timeout: Duration) {
        let shared = &self.0.0;
        let undecided = |schedule: &mut Schedule| schedule.undecided() > 0;
        // Whatever it is, what is known by now is known.
        drop(shared.decided.wait_timeout_while(shared.schedule(), timeout, undecided));
    }

    /// The pods that are ready, or are not, otherwise than before: since the last call, each once.
    pub fn take_verdicts(&self) -> Vec<Verdict> {
        self.0.0.schedule().take_verdicts()
    }

    /// All pods that are probed, by their names.
    pub fn reports(&self) -> Vec<PodReport> {
        let now = self.0.0.now();
        self.0.0.schedule().reports(now)
    }

    /// What has been done.
    pub fn counters(&self) -> Counters {
        self.0.0.schedule().counters()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Release);
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        // Nothing panics while it is held; and if it did, the other pods would still be good.
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        self.begun.elapsed()
    }

    /// Has what is due carried out. Returns how long nothing else is.
    fn carry_out(self: &Arc<Self>, on_verdict: &Arc<impl Fn() + Send + Sync + 'static>) -> Option<Duration> {
        let now = self.now();
        let (due, next) = self.schedule().take_due(AT_ONCE, now);
        for due in due {
            let (shared, on_verdict) = (Arc::clone(self), Arc::clone(on_verdict));
            tokio::spawn(async move {
                let begun = Instant::now();
                let outcome = check(&due.action, due.timeout.min(LONGEST)).await;
                let now = shared.now();
                let has_verdicts = {
                    let mut schedule = shared.schedule();
                    schedule.note(due.id, outcome, begun.elapsed(), now);
                    schedule.has_verdicts()
                };
                shared.decided.notify_all();
                shared.changed.notify_one();
                if has_verdicts {
                    on_verdict();
                }
            });
        }
        next.map(|next| next.saturating_sub(now))
    }
}
