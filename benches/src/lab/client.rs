//! A client of a lab's API server that costs little itself: HTTP/1.1 over one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Longer than anything takes that comes at all.
const PATIENCE: Duration = Duration::from_mins(1);

/// Whom to ask, and how to say who asks.
#[derive(Clone)]
pub(super) struct Access {
    server: SocketAddr,
    config: Arc<ClientConfig>,
}

impl Access {
    /// Reads a kubeconfig with a client certificate in it.
    pub(super) fn read(kubeconfig: &Path) -> anyhow::Result<Access> {
        let text = std::fs::read_to_string(kubeconfig).context("reading the kubeconfig")?;
        let value: Value = serde_json::from_str(&text).context("the kubeconfig is no JSON")?;
        let (cluster, user) = (&value["clusters"][0]["cluster"], &value["users"][0]["user"]);
        let pem = |of: &Value, field: &str| {
            let text = of[field].as_str().with_context(|| format!("the kubeconfig has no {field}"))?;
            STANDARD.decode(text).with_context(|| field.to_owned())
        };
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&pem(cluster, "certificate-authority-data")?)?)?;
        let certificate = CertificateDer::from_pem_slice(&pem(user, "client-certificate-data")?)?;
        let key = PrivateKeyDer::from_pem_slice(&pem(user, "client-key-data")?)?;
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = config.with_client_auth_cert(vec![certificate], key)?;
        let url = cluster["server"].as_str().context("the kubeconfig has no server")?;
        let server = url.trim_start_matches("https://").parse().with_context(|| format!("server {url}"))?;
        Ok(Access { server, config: Arc::new(config) })
    }

    pub(super) fn connect(&self) -> anyhow::Result<Client> {
        let stream = TcpStream::connect(self.server).context("connecting to the API server")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let tls = ClientConnection::new(Arc::clone(&self.config), ServerName::from(self.server.ip()))?;
        Ok(Client { stream: BufReader::new(StreamOwned::new(tls, stream)) })
    }
}

pub(super) struct Client {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Client {
    /// Sends a request and waits for the whole answer.
    pub(super) fn send(&mut self, method: &str, path: &str, body: &Value) -> anyhow::Result<()> {
        let length = self.begin(method, path, &body.to_string())?.context("the answer has no length")?;
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).context("reading an answer")
    }

    /// Begins a watch: from now on, [`Self::event`] waits for its events.
    pub(super) fn watch(&mut self, path: &str) -> anyhow::Result<()> {
        let length = self.begin("GET", path, "")?;
        ensure!(length.is_none(), "GET {path} is no watch");
        Ok(())
    }

    /// The next line of a watch, as text. Pieces of the transfer encoding need not be lines.
    pub(super) fn event(&mut self) -> anyhow::Result<String> {
        loop {
            let mut line = String::new();
            self.stream.read_line(&mut line).context("waiting for an event")?;
            ensure!(!line.is_empty(), "the watch has ended");
            // Others are the lengths of pieces, and the ends of these.
            if line.starts_with('{') {
                return Ok(line);
            }
        }
    }

    /// Sends a request, reads the head of the answer, and gives its length if it has one.
    fn begin(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<Option<usize>> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: lab\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes()).context("sending a request")?;
        let mut line = String::new();
        self.stream.read_line(&mut line).context("waiting for an answer")?;
        ensure!(line.starts_with("HTTP/1.1 20"), "{method} {path}: {}", line.trim());
        let mut length = None;
        loop {
            line.clear();
            self.stream.read_line(&mut line).context("reading the head of an answer")?;
            let Some((name, value)) = line.split_once(':') else { return Ok(length) };
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse().context("Content-Length")?);
            }
        }
    }
}
