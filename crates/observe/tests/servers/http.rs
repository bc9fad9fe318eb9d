//! A client that speaks plain HTTP, and shows what it got.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The status line and the headers, in lower case.
    head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Sends `request` as it is, and reads until the server closes.
pub(crate) fn exchange(address: SocketAddr, request: &str) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status =
        head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Reply { status, head: head.to_lowercase(), body: body.to_owned() })
}

pub(crate) fn ask(address: SocketAddr, method: &str, path: &str) -> io::Result<Reply> {
    exchange(address, &format!("{method} {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n"))
}

/// Asks until the answer is as `wanted`: servers take new settings in their own time.
pub(crate) fn ask_until(address: SocketAddr, wanted: impl Fn(&Reply) -> bool) -> Reply {
    let end = Instant::now() + LIMIT;
    loop {
        match ask(address, "GET", "/healthz") {
            Ok(reply) if wanted(&reply) => return reply,
            reply => assert!(Instant::now() < end, "not as wanted: {reply:?}"),
        }
        std::thread::yield_now();
    }
}
