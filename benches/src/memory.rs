//! Resident memory of the program and of the planner alone, for each Service and each endpoint.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use portolan_dataplane::Dataplane;
use portolan_dataplane::nftables::Nftables;
use portolan_service::{Change, Planner, Protocol};
use serde::{Deserialize, Serialize};

use crate::cluster::{Shape, local_node, members, nodes};
use crate::load;
use crate::process;
use crate::program::Program;
use crate::report::{Figure, Line};
use crate::step::{self, Step};

const LIMIT: Duration = Duration::from_mins(2);

/// Bytes.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Footprint {
    /// Resident in the process.
    resident: u64,
    /// Resident at most.
    peak: u64,
    /// What the kernel holds more than before; of the whole machine, so other work blurs it.
    kernel: u64,
}

/// Compares a cluster of `services` Services with one endpoint each to an empty one, and one of
/// `services` / 10 Services with `endpoints` each to one with a single endpoint each.
pub(crate) fn bench(program: &Path, services: u32, endpoints: u32) -> anyhow::Result<Vec<Line>> {
    let (none, many) = (Shape::new(0, 1), Shape::new(services, 1));
    let (thin, thick) = (Shape::new(services / 10, 1), Shape::new(services / 10, endpoints));
    let whole = |shape| step::run::<Footprint>(&Step::Resident { program: program.to_owned(), shape }, LIMIT);
    let planner = |shape| step::run::<Footprint>(&Step::Planner { shape }, LIMIT);
    let mut lines = Vec::new();
    for (what, measure) in [
        ("portolan run", &whole as &dyn Fn(Shape) -> anyhow::Result<Footprint>),
        ("planner and catalog alone", &planner),
    ] {
        let (none_held, many_held, thin_held, thick_held) =
            (measure(none)?, measure(many)?, measure(thin)?, measure(thick)?);
        for (shape, held) in [(none, none_held), (many, many_held), (thick, thick_held)] {
            lines.push(Line::new("memory", shape, format!("{what}, resident"), Figure::Bytes(held.resident)));
            lines.push(Line::new("memory", shape, format!("{what}, at most"), Figure::Bytes(held.peak)));
        }
        let each =
            |more: u64, less: u64, number: u32| Figure::Bytes(more.saturating_sub(less) / u64::from(number));
        let more_endpoints = thick.services * (thick.endpoints - 1);
        let a_service = each(many_held.resident, none_held.resident, many.services);
        lines.push(Line::new("memory", "a Service", format!("{what}, its endpoint included"), a_service));
        let an_endpoint = each(thick_held.resident, thin_held.resident, more_endpoints);
        lines.push(Line::new("memory", "an endpoint", what, an_endpoint));
        if what == "portolan run" {
            let a_service = each(many_held.kernel, none_held.kernel, many.services);
            lines.push(Line::new("memory", "a Service", "kernel, about, its endpoint included", a_service));
            let an_endpoint = each(thick_held.kernel, thin_held.kernel, more_endpoints);
            lines.push(Line::new("memory", "an endpoint", "kernel, about", an_endpoint));
        }
    }
    Ok(lines)
}

/// The step [`Step::Planner`].
pub(crate) fn planner(shape: Shape) -> anyhow::Result<Footprint> {
    let nodes = nodes();
    process::forget_peak()?;
    let before = process::memory("self")?;
    let mut planner = Planner::new(local_node());
    for member in members(shape, Protocol::Tcp) {
        planner.apply([Change::from(member.service()), Change::from(member.slice(&nodes))]);
    }
    let after = process::memory("self")?;
    ensure!(planner.plans().len() == shape.services as usize, "{} plans for {shape}", planner.plans().len());
    let more = |bytes: u64| bytes.saturating_sub(before.resident);
    Ok(Footprint { resident: more(after.resident), peak: more(after.peak), kernel: 0 })
}

/// The step [`Step::Resident`].
pub(crate) fn resident(program: &Path, shape: Shape) -> anyhow::Result<Footprint> {
    let kernel = kernel(shape)?;
    let program = Program::start(program, shape)?;
    let memory = program.memory()?;
    Ok(Footprint { resident: memory.resident, peak: memory.peak, kernel })
}

/// What the kernel holds for the cluster: loaded here without the program, for a small disturbance.
fn kernel(shape: Shape) -> anyhow::Result<u64> {
    let plans: Vec<_> = members(shape, Protocol::Tcp).map(|member| member.plan()).collect();
    let mut dataplane = Nftables::new(load::settings()?)?;
    let before = process::kernel_slab()?;
    dataplane.sync(&mut plans.iter())?;
    let after = process::kernel_slab()?;
    dataplane.cleanup()?;
    Ok(after.saturating_sub(before))
}
