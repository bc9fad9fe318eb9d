//! Counters that every thread has for itself, so that none waits for another. They are added up
//! when they are read.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portolan_names::Transport;
use portolan_names::wire::kind;
use portolan_service::Family;

/// Types of records that are counted by name; the last stands for all others.
const KINDS: [u16; 17] = [
    kind::A,
    kind::AAAA,
    kind::SRV,
    kind::PTR,
    kind::CNAME,
    kind::TXT,
    kind::NS,
    kind::SOA,
    kind::MX,
    kind::HTTPS,
    kind::SVCB,
    kind::ANY,
    kind::DS,
    kind::DNSKEY,
    kind::RRSIG,
    kind::NSEC,
    0,
];
/// Response codes that are counted: those of a header, and BADVERS.
const RCODES: usize = 17;
const SOURCES: [Source; 3] = [Source::Cluster, Source::Others, Source::Server];
/// Upper bounds of durations, nanoseconds: CoreDNS's, 0.25 ms to 8.192 s.
const DURATIONS: [u64; 16] = {
    let mut bounds = [250_000; 16];
    let mut at = 1;
    while at < bounds.len() {
        bounds[at] = bounds[at - 1] * 2;
        at += 1;
    }
    bounds
};
/// Upper bounds of sizes, octets: CoreDNS's.
const SIZES: [u64; 14] = [0, 100, 200, 300, 400, 511, 1023, 2047, 4095, 8291, 16_000, 32_000, 48_000, 64_000];

/// Whose answer it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The cluster's names'
    Cluster,
    /// Others'
    Others,
    /// The server's own, about a question that it passes to nobody.
    Server,
}

/// All counters, added up.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Questions and answers of each listener and zone.
    pub zones: Vec<ZoneCounts>,
    /// Questions of clients who may not ask.
    pub forbidden: u64,
    /// Messages that are none, or answers: nothing was sent.
    pub ignored: u64,
    /// Questions that cannot be decoded, and other operations: answered with a code alone.
    pub rejected: u64,
    /// Questions for names in no zone of the listener: REFUSED.
    pub elsewhere: u64,
    /// Answers that were ended by a panic.
    pub panics: u64,
    /// Answers that the kernel did not take.
    pub unsent: u64,
    /// Datagrams that came while the kernel's queue was full.
    pub overflowed: u64,
    /// Lines of the query log that came while its queue was full.
    pub log_dropped: u64,
    /// Connections that were accepted.
    pub connections: u64,
    /// Connections that were closed at once, because there were too many.
    pub connections_refused: u64,
    /// Connections that are open.
    pub connections_open: u64,
}

/// Counters of a listener and zone.
#[derive(Debug, Clone)]
pub struct ZoneCounts {
    /// Where it is served.
    pub listener: SocketAddr,
    /// The zone, with a dot at the end.
    pub zone: String,
    /// Questions that server-side search has found a name for.
    pub found: u64,
    /// Questions, where there are any.
    pub requests: Vec<Requests>,
    /// Answers, where there are any.
    pub responses: Vec<Responses>,
    /// From receipt to answer.
    pub durations: Histogram,
    /// Lengths of questions over UDP and TCP.
    pub request_sizes: [Histogram; 2],
    /// Lengths of answers over UDP and TCP.
    pub response_sizes: [Histogram; 2],
}

/// How many questions of one sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requests {
    /// How they came.
    pub transport: Transport,
    /// The clients' family.
    pub family: Family,
    /// The type of record, or `other`.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
}

/// How many answers of one sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Responses {
    /// The response code.
    pub rcode: u16,
    /// Whose they were.
    pub source: Source,
    /// How many.
    pub count: u64,
}

/// How often which values occurred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram {
    /// Upper bounds: nanoseconds or octets.
    pub bounds: &'static [u64],
    /// How many values are at most that and above the bound before; the last is beyond all bounds.
    pub counts: Vec<u64>,
    /// The sum of all values.
    pub sum: u64,
}

/// A number that one thread adds to.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds. No two threads do so at once: then it costs no more than a plain number.
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Adds, whoever else does at once.
    pub(crate) fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one thread has counted outside zones.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ThreadCounters {
    pub(crate) forbidden: Count,
    pub(crate) ignored: Count,
    pub(crate) rejected: Count,
    pub(crate) elsewhere: Count,
    pub(crate) panics: Count,
    pub(crate) unsent: Count,
}

impl ThreadCounters {
    pub(crate) fn add_to(&self, counts: &mut Counts) {
        counts.forbidden += self.forbidden.read();
        counts.ignored += self.ignored.read();
        counts.rejected += self.rejected.read();
        counts.elsewhere += self.elsewhere.read();
        counts.panics += self.panics.read();
        counts.unsent += self.unsent.read();
    }
}

/// What one thread has counted in a zone.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct ZoneCounters {
    /// Searches that have found a name.
    pub(crate) found: Count,
    requests: [[[Count; KINDS.len()]; 2]; 2],
    responses: [[Count; RCODES]; SOURCES.len()],
    durations: Buckets<{ DURATIONS.len() + 1 }>,
    request_sizes: [Buckets<{ SIZES.len() + 1 }>; 2],
    response_sizes: [Buckets<{ SIZES.len() + 1 }>; 2],
}

#[derive(Debug)]
struct Buckets<const N: usize> {
    counts: [Count; N],
    sum: Count,
}

impl<const N: usize> Default for Buckets<N> {
    fn default() -> Buckets<N> {
        Buckets { counts: std::array::from_fn(|_| Count::default()), sum: Count::default() }
    }
}

impl<const N: usize> Buckets<N> {
    fn add(&self, bounds: &[u64], value: u64, times: u64) {
        let at = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        self.counts[at.min(N - 1)].add(times);
        self.sum.add(value * times);
    }
}

impl ZoneCounters {
    /// A question of `size` octets.
    pub(crate) fn request(&self, transport: Transport, family: Family, kind: u16, size: usize) {
        let at = KINDS.iter().position(|known| *known == kind).unwrap_or(KINDS.len() - 1);
        self.requests[transport as usize][family as usize][at].add(1);
        self.request_sizes[transport as usize].add(&SIZES, size as u64, 1);
    }

    /// An answer of `size` octets.
    pub(crate) fn response(&self, transport: Transport, rcode: u16, source: Source, size: usize) {
        self.responses[source as usize][usize::from(rcode).min(RCODES - 1)].add(1);
        self.response_sizes[transport as usize].add(&SIZES, size as u64, 1);
    }

    /// So many answers took so long.
    pub(crate) fn took(&self, duration: Duration, times: u64) {
        self.durations.add(&DURATIONS, u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), times);
    }
}

/// Adds up what all threads have counted in a zone.
pub(crate) fn sum(listener: SocketAddr, zone: String, shards: &[ZoneCounters]) -> ZoneCounts {
    let read = |of: &dyn Fn(&ZoneCounters) -> u64| shards.iter().map(of).sum::<u64>();
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    for transport in [Transport::Udp, Transport::Tcp] {
        for family in [Family::V4, Family::V6] {
            for (at, kind) in KINDS.iter().enumerate() {
                let kind = kind::known(*kind).unwrap_or("other");
                let count = read(&|shard| shard.requests[transport as usize][family as usize][at].read());
                if count > 0 {
                    requests.push(Requests { transport, family, kind, count });
                }
            }
        }
    }
    for source in SOURCES {
        for at in 0..RCODES {
            let count = read(&|shard| shard.responses[source as usize][at].read());
            if count > 0 {
                responses.push(Responses { rcode: u16::try_from(at).unwrap_or(0), source, count });
            }
        }
    }
    let sizes = |of: fn(&ZoneCounters) -> &[Buckets<{ SIZES.len() + 1 }>; 2]| {
        [0, 1].map(|transport| histogram(&SIZES, shards.iter().map(|shard| &of(shard)[transport])))
    };
    ZoneCounts {
        listener,
        zone,
        found: read(&|shard| shard.found.read()),
        requests,
        responses,
        durations: histogram(&DURATIONS, shards.iter().map(|shard| &shard.durations)),
        request_sizes: sizes(|shard| &shard.request_sizes),
        response_sizes: sizes(|shard| &shard.response_sizes),
    }
}

fn histogram<'b, const N: usize>(
    bounds: &'static [u64],
    shards: impl Iterator<Item = &'b Buckets<N>>,
) -> Histogram {
    let mut found = Histogram { bounds, counts: vec![0; N], sum: 0 };
    for shard in shards {
        for (sum, count) in found.counts.iter_mut().zip(&shard.counts) {
            *sum += count.read();
        }
        found.sum = found.sum.wrapping_add(shard.sum.read());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_counted_is_added_up() {
        let shards = [ZoneCounters::default(), ZoneCounters::default()];
        for (shard, size) in shards.iter().zip([100, 101]) {
            shard.request(Transport::Udp, Family::V4, kind::A, size);
            shard.response(Transport::Udp, 3, Source::Cluster, 64_001);
            shard.took(Duration::from_micros(251), 2);
        }
        shards[0].request(Transport::Tcp, Family::V6, 99, 0);
        let listener = "127.0.0.1:53".parse().unwrap();
        let found = sum(listener, ".".to_owned(), &shards);
        let udp = Requests { transport: Transport::Udp, family: Family::V4, kind: "A", count: 2 };
        let tcp = Requests { transport: Transport::Tcp, family: Family::V6, kind: "other", count: 1 };
        assert_eq!(found.requests, [udp, tcp]);
        assert_eq!(found.responses, [Responses { rcode: 3, source: Source::Cluster, count: 2 }]);
        assert_eq!(found.request_sizes[0].counts[..3], [0, 1, 1]);
        assert_eq!(found.response_sizes[0].counts[SIZES.len()], 2);
        assert_eq!((found.durations.counts[1], found.durations.sum), (4, 4 * 251_000));
        assert_eq!(DURATIONS[15], 8_192_000_000);
    }
}
