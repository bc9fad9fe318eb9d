//! `portolan run`: follows a folder of manifests and keeps the kernel to it until it is stopped.
//!
//! Two threads wait, for files and for interface addresses; the main thread owns the proxy and everything that
//! changes. Stopping the process at any moment leaves the rules in force (spec §11.22).

use std::io::Write;
use std::os::fd::FromRawFd;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use portolan_dataplane::Dataplane;
use portolan_dataplane::nftables::Nftables;
use portolan_source::manifests::{Manifests, Options, Update};
use tracing::{debug, info, warn};

use crate::addresses;
use crate::batch::Batch;
use crate::cli::{ProxyArgs, ProxyMode, RunArgs};
use crate::health_check::HealthChecks;
use crate::privileges;
use crate::proxy::{MakeDataplane, Proxy};
use crate::this_node::ThisNode;

/// What the waiting threads tell the main one.
enum Event {
    Observed(Batch),
    /// A thread cannot go on.
    Lost(anyhow::Error),
}

/// Runs until killed. Returns only errors that nothing can be done about.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<()> {
    let node = ThisNode::new(&args.proxy)?;
    info!("portolan {} for node {}", env!("CARGO_PKG_VERSION"), node.name());
    privileges::drop_unneeded();
    let mut manifests = Manifests::open(&args.manifests, options(&args.proxy, false))?;
    let health_checks = HealthChecks::start().context("starting the health-check thread")?;
    let mut proxy = Proxy::new(node, make_dataplane(args.proxy.proxy_mode), health_checks);

    let (events, received) = mpsc::channel();
    let watch = addresses::Watch::start().context("listening for interface addresses")?;
    proxy.observe(Batch::of_addresses(addresses::list().context("listing interface addresses")?));

    let started = Instant::now();
    let first = manifests.load();
    log_problems(&first);
    info!("{}: {} objects read in {:.1?}", args.manifests.display(), first.changes.len(), started.elapsed());
    proxy.observe(Batch::of_changes(first.changes, started));
    let mut ready_fd = args.ready_fd;
    announce_ready(&proxy, &mut ready_fd)?;

    spawn("manifests", &events, move |events| follow_manifests(&mut manifests, events))?;
    spawn("addresses", &events, move |events| follow_addresses(&watch, events))?;
    follow(&mut proxy, &received, Duration::ZERO, &mut ready_fd)
}

/// Brings what is received into force for as long as the process lives. Between the end of a commit and the next
/// one at least `min_sync_period` passes; what comes meanwhile waits and goes into one transaction.
fn follow(
    proxy: &mut Proxy,
    received: &Receiver<Event>,
    min_sync_period: Duration,
    ready_fd: &mut Option<i32>,
) -> anyhow::Result<()> {
    let mut waiting = Batch::default();
    let mut not_before = Instant::now();
    loop {
        let commit_at = (!waiting.is_empty()).then_some(not_before);
        let event = match proxy.next_tick().into_iter().chain(commit_at).min() {
            Some(due) => received.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(first) => {
                for event in std::iter::once(first).chain(received.try_iter()) {
                    match event {
                        Event::Observed(batch) => waiting.extend(batch),
                        Event::Lost(error) => return Err(error),
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("all event sources have ended")),
        }
        if !waiting.is_empty() && not_before <= Instant::now() {
            proxy.observe(std::mem::take(&mut waiting));
            not_before = Instant::now() + min_sync_period;
        }
        proxy.tick();
        announce_ready(proxy, ready_fd)?;
    }
}

/// The manifest source's options for these flags.
pub(crate) fn options(args: &ProxyArgs, read_only: bool) -> Options {
    Options {
        service_ranges: args.service_cluster_ip_range.clone(),
        node_port_range: args.service_node_port_range.clone(),
        ledger: Some(args.state_dir.join("allocations.json")),
        read_only,
    }
}

/// How to make the dataplane of a mode. A new mode is one line here and one in [`ProxyMode`].
pub(crate) fn make_dataplane(mode: ProxyMode) -> MakeDataplane {
    match mode {
        ProxyMode::Nftables => {
            Box::new(|settings| Ok(Box::new(Nftables::new(settings)?) as Box<dyn Dataplane>))
        }
    }
}

fn spawn(
    name: &str,
    events: &Sender<Event>,
    follow: impl FnOnce(&Sender<Event>) -> anyhow::Result<()> + Send + 'static,
) -> anyhow::Result<()> {
    let events = events.clone();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            if let Err(error) = follow(&events) {
                let _ = events.send(Event::Lost(error));
            }
        })
        .map(drop)
        .with_context(|| format!("starting the {name} thread"))
}

fn follow_manifests(manifests: &mut Manifests, events: &Sender<Event>) -> anyhow::Result<()> {
    loop {
        if let Some(update) = manifests.wait(None).context("following the manifests")? {
            log_problems(&update);
            events.send(Event::Observed(Batch::of_changes(update.changes, update.received)))?;
        }
    }
}

fn follow_addresses(watch: &addresses::Watch, events: &Sender<Event>) -> anyhow::Result<()> {
    let mut last = None;
    loop {
        match addresses::list() {
            Ok(mut now) => {
                now.sort_unstable();
                if last.as_ref() != Some(&now) {
                    events.send(Event::Observed(Batch::of_addresses(now.clone())))?;
                    last = Some(now);
                }
                watch.wait().context("listening for interface addresses")?;
            }
            Err(error) => {
                // A dump that raced with changes; the next attempt sees them all.
                debug!("listing interface addresses: {error}");
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn log_problems(update: &Update) {
    for problem in &update.new_problems {
        warn!("{problem}");
    }
    for problem in &update.solved {
        info!("solved: {problem}");
    }
}

/// Tells whoever waits on `--ready-fd`, once, when all Services are in force.
fn announce_ready(proxy: &Proxy, ready_fd: &mut Option<i32>) -> anyhow::Result<()> {
    if !proxy.in_force() {
        return Ok(());
    }
    let Some(fd) = ready_fd.take() else { return Ok(()) };
    // SAFETY: the caller of the program passed this descriptor for us alone to use; it is taken once.
    let mut pipe = unsafe { std::fs::File::from_raw_fd(fd) };
    pipe.write_all(b"\n").with_context(|| format!("--ready-fd {fd}: is it open for writing?"))
}
