//! Servers, made from settings.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::exchange::stream::Security;
use crate::metrics::Metrics;
use crate::server::{Probe, Server, Way};
use crate::settings::{Error, Forward, Protocol, Target, domain};
#[cfg(feature = "tls")]
use crate::tls::Trust;

/// What all servers of a `forward` have in common.
#[derive(Debug, Clone)]
pub(crate) struct Maker {
    force_tcp: bool,
    expire: Duration,
    probe: Probe,
    metrics: Metrics,
    given: Vec<(SocketAddr, Security)>,
}

impl Maker {
    /// For `forward` of the zone called `zone`.
    pub(crate) fn new(zone: &str, forward: &Forward, metrics: Metrics) -> Result<Maker, Error> {
        Ok(Maker {
            force_tcp: forward.force_tcp,
            expire: forward.expire,
            probe: Probe {
                interval: forward.health.interval,
                domain: domain("health_check", &forward.health.domain)?,
                recursion: forward.health.recursion,
                max_fails: forward.max_fails,
            },
            metrics,
            given: given(zone, forward)?,
        })
    }

    /// The server at `address`: one of those that are known, or a new one.
    pub(crate) fn server(&self, address: SocketAddr, known: &[Arc<Server>]) -> Arc<Server> {
        if let Some(server) = known.iter().find(|server| server.address() == address) {
            return Arc::clone(server);
        }
        let given = self.given.iter().find(|(given, _)| *given == address);
        let security = given.map_or(Security::Plain, |(_, security)| security.clone());
        let proto = match (&security, self.force_tcp) {
            (Security::Plain, false) => "udp",
            (Security::Plain, true) => "tcp",
            #[cfg(feature = "tls")]
            (Security::Tls(_), _) => "tcp-tls",
        };
        let metrics = self.metrics.server(&address.to_string(), proto);
        let (expire, probe) = (self.expire, self.probe.clone());
        let way = Way { force_tcp: self.force_tcp, security, expire, probe };
        Arc::new(Server::new(address, way, metrics))
    }
}

/// The servers that `forward` names by address, and how connections to them become safe.
#[cfg(feature = "tls")]
fn given(zone: &str, forward: &Forward) -> Result<Vec<(SocketAddr, Security)>, Error> {
    let tls = |problem| Error::Tls { zone: zone.to_owned(), problem };
    let mut trust: Option<Trust> = None;
    let mut given = Vec::new();
    for target in &forward.to {
        let Target::Server { address, protocol } = target else { continue };
        let security = match protocol {
            Protocol::Plain => Security::Plain,
            Protocol::Tls(name) => {
                let trust = match &trust {
                    Some(trust) => trust.clone(),
                    None => trust.insert(Trust::new(&forward.tls).map_err(tls)?).clone(),
                };
                let name = name.as_deref().or(forward.tls.server_name.as_deref());
                Security::Tls(trust.connector(address.ip(), name).map_err(tls)?)
            }
        };
        given.push((*address, security));
    }
    Ok(given)
}

/// The servers that `forward` names by address.
#[cfg(not(feature = "tls"))]
fn given(_zone: &str, forward: &Forward) -> Result<Vec<(SocketAddr, Security)>, Error> {
    let servers = forward.to.iter().filter_map(|target| match target {
        Target::Server { address, protocol: Protocol::Plain } => Some(Ok((*address, Security::Plain))),
        Target::Server { protocol: Protocol::Tls(_), .. } => {
            Some(Err(Error::WithoutTls { server: target.to_string() }))
        }
        Target::ResolvConf(_) => None,
    });
    servers.collect()
}
