//! Port forwarding without SPDY, as clients other than kubectl do it: a WebSocket with protocol
//! `v4.channel.k8s.io`. The first byte of a message is its channel. The `n`th port that the request
//! names has channel `2n` for bytes and `2n + 1` for what goes wrong, and the first message on each
//! is the port's number, with the low byte first.

use std::sync::Arc;

use bytes::Bytes;
use portolan_store::Failure;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::carry::{QUEUE, copy};
use crate::node_side::{Forward, NodeSide, PodRef};
use crate::refusal;
use crate::state::Request;

pub(super) const PROTOCOL: &str = "v4.channel.k8s.io";

/// So many channels have a number of one byte.
const MOST_PORTS: usize = 128;

/// The ports that a request names, at least one.
pub(super) fn ports(request: &Request) -> Result<Vec<u16>, Failure> {
    let named = request.query.iter().filter(|(name, _)| name == "ports" || name == "port");
    let ports: Option<Vec<u16>> = named
        .flat_map(|(_, list)| list.split(','))
        .map(|port| port.parse().ok().filter(|port| *port > 0))
        .collect();
    match ports {
        Some(ports) if (1..=MOST_PORTS).contains(&ports.len()) => Ok(ports),
        _ => Err(refusal::bad_request(format!(
            "query parameter \"ports\" is required: 1 to {MOST_PORTS} numbers of ports, with commas between them"
        ))),
    }
}

/// Forwards until all connections to the pod have ended, or the client is gone.
pub(super) async fn run(
    node_side: Arc<dyn NodeSide>,
    pod: PodRef,
    ports: Vec<u16>,
    mut incoming: mpsc::Receiver<Bytes>,
    outgoing: mpsc::Sender<Vec<u8>>,
) {
    let mut inputs = Vec::new();
    let mut connections = JoinSet::new();
    for (data, port) in (0_u8..).step_by(2).zip(ports) {
        for channel in [data, data + 1] {
            if outgoing.send(framed(channel, &port.to_le_bytes())).await.is_err() {
                return;
            }
        }
        let (input, received) = mpsc::channel(QUEUE);
        inputs.push(input);
        let connection = node_side.connect(pod.clone(), Forward { port });
        let outgoing = outgoing.clone();
        connections.spawn(async move {
            let failed = match connection.await {
                Ok(stream) => {
                    let copied = copy(stream, |bytes| framed(data, bytes), received, &outgoing).await;
                    copied.err().map(|error| error.to_string())
                }
                Err(message) => Some(message),
            };
            if let Some(message) = failed {
                // An error means that the client went away.
                let _gone = outgoing.send(framed(data + 1, message.as_bytes())).await;
            }
        });
    }
    loop {
        tokio::select! {
            piece = incoming.recv() => {
                let Some(piece) = piece else { return };
                let Some((channel, bytes)) = piece.split_first() else { continue };
                if let Some(input) = inputs.get(usize::from(channel / 2)).filter(|_| channel % 2 == 0) {
                    // A connection that has ended takes nothing more.
                    let _ended = input.send(Some(bytes.to_vec())).await;
                }
            }
            ended = connections.join_next() => {
                if ended.is_none() {
                    return;
                }
            }
        }
    }
}

fn framed(channel: u8, bytes: &[u8]) -> Vec<u8> {
    [&[channel], bytes].concat()
}
