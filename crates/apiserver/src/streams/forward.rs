//! Port forwarding: SPDY streams, within a WebSocket or on the connection itself, that lead to
//! ports of a pod.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::SEC_WEBSOCKET_PROTOCOL;
use hyper::upgrade::Upgraded;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::TokioIo;
use portolan_store::Failure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::spdy::{self, Encoder, Frame, Parser};
use super::websocket::{Message, Reader, Writer, accept};
use super::{STREAM_PROTOCOL, offers, upgrade, wants};
use crate::body::Body;
use crate::node_side::{Duplex, Forward, NodeSide, PodRef};
use crate::refusal;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const PLAIN: &str = "portforward.k8s.io";

/// More connections of one client at a time are refused.
const MOST_STREAMS: usize = 512;

/// How many pieces wait for a slow reader.
const QUEUE: usize = 16;

/// Accepts what the client offers.
pub(super) fn forward(
    node_side: Arc<dyn NodeSide>,
    pod: PodRef,
    mut http: HttpRequest<Incoming>,
) -> Result<Response<Body>, Failure> {
    let tunnel = wants(&http, "websocket") && offers(&http, &SEC_WEBSOCKET_PROTOCOL, TUNNEL);
    let plain = wants(&http, "SPDY/3.1") && offers(&http, &STREAM_PROTOCOL, PLAIN);
    let response = if tunnel {
        accept(&http, TUNNEL)
    } else {
        plain.then(|| upgrade("SPDY/3.1", (STREAM_PROTOCOL, PLAIN)))
    };
    let response = response.ok_or_else(|| {
        refusal::bad_request(format!(
            "Upgrade request required: SPDY/3.1 with {PLAIN}, or a WebSocket with {TUNNEL}"
        ))
    })?;
    let upgraded = hyper::upgrade::on(&mut http);
    tokio::spawn(async move {
        let Ok(stream) = upgraded.await else { return };
        let (from, to) = tokio::io::split(TokioIo::new(stream));
        let (pieces, incoming) = mpsc::channel(QUEUE);
        let (outgoing, frames) = mpsc::channel(QUEUE);
        let session = Session::new(node_side, pod, outgoing).run(incoming);
        // Whatever ends first ends the others.
        if tunnel {
            let (pongs, pings) = mpsc::channel(4);
            tokio::select! {
                () = session => {}
                _ = read_messages(Reader::new(from), pieces, pongs) => {}
                _ = write_messages(Writer::new(to), frames, pings) => {}
            }
        } else {
            tokio::select! {
                () = session => {}
                _ = read_bytes(from, pieces) => {}
                _ = write_bytes(to, frames) => {}
            }
        }
    });
    Ok(response)
}

type From = ReadHalf<TokioIo<Upgraded>>;
type To = WriteHalf<TokioIo<Upgraded>>;

async fn read_messages(
    mut reader: Reader<From>,
    pieces: mpsc::Sender<Bytes>,
    pongs: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    loop {
        match reader.next().await? {
            Message::Close => return Ok(()),
            Message::Ping(payload) => drop(pongs.try_send(payload)),
            Message::Data(piece) => pieces.send(piece).await.map_err(io::Error::other)?,
        }
    }
}

async fn write_messages(
    mut writer: Writer<To>,
    mut frames: mpsc::Receiver<Vec<u8>>,
    mut pings: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            frame = frames.recv() => match frame {
                Some(frame) => writer.send(&[&frame]).await?,
                None => return writer.close().await,
            },
            Some(ping) = pings.recv() => writer.pong(&ping).await?,
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
                            copy(stream, id, received, &outgoing).await.err().map(|error| error.to_string())
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

/// Copies both directions until the pod has said everything.
async fn copy(
    stream: Box<dyn Duplex>,
    id: u32,
    mut received: mpsc::Receiver<Option<Vec<u8>>>,
    outgoing: &mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let input = async {
        while let Some(Some(bytes)) = received.recv().await {
            to.write_all(&bytes).await?;
            to.flush().await?;
        }
        to.shutdown().await
    };
    let output = async {
        let mut buffer = vec![0; 1 << 14];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 || outgoing.send(spdy::data(id, &buffer[..length], false)).await.is_err() {
                return Ok::<_, io::Error>(());
            }
        }
    };
    tokio::pin!(input);
    tokio::pin!(output);
    tokio::select! {
        // The pod may still answer when the client has said everything.
        sent = &mut input => {
            sent?;
            output.await
        }
        done = &mut output => done,
    }
}
