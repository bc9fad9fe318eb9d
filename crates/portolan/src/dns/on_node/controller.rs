//! Brings about that questions are answered on the node, in the order in which none is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use ipnet::IpNet;
use portolan_dataplane::Diversion;
use portolan_dns::MayAsk;
use portolan_names::Names;
use tracing::{error, info, warn};

use super::PORT;
use super::facts::Facts;
use crate::dns::answering::{Answering, Content, Served};
use crate::dns::plan::Plan;

/// What is so, and what is to be.
pub(super) struct Controller {
    answering: Arc<Answering>,
    names: Vec<Arc<RwLock<Names>>>,
    /// Addresses besides those of the Service.
    more: BTreeSet<IpAddr>,
    /// What the Corefile asks for, without addresses.
    wanted: Plan,
    /// What is answered, at addresses.
    plan: Plan,
    blocks: Vec<Served>,
    /// The plan is another one than what is answered.
    changed: bool,
    diversion: Option<Diversion>,
    /// Where questions are answered, and from where the node itself asks.
    diverted: BTreeMap<IpAddr, Option<IpAddr>>,
    /// Who may ask besides: the node and its pods.
    own: Vec<IpNet>,
    /// What failed last, so that it is logged once.
    failures: BTreeSet<String>,
}

impl Controller {
    /// Nothing is answered yet.
    pub(super) fn new(
        answering: Arc<Answering>,
        wanted: Plan,
        names: Vec<Arc<RwLock<Names>>>,
        more: BTreeSet<IpAddr>,
    ) -> Controller {
        Controller {
            answering,
            names,
            more,
            plan: wanted.at([], PORT),
            wanted,
            blocks: Vec::new(),
            changed: true,
            diversion: None,
            diverted: BTreeMap::new(),
            own: Vec::new(),
            failures: BTreeSet::new(),
        }
    }

    /// From the next time on, it is answered as this plan says.
    pub(super) fn set_plan(&mut self, plan: Plan) {
        (self.wanted, self.changed) = (plan, true);
    }

    /// Answers where it should by what is known; `synced` of the names are complete. Returns false
    /// if something failed that may go another time.
    pub(super) fn bring(&mut self, facts: &Facts, synced: usize) -> bool {
        let mut addresses = BTreeSet::new();
        if synced >= self.names.len() {
            addresses.extend(&self.more);
            addresses.extend(facts.addresses());
        }
        let sources = facts.sources(&addresses);
        let own = facts.own_networks();
        if !self.changed && sources == self.diverted && own == self.own {
            return true;
        }
        self.own = own;
        let before: Vec<IpAddr> = self.diverted.keys().copied().collect();
        let mut failures = BTreeSet::new();
        if let Err(error) = self.exchange(&sources, &mut failures) {
            failures.insert(format!("{error:#}"));
        }
        for failure in failures.difference(&self.failures) {
            error!("{failure}; the DNS Service, if it has the address, answers instead of this node");
        }
        self.failures = failures;
        let now: Vec<IpAddr> = self.diverted.keys().copied().collect();
        if now != before {
            let texts: Vec<String> = now.iter().map(IpAddr::to_string).collect();
            match &*texts {
                [] => warn!("names are not answered on this node any more"),
                texts => info!("names are answered on this node: {} port {PORT}", texts.join(", ")),
            }
        }
        self.changed = !self.failures.is_empty();
        !self.changed
    }

    fn exchange(
        &mut self,
        wanted: &BTreeMap<IpAddr, Option<IpAddr>>,
        failures: &mut BTreeSet<String>,
    ) -> anyhow::Result<()> {
        if self.diversion.is_none() && wanted.is_empty() {
            return Ok(());
        }
        let diversion = match self.diversion.take() {
            Some(diversion) => self.diversion.insert(diversion),
            None => self.diversion.insert(Diversion::new(PORT)?),
        };
        // Questions to addresses that go are the Service's from now on.
        let staying = self.diverted.keys().filter(|address| wanted.contains_key(address)).copied().collect();
        diversion.divert(&staying)?;
        let mut reached = BTreeMap::new();
        let mut new = BTreeMap::new();
        for (address, source) in wanted {
            let known = self.diverted.get(address);
            if known != Some(source)
                && let Err(error) = diversion.prepare(*address, *source)
            {
                failures.insert(error.to_string());
                continue;
            }
            let socket = SocketAddr::new(*address, PORT);
            if !self.plan.listeners.contains_key(&socket) {
                match self.answering.bind(socket) {
                    Ok(sockets) => drop(new.insert(socket, sockets)),
                    Err(error) => {
                        failures.insert(error.to_string());
                        diversion.forget(*address)?;
                        continue;
                    }
                }
            }
            reached.insert(*address, *source);
        }
        let mut plan = self.wanted.at(reached.keys().copied(), PORT);
        if plan.may_ask == MayAsk::default() {
            // Their addresses may be routed on the Internet.
            plan.may_ask.networks.extend(&self.own);
        }
        let blocks = self.answering.forwarders(&plan, &self.blocks)?;
        for names in &self.names {
            let mut names = names.write().unwrap_or_else(PoisonError::into_inner);
            names.set_own_addresses(reached.keys().copied().collect());
        }
        let content = Content { plan: &plan, blocks: &blocks, names: &self.names };
        self.answering.listen(&self.plan, content, new).context("answering names on this node")?;
        self.answering.metrics.enable(&plan.enabled);
        (self.plan, self.blocks) = (plan, blocks);
        diversion.divert(&reached.keys().copied().collect())?;
        self.diverted = reached;
        let prepared = diversion.prepared().clone();
        for address in prepared.into_iter().filter(|address| !self.diverted.contains_key(address)) {
            diversion.forget(address)?;
        }
        Ok(())
    }

    /// Puts right what somebody else has removed.
    pub(super) fn verify(&mut self) {
        let Some(diversion) = &mut self.diversion else { return };
        match diversion.restore(&self.diverted) {
            Ok(restored) if restored.is_empty() => {}
            Ok(restored) => {
                warn!("somebody else has removed local routes, which are there again: {restored:?}");
            }
            Err(error) => warn!("{error}; trying again"),
        }
    }

    /// Gives all questions to the Service, and answers what has come.
    pub(super) fn end(&mut self) {
        let Some(diversion) = &mut self.diversion else { return };
        // Each of these is better done than not, whatever became of the others.
        let note = |done: Result<(), portolan_dataplane::Error>| {
            if let Err(error) = done {
                warn!("{error}");
            }
        };
        note(diversion.divert(&BTreeSet::new()));
        self.answering.finish();
        for address in diversion.prepared().clone() {
            note(diversion.forget(address));
        }
        self.diverted.clear();
    }
}
