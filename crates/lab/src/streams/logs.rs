//! Logs, as kubelet prints them.

use std::io;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use portolan_apiserver::LogOptions;
use tokio::sync::mpsc;

use crate::clock;
use crate::pod::{Log, Piece};

/// How many pieces wait for a slow reader.
const QUEUE: usize = 4;

/// Sends what is asked for of a log. Ends with the log, or when nobody reads any more. Call it
/// within a runtime.
pub(super) fn send(log: Log, options: LogOptions) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(copy(log, options, sender));
    receiver
}

async fn copy(log: Log, options: LogOptions, to: mpsc::Sender<io::Result<Bytes>>) {
    let since = options.since.and_then(|since| SystemTime::now().checked_sub(Duration::from_secs(since)));
    let mut follower = log.follow(log.place(options.tail, since));
    let end = if options.follow { u64::MAX } else { log.end() };
    let mut left = options.limit.unwrap_or(u64::MAX);
    while left > 0 && follower.place() < end {
        let piece = if options.follow {
            tokio::select! {
                piece = follower.next() => piece,
                () = to.closed() => return,
            }
        } else {
            follower.now()
        };
        let is_last = piece.is_last;
        let mut bytes = if options.timestamps { with_times(&piece) } else { piece.bytes };
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        left -= bytes.len() as u64;
        if !bytes.is_empty() && to.send(Ok(bytes.into())).await.is_err() || is_last {
            return;
        }
    }
}

/// The piece with the time before each line.
fn with_times(piece: &Piece) -> Vec<u8> {
    let mut out = Vec::with_capacity(piece.bytes.len() + piece.lines.len() * 31);
    let mut from = 0;
    for (place, time) in &piece.lines {
        out.extend_from_slice(&piece.bytes[from..*place]);
        // All nine digits, as kubelet has them (`RFC3339NanoFixed`).
        out.extend_from_slice(format!("{} ", clock::precise(*time, 9)).as_bytes());
        from = *place;
    }
    out.extend_from_slice(&piece.bytes[from..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_times() {
        let at = |nanoseconds| SystemTime::UNIX_EPOCH + Duration::new(1_777_886_251, nanoseconds);
        let piece = Piece {
            bytes: b"end\none\ntwo".to_vec(),
            lines: vec![(4, at(12)), (8, at(500_000_000))],
            is_last: true,
        };
        assert_eq!(
            String::from_utf8(with_times(&piece)).expect("text"),
            "end\n2026-05-04T09:17:31.000000012Z one\n2026-05-04T09:17:31.500000000Z two"
        );
    }
}
