//! The loop of the main thread: brings what is observed into force, and answers who asks.

use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use portolan_observe::Telemetry;

use crate::batch::Batch;
use crate::cleanup::TakeOver;
use crate::cluster::Cluster;
use crate::event::Event;
use crate::mailbox::{Mail, Receiver};
use crate::node_check::NodeCheck;
use crate::proxy::Proxy;
use crate::ready_fd::ReadyFd;

/// All that the main thread owns.
pub(super) struct EventLoop {
    pub(super) proxy: Proxy,
    pub(super) node_check: NodeCheck,
    pub(super) min_sync_period: Duration,
    pub(super) cluster: Option<Cluster>,
    pub(super) ready: Option<ReadyFd>,
    pub(super) telemetry: Arc<Telemetry>,
}

/// Whether the loop goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Continue,
    End,
}

impl EventLoop {
    /// Brings what is received into force for as long as the process lives. Between the end of a
    /// commit and the next one at least `min_sync_period` passes; what comes meanwhile waits and
    /// goes into one transaction.
    pub(super) fn run(&mut self, received: &Receiver<Event>) -> anyhow::Result<()> {
        let mut waiting = Batch::default();
        let mut not_before = Instant::now();
        let mut take_over = true;
        loop {
            let commit_at = (!waiting.is_empty()).then_some(not_before);
            let mail = match self.proxy.next_tick().into_iter().chain(commit_at).min() {
                Some(due) => received.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => received.recv(),
            };
            let telemetry = self.telemetry.clone();
            let _turn = telemetry.health.turn();
            match mail {
                Ok(first) => {
                    for mail in std::iter::once(first).chain(received.try_iter()) {
                        if self.take(mail, &mut waiting)? == Next::End {
                            return Ok(());
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Err(anyhow!("all event sources have ended")),
            }
            if !waiting.is_empty() && not_before <= Instant::now() {
                self.proxy.observe(std::mem::take(&mut waiting));
                not_before = Instant::now() + self.min_sync_period;
            }
            self.proxy.tick();
            self.announce_ready()?;
            if let Some(cluster) = self.cluster.as_ref().filter(|_| self.proxy.next_tick().is_some()) {
                cluster.report_progress(&self.telemetry.health);
            }
            if take_over && self.proxy.in_force() {
                take_over = false;
                let (in_use, in_cluster) = (self.proxy.in_use(), self.cluster.is_some());
                TakeOver { in_use, in_cluster }.start();
            }
        }
    }

    fn take(&mut self, mail: Mail<Event>, waiting: &mut Batch) -> anyhow::Result<Next> {
        match mail {
            Mail::Observed(batch) => {
                self.node_check.check(&batch)?;
                self.proxy.received(&batch);
                waiting.extend(batch);
            }
            // Who asked may have gone.
            Mail::Event(Event::Asked(answer)) => drop(answer.send(self.proxy.plans().cloned().collect())),
            Mail::Event(Event::AddressesAsked(answer)) => drop(answer.send(self.proxy.addresses())),
            Mail::Event(Event::Lost(error)) => return Err(error),
            Mail::Event(Event::End) => return Ok(Next::End),
            // There is no second wait.
            Mail::Event(Event::Alone(_)) => {}
        }
        Ok(Next::Continue)
    }

    /// Lets whoever waits on `--ready-fd` know, once, when all Services are in force.
    fn announce_ready(&mut self) -> anyhow::Result<()> {
        if !self.proxy.in_force() {
            return Ok(());
        }
        self.ready.take().map_or(Ok(()), ReadyFd::announce)
    }
}
