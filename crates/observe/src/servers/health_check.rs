//! The responders of Services with a health-check node port: load balancers ask them whether this
//! node has endpoints of the Service (spec §3.14, §11.8-11.12).

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hyper::StatusCode;
use hyper::header::HeaderName;
use portolan_service::{Family, ObjectName, PerFamily};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, info};

use super::answer::{self, Answer, JSON};
use super::complaint::Complaint;
use super::failure::{OnFailure, RETRY, Server, ServerFailure};
use super::listener::{self, Handler, Limits, Scope};
use crate::{Health, Telemetry};

/// How many ready endpoints the node has of the Service.
const WEIGHT: HeaderName = HeaderName::from_static("x-load-balancing-endpoint-weight");

/// One responder that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responder {
    /// The Service it answers for.
    pub service: ObjectName,
    /// Ready endpoints on this node.
    pub local_endpoints: usize,
}

/// All responders that should exist, by family and port.
pub type Responders = HashMap<(Family, u16), Responder>;

/// Where responders of one family listen (spec §11.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On all addresses of the family, whatever they are.
    Any,
    /// On these; nowhere if there are none.
    On(Vec<IpAddr>),
}

impl Default for Listen {
    fn default() -> Listen {
        Listen::On(Vec::new())
    }
}

/// Where responders listen.
pub type Addresses = PerFamily<Listen>;

struct Open {
    service: ObjectName,
    local_endpoints: Arc<AtomicUsize>,
    addresses: Listen,
    /// The port is closed once these have ended.
    listeners: JoinSet<()>,
}

/// Serves what `wanted` last said, until its other end is dropped.
pub(super) async fn serve(
    mut wanted: mpsc::UnboundedReceiver<(Responders, Addresses)>,
    telemetry: Arc<Telemetry>,
    on_failure: OnFailure,
) {
    let mut open: HashMap<(Family, u16), Open> = HashMap::new();
    let mut reported: HashMap<(Family, u16), Option<Complaint>> = HashMap::new();
    let (mut responders, mut addresses) = (Responders::new(), Addresses::default());
    loop {
        let somewhere = |family| *addresses.get(family) != Listen::default();
        let missing = responders.keys().filter(|(family, _)| somewhere(*family)).count() != open.len();
        tokio::select! {
            received = wanted.recv() => match received {
                Some(new) => (responders, addresses) = new,
                None => return,
            },
            () = tokio::time::sleep(RETRY), if missing => {}
        }
        let unwanted = open.extract_if(|key, open| {
            let stays = responders.get(key).is_some_and(|responder| responder.service == open.service);
            !stays || open.addresses != *addresses.get(key.0)
        });
        for (_, mut open) in unwanted.collect::<Vec<_>>() {
            // Another Service may want the port at once.
            open.listeners.shutdown().await;
        }
        reported.retain(|key, _| responders.contains_key(key));
        for (&(family, port), responder) in &responders {
            if *addresses.get(family) == Listen::default() {
                continue;
            }
            if let Some(open) = open.get(&(family, port)) {
                open.local_endpoints.store(responder.local_endpoints, Ordering::Relaxed);
                continue;
            }
            let selected = addresses.get(family).clone();
            match listen(family, &selected, port) {
                Ok(listeners) => {
                    info!("Service {}: health check answers on {family} port {port}", responder.service);
                    reported.remove(&(family, port));
                    let local_endpoints = Arc::new(AtomicUsize::new(responder.local_endpoints));
                    let handler = handler(
                        responder.service.clone(),
                        family,
                        local_endpoints.clone(),
                        telemetry.clone(),
                    );
                    let mut tasks = JoinSet::new();
                    for listener in listeners {
                        tasks.spawn(listener::accept_all(listener, handler.clone(), Limits::default()));
                    }
                    let service = responder.service.clone();
                    open.insert(
                        (family, port),
                        Open { service, local_endpoints, addresses: selected, listeners: tasks },
                    );
                }
                Err((address, error)) => {
                    let reason = format!("Service {}: {address}: {error}", responder.service);
                    debug!("healthCheckNodePort {port}: {reason}");
                    let reported = reported.entry((family, port)).or_default();
                    let Some(lasting) = Complaint::note(reported, reason, Instant::now()) else { continue };
                    on_failure(ServerFailure {
                        server: Server::HealthCheck(responder.service.clone()),
                        address: address.to_string(),
                        port,
                        error,
                        fatal: false,
                        lasting,
                    });
                }
            }
        }
    }
}

/// Opens the port on all `addresses` or on none.
fn listen(
    family: Family,
    addresses: &Listen,
    port: u16,
) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let any = match family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    };
    let addresses = match addresses {
        Listen::Any => &[any],
        Listen::On(addresses) => addresses.as_slice(),
    };
    addresses
        .iter()
        .map(|address| SocketAddr::new(*address, port))
        .map(|address| listener::bind(address, Scope::OneFamily).map_err(|error| (address, error)))
        .collect()
}

fn handler(
    service: ObjectName,
    family: Family,
    local_endpoints: Arc<AtomicUsize>,
    telemetry: Arc<Telemetry>,
) -> Handler {
    Arc::new(move |_| {
        let count = local_endpoints.load(Ordering::Relaxed);
        Box::pin(std::future::ready(respond(&service, family, count, &telemetry.health)))
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Name<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Name<'a> {
    namespace: &'a str,
    name: &'a str,
}

/// Spec §11.10.
fn respond(service: &ObjectName, family: Family, count: usize, health: &Health) -> Answer {
    let healthy = health.family_healthy(family);
    let body = Body {
        service: Name { namespace: service.namespace(), name: service.name() },
        local_endpoints: count,
        service_proxy_healthy: healthy,
    };
    let mut text = Vec::new();
    let tabs = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let written = body.serialize(&mut serde_json::Serializer::with_formatter(&mut text, tabs));
    debug_assert!(written.is_ok(), "text and numbers can be written to memory");
    let status = if count > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = answer::answer(status, JSON, text);
    answer.headers_mut().insert(WEIGHT, count.into());
    answer
}
