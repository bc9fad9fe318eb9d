//! One probe, carried out.

mod grpc;
mod hpack;
mod http;
#[cfg(feature = "tls")]
mod tls;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use crate::spec::{Action, HttpGet};

/// What servers learn of who asks.
const USER_AGENT: &str = "kube-probe/1.36";

/// Carries out a probe within a time. Gives what is wrong, in the words of kubelet.
pub async fn check(action: &Action, timeout: Duration) -> Result<(), String> {
    let work = async {
        match action {
            Action::Http(http) => get(http).await,
            Action::Tcp(to) => connect(*to).await.map(drop),
            Action::Grpc { to, service } => grpc::check(connect(*to).await?, *to, service).await,
        }
    };
    let late = || match action {
        Action::Http(http) => format!(
            "Get \"{}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)",
            url(http)
        ),
        Action::Tcp(to) => format!("dial tcp {to}: i/o timeout"),
        Action::Grpc { to, .. } => format!("timeout: failed to connect service \"{to}\" within {timeout:?}"),
    };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(late()))
}

/// The same, for a thread that has nothing else to do: its sockets are in the thread's network
/// namespace.
pub fn check_blocking(action: &Action, timeout: Duration) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(check(action, timeout))
}

async fn connect(to: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(to).await.map_err(|error| dial(to, &error))
}

/// As Go puts it.
fn dial(to: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused",
        io::ErrorKind::HostUnreachable => "no route to host",
        io::ErrorKind::NetworkUnreachable => "network is unreachable",
        io::ErrorKind::TimedOut => "connection timed out",
        _ => return format!("dial tcp {to}: {error}"),
    };
    format!("dial tcp {to}: connect: {why}")
}

fn url(http: &HttpGet) -> String {
    let scheme = if http.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", http.to, http::path(http))
}

async fn get(http: &HttpGet) -> Result<(), String> {
    let failed = |why: String| format!("Get \"{}\": {why}", url(http));
    let stream = connect(http.to).await.map_err(failed)?;
    let status = if http.tls { get_over_tls(http, stream).await } else { http::status(http, stream).await };
    match status.map_err(|error| failed(said(&error)))? {
        Some(status) if !(200..400).contains(&status) => {
            Err(format!("HTTP probe failed with statuscode: {status}"))
        }
        _ => Ok(()),
    }
}

fn said(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        io::ErrorKind::ConnectionReset => "read: connection reset by peer".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(feature = "tls")]
async fn get_over_tls(http: &HttpGet, stream: TcpStream) -> io::Result<Option<u16>> {
    http::status(http, tls::connect(stream, http.to).await?).await
}

/// Nothing here speaks TLS. That somebody listens is all that is known.
#[cfg(not(feature = "tls"))]
#[expect(clippy::unused_async, reason = "as with TLS")]
async fn get_over_tls(_: &HttpGet, _: TcpStream) -> io::Result<Option<u16>> {
    Ok(None)
}
