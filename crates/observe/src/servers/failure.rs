//! Servers that could not be started.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use portolan_service::ObjectName;

/// An address, or a path, that could not be listened on is tried again this often (spec §9.14).
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// What a server is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// `/healthz` and `/livez`
    Healthz,
    /// `/metrics` and what is beside it
    Metrics,
    /// The health-check node port of a Service.
    HealthCheck(ObjectName),
    /// The control socket of `portolan get`.
    ControlSocket,
}

/// A server could not be started.
#[derive(Debug)]
pub struct ServerFailure {
    /// Which.
    pub server: Server,
    /// Where it should listen: address and port, or the path of the socket.
    pub address: String,
    /// The TCP port; 0 for the control socket.
    pub port: u16,
    /// Why not.
    pub error: io::Error,
    /// It is not tried again, and the proxy must not go on (`bindAddressHardFail`).
    pub fatal: bool,
    /// It has been so for a minute, and was reported when it began. Until then it may be that of a
    /// proxy that gives way.
    pub lasting: bool,
}

impl ServerFailure {
    /// The text of the event `FailedToStartServiceHealthcheck` that node `node` reports on the
    /// Service (spec §11.20), if this is about a Service.
    pub fn service_event_note(&self, node: &str) -> Option<String> {
        let Server::HealthCheck(service) = &self.server else { return None };
        Some(format!(
            "node {node} failed to start healthcheck \"{service}\" on port {}: {}",
            self.port, self.error
        ))
    }
}

impl fmt::Display for ServerFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Server::Healthz => write!(f, "healthzBindAddress {}: cannot listen", self.address)?,
            Server::Metrics => write!(f, "metricsBindAddress {}: cannot listen", self.address)?,
            Server::HealthCheck(service) => {
                write!(
                    f,
                    "Service {service}: healthCheckNodePort {}: cannot listen on {}",
                    self.port, self.address
                )?;
            }
            Server::ControlSocket => write!(f, "control socket {}: cannot listen", self.address)?,
        }
        write!(f, ": {}", self.error)?;
        f.write_str(if self.fatal { "; bindAddressHardFail is set" } else { "; trying again" })
    }
}

/// Is called with servers that could not be started: once for each address and reason, and once
/// more if it lasts; not at each attempt.
pub type OnFailure = Arc<dyn Fn(ServerFailure) + Send + Sync>;
