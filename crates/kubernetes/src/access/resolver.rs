//! Names of servers, looked up as the system does it, and how long that takes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use tower::Service;

use crate::Status;

/// The system's resolver.
#[derive(Clone)]
pub(super) struct Resolver {
    system: GaiResolver,
    status: Arc<Status>,
}

impl Resolver {
    /// Each look-up is reported to `status`. Addresses need none.
    pub(super) fn new(status: Arc<Status>) -> Resolver {
        Resolver { system: GaiResolver::new(), status }
    }
}

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<GaiAddrs>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.system.poll_ready(context)
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (status, begun) = (self.status.clone(), Instant::now());
        let found = self.system.call(name);
        Box::pin(async move {
            let found = found.await;
            status.observe(&crate::Observation::Resolved { took: begun.elapsed() });
            found
        })
    }
}
