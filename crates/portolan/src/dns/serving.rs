//! All that a Corefile has brought about, and how it is exchanged for what another one asks for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use portolan_config::Mode;
use portolan_corefile::{ApiServer, Corefile};
use portolan_observe::servers::{ControlServer, ControlSocket, PageServer, ServerFailure};
use portolan_observe::{BuildInfo, Telemetry};
use portolan_service::Family;
use tracing::{info, warn};

use super::answering::{Answering, Content, Options, Served};
use super::data::Data;
use super::metrics::Metrics;
use super::pages::{Shown, pages};
use super::plan::{PagesThere, Plan};
use crate::answers;
use crate::cli::DnsArgs;
use crate::event::Event;
use crate::mailbox::Sender;
use crate::runtime::Runtime;

/// After a change of what names there are, the old ones are answered from for so long at most.
const SYNC_PATIENCE: Duration = Duration::from_secs(30);

/// What is being served.
pub(super) struct Serving {
    args: DnsArgs,
    plan: Plan,
    blocks: Vec<Served>,
    pages: BTreeMap<SocketAddr, (PagesThere, PageServer)>,
    shown: Arc<Shown>,
    telemetry: Arc<Telemetry>,
    lameduck: Arc<Lameduck>,
    pages_runtime: Runtime,
}

/// How long is answered after the end was asked for.
#[derive(Debug, Default)]
pub(super) struct Lameduck(AtomicU64);

impl Lameduck {
    pub(super) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, duration: Duration) {
        self.0.store(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Serving {
    /// Begins to serve what `corefile` asks for, and keeps `lameduck` as it says.
    pub(super) fn start(
        args: &DnsArgs,
        corefile: &Corefile,
        lameduck: &Arc<Lameduck>,
        events: &Sender<Event>,
    ) -> anyhow::Result<Serving> {
        let build = BuildInfo::new(env!("CARGO_PKG_VERSION"));
        // No rule is written; the source of objects counts in it what it does.
        let telemetry =
            Arc::new(Telemetry::new(Mode::Nftables, Mode::Nftables, &Family::ALL, Duration::ZERO, &build));
        let metrics = Arc::new(Metrics::new(&build).context("metrics")?);
        let options = Options { threads: args.threads, log_one_of: args.log_one_of };
        let mut serving = Serving {
            args: args.clone(),
            plan: Plan::new(corefile, &args.allow_from, own_networks(args))?,
            blocks: Vec::new(),
            pages: BTreeMap::new(),
            shown: Arc::new(Shown::new(Answering::new(options, metrics)?)),
            telemetry,
            lameduck: lameduck.clone(),
            pages_runtime: Runtime::start("dns-pages").context("starting a thread")?,
        };
        serving.replace(corefile, events)?;
        if !args.quiet {
            serving.announce();
        }
        Ok(serving)
    }

    /// Whether the Corefile is followed.
    pub(super) fn reloads(&self) -> bool {
        self.plan.reload
    }

    /// Answers `portolan get names`, as long as there is a place for the socket. Nothing else needs
    /// it.
    pub(super) fn control(&self) -> Option<ControlServer> {
        let (paths, shown) = (self.args.sockets(), self.shown.clone());
        let ask = answers::of_names(move || {
            let data = shown.data.read().unwrap_or_else(PoisonError::into_inner);
            data.as_ref().map(|data| data.names.clone()).unwrap_or_default()
        });
        let on_failure = Arc::new(|failure: ServerFailure| {
            if !failure.lasting {
                warn!("{failure}; `portolan get names` will not find this process: give --socket");
            }
        });
        let wanted = !paths.is_empty();
        let runtime = self.pages_runtime.handle();
        wanted.then(|| ControlServer::start(runtime, ControlSocket { paths, ask }, on_failure))
    }

    /// The end was asked for: not ready any more.
    pub(super) fn lame(&self) {
        self.shown.lame.store(true, Ordering::Relaxed);
    }

    /// A changed Corefile cannot be used.
    pub(super) fn reload_failed(&self) {
        self.shown.answering.metrics.reload_failed();
    }

    /// Serves what `corefile` asks for in place of all that was served. What does not change goes
    /// on: names, caches, sockets. After an error all is as it was.
    pub(super) fn replace(&mut self, corefile: &Corefile, events: &Sender<Event>) -> anyhow::Result<()> {
        let plan = Plan::new(corefile, &self.args.allow_from, own_networks(&self.args))?;
        let answering = &self.shown.answering;
        let blocks = answering.forwarders(&plan, &self.blocks)?;
        let data = self.data(&plan, &api(corefile), events)?;
        let pages = self.new_pages(&plan)?;
        let content = Content { plan: &plan, blocks: &blocks, names: &data.names };
        answering.listen(&self.plan, content, BTreeMap::new())?;
        // Nothing fails from here on.
        *self.shown.data.write().unwrap_or_else(PoisonError::into_inner) = Some(data);
        let mut before = std::mem::take(&mut self.pages);
        before.retain(|address, _| plan.pages.contains_key(address) && !pages.contains_key(address));
        self.pages = pages.into_iter().chain(before).collect();
        self.shown.answering.metrics.enable(&plan.enabled);
        self.lameduck.set(plan.lameduck);
        (self.plan, self.blocks) = (plan, blocks);
        Ok(())
    }

    /// The names: those that there are, if they are what is asked for.
    fn data(&self, plan: &Plan, api: &ApiServer, events: &Sender<Event>) -> anyhow::Result<Arc<Data>> {
        let before = self.shown.data.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(data) = before.as_ref().filter(|data| data.is_for(&plan.names, api)) {
            return Ok(data.clone());
        }
        let parts = (&self.telemetry, &self.shown.answering.metrics);
        let data = Data::start(&self.args, api, &plan.names, parts, events)?;
        if before.is_some_and(|before| before.is_synced()) {
            data.wait(SYNC_PATIENCE);
            ensure!(data.is_synced(), "kubernetes: not all of the cluster is known within {SYNC_PATIENCE:?}");
        }
        Ok(Arc::new(data))
    }

    /// The pages that are not there yet.
    fn new_pages(&self, plan: &Plan) -> anyhow::Result<BTreeMap<SocketAddr, (PagesThere, PageServer)>> {
        let mut new = BTreeMap::new();
        for (address, there) in &plan.pages {
            match self.pages.get(address) {
                Some((known, _)) if known == there => {}
                // The port is taken, by ourselves: an address has the same pages for good.
                Some(_) => bail!(
                    "{address}: other pages than before at the same address need a restart: give another port"
                ),
                None => {
                    let server =
                        PageServer::start(self.pages_runtime.handle(), *address, pages(*there, &self.shown));
                    let server = server.with_context(|| {
                        format!("listening on {address}/tcp for health, readiness or metrics: see who listens there with ss -lnp, or give another address")
                    })?;
                    new.insert(*address, (*there, server));
                }
            }
        }
        Ok(new)
    }

    fn announce(&self) {
        let listening = self.shown.answering.addresses();
        let listening: Vec<String> = listening.iter().map(SocketAddr::to_string).collect();
        info!(
            "portolan {} answers questions for names on {}",
            env!("CARGO_PKG_VERSION"),
            listening.join(", ")
        );
        for (address, (there, _)) in &self.pages {
            let pages = [("/health", there.health), ("/ready", there.ready), ("/metrics", there.metrics)];
            let names: Vec<&str> = pages.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
            info!("{} on {address}", names.join(" and "));
        }
    }
}

/// Names of addresses in these networks are nobody else's. A cluster says itself which they are.
fn own_networks(args: &DnsArgs) -> &[ipnet::IpNet] {
    if args.manifests().is_some() { &args.service_cluster_ip_range } else { &[] }
}

/// Where the objects come from, as the first server block says that says anything.
fn api(corefile: &Corefile) -> ApiServer {
    let all = corefile.blocks.iter().filter_map(|block| Some(&block.kubernetes.as_ref()?.api));
    all.clone().find(|api| **api != ApiServer::default()).cloned().unwrap_or_default()
}
