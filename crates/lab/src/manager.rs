//! What kube-controller-manager and kube-scheduler do in a cluster, and what kube-apiserver does
//! beside answering: controllers in a thread, over the objects of the API server.

mod carry_out;
mod expiry;
mod standing;

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use portolan_apiserver::{DeleteOptions, Failure, Follow, Objects, Resource, Update, Waker};
use portolan_controllers::manager::{Circumstances, Deployment, Job, Patience, Step, Work, name_taken};

use crate::Error;
use crate::clock::now;
use crate::object::place;
use crate::recorder::Recorder;
use carry_out::carry_out;
use expiry::Expiry;
pub use standing::Facts;
use standing::Standing;

/// The controllers; dropping it ends them.
pub struct Manager {
    ends: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

impl Manager {
    /// Starts all controllers, with the patience of a cluster.
    pub fn start(objects: Objects, facts: Facts) -> Result<Manager, Error> {
        Self::start_with(objects, facts, Patience::default())
    }

    /// The same, with another patience for nodes that are silent.
    pub fn start_with(objects: Objects, facts: Facts, patience: Patience) -> Result<Manager, Error> {
        let ends = Arc::new(AtomicBool::new(false));
        let follow = objects.follow(&Resource::ALL);
        let waker = follow.waker();
        let controllers = Controllers {
            follow,
            work: Work::new(patience),
            patience,
            standing: Standing::new(facts),
            recorder: Recorder::new(objects.clone()),
            expiry: Expiry::default(),
            failures: BTreeMap::new(),
            ends: Arc::clone(&ends),
            objects,
        };
        let thread = std::thread::Builder::new()
            .name("controllers".to_owned())
            .spawn(move || controllers.run())
            .map_err(Error::io("starting the thread of the controllers"))?;
        Ok(Manager { ends, waker, thread: Some(thread) })
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::SeqCst);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Nothing is due for so long that it matters when the clock is set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_hours(1);
/// What others were quicker with is tried again at once, so often in a row.
const AT_ONCE: u32 = 3;
/// A controller whose writes are refused waits for no longer than this, in seconds.
const LONGEST_WAIT: i64 = 64;

/// The thread.
struct Controllers {
    objects: Objects,
    follow: Follow,
    work: Work,
    patience: Patience,
    standing: Standing,
    recorder: Recorder,
    expiry: Expiry,
    /// How often in a row a controller's writes were refused.
    failures: BTreeMap<Job, u32>,
    ends: Arc<AtomicBool>,
}

impl Controllers {
    fn run(mut self) {
        while !self.has_ended() {
            self.catch_up();
            self.work_off();
            let updates = self.follow.next(self.sleep());
            self.take_in(updates);
        }
    }

    fn has_ended(&self) -> bool {
        self.ends.load(Ordering::SeqCst)
    }

    /// Runs all controllers that are due.
    fn work_off(&mut self) {
        while !self.has_ended() {
            self.standing.put(&self.objects);
            for (namespace, name) in self.expiry.due(now()) {
                let _gone =
                    self.objects.delete(Resource::Events, &namespace, &name, &DeleteOptions::default());
            }
            let mut random = || fastrand::u64(..);
            let mut circumstances = Circumstances { now: now(), random: &mut random };
            let next = catch_unwind(AssertUnwindSafe(|| self.work.next(&mut circumstances)));
            // The panic has been printed. What it was about is left alone until it changes; all
            // else goes on.
            let Ok(next) = next else { continue };
            let Some((job, step)) = next else { return };
            if step.writes.is_empty() {
                self.failures.remove(&job);
            } else {
                self.carry_out(job, &step);
                // A controller sees its own writes.
                self.catch_up();
            }
        }
    }

    fn carry_out(&mut self, job: Job, step: &Step) {
        let Err(failure) = carry_out(&self.objects, &self.recorder, step) else {
            self.failures.remove(&job);
            return;
        };
        let is_taken = failure.reason == "AlreadyExists";
        if is_taken {
            self.choose_another_name(&job);
        }
        let count = self.failures.entry(job.clone()).or_default();
        *count = count.saturating_add(1);
        self.work.again(job, now().plus(wait(&failure, *count)));
    }

    /// The name that a Deployment has for its next ReplicaSet is somebody else's.
    fn choose_another_name(&mut self, job: &Job) {
        let Job::Deployment((namespace, name)) = job else { return };
        let found = self.objects.get(Resource::Deployments, namespace, name);
        let Some(Ok(deployment)) = found.map(|found| Deployment::read(&found)) else { return };
        // If that is refused, the next try comes here again.
        let _refused = carry_out(&self.objects, &self.recorder, &name_taken(&deployment));
    }

    /// Takes in all that has happened.
    fn catch_up(&mut self) {
        loop {
            let updates = self.follow.take();
            if updates.is_empty() || self.has_ended() {
                return;
            }
            self.take_in(updates);
        }
    }

    fn take_in(&mut self, updates: Vec<Update>) {
        for update in updates {
            match update {
                Update::Put(resource, object) => {
                    self.standing.notice(resource, &object);
                    let (namespace, name) = place(&object);
                    if resource == Resource::Events {
                        self.expiry.renew(namespace, name, now());
                    }
                    if let Err(error) = self.work.set(&object) {
                        self.recorder.record(&object, true, "Unreadable", &error.to_string(), "controllers");
                    }
                }
                Update::Gone(resource, object) => {
                    self.standing.notice_end(resource, &object);
                    let (namespace, name) = place(&object);
                    if resource == Resource::Events {
                        self.expiry.forget(namespace, name);
                    }
                    self.work.remove(resource.kind(), namespace, name);
                }
                Update::Again(_) => {
                    // So much has happened that nobody knows all of it. It is as at the start.
                    self.follow.restart();
                    self.work = Work::new(self.patience);
                    self.work.again(Job::LostPods, now());
                    self.expiry = Expiry::default();
                    return;
                }
            }
        }
    }

    /// How long nothing is due.
    fn sleep(&self) -> Duration {
        let times = [self.work.wakes_at(), self.expiry.next()];
        let Some(at) = times.into_iter().flatten().min() else { return LONGEST_SLEEP };
        let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(at.unix()).unwrap_or_default());
        at.duration_since(SystemTime::now()).unwrap_or_default().min(LONGEST_SLEEP)
    }
}

/// How long a controller waits after the server refused it the `count`th time, in seconds. Whoever
/// was merely late looks again at once, at what there is now.
fn wait(failure: &Failure, count: u32) -> i64 {
    let was_late = matches!(failure.code, 404 | 409);
    let count = if was_late { count.saturating_sub(AT_ONCE) } else { count };
    match count {
        0 => 0,
        count => 1_i64.checked_shl(count.min(32) - 1).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT),
    }
}

#[cfg(test)]
mod tests;
