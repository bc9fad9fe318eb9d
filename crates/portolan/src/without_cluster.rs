//! In place of `cluster` where the program has no client of the Kubernetes API.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::bail;
use portolan_observe::servers::ServerFailure;
use portolan_observe::{Health, Telemetry};

use crate::event::Event;
use crate::feed::Feed;
use crate::mailbox::Sender;
use crate::wanted::Wanted;

/// A cluster that is being followed: there is none. What must not be can be seen in here alone, so
/// that code which would use one is not warned about elsewhere.
#[derive(Debug, Clone)]
pub(crate) struct Cluster(Infallible);

/// Refuses.
pub(crate) fn follow(
    _wanted: Wanted,
    _telemetry: &Arc<Telemetry>,
    _observed: &Feed,
    _events: &Sender<Event>,
) -> anyhow::Result<Cluster> {
    no_client()
}

/// Refuses what needs a cluster.
pub(crate) fn no_client<T>() -> anyhow::Result<T> {
    bail!(
        "this program was built without the client of the Kubernetes API: give --manifests DIR, or run the whole program, \
         from `cargo build --release -p portolan`"
    )
}

impl Cluster {
    /// Whether what is known of Services and endpoints is up to date.
    pub(crate) fn is_up_to_date(&self) -> bool {
        match self.0 {}
    }

    /// The address at which the API server is reached.
    pub(crate) fn api_server(&self) -> Option<IpAddr> {
        match self.0 {}
    }

    /// Has `health` know whether it is still followed.
    pub(crate) fn report_progress(&self, _health: &Health) {
        match self.0 {}
    }

    /// Reports that the proxy starts.
    pub(crate) fn announce_start(&self) {
        match self.0 {}
    }

    /// Reports a server that could not be started.
    pub(crate) fn report(&self, _failure: &ServerFailure) {
        match self.0 {}
    }
}
