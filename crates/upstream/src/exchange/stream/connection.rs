//! One connection, with a task that reads and writes.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::{Stream, ended};
use crate::entropy;
use crate::exchange::Failure;
use crate::question::{Match, Message};

/// So many questions wait to be written at most.
const QUEUE: usize = 64;

/// The longest time that an unused connection is kept.
const EXPIRE_MAX: Duration = Duration::from_hours(1);

/// A connection, for whoever asks. It is closed when nobody has it and nobody waits.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

/// What all who ask share with the task.
#[derive(Debug)]
struct Shared {
    /// How many wait for an answer, or to be written.
    waiting: AtomicUsize,
    pending: Mutex<Pending>,
}

#[derive(Debug)]
struct Pending {
    by_id: HashMap<u16, Request>,
    /// When something came last.
    heard: Instant,
    /// When it was used last.
    used: Instant,
}

/// A question that waits for its answer.
#[derive(Debug)]
struct Request {
    message: Message,
    reply: oneshot::Sender<(Vec<u8>, Match)>,
}

/// Counts one that waits, for as long as it does.
struct Waiting<'s>(&'s AtomicUsize);

impl<'s> Waiting<'s> {
    fn new(count: &'s AtomicUsize) -> Waiting<'s> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Speaks over `stream`, until it was not used for `expire`.
    pub(super) fn open<S: Stream>(stream: S, expire: Duration) -> Connection {
        let (requests, queue) = mpsc::channel(QUEUE);
        let now = Instant::now();
        let pending = Pending { by_id: HashMap::new(), heard: now, used: now };
        let shared = Arc::new(Shared { waiting: AtomicUsize::new(0), pending: Mutex::new(pending) });
        let task = Arc::clone(&shared);
        tokio::spawn(async move {
            let (reader, writer) = tokio::io::split(stream);
            // Whichever ends first ends the others. Who still waits sees that nobody answers.
            tokio::select! {
                _ = read(reader, &task) => {}
                _ = write(writer, queue, &task) => {}
                () = expired(&task, expire) => {}
            }
            task.pending().by_id.clear();
        });
        Connection { requests, shared }
    }

    /// Asks, and waits for what comes back.
    pub(super) async fn ask(&self, message: Message) -> Result<(Vec<u8>, Match), Failure> {
        let _waiting = Waiting::new(&self.shared.waiting);
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request { message, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())
    }

    /// Whether it can be asked over.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// How many wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// When something came last.
    pub(super) fn heard_last(&self) -> Instant {
        self.shared.pending().heard
    }

    pub(super) fn is_same(&self, other: &Connection) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

/// Writes questions, each after its length (RFC 1035 §4.2.2), with an id that no other has. It ends
/// when nobody can ask any more and all have been answered.
async fn write<S: Stream>(
    mut stream: WriteHalf<S>,
    mut queue: mpsc::Receiver<Request>,
    shared: &Shared,
) -> io::Result<()> {
    while let Some(mut request) = queue.recv().await {
        let mut frame = Vec::with_capacity(request.message.octets().len() + 2);
        {
            let mut pending = shared.pending();
            pending.used = Instant::now();
            // Whoever waits no more makes room.
            pending.by_id.retain(|_, request| !request.reply.is_closed());
            let mut id = entropy::id();
            while pending.by_id.contains_key(&id) {
                id = id.wrapping_add(1);
            }
            request.message.set_id(id);
            let length = u16::try_from(request.message.octets().len()).unwrap_or(0);
            frame.extend_from_slice(&length.to_be_bytes());
            frame.extend_from_slice(request.message.octets());
            pending.by_id.insert(id, request);
        }
        stream.write_all(&frame).await?;
        stream.flush().await?;
    }
    // Answers are still read.
    std::future::pending().await
}

/// Reads answers, and hands each to who waits for it. What nobody waits for is ignored.
async fn read<S: Stream>(mut stream: ReadHalf<S>, shared: &Shared) -> io::Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await?;
        let mut pending = shared.pending();
        let now = Instant::now();
        (pending.heard, pending.used) = (now, now);
        let id = message.first_chunk::<2>().map(|id| u16::from_be_bytes(*id));
        if let Some(request) = id.and_then(|id| pending.by_id.remove(&id)) {
            let matched = request.message.matches(&message);
            let _ = request.reply.send((message, matched));
        }
    }
}

/// Waits until the connection was not used for `expire`.
async fn expired(shared: &Shared, expire: Duration) {
    loop {
        let end = shared.pending().used + expire.min(EXPIRE_MAX);
        if end <= Instant::now() {
            return;
        }
        sleep_until(end).await;
    }
}
