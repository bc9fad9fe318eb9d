//! How many writes a second the server takes over HTTPS while ten clients watch:
//!
//! `cargo run --release -p portolan-apiserver --example writes -- [WRITES]`

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use portolan_apiserver::{Authentication, Options, Server};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const WATCHERS: usize = 10;
const WRITERS: usize = 4;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let writes = std::env::args().nth(1).map_or(Ok(10_000), |text| text.parse::<usize>())?;
    let options = Options { authentication: Authentication::Anonymous, ..Options::cluster() };
    let server = Server::start(options)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&server, writes / WRITERS))
}

async fn measure(server: &Server, each: usize) -> Result<(), Failure> {
    let path = "/api/v1/namespaces/default/configmaps";
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let mut sender = connect(server).await?;
        let watch = ask(&mut sender, "GET", &format!("{path}?watch=1"), String::new()).await?;
        watchers.spawn(async move { (count(watch.into_body(), each * WRITERS).await, sender) });
    }
    let started = Instant::now();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut sender = connect(server).await?;
        writers.spawn(async move {
            for number in 0..each {
                let object = json!({ "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": { "name": format!("settings-{writer}-{number}"), "labels": { "app": "web" } },
                    "data": { "one": "first", "two": "second" } });
                let answer = ask(&mut sender, "POST", path, object.to_string()).await?;
                if answer.status().as_u16() != 201 {
                    return Err(format!("answered {}", answer.status()).into());
                }
                answer.into_body().collect().await?;
            }
            Ok::<(), Failure>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    let written = started.elapsed();
    while let Some(done) = watchers.join_next().await {
        done?.0?;
    }
    let all = each * WRITERS;
    let rate = f64::from(u32::try_from(all)?) / written.as_secs_f64();
    println!(
        "{all} writes in {written:.2?}: {rate:.0} a second; the last watcher had all after {:.2?}",
        started.elapsed()
    );
    Ok(())
}

/// Reads a watch until so many events have come.
async fn count(mut body: Incoming, wanted: usize) -> Result<(), Failure> {
    let mut events = 0;
    while events < wanted {
        let frame = body.frame().await.ok_or("the watch has ended")??;
        // One more piece than there are ends of lines.
        events += frame.data_ref().map_or(0, |data| data.split(|byte| *byte == b'\n').count() - 1);
    }
    Ok(())
}

async fn connect(server: &Server) -> Result<SendRequest<Full<Bytes>>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(
        CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).map_err(|error| error.to_string())?,
    )?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(server.address()).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::from(server.address().ip());
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    method: &str,
    path: &str,
    body: String,
) -> Result<Response<Incoming>, Failure> {
    let request = Request::builder().method(method).uri(path).header("host", "server");
    let request = request.header("content-type", "application/json").body(Full::new(Bytes::from(body)))?;
    Ok(sender.send_request(request).await?)
}
