//! Server blocks that are answered for, and how they are exchanged for others without a gap.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context;
use portolan_dns::{Block, Counts, Listener, Server, Settings, Sockets};
use portolan_names::Names;
use portolan_upstream::Forwarder;

use super::failures::Failures;
use super::fixed::{Fixed, domain_name};
use super::metrics::Metrics;
use super::others::{Place, Places, Servers};
use super::plan::{BlockPlan, Plan};
use super::query_log;
use crate::runtime::Runtime;

/// A server that another one takes the place of answers what it has for so long at most.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// How it is answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options {
    /// Threads that answer; `None`: one for each processor core.
    pub(super) threads: Option<usize>,
    /// One of so many questions is logged.
    pub(super) log_one_of: u32,
}

/// What answers, at the addresses of a plan.
pub(super) struct Answering {
    options: Options,
    pub(super) metrics: Arc<Metrics>,
    server: RwLock<Option<Server>>,
    failures: Arc<Failures>,
    /// The last to end: others have tasks in there.
    runtime: Runtime,
}

/// The other servers of a server block, with the settings that they were made from.
#[derive(Clone)]
pub(super) struct Served {
    settings: portolan_upstream::Settings,
    forwarder: Forwarder,
}

/// What a listener answers from.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) plan: &'a Plan,
    /// Of each server block.
    pub(super) blocks: &'a [Served],
    /// The cluster's names; those that server blocks have.
    pub(super) names: &'a [Arc<RwLock<Names>>],
}

impl Answering {
    /// Nothing is answered yet.
    pub(super) fn new(options: Options, metrics: Arc<Metrics>) -> anyhow::Result<Answering> {
        Ok(Answering {
            options,
            metrics,
            server: RwLock::new(None),
            failures: Arc::default(),
            runtime: Runtime::start("dns-others").context("starting a thread")?,
        })
    }

    /// The other servers of each server block: those that are `known`, where nothing has changed.
    pub(super) fn forwarders(&self, plan: &Plan, known: &[Served]) -> anyhow::Result<Vec<Served>> {
        let _context = self.runtime.handle().enter();
        let mut known = known.to_vec();
        let mut blocks = Vec::new();
        for BlockPlan { upstream: settings, .. } in &plan.blocks {
            if let Some(place) = known.iter().position(|served| served.settings == *settings) {
                blocks.push(known.swap_remove(place));
                continue;
            }
            let metrics = self.metrics.upstream.clone();
            let forwarder = Forwarder::new(settings, metrics)?;
            blocks.push(Served { settings: settings.clone(), forwarder });
        }
        Ok(blocks)
    }

    /// Listens where the plan says, and nowhere else. Sockets that there are `before` go on, and so
    /// do those that are `new`.
    pub(super) fn listen(
        &self,
        before: &Plan,
        content: Content<'_>,
        mut new: BTreeMap<SocketAddr, Sockets>,
    ) -> anyhow::Result<()> {
        let plan = content.plan;
        let mut server = self.server.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = server.as_ref()
            && before.listeners.keys().eq(plan.listeners.keys())
        {
            for (number, zones) in plan.listeners.values().enumerate() {
                server.set_blocks(number, self.blocks(content, zones))?;
            }
            server.set_may_ask(&plan.may_ask);
            return Ok(());
        }
        if let Some(server) = server.as_ref() {
            new.extend(before.listeners.keys().copied().zip(server.sockets()?));
        }
        let listeners = plan.listeners.iter().map(|(address, zones)| {
            let sockets = new.remove(address);
            Listener { sockets, ..Listener::new(*address, self.blocks(content, zones)) }
        });
        let settings = Settings {
            listeners: listeners.collect(),
            threads: self.options.threads,
            may_ask: plan.may_ask.clone(),
            ..Settings::default()
        };
        // The one before ends when the new one answers.
        let earlier = server.replace(Server::start(settings)?);
        drop(server);
        if let Some(earlier) = earlier {
            earlier.finish(FINISH_WITHIN);
        }
        Ok(())
    }

    /// Binds sockets to `address`, which may be none of this host's yet.
    pub(super) fn bind(&self, address: SocketAddr) -> Result<Sockets, portolan_dns::Error> {
        Sockets::bind(Listener { absent: true, ..Listener::new(address, Vec::new()) }, self.options.threads)
    }

    fn blocks(&self, content: Content<'_>, zones: &[(usize, Vec<String>)]) -> Vec<Block> {
        let places = zones.iter().flat_map(|(number, zones)| {
            let (codes, forwarder) =
                (&content.plan.blocks[*number].codes, &content.blocks[*number].forwarder);
            let names = zones.iter().filter_map(|zone| domain_name(zone));
            names.map(|zone| Place { zone, codes: codes.clone(), forwarder: forwarder.clone() })
        });
        let places = Places::new(places.collect());
        let block = |(number, zones): &(usize, Vec<String>)| {
            let (settings, forwarder) = (&content.plan.blocks[*number], &content.blocks[*number].forwarder);
            let failures = settings.errors.then(|| self.failures.clone());
            let runtime = self.runtime.handle().clone();
            let others = Servers::new(forwarder.clone(), places.clone(), runtime, failures);
            let fixed =
                Fixed { codes: settings.codes.clone(), hosts: settings.hosts.then(|| forwarder.clone()) };
            Block {
                zones: zones.clone(),
                known: (!fixed.is_empty()).then(|| Arc::new(fixed) as _),
                names: settings.names.map(|names| content.names[names].clone()),
                others: Some(Arc::new(others)),
                log: query_log::of(&settings.log, self.options.log_one_of),
            }
        };
        zones.iter().map(block).collect()
    }

    /// Answers what has come, and nothing any more.
    pub(super) fn finish(&self) {
        let server = self.server.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(server) = server {
            server.finish(FINISH_WITHIN);
        }
    }

    /// Where it is answered.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let server = self.server.read().unwrap_or_else(PoisonError::into_inner);
        server.iter().flat_map(Server::addresses).collect()
    }

    /// All that was counted.
    pub(super) fn counts(&self) -> Counts {
        let server = self.server.read().unwrap_or_else(PoisonError::into_inner);
        server.as_ref().map(Server::counts).unwrap_or_default()
    }
}
