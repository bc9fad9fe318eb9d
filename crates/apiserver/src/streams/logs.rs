//! Logs.

use portolan_store::Failure;

use crate::body::Body;
use crate::node_side::{LogOptions, NodeSide, PodRef};
use crate::refusal;
use crate::state::Request;

/// The log of a container, as it comes.
pub(super) async fn logs(node_side: &dyn NodeSide, pod: PodRef, request: &Request) -> Result<Body, Failure> {
    let truth = |name: &str| matches!(request.parameter(name), Some("true" | "1"));
    let number = |name: &str| match request.parameter(name).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| refusal::bad_request(format!("{name}: invalid value: {text:?}"))),
    };
    let since_time = request.parameter("sinceTime").and_then(crate::clock::seconds);
    let since_time = since_time.map(|time| u64::try_from(crate::clock::now() - time).unwrap_or(0));
    let options = LogOptions {
        follow: truth("follow"),
        previous: truth("previous"),
        timestamps: truth("timestamps"),
        tail: number("tailLines")?,
        since: number("sinceSeconds")?.or(since_time),
        limit: number("limitBytes")?,
    };
    let mut pieces = node_side.log(pod, options).await.map_err(refusal::bad_request)?;
    let (sender, body) = Body::stream();
    tokio::spawn(async move {
        loop {
            let piece = tokio::select! {
                piece = pieces.recv() => piece,
                () = sender.closed() => None,
            };
            let Some(piece) = piece else { return };
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    Ok(body)
}
