//! Asking the running proxy.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::Query;

/// The whole question and answer may take this long.
const LIMIT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody is there to ask.
    #[error("{}: no proxy answers here: is `portolan run` running on this node, with this path as its --socket?", path.display())]
    NoProxy {
        /// The path of the socket.
        path: PathBuf,
    },
    /// The socket is there for others.
    #[error("{}: not allowed: ask as root, or as the user that the proxy runs as", path.display())]
    NotAllowed {
        /// The path of the socket.
        path: PathBuf,
    },
    /// Somebody is there and says nothing.
    #[error("{}: the proxy hung up: it answers only root and the user it runs as, and no one once it ends", path.display())]
    HungUp {
        /// The path of the socket.
        path: PathBuf,
    },
    /// Something went wrong between.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path of the socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The proxy refused to answer.
    #[error("the proxy answers: {text} ({status})")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// Why, in the proxy's words.
        text: String,
    },
    /// The namespace is none.
    #[error("namespace {0:?}: only lower-case letters, digits and `-` make a namespace's name")]
    Namespace(String),
    /// The name is none.
    #[error("name {0:?}: only letters, digits, `-`, `_` and dots make a name that can be asked for here")]
    Name(String),
}

/// Asks the proxy whose local socket is at `path`, and waits for the answer for at most half a
/// minute.
pub fn ask(path: &Path, query: &Query) -> Result<serde_json::Value, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if let Some(namespace) = &query.namespace
        && (namespace.is_empty() || !namespace.bytes().all(fits))
    {
        return Err(Error::Namespace(namespace.clone()));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if let Some(name) = &query.which.name
        && (name.is_empty() || !name.bytes().all(fits))
    {
        return Err(Error::Name(name.clone()));
    }
    let target = query.target();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(io)?;
    let answered = runtime.block_on(async { tokio::time::timeout(LIMIT, exchange(path, &target)).await });
    let (status, body) = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(because(path, error)),
        Err(_) => {
            let text = format!("the proxy has not answered within {} s", LIMIT.as_secs());
            return Err(io(io::Error::new(io::ErrorKind::TimedOut, text)));
        }
    };
    if status != StatusCode::OK {
        return Err(Error::Refused { status, text: String::from_utf8_lossy(&body).trim().to_owned() });
    }
    serde_json::from_slice(&body).map_err(|error| io(error.into()))
}

async fn exchange(path: &Path, target: &str) -> io::Result<(StatusCode, Bytes)> {
    let stream = UnixStream::connect(path).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(hyper_error)?;
    // Ends with the connection, and fails with it; what fails shows in the answer.
    tokio::spawn(async move { drop(connection.await) });
    let request = Request::get(target)
        .header(HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let answer = sender.send_request(request).await.map_err(hyper_error)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(hyper_error)?.to_bytes();
    Ok((status, body))
}

fn hyper_error(error: hyper::Error) -> io::Error {
    let source = std::error::Error::source(&error).and_then(|source| source.downcast_ref::<io::Error>());
    let kind = match source {
        Some(source) => source.kind(),
        None if error.is_incomplete_message() || error.is_canceled() || error.is_closed() => {
            io::ErrorKind::UnexpectedEof
        }
        None => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

fn because(path: &Path, source: io::Error) -> Error {
    use io::ErrorKind as Kind;

    let path = path.to_owned();
    match source.kind() {
        Kind::NotFound | Kind::ConnectionRefused => Error::NoProxy { path },
        Kind::PermissionDenied => Error::NotAllowed { path },
        Kind::UnexpectedEof | Kind::ConnectionReset | Kind::BrokenPipe => Error::HungUp { path },
        _ => Error::Io { path, source },
    }
}
