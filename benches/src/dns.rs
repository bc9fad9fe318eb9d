//! Names of Services asked for over UDP: one processor for the server, one for the client, beside
//! knot, nsd and CoreDNS with the same names in a zone file.

mod client;
mod server;
mod start;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::cluster::{Shape, cluster_ip};
use crate::forwarding;
use crate::pace::{self, Pace};
use crate::report::{Figure, Line, Required};
use crate::sample::Sample;
use crate::step::{self, Step};

use client::{Client, Mix};
use server::{Running, Which};

pub(crate) use server::serve;

const LIMIT: Duration = Duration::from_mins(9);
/// Questions a second at which latency is measured.
const STEADY: u32 = 2_000;
/// Changes a second while questions come as fast as they are answered: 10,000 a minute.
const CHANGES: u32 = 167;
const MILLISECOND: u64 = 1_000_000;

/// What one server did.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Did {
    which: Which,
    /// For each answer, at full speed: time, and the server's processor time.
    wall: Duration,
    processor: Duration,
    /// Of answers at [`STEADY`] questions a second.
    median: Duration,
    p99: Duration,
}

/// What is measured of ours alone.
#[derive(Debug, Serialize, Deserialize)]
struct Own {
    /// Processor time for each answer, if all names exist and if none does.
    positive: Duration,
    negative: Duration,
    /// With two threads on two processors.
    two: Duration,
    /// From a change to the first changed answer.
    change_median: Duration,
    change_p99: Duration,
    /// From the start of the program to its first good answer.
    start: Duration,
    /// Resident memory of the serving process with small and large clusters.
    resident: Vec<(Shape, u64)>,
}

/// All of it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    servers: Vec<Did>,
    own: Own,
}

pub(crate) fn bench(
    program: &Path,
    services: u32,
    seconds: u64,
    large: &[Shape],
) -> anyhow::Result<Vec<Line>> {
    let step = Step::Names { program: program.to_owned(), services, seconds, large: large.to_vec() };
    let Measured { servers, own } = step::run::<Measured>(&step, LIMIT)?;
    let case = format!("{services} Services");
    let line = |measure: &str, figure| Line::new("dns", &case, measure, figure);
    let ours: Vec<&Did> = servers.iter().filter(|did| did.which == Which::Portolan).collect();
    let median = |of: fn(&Did) -> Duration, all: &[&Did]| {
        Figure::time(Sample::new(all.iter().map(|did| of(did))).median())
    };
    let mut lines = Vec::new();
    for which in [Which::Knot, Which::Nsd, Which::CoreDns] {
        let theirs: Vec<&Did> = servers.iter().filter(|did| did.which == which).collect();
        if theirs.is_empty() {
            eprintln!("{} is not installed: SKIPPED", which.program());
            continue;
        }
        for (measure, of, required) in [
            ("processor time of a question", (|did| did.processor) as fn(&Did) -> Duration, true),
            ("time of a question at full speed", |did| did.wall, true),
            ("answer at 2,000/s, median", |did| did.median, false),
            ("answer at 2,000/s, p99", |did| did.p99, which == Which::Knot),
        ] {
            let line = line(measure, median(of, &ours)).against(which.program(), median(of, &theirs));
            lines.push(if required { line.required(Required::TimesBetter(1.0)) } else { line });
        }
    }
    let alone = median(|did| did.processor, &ours);
    lines.push(
        line("processor time of a question, all names absent", Figure::time(own.negative))
            .against("all present", Figure::time(own.positive)),
    );
    lines.push(line("the same, two threads", Figure::time(own.two)).against("one", alone));
    lines.push(line("change to changed answer at full speed, median", Figure::time(own.change_median)));
    lines.push(
        line("change to changed answer at full speed, p99", Figure::time(own.change_p99))
            .required(Required::AtMost(Figure::Nanoseconds(5 * MILLISECOND))),
    );
    lines.push(
        line("start to first good answer, of an API server", Figure::time(own.start))
            .required(Required::AtMost(Figure::Nanoseconds(500 * MILLISECOND))),
    );
    for (shape, octets) in own.resident {
        let most = if shape.services > 10_000 { 80_000_000 } else { 25_000_000 };
        lines.push(
            Line::new("dns", shape, "resident memory of the server", Figure::Bytes(octets))
                .required(Required::AtMost(Figure::Bytes(most))),
        );
    }
    Ok(lines)
}

/// Measures, in a process and network of its own.
pub(crate) fn measure(
    program: &Path,
    services: u32,
    seconds: u64,
    large: &[Shape],
) -> anyhow::Result<Measured> {
    forwarding::raise_loopback()?;
    let start = start::first_answer(program, services)?;
    pace::keep_to(1)?;
    let time = Duration::from_secs(seconds);
    let mut servers = Vec::new();
    for _ in 0..3 {
        for which in [Which::Portolan, Which::Knot, Which::Nsd, Which::CoreDns] {
            servers.extend(one(which, services, time)?);
        }
    }
    let shape = Shape::new(services, 1);
    let running = Running::ours(shape, 1, &[0], Pace::RealTime)?;
    let client = Client::new(running.address(), services)?;
    let positive = busy(&running, &client, Mix::Present, time)?.1;
    let negative = busy(&running, &client, Mix::Absent, time)?.1;
    drop(running);
    Pace::Share.take();
    let mut running = Running::ours(shape, 1, &[0], Pace::Share)?;
    let (change_median, change_p99) = changes(&mut running, services, 4 * seconds)?;
    drop(running);
    Pace::RealTime.take();
    let running = Running::ours(shape, 2, &[0, 1], Pace::RealTime)?;
    let two = busy(&running, &Client::new(running.address(), services)?, Mix::Usual, time)?.1;
    drop(running);
    let mut resident = Vec::new();
    for shape in std::iter::once(shape).chain(large.iter().copied()) {
        resident.push((shape, Running::ours(shape, 1, &[0], Pace::RealTime)?.resident()?));
    }
    let own = Own { positive, negative, two, change_median, change_p99, start, resident };
    Ok(Measured { servers, own })
}

/// One server; `None` if it is not installed.
fn one(which: Which, services: u32, time: Duration) -> anyhow::Result<Option<Did>> {
    let Some(running) = Running::start(which, services)? else { return Ok(None) };
    let client = Client::new(running.address(), services)?;
    let (wall, processor) = busy(&running, &client, Mix::Usual, time)?;
    let latencies = client.steady(STEADY, time)?;
    let (median, p99) = (latencies.median(), latencies.percentile(99));
    Ok(Some(Did { which, wall, processor, median, p99 }))
}

/// Asks as fast as it answers. Returns time and processor time for each answer.
fn busy(
    running: &Running,
    client: &Client,
    mix: Mix,
    time: Duration,
) -> anyhow::Result<(Duration, Duration)> {
    // Warm: code and names are in the caches.
    client.flood(mix, time / 10)?;
    let (before, start) = (running.processor()?, Instant::now());
    let answers = client.flood(mix, time)?;
    let (wall, processor) = (start.elapsed(), running.processor()?.saturating_sub(before));
    ensure!(answers > 0, "no answers from {}", running.address());
    Ok((wall / answers, processor / answers))
}

/// Changes Services while questions come as fast as they are answered. Returns the time from a
/// change to the first answer that shows it: median and p99.
fn changes(running: &mut Running, services: u32, seconds: u64) -> anyhow::Result<(Duration, Duration)> {
    let address = running.address();
    let flood = std::thread::spawn(move || -> anyhow::Result<u32> {
        Client::new(address, services)?.flood(Mix::Usual, Duration::from_secs(seconds + 1))
    });
    let socket = client::socket(address)?;
    let mut times = Vec::new();
    let start = Instant::now();
    for number in 0..u32::try_from(seconds)? * CHANGES {
        let due = start + Duration::from_secs(1) * number / CHANGES;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let service = number % services;
        // Beyond the addresses that Services have.
        let wanted = cluster_ip(services + number);
        let changed = Instant::now();
        running.change(service, wanted)?;
        await_answer(&socket, address, service, wanted)?;
        times.push(changed.elapsed());
    }
    let answers = flood.join().map_err(|_| anyhow::anyhow!("the flood panicked"))??;
    ensure!(answers > 0, "no answers meanwhile");
    let times = Sample::new(times);
    Ok((times.median(), times.percentile(99)))
}

/// Asks for a Service until it has the address.
fn await_answer(
    socket: &UdpSocket,
    server: SocketAddr,
    service: u32,
    wanted: Ipv4Addr,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        let answer = client::ask(socket, service).with_context(|| format!("asking {server}"))?;
        if answer.ends_with(&wanted.octets()) {
            return Ok(());
        }
    }
    anyhow::bail!("Service {service} is not {wanted} in time")
}
