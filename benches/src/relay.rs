//! A proxy in user space between clients and servers, each in a network namespace of its own. One
//! processor is for the proxy, one for clients and servers. HAProxy, nginx and socat are beside it,
//! and what the kernel does alone.

mod client;
mod datagrams;
mod proxy;
mod server;
mod topology;

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::pace::{self, Pace};
use crate::report::{Figure, Line, Required};
use crate::sample::Sample;
use crate::step::{self, Step};

use proxy::{Proxy, Which};
use server::{DATAGRAMS, ECHO, IDLE, SHORT, SOURCE};
use topology::{Topology, within};

pub(crate) use proxy::serve;

const LIMIT: Duration = Duration::from_mins(9);
const ALL: [Which; 6] =
    [Which::Portolan, Which::HaProxy, Which::Nginx, Which::Socat, Which::Dnat, Which::Direct];
const GIGABYTE: u64 = 1_000_000_000;
/// Enough for all proxies with many idle connections.
const DESCRIPTORS: u64 = 100_000;
/// socat forks for each connection, and has as many processes as there are.
const SHARE_OF_SOCAT: usize = 10;

/// What is measured of each proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Measure {
    /// Of a gigabyte on so many connections: time, and the proxy's processor time.
    Gigabyte(usize),
    GigabyteProcessor(usize),
    Connection,
    ConnectionProcessor,
    Median,
    P99,
    /// Of a datagram to and fro, of so many clients.
    Datagram(usize),
    DatagramProcessor(usize),
    /// Octets of an idle connection.
    Idle,
}

/// Figures of one proxy: nanoseconds or octets.
pub(crate) type Figures = Vec<(Which, Measure, u64)>;

pub(crate) fn bench(amount: Amount) -> anyhow::Result<Vec<Line>> {
    let figures = step::run::<Figures>(&Step::Relay { amount }, LIMIT)?;
    for which in ALL {
        if !figures.iter().any(|(found, ..)| *found == which) {
            eprintln!("{} is not installed: SKIPPED", which.name());
        }
    }
    let mut lines = Vec::new();
    for (case, measure, required) in [
        ("1 connection", Measure::Gigabyte(1), 1.0),
        ("1 connection", Measure::GigabyteProcessor(1), 0.0),
        ("64 connections", Measure::Gigabyte(64), 1.0),
        ("64 connections", Measure::GigabyteProcessor(64), 0.0),
        ("short connections", Measure::Connection, 0.0),
        ("short connections", Measure::ConnectionProcessor, 1.2),
        ("requests of 1 kB", Measure::Median, 1.0 / 0.9),
        ("requests of 1 kB", Measure::P99, 1.0 / 0.9),
        ("idle connections", Measure::Idle, 2.0),
        ("8 UDP clients", Measure::Datagram(8), 3.0),
        ("8 UDP clients", Measure::DatagramProcessor(8), 3.0),
        ("1000 UDP clients", Measure::Datagram(1000), 3.0),
        ("1000 UDP clients", Measure::DatagramProcessor(1000), 3.0),
    ] {
        let median = |wanted: Which| {
            let of = figures.iter().filter(|(which, found, _)| (*which, *found) == (wanted, measure));
            let all: Vec<u64> = of.map(|(.., figure)| *figure).collect();
            (!all.is_empty()).then(|| measure.figure(Sample::new(all).median()))
        };
        let Some(ours) = median(Which::Portolan) else { continue };
        for other in &ALL[1..] {
            let Some(theirs) = median(*other) else { continue };
            let line = Line::new("relay", case, measure.text(), ours).against(other.name(), theirs);
            let peer = match measure {
                Measure::Datagram(_) | Measure::DatagramProcessor(_) => {
                    matches!(other, Which::Nginx | Which::Socat)
                }
                _ => *other == Which::HaProxy,
            };
            lines.push(if peer && required > 0.0 {
                line.required(Required::TimesBetter(required))
            } else {
                line
            });
        }
    }
    Ok(lines)
}

impl Measure {
    fn text(self) -> &'static str {
        match self {
            Measure::Gigabyte(_) => "time of a gigabyte",
            Measure::GigabyteProcessor(_) => "processor time of a gigabyte",
            Measure::Connection => "time of a connection",
            Measure::ConnectionProcessor => "processor time of a connection",
            Measure::Median => "added latency, median",
            Measure::P99 => "added latency, p99",
            Measure::Datagram(_) => "time of a datagram to and fro",
            Measure::DatagramProcessor(_) => "processor time of a datagram to and fro",
            Measure::Idle => "memory of a connection",
        }
    }

    fn figure(self, value: u64) -> Figure {
        if self == Measure::Idle { Figure::Bytes(value) } else { Figure::Nanoseconds(value) }
    }
}

/// Measures, in a process and network of its own.
pub(crate) fn measure(amount: Amount) -> anyhow::Result<Figures> {
    let descriptors = raise_descriptors()?;
    let topology = Topology::build()?;
    pace::keep_to(1)?;
    Pace::Share.take();
    server::start(&topology)?;
    let mut figures = Figures::new();
    for _ in 0..amount.rounds {
        for which in ALL {
            let Some(proxy) = Proxy::start(which, descriptors)? else { continue };
            let mut note = |measure, figure| figures.push((which, measure, figure));
            throughput(&proxy, &topology.clients, amount, &mut note).context(which.name())?;
            connections(&proxy, &topology.clients, which, amount, &mut note).context(which.name())?;
            datagrams(&proxy, &topology.clients, which, amount, &mut note).context(which.name())?;
        }
        latencies(&topology.clients, descriptors, amount, &mut figures)?;
    }
    for which in [Which::Portolan, Which::HaProxy, Which::Nginx] {
        let Some(proxy) = Proxy::start(which, descriptors)? else { continue };
        let before = proxy.resident()?;
        // Clients and servers are in one process.
        let (to, count) = (proxy.address(IDLE), amount.idle.min(descriptors / 3));
        let held = join(within(&topology.clients, move || client::idle(to, count))?)?;
        let more = proxy.resident()?.saturating_sub(before);
        figures.push((which, Measure::Idle, more / held.len() as u64));
    }
    Ok(figures)
}

fn throughput(
    proxy: &Proxy,
    clients: &File,
    amount: Amount,
    note: &mut impl FnMut(Measure, u64),
) -> anyhow::Result<()> {
    let (to, time) = (proxy.address(SOURCE), Duration::from_millis(amount.flow));
    for connections in [1, 64] {
        let before = proxy.processor()?;
        let octets = join(within(clients, move || client::throughput(to, connections, time))?)?;
        let processor = proxy.processor()?.saturating_sub(before);
        let of_gigabyte = |time: Duration| nanoseconds(time) * GIGABYTE / octets.max(1);
        note(Measure::Gigabyte(connections), of_gigabyte(time));
        if !processor.is_zero() {
            // It worked as well while windows grew.
            note(Measure::GigabyteProcessor(connections), of_gigabyte(processor) / 5 * 4);
        }
    }
    Ok(())
}

fn connections(
    proxy: &Proxy,
    clients: &File,
    which: Which,
    amount: Amount,
    note: &mut impl FnMut(Measure, u64),
) -> anyhow::Result<()> {
    let count = if which == Which::Socat { amount.short / SHARE_OF_SOCAT } else { amount.short };
    let to = proxy.address(SHORT);
    let (before, start) = (proxy.processor()?, Instant::now());
    join(within(clients, move || client::short(to, count))?)?;
    let (time, processor) = (start.elapsed(), proxy.processor()?.saturating_sub(before));
    let of_one = |time: Duration| nanoseconds(time) / count as u64;
    note(Measure::Connection, of_one(time));
    if !processor.is_zero() {
        note(Measure::ConnectionProcessor, of_one(processor));
    }
    Ok(())
}

fn datagrams(
    proxy: &Proxy,
    clients: &File,
    which: Which,
    amount: Amount,
    note: &mut impl FnMut(Measure, u64),
) -> anyhow::Result<()> {
    if !which.relays_datagrams() {
        return Ok(());
    }
    let (to, time) = (proxy.address(DATAGRAMS), Duration::from_millis(amount.flow));
    for (count, at_once) in [(8, 16), (1000, 1)] {
        if which == Which::Socat && count > 8 {
            continue;
        }
        let exchange = move |time| move || datagrams::exchange(to, count, at_once, time);
        // Clients are new to the proxy at first.
        join(within(clients, exchange(time / 10))?)?;
        let (before, start) = (proxy.processor()?, Instant::now());
        let (came, lost) = join(within(clients, exchange(time))?)?;
        let (time, processor) = (start.elapsed(), proxy.processor()?.saturating_sub(before));
        if lost * 50 > came {
            eprintln!("{}: {lost} of {} datagrams were lost", which.name(), came + lost);
        }
        note(Measure::Datagram(count), nanoseconds(time) / came);
        if !processor.is_zero() {
            note(Measure::DatagramProcessor(count), nanoseconds(processor) / came);
        }
    }
    Ok(())
}

/// What proxies add to the latency of a request, one after the other without a pause.
fn latencies(
    clients: &File,
    descriptors: usize,
    amount: Amount,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for which in ALL {
        let Some(proxy) = Proxy::start(which, descriptors)? else { continue };
        let (to, requests) = (proxy.address(ECHO), amount.requests);
        let times = join(within(clients, move || client::latency(to, requests))?)?;
        found.push((which, times.median(), times.percentile(99)));
    }
    let direct =
        found.iter().find(|(which, ..)| *which == Which::Direct).map(|(_, median, p99)| (*median, *p99));
    let (median, p99) = direct.context("no proxy is always there")?;
    for (which, its_median, its_p99) in found.into_iter().filter(|(which, ..)| *which != Which::Direct) {
        figures.push((which, Measure::Median, nanoseconds(its_median.saturating_sub(median))));
        figures.push((which, Measure::P99, nanoseconds(its_p99.saturating_sub(p99))));
    }
    Ok(())
}

fn join<T>(thread: std::thread::JoinHandle<anyhow::Result<T>>) -> anyhow::Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Returns how many this process, and the proxies that it starts, may have.
fn raise_descriptors() -> anyhow::Result<usize> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes and reads one `rlimit`.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        let beyond = libc::rlimit { rlim_cur: DESCRIPTORS, rlim_max: DESCRIPTORS.max(limit.rlim_max) };
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const beyond) == 0 {
            limit = beyond;
            0
        } else {
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
        }
    };
    anyhow::ensure!(done == 0, "raising the limit of descriptors: {}", std::io::Error::last_os_error());
    usize::try_from(limit.rlim_cur).context("a limit of descriptors")
}
