//! What is asked about a pod where it runs: logs, commands in it, and its ports.

mod carry;
mod channels;
mod commands;
mod forward;
mod inflate;
mod logs;
mod sha1;
mod spdy;
mod websocket;

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderName, HeaderValue, UPGRADE};
use hyper::{Request as HttpRequest, Response, StatusCode};
use portolan_store::Failure;
use serde_json::Value;

use crate::answer::Answer;
use crate::body::Body;
use crate::node_side::{NodeSide, PodRef};
use crate::refusal;
use crate::resource::Subresource;
use crate::state::Request;
use crate::value::{items, text};

/// Which protocols a client offers for a stream, in one header or several.
const STREAM_PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// A request about a pod where it runs.
pub(crate) struct PodCall<'a> {
    pub(crate) request: &'a Request,
    pub(crate) node_side: Option<Arc<dyn NodeSide>>,
    /// As it is stored.
    pub(crate) pod: Value,
    pub(crate) part: Subresource,
}

/// What is answered: a body, or a change to another protocol on the same connection.
pub(crate) enum Reply {
    Answer(Answer),
    Upgrade(Response<Body>),
}

impl PodCall<'_> {
    /// Answers it. Failures are those that a client can show.
    pub(crate) async fn reply(self, http: HttpRequest<Incoming>) -> Result<Reply, Failure> {
        let node_side = self.node_side.clone().ok_or_else(|| {
            refusal::bad_request("nobody answers for pods here: this server has no nodes of its own")
        })?;
        let pod = self.pod_ref()?;
        match self.part {
            Subresource::Log => {
                let body = logs::logs(&*node_side, pod, self.request).await?;
                Ok(Reply::Answer(Answer { content_type: "text/plain", ..Answer::new(200, body) }))
            }
            Subresource::Exec | Subresource::Attach => {
                commands::commands(node_side, pod, self.part, self.request, http).map(Reply::Upgrade)
            }
            Subresource::PortForward => {
                forward::forward(node_side, pod, self.request, http).map(Reply::Upgrade)
            }
            _ => Err(refusal::no_path()),
        }
    }

    /// The container that is meant, if it is clear which and it has begun.
    fn pod_ref(&self) -> Result<PodRef, Failure> {
        let name = text(&self.pod, "/metadata/name");
        let lists = ["/spec/containers", "/spec/initContainers", "/spec/ephemeralContainers"];
        let all: Vec<&str> = lists
            .iter()
            .flat_map(|list| items(&self.pod, list))
            .map(|container| text(container, "/name"))
            .collect();
        let wanted = self.request.parameter("container").unwrap_or_default();
        let container = match wanted {
            "" if items(&self.pod, lists[0]).count() > 1 && self.part != Subresource::PortForward => {
                let first = text(&self.pod, "/metadata/annotations/kubectl.kubernetes.io~1default-container");
                if first.is_empty() {
                    let names = items(&self.pod, lists[0]).map(|container| text(container, "/name"));
                    let names: Vec<&str> = names.collect();
                    return Err(refusal::bad_request(format!(
                        "a container name must be specified for pod {name}, choose one of: [{}]",
                        names.join(" ")
                    )));
                }
                first
            }
            "" => all.first().copied().unwrap_or_default(),
            wanted if all.contains(&wanted) => wanted,
            wanted => {
                return Err(refusal::bad_request(format!("container {wanted} is not valid for pod {name}")));
            }
        };
        if text(&self.pod, "/spec/nodeName").is_empty() {
            return Err(match self.part {
                Subresource::Log => Failure::new(
                    400,
                    format!("container {container:?} in pod {name:?} is waiting to start: ContainerCreating"),
                ),
                _ => refusal::bad_request(format!("pod {name} does not have a host assigned")),
            });
        }
        Ok(PodRef { pod: self.pod.clone(), container: container.to_owned() })
    }
}

/// How many frames of SPDY there are in pieces before the end, or something else.
pub(crate) fn frames<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> usize {
    let mut parser = spdy::Parser::new();
    let mut count = 0;
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(_)) => count += 1,
                Ok(None) => break,
                Err(spdy::Broken) => return count,
            }
        }
    }
    count
}

/// A change to another protocol.
fn upgrade(to: &'static str, protocol: (HeaderName, &'static str)) -> Response<Body> {
    let mut response = Response::new(Body::whole(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(to));
    headers.insert(protocol.0, HeaderValue::from_static(protocol.1));
    response
}

/// Whether a client offers a protocol in a header.
fn offers(http: &HttpRequest<Incoming>, header: &HeaderName, protocol: &str) -> bool {
    http.headers()
        .get_all(header)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|offered| offered.trim().eq_ignore_ascii_case(protocol)))
}

/// Whether a client wants to change to a protocol.
fn wants(http: &HttpRequest<Incoming>, protocol: &str) -> bool {
    offers(http, &UPGRADE, protocol) && offers(http, &CONNECTION, "upgrade")
}
