//! As much of HTTP/1.1 (RFC 9112) as the responder speaks: requests without bodies.

use super::{Answer, Page};

/// A longer request head ends the connection; in bytes.
pub(super) const MAX_HEAD: usize = 16 * 1024;

/// A request head.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    method: String,
    path: String,
    /// Whether the client wants to ask more on this connection (RFC 9112 §9.3).
    pub(super) keep_alive: bool,
}

impl RequestHead {
    /// The path, and a query if there is one.
    pub(super) fn target(&self) -> &str {
        &self.path
    }

    /// The first whole request in `bytes` and its length; nothing while it is incomplete.
    pub(super) fn parse(bytes: &[u8]) -> Option<(RequestHead, usize)> {
        let length = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..length]);
        let mut lines = head.lines();
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (method, path, version) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let connection = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("connection"))
            .map_or("", |(_, value)| value.trim());
        let keep_alive = match version {
            "HTTP/1.1" => !connection.eq_ignore_ascii_case("close"),
            "HTTP/1.0" => connection.eq_ignore_ascii_case("keep-alive"),
            _ => false,
        };
        Some((RequestHead { method: method.to_owned(), path: path.to_owned(), keep_alive }, length))
    }
}

/// The whole response.
pub(super) fn respond(request: &RequestHead, page: &Page, answer: &Answer) -> Vec<u8> {
    let (status, kind, body) = match request.method.as_str() {
        "GET" | "HEAD" => page.content(&request.path, answer),
        _ => ("405 Method Not Allowed", "text/plain", "only GET and HEAD\n".to_owned()),
    };
    let connection = if request.keep_alive { "keep-alive" } else { "close" };
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    );
    if request.method != "HEAD" {
        response.push_str(&body);
    }
    response.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, path: &str, keep_alive: bool) -> RequestHead {
        RequestHead { method: method.to_owned(), path: path.to_owned(), keep_alive }
    }

    #[test]
    fn requests() {
        for (situation, bytes, expected) in [
            ("nothing", "", None),
            ("half a head", "GET / HTTP/1.1\r\nHost: a\r\n", None),
            ("HTTP/1.1", "GET / HTTP/1.1\r\n\r\n", Some((request("GET", "/", true), 18))),
            (
                "closing",
                "GET /a HTTP/1.1\r\nconnection: Close\r\n\r\nGET",
                Some((request("GET", "/a", false), 38)),
            ),
            ("HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", Some((request("GET", "/", false), 18))),
            (
                "HTTP/1.0 that stays",
                "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                Some((request("GET", "/", true), 42)),
            ),
            ("no HTTP", "\u{1}\u{2}\r\n\r\n", Some((request("\u{1}\u{2}", "", false), 6))),
        ] {
            assert_eq!(RequestHead::parse(bytes.as_bytes()), expected, "{situation}");
        }
    }

    #[test]
    fn responses() {
        let answer = Answer::example();
        for (method, path, status, body) in [
            (
                "GET",
                "/",
                "200 OK",
                "hello from web on host1\nyou are 192.168.50.100:4000, I am 10.244.1.2:8080\n",
            ),
            (
                "GET",
                "/whoami?x",
                "200 OK",
                "{\"pod\":\"web\",\"node\":\"host1\",\"protocol\":\"TCP\",\"client\":\"192.168.50.100:4000\",\"server\":\"10.244.1.2:8080\"}\n",
            ),
            ("HEAD", "/", "200 OK", ""),
            ("GET", "/x", "404 Not Found", "not here; try / or /whoami\n"),
            ("PUT", "/", "405 Method Not Allowed", "only GET and HEAD\n"),
        ] {
            let response =
                String::from_utf8(respond(&request(method, path, true), &Page::Facts, &answer)).unwrap();
            let (head, text) = response.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{method} {path}: {head}");
            assert_eq!(text, body, "{method} {path}");
        }
    }
}
