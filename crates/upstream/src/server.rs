//! One server, what is known of it, and a question asked of it by whatever way it takes.

mod health;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use portolan_names::wire::rcode;
use tokio::time::Instant;

use crate::answer::Answer;
use crate::exchange::stream::{Security, Streams};
use crate::exchange::{Failure, udp};
use crate::metrics::ServerMetrics;
use crate::question::{Manner, Question};

pub(crate) use health::Probe;

/// For how long a server's lack of something is remembered.
const QUIRK: Duration = Duration::from_mins(10);

/// How a server is asked.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// Connections only.
    pub(crate) force_tcp: bool,
    pub(crate) security: Security,
    pub(crate) expire: Duration,
    pub(crate) probe: Probe,
}

/// When an exchange is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Each way of asking takes at most this.
    pub(crate) timeout: Duration,
    /// All of them end by then.
    pub(crate) end: Instant,
}

impl Limits {
    fn deadline(&self) -> Instant {
        self.end.min(Instant::now() + self.timeout)
    }
}

/// A server.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    way: Way,
    streams: Streams,
    quirks: Mutex<Quirks>,
    /// Failed probes in a row.
    fails: AtomicU32,
    probed: AtomicBool,
    /// Its questions come back to us.
    loops: AtomicBool,
    metrics: ServerMetrics,
}

/// What it lacks, and until when that is believed.
#[derive(Debug, Default)]
struct Quirks {
    /// It does not repeat the case of letters.
    folds_case: Option<Instant>,
    /// It does not know EDNS.
    no_edns: Option<Instant>,
}

impl Server {
    pub(crate) fn new(address: SocketAddr, way: Way, metrics: ServerMetrics) -> Server {
        Server {
            address,
            streams: Streams::new(address, way.security.clone(), way.expire, metrics.clone()),
            way,
            metrics,
            quirks: Mutex::default(),
            fails: AtomicU32::new(0),
            probed: AtomicBool::new(false),
            loops: AtomicBool::new(false),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether too many probes in a row have failed.
    pub(crate) fn is_down(&self) -> bool {
        let max_fails = self.way.probe.max_fails;
        max_fails > 0 && self.fails.load(Ordering::Relaxed) > max_fails
    }

    /// Whether its questions come back to us.
    pub(crate) fn loops(&self) -> bool {
        self.loops.load(Ordering::Relaxed)
    }

    /// Remembers whether its questions come back to us. Returns whether that is news.
    pub(crate) fn set_loops(&self, loops: bool) -> bool {
        let news = self.loops.swap(loops, Ordering::Relaxed) != loops;
        if news {
            self.metrics.looping.add(if loops { 1 } else { -1 });
        }
        news
    }

    /// Asks it. If it fails, it is probed from then on.
    pub(crate) async fn ask(self: &Arc<Self>, asked: &Question, limits: Limits) -> Result<Answer, Failure> {
        let begun = Instant::now();
        let result = self.exchange(asked, limits).await;
        match &result {
            Ok(answer) => self.metrics.answered(answer.rcode, begun.elapsed().as_secs_f64()),
            Err(failure) if failure.is_the_servers() => self.begin_to_probe(),
            Err(_) => {}
        }
        result
    }

    async fn exchange(&self, asked: &Question, limits: Limits) -> Result<Answer, Failure> {
        let now = Instant::now();
        let mut manner = self.manner(now);
        let mut heard = self.ask_once(asked, &mut manner, limits).await?;
        if manner.edns && heard.is_none_or_rejects() {
            // From before EDNS, perhaps (RFC 6891 §7).
            manner.edns = false;
            let plain = self.ask_once(asked, &mut manner, limits).await?;
            if !plain.is_none_or_rejects() {
                self.quirks().no_edns = Some(now + QUIRK);
            }
            heard = plain;
        }
        Ok(heard.0.unwrap_or_else(|| Answer::failure(rcode::FORMERR)))
    }

    fn manner(&self, now: Instant) -> Manner {
        let quirks = self.quirks();
        let over = |until: Option<Instant>| until.is_none_or(|until| until <= now);
        Manner { mixed_case: over(quirks.folds_case), edns: over(quirks.no_edns), recursion: true }
    }

    fn quirks(&self) -> MutexGuard<'_, Quirks> {
        self.quirks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask_once(
        &self,
        asked: &Question,
        manner: &mut Manner,
        limits: Limits,
    ) -> Result<Heard, Failure> {
        if self.way.force_tcp || !matches!(self.way.security, Security::Plain) {
            return self.ask_stream(asked, *manner, limits).await.map(|(heard, _)| heard);
        }
        match udp::ask(self.address, &asked.write(*manner), limits.deadline(), &self.metrics.strays).await? {
            udp::Heard::Rejection => Ok(Heard(None)),
            udp::Heard::Answer(message) => {
                let answer = Answer::read(asked, message)?;
                if !answer.truncated {
                    return Ok(Heard(Some(answer)));
                }
                // What is cut is better than nothing.
                let whole = self.ask_stream(asked, *manner, limits).await;
                Ok(whole.map_or(Heard(Some(answer)), |(heard, _)| heard))
            }
            udp::Heard::OtherCase => self.ask_again(asked, manner, limits).await,
        }
    }

    /// After an answer in another case: nobody but the server can answer on a connection. It shows
    /// who has sent the first one.
    async fn ask_again(
        &self,
        asked: &Question,
        manner: &mut Manner,
        limits: Limits,
    ) -> Result<Heard, Failure> {
        let folds = match self.ask_stream(asked, *manner, limits).await {
            Ok((heard, kept_case)) => {
                if kept_case {
                    self.metrics.strays.inc();
                } else {
                    self.quirks().folds_case = Some(Instant::now() + QUIRK);
                }
                return Ok(heard);
            }
            Err(_) => Instant::now() + QUIRK,
        };
        manner.mixed_case = false;
        match udp::ask(self.address, &asked.write(*manner), limits.deadline(), &self.metrics.strays).await? {
            udp::Heard::Answer(message) => {
                self.quirks().folds_case = Some(folds);
                Ok(Heard(Some(Answer::read(asked, message)?)))
            }
            udp::Heard::OtherCase | udp::Heard::Rejection => Ok(Heard(None)),
        }
    }

    async fn ask_stream(
        &self,
        asked: &Question,
        manner: Manner,
        limits: Limits,
    ) -> Result<(Heard, bool), Failure> {
        let heard = self.streams.ask(&asked.write(manner), limits.deadline()).await?;
        if heard.message.get(4..6) == Some(&[0, 0]) {
            return Ok((Heard(None), heard.kept_case));
        }
        Ok((Heard(Some(Answer::read(asked, heard.message)?)), heard.kept_case))
    }
}

/// An answer; `None` if the server has sent only a header, which says that it cannot read the
/// question.
#[derive(Debug)]
struct Heard(Option<Answer>);

impl Heard {
    /// Whether the server could not read the question, perhaps because of EDNS.
    fn is_none_or_rejects(&self) -> bool {
        self.0
            .as_ref()
            .is_none_or(|answer| matches!(answer.rcode, rcode::FORMERR | rcode::NOTIMP | rcode::BADVERS))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.loops() {
            self.metrics.looping.dec();
        }
    }
}
