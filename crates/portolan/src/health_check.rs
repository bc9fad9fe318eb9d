//! The responders of Services with a health-check node port: load balancers ask them whether this node has
//! endpoints of the Service (spec §3.14, §11.8-11.11).
//!
//! One thread with its own small runtime serves all of them; the proxy's loop only tells it what is wanted.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use portolan_service::{Family, ObjectName};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{info, warn};

/// A port that could not be opened is tried again this often.
const RETRY: Duration = Duration::from_secs(5);
/// A client has this long to send its request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// One responder that should exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Responder {
    pub(crate) service: ObjectName,
    /// Ready endpoints on this node.
    pub(crate) local_endpoints: usize,
}

/// All responders that should exist, by family and port.
pub(crate) type Responders = HashMap<(Family, u16), Responder>;

/// Where responders listen: on these addresses, or on all of a family for which there is none (spec §11.8).
pub(crate) type Addresses = Vec<IpAddr>;

/// The thread that serves all responders.
#[derive(Debug)]
pub(crate) struct HealthChecks {
    wanted: mpsc::UnboundedSender<(Responders, Addresses)>,
    healthy: Arc<AtomicBool>,
}

impl HealthChecks {
    /// Starts the thread, with nothing to serve.
    pub(crate) fn start() -> io::Result<HealthChecks> {
        let (wanted, receiver) = mpsc::unbounded_channel();
        let healthy = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = healthy.clone();
        std::thread::Builder::new()
            .name("health-checks".to_owned())
            .spawn(move || runtime.block_on(serve(receiver, state)))?;
        Ok(HealthChecks { wanted, healthy })
    }

    /// Serves exactly `responders` from now on, on `addresses`.
    pub(crate) fn set(&self, responders: Responders, addresses: Addresses) {
        // The thread ends only with the process.
        let _ = self.wanted.send((responders, addresses));
    }

    /// Tells clients whether the kernel holds what it should.
    pub(crate) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }
}

/// What a responder's connections share.
struct State {
    service: ObjectName,
    local_endpoints: AtomicUsize,
    healthy: Arc<AtomicBool>,
}

struct Open {
    state: Arc<State>,
    addresses: Addresses,
    /// Aborted when dropped, which closes the port and its connections.
    _listeners: JoinSet<()>,
}

async fn serve(mut wanted: mpsc::UnboundedReceiver<(Responders, Addresses)>, healthy: Arc<AtomicBool>) {
    let mut open: HashMap<(Family, u16), Open> = HashMap::new();
    let mut current: (Responders, Addresses) = Default::default();
    loop {
        let missing = current.0.len() != open.len();
        tokio::select! {
            received = wanted.recv() => match received {
                Some(new) => current = new,
                None => return,
            },
            () = tokio::time::sleep(RETRY), if missing => {}
        }
        let (responders, addresses) = &current;
        open.retain(|key, open| {
            responders.get(key).is_some_and(|responder| responder.service == open.state.service)
                && open.addresses == of_family(addresses, key.0)
        });
        for (&(family, port), responder) in responders {
            if let Some(open) = open.get(&(family, port)) {
                open.state.local_endpoints.store(responder.local_endpoints, Ordering::Relaxed);
                continue;
            }
            let state = Arc::new(State {
                service: responder.service.clone(),
                local_endpoints: responder.local_endpoints.into(),
                healthy: healthy.clone(),
            });
            let addresses = of_family(addresses, family);
            match listen(&state, family, &addresses, port) {
                Ok(listeners) => {
                    info!("Service {}: health check answers on {family} port {port}", responder.service);
                    open.insert((family, port), Open { state, addresses, _listeners: listeners });
                }
                Err(error) => warn!(
                    "Service {}: healthCheckNodePort {port}: cannot listen ({family}): {error}; trying again",
                    responder.service
                ),
            }
        }
    }
}

fn of_family(addresses: &[IpAddr], family: Family) -> Addresses {
    addresses.iter().copied().filter(|address| Family::of(*address) == family).collect()
}

/// Opens the port on all `addresses` or on none.
fn listen(state: &Arc<State>, family: Family, addresses: &[IpAddr], port: u16) -> io::Result<JoinSet<()>> {
    let any = match family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => IpAddr::from([0; 16]),
    };
    let addresses = if addresses.is_empty() { &[any] } else { addresses };
    let listeners: Vec<TcpListener> = addresses
        .iter()
        .map(|address| {
            let socket = match family {
                Family::V4 => TcpSocket::new_v4()?,
                // tokio sets IPV6_V6ONLY for no socket; binding [::] beside 0.0.0.0 needs it.
                Family::V6 => v6_only(TcpSocket::new_v6()?)?,
            };
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(*address, port))?;
            socket.listen(128)
        })
        .collect::<io::Result<_>>()?;
    let mut tasks = JoinSet::new();
    for listener in listeners {
        let state = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => match accepted {
                        Ok((stream, _)) => { connections.spawn(answer_all(stream, state.clone())); }
                        // Out of file descriptors, for example: give others the time to close some.
                        Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
    }
    Ok(tasks)
}

fn v6_only(socket: TcpSocket) -> io::Result<TcpSocket> {
    socket2::SockRef::from(&socket).set_only_v6(true)?;
    Ok(socket)
}

async fn answer_all(stream: tokio::net::TcpStream, state: Arc<State>) {
    let service = service_fn(|_: Request<Incoming>| {
        let answer = answer(&state);
        async { Ok::<_, Infallible>(answer) }
    });
    // A client that goes away or talks nonsense is no concern of ours.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_LIMIT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Spec §11.10.
fn answer(state: &State) -> Response<Full<Bytes>> {
    let count = state.local_endpoints.load(Ordering::Relaxed);
    let healthy = state.healthy.load(Ordering::Relaxed);
    let body = serde_json::json!({
        "service": {"namespace": state.service.namespace(), "name": state.service.name()},
        "localEndpoints": count,
        "serviceProxyHealthy": healthy,
    });
    let mut response = Response::new(Full::new(Bytes::from(format!("{body:#}\n"))));
    *response.status_mut() =
        if count > 0 && healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let headers = response.headers_mut();
    headers.insert("content-type", hyper::header::HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", hyper::header::HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", count.into());
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn ask(port: u16) -> io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.write_all(b"GET /any/path HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Asks until the answer contains `text`: the thread takes what is wanted in its own time.
    fn ask_until(port: u16, text: &str) -> String {
        let end = std::time::Instant::now() + Duration::from_secs(10);
        loop {
            match ask(port) {
                Ok(answer) if answer.contains(text) => return answer,
                answer => assert!(std::time::Instant::now() < end, "no {text:?} in {answer:?}"),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn answers_with_count_and_health() {
        // spec §11.10
        let port = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let checks = HealthChecks::start().unwrap();
        let wanted = |count: usize| {
            let responder = Responder { service: ObjectName::new("shop", "web"), local_endpoints: count };
            (HashMap::from([((Family::V4, port), responder)]), vec!["127.0.0.1".parse().unwrap()])
        };
        let set = |count| {
            let (responders, addresses) = wanted(count);
            checks.set(responders, addresses);
        };
        set(2);
        let answer = ask_until(port, "503 Service Unavailable");
        assert!(answer.contains("\"serviceProxyHealthy\": false"), "{answer}");
        checks.set_healthy(true);
        let answer = ask_until(port, "200 OK").to_lowercase();
        for part in [
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 2",
            "\"localendpoints\": 2",
            "\"namespace\": \"shop\"",
            "\"name\": \"web\"",
        ] {
            assert!(answer.contains(part), "{part}: {answer}");
        }
        set(0);
        ask_until(port, "\"localEndpoints\": 0");
        checks.set(HashMap::new(), Vec::new());
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while ask(port).is_ok() {
            assert!(std::time::Instant::now() < end, "still answers");
            std::thread::yield_now();
        }
    }
}
