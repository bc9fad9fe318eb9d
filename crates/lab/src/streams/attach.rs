//! `attach`: what a container writes from now on. It has no input in the lab.

use portolan_apiserver::{Process, Run};
use tokio::sync::{mpsc, oneshot};

use crate::pod::Log;

/// How many pieces wait for a slow reader.
const QUEUE: usize = 4;

/// Follows a container until it ends or nobody looks any more. What it writes to its output and
/// what it writes as errors is one stream, and comes as output, if that is asked for. Call it
/// within a runtime.
pub(super) fn attach(log: &Log, run: &Run) -> Process {
    // Receivers that are dropped at once: what is typed is refused.
    let (stdin, resize) = (mpsc::channel(1).0, mpsc::channel(1).0);
    let (output, stdout) = mpsc::channel(QUEUE);
    let (errors, stderr) = mpsc::channel(QUEUE);
    let (mut exit, ended) = oneshot::channel();
    let to = match (run.stdout, run.stderr) {
        (true, _) => Some(output),
        (false, true) => Some(errors),
        (false, false) => None,
    };
    let mut follower = log.follow(log.end());
    tokio::spawn(async move {
        loop {
            let piece = tokio::select! {
                piece = follower.next() => piece,
                () = exit.closed() => return,
            };
            if let Some(to) = &to
                && !piece.bytes.is_empty()
                && to.send(piece.bytes.into()).await.is_err()
            {
                return;
            }
            if piece.is_last {
                break;
            }
        }
        // Its exit code is in the status of the pod.
        let _gone = exit.send(Ok(0));
    });
    Process { stdin, stdout, stderr, resize, exit: ended }
}
