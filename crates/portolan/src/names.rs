//! Names for Services, kept as the batches of a feed say: of what is observed, or of what is in
//! force.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{io, thread};

use portolan_names::{Names, Update};
use portolan_service::{Change, EndpointsTrigger, ObjectName, Service};

use crate::batch::Batch;
use crate::feed::Consumer;
use crate::mailbox::{Mail, Receiver, Sender, mailbox};

/// Before all is known nobody can be answered, so that there is no need to take all at once: who
/// asks waits for so many changes at most.
const AT_A_TIME: usize = 1000;

/// Keeps names as the batches say that it takes. Dropping it ends its thread once it has taken all
/// that came before.
pub(crate) struct NamesConsumer(Sender<Infallible>);

impl NamesConsumer {
    /// Keeps `names` from now on, on a thread of its own. One batch is one step: whoever has the
    /// lock sees all of it or nothing, as soon as all is known that names come from.
    ///
    /// A feed of what is in force says which Services the kernel refuses. They have no names.
    ///
    /// After each batch `notice` is called with the names, and with when endpoints that are in them
    /// now were changed in the cluster.
    pub(crate) fn start(
        names: Arc<RwLock<Names>>,
        mut notice: impl FnMut(&Names, &[EndpointsTrigger]) + Send + 'static,
    ) -> io::Result<NamesConsumer> {
        let (sender, receiver) = mailbox();
        let body = move || keep(&names, &receiver, &mut notice);
        thread::Builder::new().name("names".to_owned()).spawn(body)?;
        Ok(NamesConsumer(sender))
    }
}

impl Consumer for NamesConsumer {
    fn take(&self, batch: &Batch) {
        self.0.take(batch);
    }
}

fn keep(
    names: &RwLock<Names>,
    received: &Receiver<Infallible>,
    notice: &mut dyn FnMut(&Names, &[EndpointsTrigger]),
) {
    let mut refused = Refused::default();
    loop {
        match received.recv() {
            Ok(Mail::Observed(mut batch)) => {
                let triggers = std::mem::take(&mut batch.triggers);
                apply(names, batch, &mut refused);
                notice(&names.read().unwrap_or_else(PoisonError::into_inner), &triggers);
            }
            Ok(Mail::Event(never)) => match never {},
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Applies one batch.
fn apply(names: &RwLock<Names>, batch: Batch, refused: &mut Refused) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // The serial of a zone is a number of 32 bits that may wrap (RFC 1982).
    #[expect(clippy::cast_possible_truncation, reason = "as RFC 1982 has it")]
    let now = now as u32;
    let mut held = write(names);
    let mut updates: Vec<Update> = batch.names.into_iter().map(Update::from).collect();
    refused.filter(&held, batch.refused, batch.changes, &mut updates);
    if held.is_synced() {
        held.apply(updates, now);
    } else {
        let mut updates = updates.into_iter();
        while updates.len() > 0 {
            held.apply(updates.by_ref().take(AT_A_TIME), now);
            drop(held);
            held = write(names);
        }
    }
    if let Some(networks) = batch.service_networks {
        held.set_service_networks(&networks);
    }
    if batch.complete && batch.names_complete && !held.is_synced() {
        held.set_synced();
    }
}

fn write(names: &RwLock<Names>) -> RwLockWriteGuard<'_, Names> {
    // Nothing panics while it is held; and if it did, most names would still be good.
    names.write().unwrap_or_else(PoisonError::into_inner)
}

/// The Services that the kernel refuses, and what they are.
#[derive(Default)]
struct Refused {
    names: Arc<BTreeSet<ObjectName>>,
    services: HashMap<ObjectName, Arc<Service>>,
}

impl Refused {
    /// Adds to `updates` those of `changes` that give names, and what follows from `now`, the
    /// Services that are refused from now on.
    fn filter(
        &mut self,
        names: &Names,
        now: Option<Arc<BTreeSet<ObjectName>>>,
        changes: Vec<Change>,
        updates: &mut Vec<Update>,
    ) {
        if let Some(now) = now {
            for name in now.difference(&self.names) {
                if let Some(service) = names.service_object(name) {
                    self.services.insert(name.clone(), service.clone());
                    updates.push(Change::ServiceRemoved(name.clone()).into());
                }
            }
            for name in self.names.difference(&now) {
                updates.extend(self.services.remove(name).map(|service| Change::Service(service).into()));
            }
            self.names = now;
        }
        if self.names.is_empty() {
            updates.extend(changes.into_iter().map(Update::from));
            return;
        }
        updates.extend(changes.into_iter().map(|change| {
            match change {
                Change::Service(service) if self.names.contains(&service.name) => {
                    let name = service.name.clone();
                    self.services.insert(name.clone(), service);
                    Change::ServiceRemoved(name)
                }
                Change::ServiceRemoved(name) => {
                    self.services.remove(&name);
                    Change::ServiceRemoved(name)
                }
                change => change,
            }
            .into()
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use portolan_names::{Outcome, Reply, Settings, Transport};
    use portolan_service::{NamesChange, Namespace};

    use super::*;
    use crate::feed::Feed;

    fn name(name: &str) -> ObjectName {
        ObjectName::new("shop", name)
    }

    fn service(text: &str) -> Change {
        let mut service = Service::new(name(text));
        service.cluster_ips = vec!["10.96.0.1".parse().unwrap()];
        service.into()
    }

    fn batch(changes: Vec<Change>) -> Batch {
        let mut batch = Batch::of_changes(changes, Instant::now());
        batch.names_complete = true;
        batch
    }

    fn names() -> Arc<RwLock<Names>> {
        Arc::new(RwLock::new(Names::new(Settings::default(), 1).unwrap()))
    }

    /// The rcode, and how many records answer the question for the address of `name`.
    fn ask(names: &RwLock<Names>, name: &str) -> (u8, u8) {
        let mut message = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
        for label in format!("{name}.shop.svc.cluster.local").split('.') {
            message.push(label.len().try_into().unwrap());
            message.extend(label.bytes());
        }
        message.extend(b"\0\0\x01\0\x01");
        let mut reply = Reply::new();
        let names = names.read().unwrap();
        assert!(matches!(names.answer(&message, Transport::Udp, 1, &mut reply), Outcome::Reply));
        (reply.message()[3] & 0xf, reply.message()[7])
    }

    const FOUND: (u8, u8) = (0, 1);
    const SERVFAIL: (u8, u8) = (2, 0);
    const NXDOMAIN: (u8, u8) = (3, 0);

    #[test]
    fn names_follow_a_feed() {
        let names = names();
        let feed = Feed::new([
            Box::new(NamesConsumer::start(names.clone(), |_, _| ()).unwrap()) as Box<dyn Consumer>
        ]);
        let becomes = |question: &str, expected| {
            let until = Instant::now() + Duration::from_secs(20);
            while ask(&names, question) != expected {
                assert!(Instant::now() < until, "{question}: {:?}", ask(&names, question));
                thread::yield_now();
            }
        };
        // The rules may be complete before the names are.
        feed.publish(&Batch::of_changes(vec![service("web")], Instant::now()));
        let namespace = Namespace { name: "empty".into(), labels: Box::default() };
        let mut only_names = Batch::of_changes(vec![], Instant::now());
        only_names.names = vec![NamesChange::Namespace(namespace)];
        feed.publish(&only_names);
        assert_eq!(ask(&names, "web"), SERVFAIL, "before all is known");
        feed.publish(&batch((0..5000).map(|number| service(&format!("s{number}"))).collect()));
        becomes("web", FOUND);
        assert_eq!(ask(&names, "s4999"), FOUND, "with all else");
        feed.publish(&batch(vec![Change::ServiceRemoved(name("web"))]));
        becomes("web", NXDOMAIN);
        feed.publish(&Batch::of_changes(vec![service("web")], Instant::now()));
        becomes("web", FOUND);
    }

    #[test]
    fn services_that_the_kernel_refuses_have_no_names() {
        let (names, mut refused) = (names(), Refused::default());
        let mut apply = |changes, now: Option<&[&str]>| {
            let mut batch = batch(changes);
            batch.refused = now.map(|now| Arc::new(now.iter().map(|text| name(text)).collect()));
            super::apply(&names, batch, &mut refused);
        };
        let asked = || ["a", "b"].map(|text| ask(&names, text) == FOUND);
        apply(vec![service("a"), service("b")], Some(&["b"]));
        assert_eq!(asked(), [true, false], "refused at once");
        apply(vec![], Some(&["a", "b"]));
        assert_eq!(asked(), [false, false], "refused later");
        apply(vec![service("a"), service("b")], None);
        assert_eq!(asked(), [false, false], "changed, and refused still");
        apply(vec![], Some(&["b"]));
        assert_eq!(asked(), [true, false], "in force");
        apply(vec![Change::ServiceRemoved(name("b"))], None);
        apply(vec![], Some(&[]));
        assert_eq!(asked(), [true, false], "gone meanwhile");
        apply(vec![service("b")], None);
        assert_eq!(asked(), [true, true]);
    }
}
