//! Mode ipvs: cold load against `ipvsadm -R` of the same virtual servers, single changes of a small
//! and a large cluster, and what the kernel holds. Needs root of the machine, and IPVS.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_dataplane::Dataplane;
use portolan_dataplane::ipvs::{Ipvs, IpvsSettings, Timeouts};
use portolan_service::{Protocol, ServicePlan};
use serde::{Deserialize, Serialize};

use crate::change::timed;
use crate::cluster::{Member, Shape, members};
use crate::forwarding::raise_loopback;
use crate::load;
use crate::process::{self, output_of};
use crate::report::{Figure, Line, Required};
use crate::sample::Sample;
use crate::step::{self, Step};

const LIMIT: Duration = Duration::from_mins(5);
/// The longest that IPVS remembers a datagram's flow here, seconds: floods wait for that.
pub(crate) const FLOW_SECONDS: u32 = 2;

/// What was measured in one namespace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Timings {
    load: Duration,
    /// Bytes of the kernel's that came with it, about.
    kernel: u64,
    /// Bytes resident in the process that came with it.
    resident: u64,
    /// One endpoint replaced by another.
    endpoint: Vec<Duration>,
    /// A Service removed, and added.
    service: Vec<Duration>,
    /// All virtual servers, as `ipvsadm -R` takes them.
    text: String,
}

/// Loads and changes a small and a large cluster of `services` Services.
pub(crate) fn bench(small: u32, services: u32, changes: u32) -> anyhow::Result<Vec<Line>> {
    let folder = tempfile::tempdir().context("creating a temporary folder")?;
    let measure = |services: u32| {
        let shape = Shape::new(services, 1);
        step::run::<Timings>(&Step::Ipvs { shape, changes }, LIMIT)
            .with_context(|| format!("loading {shape}"))
    };
    let (few, many) = (measure(small)?, measure(services)?);
    let shape = Shape::new(services, 1);
    let file = folder.path().join("servers");
    std::fs::write(&file, &many.text).with_context(|| format!("writing {}", file.display()))?;
    let by_ipvsadm: Duration = step::run(&Step::IpvsRestore { file }, LIMIT)?;
    let median = |times: &[Duration]| Figure::time(Sample::new(times.iter().copied()).median());
    let line = |measure, figure| Line::new("ipvs", shape, measure, figure);
    let each = |bytes: u64| Figure::Bytes(bytes / u64::from(services));
    Ok(vec![
        line("cold load, with its rules", Figure::time(many.load))
            .against("ipvsadm -R", Figure::time(by_ipvsadm))
            .required(Required::TimesBetter(8.0)),
        line("endpoint replaced", median(&many.endpoint))
            .against("in a small cluster", median(&few.endpoint))
            .required(Required::TimesBetter(1.0 / 1.5)),
        line("Service removed, or added", median(&many.service))
            .against("in a small cluster", median(&few.service))
            .required(Required::TimesBetter(1.0 / 1.5)),
        line("kernel, a Service, about", each(many.kernel)),
        line("process, a Service, its plan not counted", each(many.resident)),
    ])
}

/// What the node under test is set up with.
pub(crate) fn settings() -> anyhow::Result<IpvsSettings> {
    let timeouts = Timeouts { udp: FLOW_SECONDS, ..Timeouts::default() };
    Ok(IpvsSettings { rules: load::settings()?, bit: 0x4000, scheduler: "rr".into(), timeouts })
}

/// The step [`Step::Ipvs`].
pub(crate) fn measure(shape: Shape, changes: u32) -> anyhow::Result<Timings> {
    // The route to IPVS leads there.
    raise_loopback()?;
    let plans: Vec<ServicePlan> = members(shape, Protocol::Tcp).map(|member| member.plan()).collect();
    let (kernel, resident) = (held_by_kernel()?, process::memory("self")?.resident);
    let started = Instant::now();
    let mut dataplane = Ipvs::new(settings()?)?;
    let outcome = dataplane.sync(&mut plans.iter())?;
    let load = started.elapsed();
    ensure!(outcome.refused.is_empty(), "the kernel refused {:?}", outcome.refused.first());
    let kernel = held_by_kernel()?.saturating_sub(kernel);
    let resident = process::memory("self")?.resident.saturating_sub(resident);
    let text = output_of("ipvsadm", &["-Sn"], "")?;

    let mut apply = |before, after| timed(&mut dataplane, before, after);
    let (mut endpoint, mut service) = (Vec::new(), Vec::new());
    let stride = (shape.services / changes).max(1);
    for change in 0..changes {
        let member = Member::new(shape, Protocol::Tcp, change * stride % shape.services);
        let replaced = Member { replaced: Some(change), ..member };
        endpoint.push(apply(Some(member.plan()), Some(replaced.plan()))?);
        service.push(apply(Some(replaced.plan()), None)?);
        service.push(apply(None, Some(member.plan()))?);
    }
    Ok(Timings { load, kernel, resident, endpoint, service, text })
}

/// The step [`Step::IpvsRestore`].
pub(crate) fn restore(file: &Path) -> anyhow::Result<Duration> {
    // Without it, the kernel takes no address for that of a machine.
    raise_loopback()?;
    let servers = std::fs::File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let started = Instant::now();
    let restored = process::run(Command::new("ipvsadm").arg("-R").stdin(servers))?;
    let took = started.elapsed();
    ensure!(restored.status.success(), "ipvsadm -R: {}", restored.status);
    Ok(took)
}

/// Unreclaimable memory of the kernel, and what it has for each processor: counters of virtual
/// servers.
fn held_by_kernel() -> anyhow::Result<u64> {
    Ok(process::kernel_slab()? + process::kernel_per_processor()?)
}
