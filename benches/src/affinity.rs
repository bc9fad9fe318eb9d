//! Session affinity: an endpoint leaves while very many clients are remembered, and while forged
//! ones keep coming.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_dataplane::Dataplane;
use portolan_dataplane::nftables::Nftables;
use portolan_netfilter::nft::{Batch, Element, TableFamily, TableRef};
use portolan_netfilter::socket::Socket;
use portolan_service::{Change, Planner, Protocol};
use serde::{Deserialize, Serialize};

use crate::cluster::{Member, POD_ADDRESSES, Shape, local_node, nodes};
use crate::flood::Flood;
use crate::forwarding;
use crate::load;
use crate::report::{Figure, Line, Required};
use crate::sample::Sample;
use crate::step::{self, Step};

const LIMIT: Duration = Duration::from_mins(5);
const REQUIRED: Required = Required::AtMost(Figure::Nanoseconds(10_000_000));
const TABLE: TableRef<'static> = TableRef { family: TableFamily::Ip, name: "portolan" };
/// How the sets of remembered clients are named.
const SETS: &str = "affinity/";
const SECONDS: u32 = 10_800;
/// Elements sent to the kernel at once.
const AT_ONCE: u32 = 65_536;
/// The first remembered client's address; the flood's are others.
const FIRST_CLIENT: u32 = 0x6400_0000;
/// How many different clients a flood forges, one after the other, again and again.
const FORGED: u32 = 200_000;

/// How long each departure took.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Departures {
    /// From a Service whose clients are remembered.
    sticky: Vec<Duration>,
    /// From another, without affinity.
    other: Vec<Duration>,
    /// From each commit until no client sends to the endpoint that left.
    flows: Vec<Duration>,
}

/// Lets endpoints leave a Service of `endpoints`, with no client remembered and with `clients`.
pub(crate) fn bench(endpoints: u32, clients: u32, departures: u32) -> anyhow::Result<Vec<Line>> {
    let shape = Shape::new(2, endpoints);
    let measure = |clients, flood| -> anyhow::Result<Departures> {
        step::run(&Step::Depart { shape, clients, departures, flood }, LIMIT)
    };
    let [nobody, many, flooded] = [measure(0, false)?, measure(clients, false)?, measure(clients, true)?];
    let mut lines = Vec::new();
    for percent in [50, 99] {
        let at = |times: &[Duration]| Figure::time(Sample::new(times.to_vec()).percentile(percent));
        let mut line = |what: &str, times: &[Duration], baseline: &[Duration]| {
            let what = format!("{what}, p{percent}");
            let line =
                Line::new("affinity", shape, what, at(times)).against("nobody remembered", at(baseline));
            // What a busy machine adds at times is not the dataplane's.
            lines.push(if percent == 50 { line.required(REQUIRED) } else { line });
        };
        line(&format!("an endpoint leaves, {clients} clients remembered"), &many.sticky, &nobody.sticky);
        line("the same, forged clients pour in", &flooded.sticky, &nobody.sticky);
        line("an endpoint of another Service leaves", &many.other, &nobody.other);
        line("the same, forged clients pour in (other)", &flooded.other, &nobody.other);
        for (what, measured) in [("", &many), (", forged clients pour in", &flooded)] {
            lines.push(
                Line::new(
                    "affinity",
                    shape,
                    format!("stale UDP flows removed{what}, p{percent}"),
                    at(&measured.flows),
                )
                .against("nobody remembered", at(&nobody.flows)),
            );
        }
    }
    Ok(lines)
}

/// The step [`Step::Depart`].
pub(crate) fn depart(shape: Shape, clients: u32, departures: u32, flood: bool) -> anyhow::Result<Departures> {
    forwarding::build(&[POD_ADDRESSES])?;
    let nodes = nodes();
    let [sticky, other] = [0, 1].map(|number| Member::new(shape, Protocol::Udp, number));
    let mut planner = Planner::new(local_node());
    let mut with_affinity = sticky.service();
    with_affinity.affinity = Some(SECONDS);
    planner.apply([
        Change::from(with_affinity),
        Change::from(sticky.slice(&nodes)),
        Change::from(other.service()),
        Change::from(other.slice(&nodes)),
    ]);
    let mut dataplane = Nftables::new(load::settings()?)?;
    dataplane.sync(&mut planner.plans().map(|plan| &**plan))?;
    let mut socket = Socket::open().context("opening a netlink socket")?;
    remember(&mut socket, clients, shape.endpoints)?;
    let flooding = if flood { Some(Flooding::start()?) } else { None };

    let mut flows = Vec::new();
    let mut change = |member: &Member, gone: Option<u32>| -> anyhow::Result<Duration> {
        let mut slice = member.slice(&nodes);
        if let Some(gone) = gone {
            slice.endpoints.remove(gone as usize);
        }
        let started = Instant::now();
        let changes = planner.apply([Change::from(slice)]);
        let outcome = dataplane.apply(&changes)?;
        let took = started.elapsed();
        ensure!(outcome.refused.is_empty(), "the kernel refused {:?}", outcome.refused.first());
        ensure!(outcome.operations > 0, "a change that changed nothing");
        if gone.is_some() {
            let reconciled = dataplane.reconciled(LIMIT);
            ensure!(!reconciled.is_empty(), "connection tracking has not been looked through");
            flows.push(started.elapsed().saturating_sub(took));
        }
        Ok(took)
    };
    let (mut sticky_times, mut other_times) = (Vec::new(), Vec::new());
    for departure in 0..departures {
        let gone = departure % shape.endpoints;
        sticky_times.push(change(&sticky, Some(gone))?);
        change(&sticky, None)?;
        // It came back with nobody: as many as left are remembered again.
        remember(&mut socket, clients, shape.endpoints)?;
        other_times.push(change(&other, Some(gone))?);
        change(&other, None)?;
    }
    if let Some(flooding) = flooding {
        flooding.stop()?;
    }
    Ok(Departures { sticky: sticky_times, other: other_times, flows })
}

/// Fills the sets of remembered clients that are empty.
fn remember(socket: &mut Socket, clients: u32, endpoints: u32) -> anyhow::Result<()> {
    if clients == 0 {
        return Ok(());
    }
    let sets: Vec<String> = socket
        .sets(TABLE)
        .context("listing sets")?
        .into_iter()
        .map(|set| set.name)
        .filter(|name| name.starts_with(SETS))
        .collect();
    ensure!(sets.len() == endpoints as usize, "{} sets for {endpoints} endpoints", sets.len());
    let each = clients / endpoints;
    for (number, set) in (0..).zip(&sets) {
        let first = FIRST_CLIENT + number * each;
        // One that is there already says that the others are.
        let probe = |socket: &mut Socket| -> anyhow::Result<bool> {
            let count =
                socket.sets(TABLE)?.into_iter().find(|found| found.name == *set).and_then(|set| set.count);
            Ok(count.is_some_and(|count| count >= each))
        };
        if probe(socket)? {
            continue;
        }
        let addresses: Vec<[u8; 4]> = (first..first + each).map(u32::to_be_bytes).collect();
        for some in addresses.chunks(AT_ONCE as usize) {
            let mut batch = Batch::new();
            let timeout = Some(Duration::from_secs(SECONDS.into()));
            let elements = some.iter().map(|address| Element { timeout, ..Element::new(address) });
            batch.add_elements(TABLE, set, elements);
            socket.commit(&batch).context("remembering clients")?;
        }
    }
    Ok(())
}

/// A thread that sends packets of forged clients to the Service with affinity.
struct Flooding {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<std::io::Result<()>>,
}

impl Flooding {
    fn start() -> anyhow::Result<Flooding> {
        let flood = Flood::prepare_forged(FORGED)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let send = move || {
            while !stopped.load(Ordering::Relaxed) {
                flood.send()?;
            }
            Ok(())
        };
        let thread = thread::Builder::new().name("flood".into()).spawn(send).context("starting a thread")?;
        Ok(Flooding { stop, thread })
    }

    fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.join().map_err(|_| anyhow::anyhow!("the flooding thread panicked"))?;
        ended.context("sending packets")
    }
}
