//! Cold load of a whole cluster: [`Dataplane::sync`] into an empty namespace, against `nft -f` of
//! the same rules.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_dataplane::nftables::Nftables;
use portolan_dataplane::{Dataplane, LocalDetector, Settings};
use portolan_service::{PerFamily, Protocol, ServicePlan};
use serde::{Deserialize, Serialize};

use crate::cluster::{POD_NETWORK, Shape, members};
use crate::process;
use crate::report::{Figure, Line, Required};
use crate::sample::{Sample, interleave};
use crate::step::{self, Step};

const LIMIT: Duration = Duration::from_mins(1);

/// What one cold load took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Loaded {
    wall: Duration,
    /// Bytes resident at most in the process that did only this.
    peak: u64,
    /// Of these, bytes that were resident before: the plans, for Portolan.
    before: u64,
}

/// Loads `shapes` and compares.
pub(crate) fn bench(shapes: &[Shape], rounds: usize) -> anyhow::Result<Vec<Line>> {
    let folder = tempfile::tempdir().context("creating a temporary folder")?;
    let mut lines = Vec::new();
    for &shape in shapes {
        let listing = folder.path().join(format!("{shape}.nft"));
        let nft = nft_is_there() && {
            let _: Loaded = step::run(&Step::Load { shape, listing: Some(listing.clone()) }, LIMIT)?;
            nft_can_load(&listing)
        };
        let ours = || step::run::<Loaded>(&Step::Load { shape, listing: None }, LIMIT);
        let text = || step::run::<Loaded>(&Step::LoadText { file: listing.clone() }, LIMIT);
        let (ours, theirs) = if nft {
            let [ours, theirs] = interleave(rounds, [&ours, &text])?;
            (ours, Some(theirs))
        } else {
            let [ours] = interleave(rounds, [&ours])?;
            (ours, None)
        };
        lines.extend(compare(shape, &ours, theirs.as_deref()));
    }
    Ok(lines)
}

fn compare(shape: Shape, ours: &[Loaded], theirs: Option<&[Loaded]>) -> [Line; 3] {
    let line = |measure, of_ours: fn(&Loaded) -> Figure, of_theirs: fn(&Loaded) -> Figure| {
        let line = Line::new("load", shape, measure, Sample::new(ours.iter().map(of_ours)).median());
        match theirs {
            Some(theirs) => line.against("nft -f", Sample::new(theirs.iter().map(of_theirs)).median()),
            None => line,
        }
    };
    let wall = |load: &Loaded| Figure::time(load.wall);
    let peak = |load: &Loaded| Figure::Bytes(load.peak);
    let added = |load: &Loaded| Figure::Bytes(load.peak.saturating_sub(load.before));
    [
        line("time", wall, wall).required(Required::TimesBetter(3.0)),
        line("peak memory, plans included", peak, peak).required(Required::TimesBetter(5.0)),
        line("peak memory over the plans", added, peak),
    ]
}

/// Whether the program that the baseline needs is installed.
pub(crate) fn nft_is_there() -> bool {
    Command::new("nft")
        .arg("--version")
        .stdout(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether `nft -f` takes the file: without root, the kernel takes no transaction above some 200 kB
/// from it.
pub(crate) fn nft_can_load(file: &Path) -> bool {
    let loaded = step::run::<Loaded>(&Step::LoadText { file: file.to_owned() }, LIMIT);
    if let Err(error) = &loaded {
        eprintln!("nft -f {}: {error:#}: this baseline is SKIPPED (as root it has no limit)", file.display());
    }
    loaded.is_ok()
}

/// What the node under test is set up with.
pub(crate) fn settings() -> anyhow::Result<Settings> {
    let local = LocalDetector::SourceNetwork(POD_NETWORK.parse().context("the pod network")?);
    Ok(Settings { local: PerFamily { v4: Some(local), v6: None }, ..Settings::default() })
}

/// The step [`Step::Load`].
pub(crate) fn load(shape: Shape, listing: Option<&Path>) -> anyhow::Result<Loaded> {
    let plans: Vec<ServicePlan> = members(shape, Protocol::Tcp).map(|member| member.plan()).collect();
    let settings = settings()?;
    process::forget_peak()?;
    let before = process::memory("self")?.resident;
    let started = Instant::now();
    let mut dataplane = Nftables::new(settings)?;
    let outcome = dataplane.sync(&mut plans.iter())?;
    let wall = started.elapsed();
    let peak = process::memory("self")?.peak;
    ensure!(outcome.refused.is_empty(), "the kernel refused {:?}", outcome.refused.first());
    if let Some(listing) = listing {
        let file = File::create(listing).with_context(|| format!("creating {}", listing.display()))?;
        let listed = process::run(Command::new("nft").args(["list", "ruleset"]).stdout(file))?;
        ensure!(listed.status.success(), "nft list ruleset: {}", listed.status);
    }
    Ok(Loaded { wall, peak, before })
}

/// The step [`Step::LoadText`].
pub(crate) fn load_text(file: &Path) -> anyhow::Result<Loaded> {
    let started = Instant::now();
    let loaded = process::run(Command::new("nft").arg("-f").arg(file))?;
    let wall = started.elapsed();
    ensure!(loaded.status.success(), "nft -f {}: {}", file.display(), loaded.status);
    Ok(Loaded { wall, peak: loaded.peak, before: 0 })
}
