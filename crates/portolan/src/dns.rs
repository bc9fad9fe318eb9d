//! `portolan dns`: answers questions for the names of a cluster, or of a folder of manifests, as a
//! Corefile says, until it is stopped.
//!
//! `corefile` reads the Corefile, `plan` says what follows from it, `serving` brings that about and
//! exchanges it when the Corefile changes. `data` keeps the names, `others` asks other servers,
//! `fixed` has answers without asking, `pages` and `metrics` answer kubelet and Prometheus.

mod access;
mod answering;
mod corefile;
mod data;
mod failures;
mod fixed;
mod metrics;
pub(crate) mod on_node;
mod open_files;
mod others;
mod pages;
mod plan;
mod query_log;
mod search_list;
mod serving;
mod upstream;

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use portolan_corefile::Corefile;
use tracing::{error, info};

use self::corefile::Source;
use self::serving::{Lameduck, Serving};
use crate::cli::DnsArgs;
use crate::event::Event;
use crate::mailbox::{Mail, Sender, mailbox};
use crate::signals::{self, Ending};
use crate::threads::spawn;
use crate::{logging, process_one};

/// After the lameduck time, what is under way may take this long.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs until it is asked to end. Otherwise it returns only errors that nothing can be done about.
pub(crate) fn dns(args: &DnsArgs) -> anyhow::Result<()> {
    process_one::leave(())?;
    // What answers catches its panics: one question is lost, and no other.
    signals::end_on_panic(|thread| thread.starts_with("dns-"), "");
    logging::start(args.verbosity, args.logging_format);
    open_files::raise_limit();
    let source = Source::new(("--conf", args.conf.as_deref()), &args.cluster_domain, args.port);
    let mut loaded = source.load()?;
    let corefile = loaded.take()?;
    corefile::log_notices(&corefile);
    let (events, received) = mailbox();
    let lameduck = Arc::new(Lameduck::default());
    let asked = lameduck.clone();
    let patience = Box::new(move || asked.get() + PATIENCE);
    // Before anybody can see that it runs.
    signals::end_on_signals(&events, Ending { patience, last_words: "" })?;
    let serving = Serving::start(args, &corefile, &lameduck, &events)?;
    let _control = serving.control();
    let follows = serving.reloads();
    let serving = Arc::new(Mutex::new(serving));
    if follows && args.conf.is_some() {
        let (serving, events_of_thread) = (serving.clone(), events.clone());
        spawn("corefile", &events, move || {
            corefile::follow(&source, loaded, |corefile| Ok(change(corefile, &serving, &events_of_thread)))
        })?;
    }
    loop {
        match received.recv()? {
            Mail::Event(Event::End) => break,
            Mail::Event(Event::Lost(error)) => return Err(error),
            // Nobody sends others.
            Mail::Event(Event::Asked(_) | Event::AddressesAsked(_) | Event::Alone(_)) | Mail::Observed(_) => {
            }
        }
    }
    let lameduck = lameduck.get();
    if !lameduck.is_zero() {
        info!("answering for another {lameduck:?}, and not ready any more");
        lock(&serving).lame();
        // Nothing can be awaited: clients that have yet to hear of it are given time.
        thread::sleep(lameduck);
    }
    Ok(())
}

/// Serves what a changed Corefile asks for. What cannot be used is logged and counted, and all
/// stays as it was. Returns whether it is to be followed.
fn change(corefile: anyhow::Result<Corefile>, serving: &Mutex<Serving>, events: &Sender<Event>) -> bool {
    match corefile.and_then(|corefile| lock(serving).replace(&corefile, events)) {
        Ok(()) => info!("the Corefile has changed, and is in use"),
        Err(error) => {
            lock(serving).reload_failed();
            error!("the Corefile has changed, and cannot be used; going on as before: {error:#}");
        }
    }
    lock(serving).reloads()
}

fn lock(serving: &Mutex<Serving>) -> std::sync::MutexGuard<'_, Serving> {
    serving.lock().unwrap_or_else(PoisonError::into_inner)
}
