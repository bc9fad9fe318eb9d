//! The log of questions: a sample of them, written by a thread that nobody waits for.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use portolan_names::Transport;
use portolan_names::wire::{Name, rcode};

/// Which questions are logged, and where.
#[derive(Clone)]
pub struct QueryLog {
    /// One of so many is logged; 1 is every one.
    pub one_of: u32,
    /// Which answers are logged.
    pub classes: Classes,
    /// Takes them, in a thread of the log. What comes while the queue is full is counted and
    /// dropped.
    pub sink: Arc<dyn Fn(&Entry) + Send + Sync>,
}

/// Classes of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classes {
    /// NOERROR
    pub success: bool,
    /// NXDOMAIN
    pub denial: bool,
    /// Everything else
    pub error: bool,
}

impl Default for Classes {
    /// All
    fn default() -> Classes {
        Classes { success: true, denial: true, error: true }
    }
}

/// A question that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who asked.
    pub client: SocketAddr,
    /// How.
    pub transport: Transport,
    /// The message's number.
    pub id: u16,
    /// The name, in lower case.
    pub name: Name,
    /// The type of record.
    pub kind: u16,
    /// The class.
    pub class: u16,
    /// Length of the question's message, octets.
    pub size: usize,
    /// The question's EDNS size and flag DO, if it had EDNS.
    pub edns: Option<(u16, bool)>,
    /// The response code.
    pub rcode: u16,
    /// The answer's flags, response code included.
    pub flags: u16,
    /// Length of the answer, octets.
    pub reply_size: usize,
    /// From the question's receipt to its answer.
    pub duration: Duration,
}

/// Where threads put entries. The thread that writes them ends when the last of these is gone.
#[derive(Clone)]
pub(crate) struct LogQueue(SyncSender<(Sink, Box<Entry>)>);

type Sink = Arc<dyn Fn(&Entry) + Send + Sync>;

/// As many entries wait.
const QUEUE: usize = 1024;

impl LogQueue {
    /// Starts the thread that writes entries.
    pub(crate) fn start() -> io::Result<(LogQueue, JoinHandle<()>)> {
        let (sender, receiver) = sync_channel::<(Sink, Box<Entry>)>(QUEUE);
        let thread = std::thread::Builder::new().name("dns-log".to_owned()).spawn(move || {
            for (sink, entry) in receiver {
                // Its panic is reported by the panic hook, and ends nothing else.
                let _ = catch_unwind(AssertUnwindSafe(|| sink(&entry)));
            }
        })?;
        Ok((LogQueue(sender), thread))
    }

    /// Queues an entry. Returns false if there is no room.
    pub(crate) fn put(&self, log: &QueryLog, entry: Box<Entry>) -> bool {
        let header = Classes {
            success: entry.rcode == rcode::NOERROR,
            denial: entry.rcode == rcode::NXDOMAIN,
            error: !matches!(entry.rcode, rcode::NOERROR | rcode::NXDOMAIN),
        };
        let Classes { success, denial, error } = log.classes;
        if !(success && header.success || denial && header.denial || error && header.error) {
            return true;
        }
        self.0.try_send((log.sink.clone(), entry)).is_ok()
    }
}
