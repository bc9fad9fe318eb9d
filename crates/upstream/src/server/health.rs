//! Probes of a server that has failed, until one is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portolan_names::wire::Name;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

use super::{Limits, Server};
use crate::question::{Manner, Question};

/// How long a probe waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// The type of record that a probe asks for.
const NS: u16 = 2;

/// How a server is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) interval: Duration,
    pub(crate) domain: Name,
    pub(crate) recursion: bool,
    /// As many may fail in a row.
    pub(crate) max_fails: u32,
}

impl Server {
    /// Probes it until it is well again, if that is not under way already. After more than
    /// `max_fails` failed probes it is down.
    pub(crate) fn begin_to_probe(self: &Arc<Self>) {
        if self.way.probe.max_fails == 0 || self.probed.swap(true, Ordering::Relaxed) {
            return;
        }
        let server = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(server) = server.upgrade() {
                if server.is_well().await {
                    server.recovered();
                    return;
                }
                server.probe_failed();
                let interval = server.way.probe.interval;
                // Nobody may need it any more by then.
                drop(server);
                sleep(interval).await;
            }
        });
    }

    fn recovered(&self) {
        if self.is_down() {
            info!(server = %self.address, "server of names is well again");
        }
        self.fails.store(0, Ordering::Relaxed);
        self.probed.store(false, Ordering::Relaxed);
    }

    fn probe_failed(&self) {
        self.metrics.failed_probes.inc();
        let was_down = self.is_down();
        // It does not wrap around in a server's life.
        self.fails.fetch_add(1, Ordering::Relaxed);
        if self.is_down() && !was_down {
            warn!(
                server = %self.address,
                "server of names is down: it is left out until it answers; is it there, and reachable?"
            );
        }
    }

    /// Whether it answers anything at all.
    async fn is_well(&self) -> bool {
        let probe = &self.way.probe;
        let asked =
            Question { name: probe.domain.clone(), kind: NS, dnssec_ok: false, checking_disabled: false };
        let mut manner = Manner { recursion: probe.recursion, mixed_case: false, ..Manner::default() };
        let limits = Limits { timeout: PROBE_TIMEOUT, end: Instant::now() + PROBE_TIMEOUT };
        // That there is no socket says nothing about the server.
        self.ask_once(&asked, &mut manner, limits)
            .await
            .map_or_else(|failure| !failure.is_the_servers(), |_| true)
    }
}
