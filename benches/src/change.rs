//! Single changes of a loaded cluster: through the whole program, from the renamed file to the
//! element in the kernel, and in the dataplane alone.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_dataplane::Dataplane;
use portolan_dataplane::nftables::Nftables;
use portolan_service::{Change, ChangeSet, Planner, Protocol, ServiceChange, ServicePlan};
use serde::{Deserialize, Serialize};

use crate::cluster::{ENDPOINT_PORT, Member, Shape, local_node, members, nodes};
use crate::element::{Elements, Question};
use crate::load;
use crate::program::Program;
use crate::report::{Figure, Line, Required};
use crate::sample::Sample;
use crate::step::{self, Step};

const LIMIT: Duration = Duration::from_mins(2);
/// A change that takes longer has failed.
const CHANGE_LIMIT: Duration = Duration::from_secs(10);
/// Between two changes, so that each finds the program asleep, as in life.
const PAUSE: Duration = Duration::from_millis(15);
const REQUIRED: Required = Required::AtMost(Figure::Nanoseconds(10_000_000));

/// How long each change took.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Changes {
    endpoint: Vec<Duration>,
    service: Vec<Duration>,
}

/// Changes clusters of `shapes`.
pub(crate) fn bench(program: &Path, shapes: &[Shape], changes: u32) -> anyhow::Result<Vec<Line>> {
    let mut lines = Vec::new();
    for &shape in shapes {
        let whole: Changes = step::run(&Step::Follow { program: program.to_owned(), shape, changes }, LIMIT)?;
        let alone: Changes = step::run(&Step::Apply { shape, changes }, LIMIT)?;
        for (what, whole, alone) in
            [("endpoint", whole.endpoint, alone.endpoint), ("Service", whole.service, alone.service)]
        {
            let (whole, alone) = (Sample::new(whole), Sample::new(alone));
            for percent in [50, 99] {
                let line = |measure: &str, time| {
                    Line::new("change", shape, format!("{what}, {measure}, p{percent}"), time)
                };
                lines
                    .push(line("file to kernel", Figure::time(whole.percentile(percent))).required(REQUIRED));
                lines.push(line("planner and dataplane alone", Figure::time(alone.percentile(percent))));
            }
        }
    }
    Ok(lines)
}

/// The members that are changed: spread over the whole cluster.
fn chosen(shape: Shape, changes: u32) -> impl Iterator<Item = (u32, Member)> {
    let stride = shape.services / changes.min(shape.services);
    (0..changes)
        .map(move |change| (change, Member::new(shape, Protocol::Tcp, change * stride % shape.services)))
}

fn endpoint_replaced(member: Member, change: u32) -> Member {
    Member { replaced: Some(change), ..member }
}

fn port_moved(member: Member, change: u32) -> Member {
    // No two changes of a Service in a row give it the same port, and none its first.
    Member { port: 1000 + u16::try_from(change % 30_000).expect("below 2^16"), ..member }
}

/// The step [`Step::Follow`].
pub(crate) fn follow(program: &Path, shape: Shape, changes: u32) -> anyhow::Result<Changes> {
    let program = Program::start(program, shape)?;
    let mut elements = Elements::open().context("opening a netlink socket")?;
    let mut time = |member: &Member| -> anyhow::Result<Duration> {
        let question = question(member)?;
        ensure!(!elements.hold(&question)?, "Service {} is changed already", member.name());
        thread::sleep(PAUSE);
        let started = program.replace(member, Instant::now)?;
        while !elements.hold(&question).context("asking for an element")? {
            ensure!(
                started.elapsed() < CHANGE_LIMIT,
                "a change of {} did not arrive in the kernel; the program said:\n{}",
                member.name(),
                program.log()
            );
        }
        Ok(started.elapsed())
    };
    let endpoint = chosen(shape, changes).map(|(change, member)| time(&endpoint_replaced(member, change)));
    let endpoint = endpoint.collect::<anyhow::Result<_>>()?;
    // The endpoint stays replaced: only the Service changes.
    let service = chosen(shape, changes)
        .map(|(change, member)| time(&port_moved(endpoint_replaced(member, change), change)));
    let service = service.collect::<anyhow::Result<_>>()?;
    Ok(Changes { endpoint, service })
}

/// Whether the frontend of a changed member leads to its first endpoint. As the kernel takes all
/// elements of a change at once, this one speaks for the others.
fn question(member: &Member) -> anyhow::Result<Question> {
    let address = member.endpoint(0);
    let backends = &member.plan().ports[0].cluster;
    let index = backends.iter().position(|backend| backend.address == address).context("no such endpoint")?;
    let frontend = (member.cluster_ip(), member.protocol, member.port);
    Ok(Question::endpoint(frontend, u32::try_from(index)?, (address, ENDPOINT_PORT)))
}

/// How long it takes to bring `after` into force where `before` is: a plan of the same Service, or
/// none.
pub(crate) fn timed(
    dataplane: &mut impl Dataplane,
    before: Option<ServicePlan>,
    after: Option<ServicePlan>,
) -> anyhow::Result<Duration> {
    let name = before.as_ref().or(after.as_ref()).context("a change of nothing")?.name.clone();
    let change = ServiceChange { name, before: before.map(Into::into), after: after.map(Into::into) };
    let changes = ChangeSet { services: vec![change] };
    let started = Instant::now();
    let outcome = dataplane.apply(&changes)?;
    let took = started.elapsed();
    ensure!(outcome.refused.is_empty(), "the kernel refused {:?}", outcome.refused.first());
    ensure!(outcome.operations > 0, "a change that changed nothing");
    Ok(took)
}

/// The step [`Step::Apply`].
pub(crate) fn apply(shape: Shape, changes: u32) -> anyhow::Result<Changes> {
    let nodes = nodes();
    let mut planner = Planner::new(local_node());
    planner.apply(
        members(shape, Protocol::Tcp)
            .flat_map(|member| [Change::from(member.service()), Change::from(member.slice(&nodes))]),
    );
    let mut dataplane = Nftables::new(load::settings()?)?;
    dataplane.sync(&mut planner.plans().map(|plan| &**plan))?;
    let mut time = |object: Change| -> anyhow::Result<Duration> {
        let started = Instant::now();
        let changes = planner.apply([object]);
        let outcome = dataplane.apply(&changes)?;
        let took = started.elapsed();
        ensure!(outcome.refused.is_empty(), "the kernel refused {:?}", outcome.refused.first());
        ensure!(outcome.operations > 0, "a change that changed nothing");
        Ok(took)
    };
    let endpoint = chosen(shape, changes)
        .map(|(change, member)| time(Change::from(endpoint_replaced(member, change).slice(&nodes))));
    let endpoint = endpoint.collect::<anyhow::Result<_>>()?;
    let service = chosen(shape, changes)
        .map(|(change, member)| time(Change::from(port_moved(member, change).service())));
    let service = service.collect::<anyhow::Result<_>>()?;
    Ok(Changes { endpoint, service })
}
