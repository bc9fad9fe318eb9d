//! What is done while the Lease is ours: Services, Namespaces and pools are followed from the
//! beginning, and statuses are written one after the other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use portolan_controllers::Labels;
use portolan_kubernetes::{Api, Event, Events, Failure, Heard, Regarding, Send};
use portolan_service::{AddressPool, ObjectName};
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, spawn_local};
use tracing::{debug, info, warn};

use crate::addresses::{Addresses, Refusal, Write};
use crate::election::{Election, Timing};
use crate::service::Service;
use crate::status::Status;
use crate::{Pools, metallb};

const SERVICES: &str = "/api/v1/services";
const NAMESPACES: &str = "/api/v1/namespaces";
/// The pause after a write that could not be sent, or that the server could not carry out.
const PAUSE: Duration = Duration::from_millis(500);

/// One time for which the Lease is ours.
pub(crate) struct Term<'a> {
    pub(crate) api: &'a Api,
    pub(crate) events: &'a Events,
    pub(crate) status: &'a Arc<Status>,
    pub(crate) election: &'a Rc<RefCell<Election>>,
    /// Which time it is.
    pub(crate) number: u64,
    pub(crate) timing: Timing,
}

/// What followers fill, and the term works on.
#[derive(Clone, Default)]
struct Desk {
    addresses: Rc<RefCell<Addresses>>,
    changed: Rc<Notify>,
}

/// Tasks that end with this.
struct Followers(Vec<JoinHandle<()>>);

impl Drop for Followers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// What comes of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// The next one can be sent.
    Write,
    /// Not before a pause.
    Pause,
}

impl Term<'_> {
    /// Allocates until the Lease is lost, or the end is asked for. No write is under way then.
    pub(crate) async fn run(&self, mut pools: watch::Receiver<Pools>, mut ending: watch::Receiver<bool>) {
        let desk = Desk::default();
        let configured = pools.borrow_and_update().clone();
        report(desk.addresses.borrow_mut().set_configured(configured));
        let _followers = self.follow(&desk);
        let mut is_complete = false;
        while self.is_ours() && !*ending.borrow() {
            let mut not_before = None;
            if desk.addresses.borrow().is_complete() {
                if !std::mem::replace(&mut is_complete, true) {
                    info!("all Services and pools are known");
                }
                if self.write_all(&desk, &ending).await == Next::Pause {
                    not_before = Some(Instant::now() + PAUSE);
                }
            }
            // Without all that is needed, nothing is tried again.
            let due = not_before.or_else(|| {
                let addresses = desk.addresses.borrow();
                addresses.next_attempt().filter(|_| addresses.is_complete())
            });
            let held_until = self.election.borrow().held_until();
            let wake = due.into_iter().chain(held_until).min().unwrap_or_else(Instant::now);
            tokio::select! {
                // While the server cannot do anything, news do not hurry us.
                () = desk.changed.notified(), if not_before.is_none() => {}
                () = tokio::time::sleep_until(wake.into()) => {}
                changed = pools.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let configured = pools.borrow_and_update().clone();
                    report(desk.addresses.borrow_mut().set_configured(configured));
                }
                changed = ending.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Whether the Lease is ours now, without having been lost since this began.
    fn is_ours(&self) -> bool {
        self.election.borrow().held(Instant::now()) == Some(self.number)
    }

    fn follow(&self, desk: &Desk) -> Followers {
        let start = |path: &'static str, heard: fn(&Desk, Heard)| {
            let (api, desk) = (self.api.clone(), desk.clone());
            spawn_local(async move {
                api.follow(path, |what| {
                    heard(&desk, what);
                    desk.changed.notify_one();
                })
                .await;
            })
        };
        Followers(vec![
            start(SERVICES, service_heard),
            start(NAMESPACES, namespace_heard),
            start(metallb::PATH, metallb_heard),
        ])
    }

    /// Allocates, and writes what is to be written, for as long as the Lease is ours.
    async fn write_all(&self, desk: &Desk, ending: &watch::Receiver<bool>) -> Next {
        loop {
            let refused = desk.addresses.borrow_mut().settle();
            for refusal in refused {
                self.refused(refusal);
            }
            let (usage, waiting) = desk.addresses.borrow().usage();
            self.status.allocated(usage, waiting);
            let timestamp = format!("{:.0}", Timestamp::now());
            // Several, as long as they follow from the same state.
            loop {
                let write = desk.addresses.borrow_mut().next_write(Instant::now(), &timestamp);
                let Some(write) = write else { return Next::Write };
                // Nothing is awaited between this and the moment at which it is sent.
                if !self.is_ours() || *ending.borrow() {
                    return Next::Write;
                }
                if self.write(desk, &write).await == Next::Pause {
                    return Next::Pause;
                }
                if desk.addresses.borrow().has_work() {
                    break;
                }
            }
        }
    }

    async fn write(&self, desk: &Desk, write: &Write) -> Next {
        let path = path(&write.name);
        let done =
            self.api.send(&format!("{path}/status"), Send::Merge(&write.patch), self.timing.write()).await;
        let done = done.and_then(|document| Service::read(&document).map_err(Failure::Unintelligible));
        let failure = match done {
            Ok(service) => {
                self.status.count(|report| report.written += 1);
                desk.addresses.borrow_mut().written(service, Instant::now());
                self.written(write);
                return Next::Write;
            }
            Err(failure) => failure,
        };
        desk.addresses.borrow_mut().failed(&write.name, Instant::now());
        match failure.code() {
            // It has changed, or is another one: worked out anew from what it is now.
            Some(409) => {
                self.status.count(|report| report.conflicts += 1);
                debug!(service = %write.name, "its status is not written: it has changed");
                if let Ok(document) = self.api.get(&path, self.timing.write()).await
                    && let Ok(service) = Service::read(&document)
                {
                    desk.addresses.borrow_mut().set_service(service);
                }
                Next::Write
            }
            // It is gone, which the watch says, too.
            Some(404) => Next::Write,
            code => {
                self.status.count(|report| report.failures += 1);
                warn!(service = %write.name, reason = %failure, "its status cannot be written; trying again");
                // What is wrong with one does not keep others waiting.
                if matches!(code, Some(400..=499) if code != Some(429)) { Next::Write } else { Next::Pause }
            }
        }
    }

    fn written(&self, write: &Write) {
        if write.new.is_empty() {
            return;
        }
        let addresses: Vec<String> = write.new.iter().map(ToString::to_string).collect();
        let pool = write.pool.as_deref().unwrap_or_default();
        let note = format!("{} of pool {pool}", addresses.join(" and "));
        info!(service = %write.name, "has {note}");
        self.event(&write.name, &write.uid, ("IPAllocated", false), note);
    }

    fn refused(&self, refusal: Refusal) {
        let Refusal { name, uid, message } = refusal;
        warn!("Service {name}: {message}");
        self.event(&name, &uid, ("AllocationFailed", true), message);
    }

    fn event(
        &self,
        name: &ObjectName,
        uid: &Arc<str>,
        (reason, warning): (&'static str, bool),
        note: String,
    ) {
        let regarding = Regarding::Service { name: name.clone(), uid: Some(uid.clone()) };
        self.events.publish(Event { regarding, warning, reason, action: "AllocateAddress", note });
    }
}

/// Reports what is wrong with pools.
fn report(problems: Vec<String>) {
    for problem in problems {
        warn!("{problem}");
    }
}

fn path(service: &ObjectName) -> String {
    format!("/api/v1/namespaces/{}/services/{}", service.namespace(), service.name())
}

/// A Service, or nothing after a word about it: what was known of it stays.
fn read(document: &Value) -> Option<Service> {
    let read = Service::read(document);
    read.inspect_err(|error| {
        let name = &document["metadata"]["name"];
        warn!("Service {name} in namespace {}: {error}", document["metadata"]["namespace"]);
    })
    .ok()
}

fn service_heard(desk: &Desk, heard: Heard) {
    let mut addresses = desk.addresses.borrow_mut();
    match heard {
        Heard::Listed(all) => addresses.list_services(all.iter().filter_map(read).collect()),
        Heard::Is(service) => {
            if let Some(service) = read(&service) {
                addresses.set_service(service);
            }
        }
        Heard::Gone(service) => {
            if let Some(service) = read(&service) {
                addresses.remove_service(&service);
            }
        }
        Heard::NotServed => {}
    }
}

fn namespace_heard(desk: &Desk, heard: Heard) {
    let mut addresses = desk.addresses.borrow_mut();
    match heard {
        Heard::Listed(all) => {
            addresses.list_namespaces(all.iter().map(|object| (name(object), labels(object))).collect());
        }
        Heard::Is(namespace) => addresses.set_namespace(&name(&namespace), Some(labels(&namespace))),
        Heard::Gone(namespace) => addresses.set_namespace(&name(&namespace), None),
        Heard::NotServed => {}
    }
}

fn metallb_heard(desk: &Desk, heard: Heard) {
    let mut addresses = desk.addresses.borrow_mut();
    let mut known = addresses.of_metallb();
    let pools = match heard {
        Heard::NotServed => None,
        Heard::Listed(all) => {
            let named: BTreeMap<String, Option<AddressPool>> =
                all.iter().map(|object| (name(object), pool(object))).collect();
            known.retain(|name, _| named.contains_key(name));
            known.extend(named.into_iter().filter_map(|(name, pool)| Some((name, pool?))));
            Some(known)
        }
        Heard::Is(object) => {
            known.extend(pool(&object).map(|pool| (name(&object), pool)));
            Some(known)
        }
        Heard::Gone(object) => {
            known.remove(&name(&object));
            Some(known)
        }
    };
    report(addresses.set_of_metallb(pools));
}

/// A pool, or nothing after a word about it: what was known of it stays.
fn pool(document: &Value) -> Option<AddressPool> {
    metallb::pool(document).inspect_err(|error| warn!("{error}")).ok()
}

fn name(document: &Value) -> String {
    document["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn labels(document: &Value) -> Labels {
    let labels = document["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
