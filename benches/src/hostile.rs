//! One Service that asks for as much as it can: how long it takes to plan it, to bring it into the
//! kernel, and what the others notice of it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ipnet::IpNet;
use portolan_dataplane::Dataplane;
use portolan_dataplane::nftables::Nftables;
use portolan_service::{
    BUDGET, Change, ChangeSet, EndpointSlice, IngressMode, LoadBalancerIngress, Planner, Protocol, Service,
    ServicePort, ServiceType, SlicePort,
};
use serde::{Deserialize, Serialize};

use crate::cluster::{Member, Shape, local_node, members, nodes};
use crate::load::settings;
use crate::report::{Figure, Line, Required};
use crate::step::{self, Step};

const LIMIT: Duration = Duration::from_mins(2);
/// The others, who are well-behaved
const OTHERS: Shape = Shape::new(1_000, 1);
const PORTS: u16 = 10;
const ENDPOINTS: u32 = 999;

/// What one run took.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Took {
    /// Planning so many source ranges, and a tenth of them.
    ranges: Duration,
    ranges_tenth: Duration,
    /// Planning a Service of 500 million frontends, which is refused.
    refused: Duration,
    /// The largest Service there may be: planning it; its transaction; the one that changes all of
    /// it; the one that removes it; the elements of the first.
    planned: Duration,
    added: Duration,
    changed: Duration,
    removed: Duration,
    elements: usize,
    /// A change of another Service without it and beside it.
    other: Duration,
    beside: Duration,
}

pub(crate) fn bench(source_ranges: u32, rounds: usize) -> anyhow::Result<Vec<Line>> {
    let mut runs = Vec::new();
    for _ in 0..rounds {
        runs.push(step::run::<Took>(&Step::Hostile { source_ranges }, LIMIT)?);
    }
    let median = |of: fn(&Took) -> Duration| {
        let mut times: Vec<Duration> = runs.iter().map(of).collect();
        times.sort_unstable();
        Figure::time(times[times.len() / 2])
    };
    let line = |case: &str, measure: &str, figure| Line::new("hostile", case, measure, figure);
    let ranges = format!("{source_ranges} source ranges");
    let largest = format!("{} elements", runs.first().map_or(0, |run| run.elements));
    Ok(vec![
        line(&ranges, "planned", median(|run| run.ranges))
            .against("a tenth of them", median(|run| run.ranges_tenth))
            .required(Required::AtMost(Figure::time(Duration::from_millis(50)))),
        line("500 million frontends", "refused", median(|run| run.refused)),
        line(&largest, "planned", median(|run| run.planned)),
        line(&largest, "in force", median(|run| run.added))
            .required(Required::AtMost(Figure::time(Duration::from_secs(2)))),
        line(&largest, "all of it changed", median(|run| run.changed)),
        line(&largest, "removed", median(|run| run.removed)),
        line("another Service", "changed beside it", median(|run| run.beside))
            .against("without it", median(|run| run.other)),
    ])
}

/// The step [`Step::Hostile`].
pub(crate) fn perform(source_ranges: u32) -> anyhow::Result<Took> {
    let ranges_tenth = plan_ranges(source_ranges / 10)?;
    let ranges = plan_ranges(source_ranges)?;
    let refused = plan_refused()?;

    let nodes = nodes();
    let mut planner = Planner::new(local_node());
    let others = members(OTHERS, Protocol::Tcp)
        .flat_map(|member| [Change::from(member.service()), Change::from(member.slice(&nodes))]);
    planner.apply(others);
    let mut dataplane = Nftables::new(settings()?)?;
    dataplane.sync(&mut planner.plans().map(|plan| &**plan))?;
    let one = Member::new(OTHERS, Protocol::Tcp, 0);
    let change_another = |planner: &mut Planner, dataplane: &mut Nftables| {
        let mut times = Vec::new();
        for round in 0..20 {
            let mut slice = one.slice(&nodes);
            slice.endpoints[0].ready = round % 2 == 1;
            times.push(apply(dataplane, &planner.apply([Change::from(slice)]))?.0);
        }
        times.sort_unstable();
        anyhow::Ok(times[times.len() / 2])
    };
    let other = change_another(&mut planner, &mut dataplane)?;

    let (service, mut slice) = (largest(), slice_of(&largest(), &nodes));
    let started = Instant::now();
    let changes = planner.apply([Change::from(service.clone()), Change::from(slice.clone())]);
    let planned = started.elapsed();
    ensure!(planner.oversized() == 0, "the largest Service is too large");
    let (added, elements) = apply(&mut dataplane, &changes)?;
    let beside = change_another(&mut planner, &mut dataplane)?;
    for port in &mut slice.ports {
        port.port = port.port.map(|port| port + 1);
    }
    let (changed, _) = apply(&mut dataplane, &planner.apply([Change::from(slice)]))?;
    let (removed, _) = apply(&mut dataplane, &planner.apply([Change::ServiceRemoved(service.name)]))?;
    Ok(Took { ranges, ranges_tenth, refused, planned, added, changed, removed, elements, other, beside })
}

fn apply(dataplane: &mut Nftables, changes: &ChangeSet) -> anyhow::Result<(Duration, usize)> {
    ensure!(!changes.is_empty(), "nothing has changed");
    let started = Instant::now();
    let outcome = dataplane.apply(changes).context("applying a change")?;
    ensure!(outcome.refused.is_empty(), "the kernel refused {:?}", outcome.refused.first());
    Ok((started.elapsed(), outcome.operations))
}

fn plan_ranges(count: u32) -> anyhow::Result<Duration> {
    let mut service = Member::new(OTHERS, Protocol::Tcp, 0).service();
    service.kind = ServiceType::LoadBalancer;
    let ip = IpAddr::from([203, 0, 113, 1]);
    service.load_balancer = vec![LoadBalancerIngress { ip, mode: IngressMode::Vip }];
    // Every other address: none can be merged.
    let range = |i: u32| IpNet::new(Ipv4Addr::from(0x1400_0000 + 2 * i).into(), 32);
    service.source_ranges = (0..count).map(range).collect::<Result<_, _>>()?;
    let mut planner = Planner::new(local_node());
    let started = Instant::now();
    let changes = planner.apply([Change::from(service)]);
    let took = started.elapsed();
    let plan = changes.services[0].after.as_ref().context("no plan")?;
    let frontend = plan.ports[0].frontends.last().context("no frontend")?;
    let sources = frontend.allowed_sources.as_ref().map_or(0, |sources| sources.merged.len());
    ensure!(sources == count as usize, "{sources} source ranges are planned");
    Ok(took)
}

fn plan_refused() -> anyhow::Result<Duration> {
    let mut service = with_ports(10_000);
    service.external_ips = external_ips(50_000);
    let mut planner = Planner::new(local_node());
    let started = Instant::now();
    planner.apply([Change::from(service)]);
    ensure!(planner.oversized() == 1, "it is planned");
    Ok(started.elapsed())
}

/// As large as [`BUDGET`] allows.
fn largest() -> Service {
    let mut service = with_ports(PORTS);
    let addresses = BUDGET / (usize::from(PORTS) * (ENDPOINTS as usize + 1));
    service.external_ips = external_ips(u32::try_from(addresses - 1).unwrap_or(u32::MAX));
    service
}

fn with_ports(count: u16) -> Service {
    let mut service = Member::new(OTHERS, Protocol::Tcp, OTHERS.services).service();
    let port = |i: u16| ServicePort {
        name: format!("p{i}").into(),
        protocol: Protocol::Tcp,
        port: 1000 + i,
        node_port: None,
    };
    service.ports = (0..count).map(port).collect();
    service
}

fn external_ips(count: u32) -> Vec<IpAddr> {
    (0..count).map(|i| Ipv4Addr::from(0xcb00_0000 + i).into()).collect()
}

fn slice_of(service: &Service, nodes: &[std::sync::Arc<str>]) -> EndpointSlice {
    let shape = Shape::new(OTHERS.services + 1, ENDPOINTS);
    let mut slice = Member::new(shape, Protocol::Tcp, OTHERS.services).slice(nodes);
    let port = |port: &ServicePort| SlicePort {
        name: port.name.clone(),
        protocol: port.protocol,
        port: Some(port.port),
    };
    slice.ports = service.ports.iter().map(port).collect();
    slice
}
