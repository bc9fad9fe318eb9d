//! Port forwarding: SPDY streams, within a WebSocket or on the connection itself, that lead to
//! ports of a pod; or channels of a WebSocket.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::SEC_WEBSOCKET_PROTOCOL;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use portolan_store::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::carry::{From, QUEUE, To, copy, read_messages, write_messages};
use super::spdy::{self, Encoder, Frame, Parser};
use super::websocket::{Reader, Writer, accept};
use super::{STREAM_PROTOCOL, channels, offers, upgrade, wants};
use crate::body::Body;
use crate::node_side::{Forward, NodeSide, PodRef};
use crate::refusal;
use crate::state::Request;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PLAIN: &str = "portforward.k8s.io";

/// More connections of one client at a time are refused.
const MOST_STREAMS: usize = 512;

/// Accepts what the client offers.
pub(super) fn forward(
    node_side: Arc<dyn NodeSide>,
    pod: PodRef,
    request: &Request,
    mut http: HttpRequest<Incoming>,
) -> Result<Response<Body>, Failure> {
    let websocket = |protocol| wants(&http, "websocket") && offers(&http, &SEC_WEBSOCKET_PROTOCOL, protocol);
    let (form, response) = if websocket(TUNNEL) {
        (Form::Tunnel, accept(&http, TUNNEL))
    } else if websocket(channels::PROTOCOL) {
        (Form::Channels(channels::ports(request)?), accept(&http, channels::PROTOCOL))
    } else {
        let plain = wants(&http, "SPDY/3.1") && offers(&http, &STREAM_PROTOCOL, PLAIN);
        (Form::Plain, plain.then(|| upgrade("SPDY/3.1", (STREAM_PROTOCOL, PLAIN))))
    };
    let response = response.ok_or_else(|| {
        refusal::bad_request(format!(
            "Upgrade request required: SPDY/3.1 with {PLAIN}, or a WebSocket with {TUNNEL} or {}",
            channels::PROTOCOL
        ))
    })?;
    let upgraded = hyper::upgrade::on(&mut http);
    tokio::spawn(async move {
        if let Ok(stream) = upgraded.await {
            let (from, to) = tokio::io::split(TokioIo::new(stream));
            serve(form, node_side, pod, (from, to)).await;
        }
    });
    Ok(response)
}

/// How a client wants its ports.
enum Form {
    /// Streams of SPDY on the connection.
    Plain,
    /// Streams of SPDY in messages of a WebSocket.
    Tunnel,
    /// These ports as channels of a WebSocket.
    Channels(Vec<u16>),
}

async fn serve(form: Form, node_side: Arc<dyn NodeSide>, pod: PodRef, (from, to): (From, To)) {
    let (pieces, incoming) = mpsc::channel(QUEUE);
    let (outgoing, frames) = mpsc::channel(QUEUE);
    let (pongs, pings) = mpsc::channel(4);
    // Whoever ends first ends the others.
    match form {
        Form::Plain => {
            let session = Session::new(node_side, pod, outgoing).run(incoming);
            tokio::select! {
                () = session => {}
                _ = read_bytes(from, pieces) => {}
                _ = write_bytes(to, frames) => {}
            }
        }
        Form::Tunnel => {
            let session = Session::new(node_side, pod, outgoing).run(incoming);
            tokio::select! {
                () = session => {}
                _ = read_messages(Reader::new(from), pieces, pongs) => {}
                _ = write_messages(Writer::new(to), frames, pings) => {}
            }
        }
        Form::Channels(ports) => {
            // What the pod said last is sent before the end.
            let session = channels::run(node_side, pod, ports, incoming, outgoing);
            let both = async { tokio::join!(session, write_messages(Writer::new(to), frames, pings)) };
            tokio::select! {
                _ = both => {}
                _ = read_messages(Reader::new(from), pieces, pongs) => {}
            }
        }
    }
}

async fn read_bytes(mut from: From, pieces: mpsc::Sender<Bytes>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 15];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        pieces.send(Bytes::copy_from_slice(&buffer[..length])).await.map_err(io::Error::other)?;
    }
}

async fn write_bytes(mut to: To, mut frames: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(frame) = frames.recv().await {
        to.write_all(&frame).await?;
        to.flush().await?;
    }
    Ok(())
}

/// What the client sends on a stream; none at the end.
type Input = mpsc::Sender<Option<Vec<u8>>>;

/// The streams of a client.
struct Session {
    node_side: Arc<dyn NodeSide>,
    pod: PodRef,
    outgoing: mpsc::Sender<Vec<u8>>,
    encoder: Encoder,
    /// Streams for errors, by the number of the connection.
    errors: HashMap<String, u32>,
    inputs: HashMap<u32, Input>,
    connections: JoinSet<u32>,
}

impl Session {
    fn new(node_side: Arc<dyn NodeSide>, pod: PodRef, outgoing: mpsc::Sender<Vec<u8>>) -> Self {
        Self {
            node_side,
            pod,
            outgoing,
            encoder: Encoder::default(),
            errors: HashMap::new(),
            inputs: HashMap::new(),
            connections: JoinSet::new(),
        }
    }

    async fn run(mut self, mut incoming: mpsc::Receiver<Bytes>) {
        let mut parser = Parser::new();
        loop {
            tokio::select! {
                piece = incoming.recv() => {
                    let Some(piece) = piece else { return };
                    parser.push(&piece);
                    loop {
                        match parser.next() {
                            Ok(Some(frame)) => {
                                if !self.take(frame).await {
                                    return;
                                }
                            }
                            Ok(None) => break,
                            Err(spdy::Broken) => return,
                        }
                    }
                }
                Some(ended) = self.connections.join_next() => {
                    if let Ok(id) = ended {
                        self.inputs.remove(&id);
                    }
                }
            }
        }
    }

    /// Follows a frame; says whether to go on.
    async fn take(&mut self, frame: Frame) -> bool {
        match frame {
            Frame::Open { id, headers, .. } => self.open(id, &headers).await,
            Frame::Data { id, bytes, last } => {
                if let Some(input) = self.inputs.get(&id) {
                    // A connection that has ended takes nothing more.
                    let mut open = bytes.is_empty() || input.send(Some(bytes)).await.is_ok();
                    open = open && (!last || input.send(None).await.is_ok());
                    if last || !open {
                        self.inputs.remove(&id);
                    }
                }
                true
            }
            Frame::Reset { id } => {
                self.inputs.remove(&id);
                true
            }
            Frame::Ping { id } => self.outgoing.send(spdy::ping(id)).await.is_ok(),
            Frame::GoAway => false,
        }
    }

    async fn open(&mut self, id: u32, headers: &[(String, String)]) -> bool {
        let header =
            |wanted: &str| headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
        let request = header("requestid").unwrap_or_default().to_owned();
        let too_many = self.connections.len() >= MOST_STREAMS || self.errors.len() >= MOST_STREAMS;
        match (header("streamtype"), header("port").and_then(|port| port.parse::<u16>().ok())) {
            (Some("error"), _) if !too_many => {
                self.errors.insert(request, id);
            }
            (Some("data"), Some(port)) if !too_many => {
                let (input, received) = mpsc::channel(QUEUE);
                self.inputs.insert(id, input);
                let connection = self.node_side.connect(self.pod.clone(), Forward { port });
                let error = self.errors.remove(&request);
                let outgoing = self.outgoing.clone();
                self.connections.spawn(async move {
                    let failed = match connection.await {
                        Ok(stream) => {
                            let framed = |bytes: &[u8]| spdy::data(id, bytes, false);
                            copy(stream, framed, received, &outgoing)
                                .await
                                .err()
                                .map(|error| error.to_string())
                        }
                        Err(message) => Some(message),
                    };
                    let said = failed.filter(|message| !message.is_empty()).unwrap_or_default();
                    // An error means that the client went away.
                    if let Some(error) = error {
                        let _gone = outgoing.send(spdy::data(error, said.as_bytes(), true)).await;
                    }
                    let _gone = outgoing.send(spdy::data(id, b"", true)).await;
                    id
                });
            }
            _ => return self.outgoing.send(spdy::reset(id)).await.is_ok(),
        }
        let reply = self.encoder.reply(id);
        self.outgoing.send(reply).await.is_ok()
    }
}
