//! What all forms of port forwarding have in common: messages of a WebSocket, and the copying
//! between a client and a port of a pod.

use std::io;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::websocket::{Message, Reader, Writer};
use crate::node_side::Duplex;

/// How many pieces wait for a slow reader.
pub(super) const QUEUE: usize = 16;

/// What the client sends.
pub(super) type From = ReadHalf<TokioIo<Upgraded>>;
/// What it is sent.
pub(super) type To = WriteHalf<TokioIo<Upgraded>>;

/// Passes on the content of messages, until the client closes.
pub(super) async fn read_messages(
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

/// Sends each piece as a message, and closes when there are no more.
pub(super) async fn write_messages(
    mut writer: Writer<To>,
    mut pieces: mpsc::Receiver<Vec<u8>>,
    mut pings: mpsc::Receiver<Bytes>,
) -> io::Result<()> {
    loop {
        tokio::select! {
            piece = pieces.recv() => match piece {
                Some(piece) => writer.send(&[&piece]).await?,
                None => return writer.close().await,
            },
            Some(ping) = pings.recv() => writer.pong(&ping).await?,
        }
    }
}

/// Copies both directions until the pod has said everything. What it says is sent as `framed`
/// makes it; `None` among what is received is the client's end.
pub(super) async fn copy(
    stream: Box<dyn Duplex>,
    framed: impl Fn(&[u8]) -> Vec<u8>,
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
            if length == 0 || outgoing.send(framed(&buffer[..length])).await.is_err() {
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
