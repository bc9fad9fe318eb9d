//! The server's end of a WebSocket (RFC 6455).

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{
    HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
};
use hyper::{Request as HttpRequest, Response};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::sha1::digest;
use super::upgrade;
use crate::body::Body;

/// Larger messages end the connection, in bytes. kubectl sends 32 KiB at most.
const MESSAGE_LIMIT: usize = 1 << 20;

const PROTOCOL: HeaderName = SEC_WEBSOCKET_PROTOCOL;

/// The answer that accepts a WebSocket with one of the protocols that the client offers.
pub(super) fn accept(http: &HttpRequest<Incoming>, protocol: &'static str) -> Option<Response<Body>> {
    let key = http.headers().get(SEC_WEBSOCKET_KEY)?.as_bytes();
    let mut response = upgrade("websocket", (PROTOCOL, protocol));
    let value = HeaderValue::from_str(&accept_key(key)).ok()?;
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, value);
    Some(response)
}

/// What proves that the handshake was understood (section 4.2.2).
fn accept_key(key: &[u8]) -> String {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    STANDARD.encode(digest(&text))
}

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    Data(Bytes),
    Ping(Bytes),
    Close,
}

/// Reads messages. Fails if the client breaks the protocol.
pub(super) struct Reader<R> {
    from: R,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(super) fn new(from: R) -> Self {
        Self { from }
    }

    /// The next message.
    pub(super) async fn next(&mut self) -> io::Result<Message> {
        let mut whole: Option<Vec<u8>> = None;
        loop {
            let (head, payload) = self.frame(whole.as_ref().map_or(0, Vec::len)).await?;
            let last = head & 0x80 != 0;
            match head & 0x0f {
                0 => {
                    let Some(begun) = &mut whole else { return Err(broken("a continuation of nothing")) };
                    begun.extend_from_slice(&payload);
                }
                1 | 2 if whole.is_none() => whole = Some(payload),
                8 => return Ok(Message::Close),
                // Between the parts of a message, too.
                9 if whole.is_none() => return Ok(Message::Ping(payload.into())),
                9 | 10 => continue,
                _ => return Err(broken("a frame that does not belong there")),
            }
            if last {
                return Ok(Message::Data(whole.unwrap_or_default().into()));
            }
        }
    }

    /// The first byte and the content of a frame; `before` bytes of its message have been read.
    async fn frame(&mut self, before: usize) -> io::Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.from.read_exact(&mut head).await?;
        let length = match head[1] & 0x7f {
            126 => u64::from(self.from.read_u16().await?),
            127 => self.from.read_u64().await?,
            short => u64::from(short),
        };
        if head[1] & 0x80 == 0 {
            return Err(broken("a client's frame without a mask"));
        }
        let length =
            usize::try_from(length).ok().filter(|length| length.saturating_add(before) <= MESSAGE_LIMIT);
        let length = length.ok_or_else(|| broken("a message that is too long"))?;
        let mut mask = [0; 4];
        self.from.read_exact(&mut mask).await?;
        let mut payload = vec![0; length];
        self.from.read_exact(&mut payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        Ok((head[0], payload))
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A frame of a server: `kind` 2 for bytes, 8 to close, 10 to answer a ping.
fn frame(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 10);
    out.push(0x80 | kind);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..126), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// Writes messages.
pub(super) struct Writer<W> {
    to: W,
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(super) fn new(to: W) -> Self {
        Self { to }
    }

    /// Sends bytes that come in parts as one message.
    pub(super) async fn send(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.write(&frame(2, parts)).await
    }

    pub(super) async fn pong(&mut self, payload: &[u8]) -> io::Result<()> {
        self.write(&frame(10, &[payload])).await
    }

    /// Says that nothing more comes, regularly (1000).
    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.write(&frame(8, &[&1000_u16.to_be_bytes()])).await
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes).await?;
        self.to.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    #[test]
    fn proves_that_it_understood() {
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = frame(head & 0x0f, &[]);
        out[0] = head;
        out.truncate(1);
        out.push(0x80 | u8::try_from(payload.len()).expect("short"));
        out.extend_from_slice(&[1, 2, 3, 4]);
        out.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(byte, mask)| byte ^ mask));
        out
    }

    #[tokio::test]
    async fn reads_messages() {
        let bytes = [
            masked(0x82, b"\0typed"),
            masked(0x02, b"in "),
            masked(0x8a, b""),
            masked(0x80, b"parts"),
            masked(0x89, b"?"),
            masked(0x88, b""),
        ]
        .concat();
        let mut reader = Reader::new(&bytes[..]);
        for expected in [
            Message::Data(Bytes::from_static(b"\0typed")),
            Message::Data(Bytes::from_static(b"in parts")),
            Message::Ping(Bytes::from_static(b"?")),
            Message::Close,
        ] {
            assert_eq!(reader.next().await.expect("a message"), expected);
        }
        for broken in [
            vec![0x82, 1, b'a'],
            masked(0x80, b"of nothing"),
            masked(0x83, b"reserved"),
            vec![0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            vec![0x82, 0x85, 1, 2],
            vec![],
        ] {
            assert!(Reader::new(&broken[..]).next().await.is_err(), "{broken:?}");
        }
    }

    #[tokio::test]
    async fn writes_messages() {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out);
        writer.send(&[&[1], b"out"]).await.expect("written");
        writer.close().await.expect("written");
        assert_eq!(out, b"\x82\x04\x01out\x88\x02\x03\xe8");
        assert_eq!(frame(2, &[&[0; 300]])[..4], [0x82, 126, 1, 44]);
        assert_eq!(frame(2, &[&vec![0; 70_000]])[..10], [0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]);
    }
}
