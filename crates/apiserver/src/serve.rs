//! One request, one answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Response};
use portolan_store::{Failure, Selector};
use serde_json::{Value, json};

use crate::body::Body;
use crate::list::list;
use crate::resource::Resource;
use crate::state::{Authentication, Credential, Request, Shared};
use crate::target::{Target, parse_query};
use crate::watch::watch;
use crate::write;

/// Larger request bodies are refused, in bytes.
const BODY_LIMIT: usize = 3 << 20;

/// What all requests of a connection have in common.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    /// Whether the client showed a certificate of ours.
    pub(crate) certificate: bool,
    pub(crate) bookmark_interval: Duration,
}

impl Service {
    pub(crate) async fn serve(self, http: hyper::Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let target = Target::parse(http.uri().path());
        let request = Request {
            at: Instant::now(),
            method: http.method().to_string(),
            path: http.uri().path().to_owned(),
            query: parse_query(http.uri().query().unwrap_or_default()),
            credential: self.credential(&http),
            accept: text(&http, ACCEPT).to_owned(),
            resource: target.resource(),
            code: None,
        };
        let (position, delay) = self.shared.note(|state| {
            state.requests.push(request.clone());
            (state.requests.len() - 1, state.faults.delay)
        });
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.unstalled(target.resource()).await;
        let answer = match self.refusal(&target, &request) {
            Some(failure) => Err(failure),
            None => self.answer(target, &request, http).await,
        };
        let (code, retry_after, body) = match answer {
            Ok((code, body)) => (code, None, body),
            Err(failure) => {
                (failure.code, failure.retry_after, Body::whole(failure.to_json().to_string() + "\n"))
            }
        };
        self.shared.note(|state| state.requests[position].code = Some(code));
        let mut response = Response::new(body);
        *response.status_mut() =
            hyper::StatusCode::from_u16(code).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        Ok(response)
    }

    fn credential(&self, http: &hyper::Request<Incoming>) -> Credential {
        match text(http, AUTHORIZATION).strip_prefix("Bearer ") {
            Some(token) => Credential::Token(token.trim().to_owned()),
            None if self.certificate => Credential::Certificate,
            None => Credential::None,
        }
    }

    async fn unstalled(&self, resource: Option<Resource>) {
        let mut changed = self.shared.subscribe();
        while self.shared.lock().stalled(resource) && changed.changed().await.is_ok() {}
    }

    /// The answer of a server that is overloaded, broken or does not know the client.
    fn refusal(&self, target: &Target, request: &Request) -> Option<Failure> {
        let mut state = self.shared.lock();
        let next = &mut state.faults.next_answers;
        let position = next.iter().position(|(only, _)| only.is_none() || *only == target.resource());
        if let Some((_, failure)) = position.and_then(|position| next.remove(position)) {
            return Some(failure);
        }
        let known = match &state.authentication {
            Authentication::Anonymous => true,
            Authentication::Tokens(tokens) => {
                matches!(&request.credential, Credential::Token(token) if tokens.contains(token))
            }
            Authentication::ClientCertificate => request.credential == Credential::Certificate,
        };
        // A real server answers these to everybody (role system:public-info-viewer).
        if !known && !matches!(target, Target::Version | Target::Healthy) {
            return Some(Failure::new(401, "Unauthorized"));
        }
        let resource = target.resource()?;
        let starting = state.faults.starting.map(|starting| starting.failure(resource));
        starting.or_else(|| state.faults.always.get(&resource).cloned())
    }

    async fn answer(
        &self,
        target: Target,
        request: &Request,
        http: hyper::Request<Incoming>,
    ) -> Result<(u16, Body), Failure> {
        let shared = &self.shared;
        let method = http.method().clone();
        match target {
            Target::Unknown => Err(Failure::new(404, "the server could not find the requested resource")),
            Target::Healthy if shared.lock().faults.starting.is_some() => {
                Err(Failure::new(500, "[-]poststarthook/rbac/bootstrap-roles failed: not finished"))
            }
            Target::Healthy => Ok((200, Body::whole("ok"))),
            Target::Version | Target::CoreVersions | Target::Groups | Target::Resources(_) => {
                Ok((200, json_body(&discovery(&target))))
            }
            Target::Collection { resource, namespace } => match method {
                Method::GET => {
                    let parameter = |name: &str| request.parameter(name).unwrap_or_default();
                    let selector = Selector::parse(
                        resource.definition(),
                        namespace.as_deref(),
                        parameter("labelSelector"),
                        parameter("fieldSelector"),
                    )?;
                    let body = if request.is_watch() {
                        watch(shared, resource, selector, request, self.bookmark_interval)?
                    } else {
                        list(shared, resource, &selector, request)?
                    };
                    Ok((200, body))
                }
                Method::POST => {
                    let body = read(http).await?;
                    let object =
                        shared.change(|state| write::create(state, resource, namespace.as_deref(), &body))?;
                    Ok((201, json_body(&object)))
                }
                _ => Err(not_allowed()),
            },
            Target::Object { resource, namespace, name } => match method {
                Method::GET => {
                    let state = shared.lock();
                    let object = state.store.get(resource.definition(), &namespace, &name);
                    let object = state.faults.sent(object.ok_or_else(|| write::not_found(resource, &name))?);
                    let mut body = Vec::with_capacity(object.json().len() + 64);
                    object.write(&mut body);
                    body.push(b'\n');
                    Ok((200, Body::whole(body)))
                }
                Method::PUT => {
                    let body = read(http).await?;
                    let object = shared.change(|state| write::replace(state, resource, &namespace, &body))?;
                    Ok((200, json_body(&object)))
                }
                Method::PATCH => {
                    let body = read(http).await?;
                    let key = (namespace.as_str(), name.as_str());
                    let object = shared.change(|state| write::patch(state, resource, key, &body))?;
                    Ok((200, json_body(&object)))
                }
                Method::DELETE => {
                    let deleted = shared.change(|state| state.delete(resource, &namespace, &name));
                    if !deleted {
                        return Err(write::not_found(resource, &name));
                    }
                    let status =
                        json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
                    Ok((200, json_body(&status)))
                }
                _ => Err(not_allowed()),
            },
        }
    }
}

/// The value of a header; empty if it is missing, or no text.
fn text(http: &hyper::Request<Incoming>, name: HeaderName) -> &str {
    http.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn not_allowed() -> Failure {
    Failure::new(405, "the server does not allow this method on the requested resource")
}

async fn read(http: hyper::Request<Incoming>) -> Result<bytes::Bytes, Failure> {
    let body = Limited::new(http.into_body(), BODY_LIMIT).collect().await;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| Failure::new(400, error.to_string()))
}

fn json_body(value: &Value) -> Body {
    Body::whole(value.to_string() + "\n")
}

fn discovery(target: &Target) -> Value {
    match target {
        Target::CoreVersions => json!({ "kind": "APIVersions", "versions": ["v1"] }),
        Target::Groups => {
            let groups = ["discovery.k8s.io", "networking.k8s.io", "events.k8s.io"].map(|group| {
                let version = json!({ "groupVersion": format!("{group}/v1"), "version": "v1" });
                json!({ "name": group, "versions": [version], "preferredVersion": version })
            });
            json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
        }
        Target::Resources(group) => {
            let resources = Resource::ALL.into_iter().filter(|resource| resource.group() == *group);
            let group_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
                "resources": resources.map(Resource::discovery).collect::<Vec<_>>() })
        }
        _ => json!({ "major": "1", "minor": "36", "gitVersion": "v1.36.0",
            "gitCommit": "0000000000000000000000000000000000000000", "gitTreeState": "clean",
            "buildDate": "2026-04-22T00:00:00Z", "goVersion": "go1.26.2", "compiler": "gc",
            "platform": "linux/amd64" }),
    }
}
