//! A client that shows what goes over the wire.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use portolan_apiserver::Double;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Longer than anything takes that comes at all.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Which version of HTTP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    Http1,
    Http2,
}

pub(crate) const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

/// An answer: its code, `Retry-After`, and what follows.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) retry_after: Option<String>,
    body: Incoming,
    unread: Vec<u8>,
}

impl Answer {
    fn new(answer: Response<Incoming>) -> Self {
        let (head, body) = answer.into_parts();
        let retry_after =
            head.headers.get("retry-after").and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self { code: head.status.as_u16(), retry_after, body, unread: Vec::new() }
    }

    /// The next line; none at the end; an error when it was broken off.
    pub(crate) async fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Ok(Some(String::from_utf8(line).map_err(|error| error.to_string())?));
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.map_err(|_| "nothing comes".to_owned())?;
            match frame {
                None if self.unread.is_empty() => return Ok(None),
                None => {
                    let rest = std::mem::take(&mut self.unread);
                    return String::from_utf8(rest).map(Some).map_err(|error| error.to_string());
                }
                Some(frame) => {
                    let frame = frame.map_err(|error| error.to_string())?;
                    self.unread.extend(frame.into_data().unwrap_or_default());
                }
            }
        }
    }

    /// The next event of a watch.
    pub(crate) async fn event(&mut self) -> Value {
        let line = self.line().await.expect("not broken off").expect("not the end");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// The next event, as `ADDED web@105`.
    pub(crate) async fn short(&mut self) -> String {
        let event = self.event().await;
        let metadata = &event["object"]["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        format!("{} {}@{}", text(&event["type"]), text(&metadata["name"]), text(&metadata["resourceVersion"]))
    }

    /// Everything, as JSON.
    pub(crate) async fn json(mut self) -> Value {
        let mut text = String::new();
        while let Some(line) = self.line().await.expect("not broken off") {
            text.push_str(&line);
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

async fn connect(server: &Double, version: Version) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).expect("a certificate");
    roots.add(ca).expect("a certificate authority");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![match version {
        Version::Http1 => b"http/1.1".to_vec(),
        Version::Http2 => b"h2".to_vec(),
    }];
    let name = ServerName::from(server.address().ip());
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(server.address()).await?).await
}

/// A connection on which a client says this of HTTP/1.1 and nothing more. Without text, it does not
/// even agree on TLS.
pub(crate) async fn begin(server: &Double, text: Option<&str>) -> Box<dyn Any + Send> {
    let Some(text) = text else {
        return Box::new(TcpStream::connect(server.address()).await.expect("a connection"));
    };
    let mut stream = connect(server, Version::Http1).await.expect("a connection");
    stream.write_all(text.as_bytes()).await.expect("written");
    stream.flush().await.expect("written");
    Box::new(stream)
}

/// A request with its head filled in.
fn request(
    server: &Double,
    version: Version,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> Request<Full<Bytes>> {
    let uri = match version {
        Version::Http1 => path.to_owned(),
        Version::Http2 => format!("{}{path}", server.url()),
    };
    let mut request = Request::builder().method(method).uri(uri);
    if version == Version::Http1 {
        request = request.header("host", server.address().to_string());
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request")
}

/// Sends a request on a connection of its own.
pub(crate) async fn send(
    server: &Double,
    version: Version,
    target: (&str, &str),
    token: Option<&str>,
    body: &str,
) -> Result<Answer, String> {
    let token = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = token.iter().map(|token| ("authorization", token.as_str())).collect();
    exchange(server, version, request(server, version, target, &headers, body)).await
}

/// Sends a body of some type.
pub(crate) async fn send_typed(
    server: &Double,
    target: (&str, &str),
    content_type: &str,
    body: &str,
) -> Result<Answer, String> {
    let headers = [("content-type", content_type)];
    exchange(server, Version::Http1, request(server, Version::Http1, target, &headers, body)).await
}

/// Asks for a path `each` times on each of some connections of HTTP/2.
pub(crate) async fn many(server: &Double, path: &str, connections: usize, each: usize) -> Vec<Answer> {
    let mut answers = Vec::new();
    for _ in 0..connections {
        let stream = TokioIo::new(connect(server, Version::Http2).await.expect("a connection"));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        for _ in 0..each {
            let request = request(server, Version::Http2, ("GET", path), &[], "");
            let answer = timeout(PATIENCE, sender.send_request(request)).await.expect("in time");
            answers.push(Answer::new(answer.expect("an answer")));
        }
    }
    answers
}

async fn exchange(
    server: &Double,
    version: Version,
    request: Request<Full<Bytes>>,
) -> Result<Answer, String> {
    let stream = connect(server, version).await.map_err(|error| error.to_string())?;
    let stream = TokioIo::new(stream);
    let answer: Response<Incoming> = match version {
        Version::Http1 => {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            timeout(PATIENCE, sender.send_request(request)).await
        }
        Version::Http2 => {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
                    .await
                    .map_err(|error| error.to_string())?;
            tokio::spawn(connection);
            timeout(PATIENCE, sender.send_request(request)).await
        }
    }
    .map_err(|_| "no answer".to_owned())?
    .map_err(|error| error.to_string())?;
    Ok(Answer::new(answer))
}

/// Asks for a path, as nobody in particular.
pub(crate) async fn get(server: &Double, version: Version, path: &str) -> Answer {
    send(server, version, ("GET", path), None, "").await.expect("an answer")
}
