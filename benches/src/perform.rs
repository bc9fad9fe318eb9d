//! What each step does, in the process that was started for it.

use std::time::Duration;

use anyhow::Context;

use crate::step::{Step, answer};
use crate::{affinity, api, change, dns, flow, hostile, iptables, ipvs, load, memory, namespace, relay};

/// Does `step` in this process and answers on its output.
pub(crate) fn perform(step: &Step, limit: Duration) -> anyhow::Result<()> {
    let limit = u32::try_from(limit.as_secs()).context("the time limit of a step")?;
    // SAFETY: neither call touches memory. The process ends with its parent, and at the latest by
    // SIGALRM.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::alarm(limit);
    }
    match step {
        Step::ServeNames { shape, threads } => return dns::serve(*shape, *threads),
        Step::ServeRelay => return relay::serve(),
        _ => {}
    }
    namespace::enter_fresh_network()?;
    match step {
        Step::Load { shape, listing } => answer(&load::load(*shape, listing.as_deref())?),
        Step::LoadText { file } => answer(&load::load_text(file)?),
        Step::Apply { shape, changes } => answer(&change::apply(*shape, *changes)?),
        Step::Follow { program, shape, changes } => answer(&change::follow(program, *shape, *changes)?),
        Step::Depart { shape, clients, departures, flood } => {
            answer(&affinity::depart(*shape, *clients, *departures, *flood)?)
        }
        Step::Flood { rules, shape, flows } => flow::answer_floods(*rules, *shape, *flows),
        Step::Hostile { source_ranges } => answer(&hostile::perform(*source_ranges)?),
        Step::Planner { shape } => answer(&memory::planner(*shape)?),
        Step::Resident { program, shape } => answer(&memory::resident(program, *shape)?),
        Step::Cluster { program, services, endpoints, changes } => {
            answer(&api::follow(program, *services, *endpoints, *changes)?)
        }
        Step::Iptables { variant, shape, changes } => answer(&iptables::measure(variant, *shape, *changes)?),
        Step::Ipvs { shape, changes } => answer(&ipvs::measure(*shape, *changes)?),
        Step::IpvsRestore { file } => answer(&ipvs::restore(file)?),
        Step::Names { program, services, seconds, large } => {
            answer(&dns::measure(program, *services, *seconds, large)?)
        }
        Step::Relay { amount } => answer(&relay::measure(*amount)?),
        Step::ServeNames { .. } | Step::ServeRelay => unreachable!("served above"),
        Step::IptablesRestore { variant, file } => answer(&iptables::restore(variant, file)?),
    }
}
