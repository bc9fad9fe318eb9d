//! The cluster's names, and where they come from.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::Duration;

use anyhow::{Context, bail};
use portolan_corefile::ApiServer;
use portolan_names::{Names, PodMode, Settings};
use portolan_observe::Telemetry;
use portolan_source::manifests as source;
use tracing::warn;

use super::metrics::Metrics;
use crate::cli::DnsArgs;
use crate::cluster::{self, Cluster};
use crate::event::Event;
use crate::feed::{Consumer, Feed};
use crate::mailbox::{Mail, Sender, mailbox};
use crate::manifests;
use crate::names::NamesConsumer;
use crate::threads::spawn;
use crate::wanted::Wanted;

/// Names, kept as the source says until this is dropped.
pub(super) struct Data {
    /// Those of each server block that has some.
    pub(super) names: Vec<Arc<RwLock<Names>>>,
    settings: Vec<Settings>,
    api: ApiServer,
    synced: Arc<Synced>,
    ended: Arc<AtomicBool>,
    /// Followed until it is dropped.
    _cluster: Option<Cluster>,
}

/// Wakes whoever waits until all is known.
#[derive(Default)]
struct Synced {
    yet: Mutex<usize>,
    all: Condvar,
}

impl Data {
    /// Names with these settings, from where `args` and the Corefile (`api`) say.
    pub(super) fn start(
        args: &DnsArgs,
        api: &ApiServer,
        settings: &[Settings],
        parts: (&Arc<Telemetry>, &Arc<Metrics>),
        events: &Sender<Event>,
    ) -> anyhow::Result<Data> {
        let (telemetry, metrics) = parts;
        let (synced, ended) = (Arc::new(Synced::default()), Arc::new(AtomicBool::new(false)));
        let (mut names, mut consumers) = (Vec::new(), Vec::new());
        for settings in settings {
            let seed = RandomState::new().hash_one(0);
            let kept = Arc::new(RwLock::new(Names::new(settings.clone(), seed).context("kubernetes")?));
            let (synced, metrics) = (synced.clone(), metrics.clone());
            let mut known = false;
            let consumer = NamesConsumer::start(kept.clone(), move |names, triggers| {
                metrics.programmed(names, triggers);
                if !known && names.is_synced() {
                    known = true;
                    synced.one_more();
                }
            });
            consumers.push(Box::new(consumer.context("starting the names thread")?) as Box<dyn Consumer>);
            names.push(kept);
        }
        let feed = Feed::new(consumers);
        let wants_pods =
            |settings: &Settings| settings.pods == PodMode::Verified || settings.search.is_some();
        let pods = settings.iter().any(wants_pods);
        let events = relay(events, &ended)?;
        let cluster = match args.manifests() {
            _ if settings.is_empty() => None,
            Some(folder) => {
                follow_manifests(args, folder, &feed, telemetry, (&events, &ended))?;
                None
            }
            None => Some(cluster::follow(wanted(args, api, pods)?, telemetry, &feed, &events)?),
        };
        let (settings, api) = (settings.to_vec(), api.clone());
        Ok(Data { names, settings, api, synced, ended, _cluster: cluster })
    }

    /// Whether it is what these settings ask for.
    pub(super) fn is_for(&self, settings: &[Settings], api: &ApiServer) -> bool {
        self.settings == settings && self.api == *api
    }

    /// Whether all is known.
    pub(super) fn is_synced(&self) -> bool {
        *self.synced.yet.lock().unwrap_or_else(PoisonError::into_inner) == self.names.len()
    }

    /// Waits until all is known, or for so long.
    pub(super) fn wait(&self, patience: Duration) {
        let yet = self.synced.yet.lock().unwrap_or_else(PoisonError::into_inner);
        let all = self.names.len();
        // Whether it is known by now is for whoever asks.
        drop(self.synced.all.wait_timeout_while(yet, patience, |yet| *yet < all));
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

impl Synced {
    fn one_more(&self) {
        *self.yet.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.all.notify_all();
    }
}

/// Where threads of the source report failures, which concern nobody once it has `ended`.
fn relay(events: &Sender<Event>, ended: &Arc<AtomicBool>) -> anyhow::Result<Sender<Event>> {
    let (sender, received) = mailbox();
    let (to, ended) = (events.clone(), ended.clone());
    spawn("source", events, move || {
        while let Ok(mail) = received.recv() {
            if let Mail::Event(event) = mail
                && !ended.load(Ordering::Relaxed)
            {
                to.send(event)?;
            }
        }
        Ok(())
    })?;
    Ok(sender)
}

/// The names of a folder of manifests, as they change.
fn follow_manifests(
    args: &DnsArgs,
    folder: &Path,
    feed: &Feed,
    telemetry: &Arc<Telemetry>,
    (events, ended): (&Sender<Event>, &Arc<AtomicBool>),
) -> anyhow::Result<()> {
    let state = |name| args.state_dir().map(|folder| folder.join(name));
    let options = source::Options {
        service_ranges: args.service_cluster_ip_range.clone(),
        // A proxy on this host allocates; its record is read, and not written.
        ledger: state("allocations.json"),
        last_good: state("last-good"),
        read_only: true,
        ..source::Options::default()
    };
    let mut folder = manifests::read(folder, options, None, feed, telemetry)?;
    let (feed, telemetry, ended) = (feed.clone(), telemetry.clone(), ended.clone());
    spawn("manifests", events, move || folder.follow(&feed, &telemetry, || !ended.load(Ordering::Relaxed)))
}

/// What of the cluster is followed. Flags come before what the Corefile says.
fn wanted(args: &DnsArgs, api: &ApiServer, pods: bool) -> anyhow::Result<Wanted> {
    let mut kubeconfig = args.kubeconfig().map(Path::to_owned);
    let mut master = args.master.clone();
    if kubeconfig.is_none() && master.is_none() {
        if let Some((place, _)) = &api.tls {
            bail!("{place}: kubernetes: tls: write the files into a kubeconfig, and give it with kubeconfig");
        }
        if let Some(given) = &api.kubeconfig {
            if let Some(context) = &given.context {
                bail!(
                    "{}: kubernetes: kubeconfig: make {context} the current context of the file, and delete it here",
                    given.place
                );
            }
            kubeconfig = Some(given.file.clone().into());
        }
        master = api.endpoint.as_ref().map(|(_, url)| url.clone());
    } else if api.kubeconfig.is_some() || api.endpoint.is_some() {
        warn!("the Corefile's kubeconfig and endpoint are not used: flags say where the cluster is");
    }
    let snapshot = args.state_dir().map(|folder| folder.join("dns.snapshot"));
    Ok(Wanted::for_names(kubeconfig, master, snapshot, pods))
}
