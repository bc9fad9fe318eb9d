//! One request over HTTP/1.1, of whose answer only the status matters.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::USER_AGENT;
use crate::spec::HttpGet;

/// No more of an answer is looked at for its first line, in bytes.
const MOST: usize = 10 << 10;

/// The path that is asked for; it always begins with a slash.
pub(super) fn path(http: &HttpGet) -> String {
    let slash = if http.path.starts_with('/') { "" } else { "/" };
    format!("{slash}{}", http.path)
}

/// The request. Line breaks in what others have written would begin headers of their own.
fn head(http: &HttpGet) -> String {
    let host = http.to.to_string();
    let usual = [("Host", host.as_str()), ("User-Agent", USER_AGENT), ("Accept", "*/*")];
    let own = http.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let is_replaced = |name: &str| http.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
    let kept = usual.into_iter().filter(|(name, _)| !is_replaced(name));
    let plain = |text: &str| text.replace(['\r', '\n'], " ");
    let mut head = format!("GET {} HTTP/1.1\r\n", plain(&path(http)).replace(' ', "%20"));
    for (name, value) in kept.chain(own) {
        // An empty one of these is no header; an empty host is the address.
        let value = match value {
            "" if name.eq_ignore_ascii_case("host") => &host,
            "" if usual.iter().any(|(usual, _)| usual.eq_ignore_ascii_case(name)) => continue,
            value => value,
        };
        head.extend([&plain(name), ": ", &plain(value), "\r\n"]);
    }
    head.push_str("Connection: close\r\n\r\n");
    head
}

/// Asks, and gives the status of the answer.
pub(super) async fn status(
    http: &HttpGet,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<Option<u16>> {
    stream.write_all(head(http).as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    // What has come and is not read makes the kernel reset the connection.
    let mut piece = vec![0; MOST];
    let mut read = 0;
    while read < MOST {
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                answer.extend_from_slice(&piece[..length]);
                read += length;
            }
        }
        while is_interim(&answer) {
            let Some(end) = answer.windows(4).position(|end| end == b"\r\n\r\n") else { break };
            answer.drain(..end + 4);
        }
        if answer.contains(&b'\n') && !is_interim(&answer) {
            break;
        }
    }
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed HTTP response");
    parse(&answer).map(Some).ok_or_else(malformed)
}

/// Another answer follows this one (RFC 9110 §15.2), but for a change of protocol.
fn is_interim(answer: &[u8]) -> bool {
    answer.contains(&b'\n') && parse(answer).is_some_and(|status| status < 200 && status != 101)
}

/// The status in a line such as `HTTP/1.1 200 OK`.
fn parse(answer: &[u8]) -> Option<u16> {
    let line = String::from_utf8_lossy(answer);
    let mut words = line.split_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/"))?;
    words.next()?.parse().ok().filter(|status| (100..1000).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(path: &str, headers: &[(&str, &str)]) -> String {
        let to = "192.0.2.1:8080".parse().unwrap();
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        head(&HttpGet { to, tls: false, path: path.to_owned(), headers: headers.collect() })
    }

    #[test]
    fn requests_have_what_kubelet_sends_and_what_is_asked_for() {
        assert_eq!(
            asked("healthz?full=1", &[("X-Probe", "yes")]),
            "GET /healthz?full=1 HTTP/1.1\r\nHost: 192.0.2.1:8080\r\nUser-Agent: kube-probe/1.36\r\n\
             Accept: */*\r\nX-Probe: yes\r\nConnection: close\r\n\r\n"
        );
        let other = asked("/", &[("host", "shop.example"), ("Accept", ""), ("User-Agent", "me")]);
        assert_eq!(
            other,
            "GET / HTTP/1.1\r\nhost: shop.example\r\nUser-Agent: me\r\nConnection: close\r\n\r\n"
        );
        let injected = asked("/a\r\nb", &[("x", "1\r\ny: 2")]);
        assert!(injected.starts_with("GET /a%20%20b HTTP/1.1\r\n") && injected.contains("x: 1  y: 2\r\n"));
    }

    #[tokio::test]
    async fn interim_answers_are_passed_over() {
        let http = HttpGet {
            to: "192.0.2.1:80".parse().unwrap(),
            tls: false,
            path: String::new(),
            headers: Vec::new(),
        };
        for (pieces, expected) in [
            (&["HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 204 No Content\r\n"][..], 204),
            (&["HTTP/1.1 100 Continue\r\n", "\r\nHTTP/1.1 5", "03 x\r\n"], 503),
            (&["HTTP/1.1 101 Switching Protocols\r\n"], 101),
        ] {
            let (client, mut server) = tokio::io::duplex(1024);
            let answer = async {
                for piece in pieces {
                    server.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let (status, ()) = tokio::join!(status(&http, client), answer);
            assert_eq!(status.unwrap(), Some(expected), "{pieces:?}");
        }
    }

    #[test]
    fn statuses() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 503\r\n", Some(503)),
            ("HTTP/1.1 \r\n", None),
            ("SSH-2.0-x 200\r\n", None),
            ("HTTP/1.1 99 x\r\n", None),
            ("", None),
        ] {
            assert_eq!(parse(answer.as_bytes()), expected, "{answer:?}");
        }
    }
}
