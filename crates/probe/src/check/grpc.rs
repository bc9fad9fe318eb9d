//! One call of `grpc.health.v1.Health/Check`, over HTTP/2 without TLS (RFC 9113).
//!
//! A call is one request with one message each way, so little of HTTP/2 is needed: no windows are
//! kept, and what comes of other streams is passed over.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{USER_AGENT, hpack};

/// What a client begins with (§3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The longest frame that a server may send unless it is allowed more (§4.2).
const LONGEST: usize = 1 << 14;
/// So much of what a server says of an error is passed on, in characters.
const LONGEST_TEXT: usize = 200;
/// So many frames may come before the answer.
const MOST_FRAMES: usize = 100;

/// Types of frames (§6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

/// Flags of frames.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 0x20;

/// The stream of the only request.
const STREAM: u32 = 1;

/// `HealthCheckResponse.SERVING`
const SERVING: u8 = 1;
/// Status codes of gRPC by their names.
const UNIMPLEMENTED: &str = "12";

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// What an answer said.
#[derive(Default)]
struct Answer {
    message: Vec<u8>,
    status: Option<String>,
    text: Option<String>,
}

/// Asks on `stream` whether `service` is served.
pub(super) async fn check(mut stream: TcpStream, to: SocketAddr, service: &str) -> Result<(), String> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("the server at {to} closed the connection: no gRPC?"),
        _ => format!("the server at {to}: {error}"),
    };
    stream.write_all(&request(to, service)).await.map_err(failed)?;
    let answer = answer(&mut stream).await.map_err(failed)?;
    match (answer.status.as_deref(), serving(&answer.message)) {
        (None | Some("0"), Some(SERVING)) => Ok(()),
        (None | Some("0"), status) => {
            let status = match status {
                Some(2) => "NOT_SERVING",
                Some(3) => "SERVICE_UNKNOWN",
                Some(_) => "UNKNOWN",
                None => return Err(format!("the server at {to} did not answer the call: no gRPC?")),
            };
            Err(format!("service unhealthy (responded with \"{status}\")"))
        }
        (Some(UNIMPLEMENTED), _) => {
            Err("this server does not implement the grpc health protocol (grpc.health.v1.Health)".to_owned())
        }
        (Some(code), _) => {
            // What a workload says goes to the log and to terminals.
            let plain = |text: &str| -> String {
                text.chars().filter(|char| !char.is_control()).take(LONGEST_TEXT).collect()
            };
            let (code, text) = (plain(code), plain(answer.text.as_deref().unwrap_or_default()));
            Err(format!("rpc error: code = {code} desc = {text}"))
        }
    }
}

fn request(to: SocketAddr, service: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", to.to_string().as_str()),
        ("content-type", "application/grpc"),
        ("user-agent", USER_AGENT),
        ("te", "trailers"),
    ] {
        hpack::literal(&mut block, name, value);
    }
    // `HealthCheckRequest { string service = 1; }`, behind five bytes: not compressed, its length.
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        varint(&mut message, service.len());
        message.extend(service.bytes());
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let data = [&[0][..], &length.to_be_bytes(), &message].concat();
    let mut request = PREFACE.to_vec();
    // SETTINGS_HEADER_TABLE_SIZE and SETTINGS_ENABLE_PUSH are 0 (§6.5.2).
    frame(&mut request, SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    frame(&mut request, HEADERS, END_HEADERS, STREAM, &block);
    frame(&mut request, DATA, END_STREAM, STREAM, &data);
    request
}

fn varint(message: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        message.push(0x80 | number.to_le_bytes()[0]);
        number >>= 7;
    }
    message.push(number.to_le_bytes()[0]);
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend(&length[1..]);
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
}

async fn answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut answer = Answer::default();
    for _ in 0..MOST_FRAMES {
        let Frame { kind, flags, stream: of, payload } = read(stream).await?;
        match (kind, of) {
            (SETTINGS | PING, _) if flags & ACK == 0 => {
                let mut reply = Vec::new();
                let echoed: &[u8] = if kind == PING { &payload } else { &[] };
                frame(&mut reply, kind, ACK, 0, echoed);
                // Who has said everything need not listen any more.
                let _ = stream.write_all(&reply).await;
            }
            (HEADERS, STREAM) => {
                let [status, text] = hpack::find(content(flags, &payload), ["grpc-status", "grpc-message"]);
                answer.status = status.or(answer.status);
                answer.text = text.or(answer.text);
            }
            (DATA, STREAM) => answer.message.extend(content(flags, &payload)),
            (RST_STREAM, STREAM) | (GOAWAY, _) => {
                // A GOAWAY names the last stream before the code, and may say more behind (§6.8).
                let begin = if kind == GOAWAY { 4 } else { 0 };
                let code = payload.get(begin..).and_then(|rest| rest.first_chunk::<4>());
                let code = code.map_or(0, |code| u32::from_be_bytes(*code));
                let what = if kind == GOAWAY { "the connection" } else { "the call" };
                // Who goes away without an error still answers what was asked before.
                if kind == GOAWAY && code == 0 {
                    continue;
                }
                return Err(io::Error::other(format!("it ended {what} with HTTP/2 error {code}")));
            }
            _ => {}
        }
        if of == STREAM && flags & END_STREAM != 0 && matches!(kind, DATA | HEADERS) {
            return Ok(answer);
        }
        if answer.message.len() > LONGEST {
            break;
        }
    }
    Err(io::Error::other("it sent too much that is no answer"))
}

async fn read(stream: &mut TcpStream) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let [a, b, c, kind, flags, stream_id @ ..] = head;
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length > LONGEST {
        return Err(io::Error::other("it does not speak HTTP/2: no gRPC?"));
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await?;
    Ok(Frame { kind, flags, stream: u32::from_be_bytes(stream_id) & 0x7fff_ffff, payload })
}

/// What is in a frame of data or headers besides padding and priority.
fn content(flags: u8, payload: &[u8]) -> &[u8] {
    let (padding, rest) = match payload.split_first() {
        Some((padding, rest)) if flags & PADDED != 0 => (usize::from(*padding), rest),
        _ => (0, payload),
    };
    let begin = if flags & PRIORITY != 0 { 5 } else { 0 };
    rest.get(begin..rest.len().saturating_sub(padding)).unwrap_or_default()
}

/// `HealthCheckResponse { ServingStatus status = 1; }`: the status, behind the five bytes of
/// gRPC. A status of 0 may be left out.
fn serving(message: &[u8]) -> Option<u8> {
    let (head, fields) = message.split_at_checked(5)?;
    match (head[0], fields) {
        (0, [0x08, status, ..]) => Some(*status),
        (0, []) => Some(0),
        _ => None,
    }
}
