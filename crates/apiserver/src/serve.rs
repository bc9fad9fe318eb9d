//! One request, one answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Limited};
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT, WARNING,
};
use portolan_store::Failure;
use serde_json::json;

use crate::answer::Answer;
use crate::body::Body;
use crate::call::Call;
use crate::discovery;
use crate::node_side::NodeSide;
use crate::openapi;
use crate::refusal;
use crate::resource::{Resource, Subresource};
use crate::state::{Authentication, Credential, Request, Shared};
use crate::streams::{PodCall, Reply};
use crate::target::{Target, parse_query};
use crate::view::View;
use crate::write::Place;

/// Larger request bodies are refused, in bytes.
const BODY_LIMIT: usize = 3 << 20;

/// What whoever asks for Endpoints is answered with beside them (since Kubernetes 1.33).
const ENDPOINTS_DEPRECATED: &str =
    "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice";

/// What all requests of a connection have in common.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    /// Whether the client showed a certificate of ours.
    pub(crate) certificate: bool,
    pub(crate) bookmark_interval: Duration,
    pub(crate) patience: Duration,
    pub(crate) node_side: Option<Arc<dyn NodeSide>>,
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
        let (recorded, delay) = self.record(&request);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.unstalled(target.resource()).await;
        let answer = match self.refusal(&target, &request) {
            Some(failure) => Err(failure),
            None => self.answer(target, &request, http).await,
        };
        let (answer, retry_after) = match answer {
            Ok(Reply::Answer(answer)) => (answer, None),
            Ok(Reply::Upgrade(response)) => {
                self.answered(recorded, response.status().as_u16());
                return Ok(response);
            }
            Err(failure) => (Answer::json(failure.code, &failure.to_json()), failure.retry_after),
        };
        self.answered(recorded, answer.code);
        Ok(response(answer, retry_after))
    }

    /// Notes a request, if requests are noted, and gives its place; and how long answers are held
    /// back.
    fn record(&self, request: &Request) -> (Option<usize>, Duration) {
        let state = self.shared.lock();
        let delay = state.faults.delay;
        let records = state.rules.records;
        drop(state);
        let place = records.then(|| {
            self.shared.note(|state| {
                state.requests.push(request.clone());
                state.requests.len() - 1
            })
        });
        (place, delay)
    }

    /// Notes how a request was answered.
    fn answered(&self, recorded: Option<usize>, code: u16) {
        if let Some(place) = recorded {
            self.shared.note(|state| state.requests[place].code = Some(code));
        }
    }

    fn credential(&self, http: &hyper::Request<Incoming>) -> Credential {
        match text(http, AUTHORIZATION).strip_prefix("Bearer ") {
            Some(token) => Credential::Token(token.trim().to_owned()),
            None if self.certificate => Credential::Certificate,
            None => Credential::None,
        }
    }

    async fn unstalled(&self, resource: Option<Resource>) {
        let mut changed = self.shared.subscribe_faults();
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
        let shows = |tokens: &[String]| matches!(&request.credential, Credential::Token(token) if tokens.contains(token));
        let known = match &state.authentication {
            Authentication::Anonymous => true,
            Authentication::Tokens(tokens) => shows(tokens),
            Authentication::ClientCertificate => request.credential == Credential::Certificate,
            Authentication::TokensOrCertificate(tokens) => {
                request.credential == Credential::Certificate || shows(tokens)
            }
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
    ) -> Result<Reply, Failure> {
        if let Some(call) = self.pod_call(&target, request)? {
            return call.reply(http).await;
        }
        self.document_or_objects(target, request, http).await.map(Reply::Answer)
    }

    /// The request, if it is about a pod where it runs.
    fn pod_call<'a>(&self, target: &Target, request: &'a Request) -> Result<Option<PodCall<'a>>, Failure> {
        let Target::Object { view, namespace, name, part: Some(part) } = target else { return Ok(None) };
        if !matches!(
            part,
            Subresource::Log | Subresource::Exec | Subresource::Attach | Subresource::PortForward
        ) {
            return Ok(None);
        }
        let pod = self.shared.lock().stored(view.resource, namespace, name);
        let pod = pod.ok_or_else(|| refusal::not_found(*view, name))?;
        Ok(Some(PodCall { request, node_side: self.node_side.clone(), pod, part: *part }))
    }

    async fn document_or_objects(
        &self,
        target: Target,
        request: &Request,
        http: hyper::Request<Incoming>,
    ) -> Result<Answer, Failure> {
        let aggregated = discovery::wants_aggregated(&request.accept);
        let host = text(&http, HOST).to_owned();
        let found = |document: Option<serde_json::Value>| {
            document.map(|document| Answer::json(200, &document)).ok_or_else(refusal::no_path)
        };
        match target {
            Target::Healthy if self.shared.lock().faults.starting.is_some() => {
                Err(Failure::new(500, "[-]poststarthook/rbac/bootstrap-roles failed: not finished"))
            }
            Target::Healthy => Ok(Answer::text("ok")),
            Target::Version => Ok(Answer::json(200, &discovery::version())),
            Target::CoreVersions | Target::Groups if aggregated => {
                let document = discovery::aggregated(target == Target::CoreVersions);
                Ok(Answer { content_type: discovery::AGGREGATED, ..Answer::json(200, &document) })
            }
            Target::CoreVersions => Ok(Answer::json(200, &discovery::core_versions(&host))),
            Target::Groups => Ok(Answer::json(200, &discovery::groups())),
            Target::Group(name) => found(discovery::group(&name)),
            Target::Resources { group, version } => found(discovery::resources(&group, &version)),
            // Clients read it for nothing but what version 3 says, too.
            Target::OpenApi2 => Ok(Answer::new(200, Body::whole(""))),
            Target::OpenApi3(path) if path.is_empty() => Ok(Answer::json(200, &openapi::root())),
            Target::OpenApi3(path) => found(openapi::document(&path)),
            target => self.about_objects(target, request, http).await,
        }
    }

    async fn about_objects(
        &self,
        target: Target,
        request: &Request,
        http: hyper::Request<Incoming>,
    ) -> Result<Answer, Failure> {
        let content_type = text(&http, CONTENT_TYPE).to_owned();
        let agent = text(&http, USER_AGENT).split('/').next().unwrap_or_default().to_owned();
        let method = http.method().clone();
        let body = read(http, self.patience).await?;
        let call = Call {
            shared: &self.shared,
            request,
            method,
            content_type: &content_type,
            agent: if agent.is_empty() { "unknown" } else { &agent },
            body,
            bookmark_interval: self.bookmark_interval,
        };
        match target {
            Target::AccessReview => call.access_review(),
            Target::Collection { view, namespace } => {
                Ok(warned(view, call.collection(view, namespace.as_deref())?))
            }
            Target::Object { view, namespace, name, part } => {
                Ok(warned(view, call.object(Place { view, namespace: &namespace, name: &name, part })?))
            }
            _ => Err(refusal::no_path()),
        }
    }
}

/// An answer about a resource that clients should leave behind says so.
fn warned(view: View, mut answer: Answer) -> Answer {
    if view.resource == Resource::Endpoints {
        answer.warnings.push(ENDPOINTS_DEPRECATED.to_owned());
    }
    answer
}

fn response(answer: Answer, retry_after: Option<u32>) -> Response<Body> {
    let mut response = Response::new(answer.body);
    *response.status_mut() =
        hyper::StatusCode::from_u16(answer.code).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    for warning in answer.warnings {
        // As text in quotes (RFC 9111, 5.5 of RFC 7234).
        if let Ok(value) = HeaderValue::from_str(&format!("299 - {}", json!(warning))) {
            headers.append(WARNING, value);
        }
    }
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The value of a header; empty if it is missing, or no text.
fn text(http: &hyper::Request<Incoming>, name: HeaderName) -> &str {
    http.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

async fn read(http: hyper::Request<Incoming>, patience: Duration) -> Result<bytes::Bytes, Failure> {
    let body = Limited::new(http.into_body(), BODY_LIMIT).collect();
    let body = tokio::time::timeout(patience, body).await.map_err(|_| {
        Failure::new(504, format!("the body of the request did not come within {patience:?}"))
    })?;
    body.map(http_body_util::Collected::to_bytes).map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            Failure::new(413, format!("Request entity too large: limit is {BODY_LIMIT}"))
        } else {
            Failure::new(400, error.to_string())
        }
    })
}
