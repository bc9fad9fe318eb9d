//! The pages that kubelet and Prometheus ask for.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use portolan_observe::servers::{Page, Pages};

use super::answering::Answering;
use super::data::Data;
use super::plan::PagesThere;

/// What pages show.
pub(super) struct Shown {
    pub(super) answering: Answering,
    pub(super) data: RwLock<Option<Arc<Data>>>,
    /// The end was asked for.
    pub(super) lame: AtomicBool,
}

impl Shown {
    /// Before anything is served.
    pub(super) fn new(answering: Answering) -> Shown {
        Shown { answering, data: RwLock::new(None), lame: AtomicBool::new(false) }
    }

    /// Which plugins are not ready, in the reference's form; `None` if all are.
    fn unready(&self) -> Option<String> {
        if self.lame.load(Ordering::Relaxed) {
            return Some("Shutting down".to_owned());
        }
        let data = self.data.read().unwrap_or_else(PoisonError::into_inner);
        let synced = data.as_ref().is_some_and(|data| data.is_synced());
        (!synced).then(|| "kubernetes".to_owned())
    }
}

/// The pages at one address.
pub(super) fn pages(there: PagesThere, shown: &Arc<Shown>) -> Pages {
    let shown = shown.clone();
    Arc::new(move |path| match path {
        "/health" if there.health => Some(Page::Text("OK".to_owned())),
        "/ready" if there.ready => {
            Some(shown.unready().map_or_else(|| Page::Text("OK".to_owned()), Page::Unavailable))
        }
        "/metrics" if there.metrics => {
            Some(Page::Metrics(shown.answering.metrics.text(&shown.answering.counts())))
        }
        _ => None,
    })
}
