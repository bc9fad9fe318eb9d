//! The whole program following an API server: from its start to the first full commit, one change
//! after another at a fixed rate, memory, processor time when nothing happens, and another start.
//!
//! The server is the tests' stand-in, in the process that measures; objects are as large as real
//! ones.

use std::net::Ipv4Addr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_apiserver::scale::{self, Cluster};
use portolan_apiserver::{Credentials, Double, Options};
use portolan_netfilter::socket::Socket;
use portolan_service::Protocol;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::element::{Elements, Question};
use crate::forwarding;
use crate::process;
use crate::program::Program;
use crate::report::{Figure, Line, Required};
use crate::sample::Sample;
use crate::step::{self, Step};

const LIMIT: Duration = Duration::from_mins(5);
/// Between the beginnings of two changes: a hundred a second.
const EVERY: Duration = Duration::from_millis(10);
/// A change that takes longer has failed.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);
/// How long nothing happens while processor time is measured.
const IDLE: Duration = Duration::from_secs(10);
const MEBIBYTE: u64 = 1 << 20;

/// A cluster, and what is required of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) services: usize,
    pub(crate) endpoints: usize,
    /// The most that may be resident, in MiB.
    pub(crate) resident: Option<u64>,
}

/// What was measured.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Followed {
    first: Duration,
    changes: Vec<Duration>,
    resident: u64,
    peak: u64,
    /// Processor time in [`IDLE`].
    idle: Duration,
    /// From another start to the end of the first look at the kernel, where nothing has changed.
    again: Duration,
    /// Commits of that start.
    commits: u32,
}

/// Follows a server with each of `cases`.
pub(crate) fn bench(program: &Path, cases: &[Case], changes: usize) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for case in cases {
        let name = format!("{} x {}", case.services, case.endpoints / case.services);
        let (services, endpoints) = (case.services, case.endpoints);
        let step = Step::Cluster { program: program.to_owned(), services, endpoints, changes };
        let done: Followed = step::run(&step, LIMIT)?;
        lines.push(Line::new("cluster", &name, "start to first full commit", Figure::time(done.first)));
        let times = Sample::new(done.changes);
        for percent in [50, 99] {
            let measure = format!("endpoint, sent to kernel, 100 a second, p{percent}");
            lines.push(Line::new("cluster", &name, measure, Figure::time(times.percentile(percent))));
        }
        let resident = Line::new("cluster", &name, "resident", Figure::Bytes(done.resident));
        lines.push(match case.resident {
            Some(most) => resident.required(Required::AtMost(Figure::Bytes(most * MEBIBYTE))),
            None => resident,
        });
        lines.push(Line::new("cluster", &name, "resident at most", Figure::Bytes(done.peak)));
        let measure = format!("processor time in {} idle seconds", IDLE.as_secs());
        lines.push(Line::new("cluster", &name, measure, Figure::time(done.idle)));
        let measure = format!("start again, nothing changed, {} commits", done.commits);
        lines.push(Line::new("cluster", &name, measure, Figure::time(done.again)));
    }
    Ok(lines)
}

/// The step [`Step::Cluster`].
pub(crate) fn follow(
    program: &Path,
    services: usize,
    endpoints: usize,
    changes: usize,
) -> anyhow::Result<Followed> {
    forwarding::raise_loopback()?;
    let cluster = Cluster { endpoints, ..scale::cluster(services, endpoints / services) };
    let server = Double::start(Options::default()).context("starting the API server")?;
    server.load(cluster.objects()).context("loading the API server")?;
    let started = Instant::now();
    let mut running = start(program, &server, &node_name())?;
    let first = started.elapsed();

    let mut elements = Elements::open().context("opening a netlink socket")?;
    let stride = (services / changes).max(1);
    let begun = Instant::now();
    let mut times = Vec::new();
    for change in 0..changes {
        let due = EVERY * u32::try_from(change)?;
        thread::sleep(due.saturating_sub(begun.elapsed()));
        let (service, slice, question) = replaced(cluster, change * stride % services, change)?;
        ensure!(!elements.hold(&question)?, "{service} is changed already");
        let sent = Instant::now();
        server.apply(slice).context("changing a slice")?;
        while !elements.hold(&question).context("asking for an element")? {
            ensure!(
                sent.elapsed() < CHANGE_LIMIT,
                "{service}: no change in the kernel; it said:\n{}",
                running.log()
            );
        }
        times.push(sent.elapsed());
    }
    let before = process::cpu_time(running.id())?;
    thread::sleep(IDLE);
    let idle = process::cpu_time(running.id())?.saturating_sub(before);
    let memory = process::memory(&running.id().to_string())?;
    // What it did since is part of it.
    ensure!(running.is_running()?, "the program has ended; it said:\n{}", running.log());
    drop(running);
    let mut rules = Socket::open().context("opening a netlink socket")?;
    let generation = rules.generation()?;
    let started = Instant::now();
    let running = start(program, &server, &node_name())?;
    let again = started.elapsed();
    let commits = rules.generation()?.wrapping_sub(generation);
    drop(running);
    let (resident, peak) = (memory.resident, memory.peak);
    Ok(Followed { first, changes: times, resident, peak, idle, again, commits })
}

fn node_name() -> String {
    scale::node(0)["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// The first slice of a Service with another first endpoint, and how to see in the kernel that it
/// is there.
fn replaced(cluster: Cluster, service: usize, change: usize) -> anyhow::Result<(String, Value, Question)> {
    let object = cluster.service(service);
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let frontend: Ipv4Addr = object["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
    let mut slices: Vec<Value> = cluster.slices(service).collect();
    let number = u32::try_from(change)?;
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 1)) + number);
    slices[0]["endpoints"][0]["addresses"][0] = address.to_string().into();
    let mut endpoints: Vec<String> = slices
        .iter()
        .flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten())
        .map(|endpoint| format!("{}:8080", endpoint["addresses"][0].as_str().unwrap_or_default()))
        .collect();
    // The order of spec §1.28.
    endpoints.sort_unstable();
    let index = endpoints.iter().position(|endpoint| *endpoint == format!("{address}:8080"));
    let index = u32::try_from(index.context("the endpoint is not there")?)?;
    let question = Question::endpoint((frontend, Protocol::Tcp, 80), index, (address, 8080));
    Ok((name, slices.swap_remove(0), question))
}

/// Starts `portolan run` with a kubeconfig and waits until all Services are in force.
fn start(program: &Path, server: &Double, node: &str) -> anyhow::Result<Program> {
    let folder = tempfile::tempdir().context("creating a temporary folder")?;
    let kubeconfig = folder.path().join("kubeconfig");
    server.kubeconfig(&kubeconfig, &Credentials::None).context("writing a kubeconfig")?;
    Program::launch(program, folder, node, "10.64.0.0/10", |command| {
        // What belongs to the machine is not changed for a measurement.
        command.args(["--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0"]);
        command.args(["--conntrack-tcp-timeout-close-wait=0", "--oom-score-adj=0"]);
        command.arg("--kubeconfig").arg(&kubeconfig);
    })
}
