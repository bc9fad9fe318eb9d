//! Mode iptables: cold load against one iptables-restore of the same text, and one change against
//! writing what kube-proxy writes for it (spec §5.35), both for each variant of iptables.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use portolan_dataplane::Dataplane;
use portolan_dataplane::iptables::{Iptables, Options};
use portolan_service::{Protocol, ServicePlan};
use serde::{Deserialize, Serialize};

use crate::change::timed;
use crate::cluster::{Member, Shape, members};
use crate::load;
use crate::process::output_of;
use crate::report::{Figure, Line, Required};
use crate::sample::Sample;
use crate::step::{self, Step};

const LIMIT: Duration = Duration::from_mins(10);

/// The programs of both variants.
pub(crate) const VARIANTS: [&str; 2] = ["legacy", "nft"];

/// Chains that hold something of every Service, all of which kube-proxy writes at each change (spec
/// §5.8).
const SHARED: [&str; 9] = [
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-PROXY-FIREWALL",
    "KUBE-POSTROUTING",
    "KUBE-MARK-MASQ",
    "KUBE-FIREWALL",
    "KUBE-PROXY-CANARY",
];

const DROPPED_INVALID: &str = "ct_state_invalid_dropped_pkts";

/// What was measured in one namespace.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Timings {
    load: Duration,
    /// One endpoint replaced by another.
    endpoint: Vec<Duration>,
    /// A Service added.
    added: Vec<Duration>,
    /// A Service removed.
    removed: Vec<Duration>,
    /// What kube-proxy writes when one endpoint is replaced.
    partial: Vec<Duration>,
    /// All of kube-proxy's chains, as iptables-restore takes them.
    text: String,
}

/// Loads `shapes`, changes Services of them, and compares.
pub(crate) fn bench(shapes: &[Shape], changes: u32) -> anyhow::Result<Vec<Line>> {
    let folder = tempfile::tempdir().context("creating a temporary folder")?;
    let mut lines = Vec::new();
    for &shape in shapes {
        for variant in VARIANTS {
            let name = format!("{shape} {variant}");
            if !is_there(variant) {
                eprintln!("iptables-{variant} is not installed: SKIPPED");
                continue;
            }
            let step = Step::Iptables { variant: variant.to_owned(), shape, changes };
            let measured: Timings = step::run(&step, LIMIT)?;
            let file = folder.path().join(&name);
            std::fs::write(&file, &measured.text).with_context(|| format!("writing {}", file.display()))?;
            let at_once: Duration =
                step::run(&Step::IptablesRestore { variant: variant.to_owned(), file }, LIMIT)?;
            let median = |times: &[Duration]| Figure::time(Sample::new(times.iter().copied()).median());
            let partial = median(&measured.partial);
            let line = |measure, figure| Line::new("iptables", &name, measure, figure);
            // With iptables-legacy any change costs what the whole table does, and a small table is
            // cheap to write whole.
            let large = shape.services >= 10_000;
            let times_better = Required::TimesBetter(if variant == "nft" && large { 5.0 } else { 1.0 });
            lines.extend([
                line("cold load", Figure::time(measured.load))
                    .against("iptables-restore", Figure::time(at_once))
                    .required(Required::TimesBetter(1.0)),
                line("endpoint replaced", median(&measured.endpoint))
                    .against("whole shared chains", partial)
                    .required(times_better),
                line("Service added", median(&measured.added))
                    .against("whole shared chains", partial)
                    .required(times_better),
                line("Service removed", median(&measured.removed)).against("whole shared chains", partial),
            ]);
        }
    }
    Ok(lines)
}

fn is_there(variant: &str) -> bool {
    Command::new(format!("iptables-{variant}"))
        .arg("--version")
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The step [`Step::Iptables`].
pub(crate) fn measure(variant: &str, shape: Shape, changes: u32) -> anyhow::Result<Timings> {
    own_lock();
    // As kubelet marks which variant the host uses (spec §5.1).
    for family in ["iptables", "ip6tables"] {
        output_of(&format!("{family}-{variant}"), &["-t", "mangle", "-N", "KUBE-IPTABLES-HINT"], "")?;
    }
    let plans: Vec<ServicePlan> = members(shape, Protocol::Tcp).map(|member| member.plan()).collect();
    let started = Instant::now();
    let mut dataplane = Iptables::new(&load::settings()?, &Options::default())?;
    let outcome = dataplane.sync(&mut plans.iter())?;
    let load = started.elapsed();
    ensure!(outcome.refused.is_empty(), "iptables refused {:?}", outcome.refused.first());
    let text = saved(variant)?;

    let (mut endpoint, mut added, mut removed, mut partial) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut apply = |before, after| timed(&mut dataplane, before, after);
    let stride = shape.services / changes.min(shape.services);
    for change in 0..changes {
        let member = Member::new(shape, Protocol::Tcp, change * stride % shape.services);
        let replaced = Member { replaced: Some(change), ..member };
        endpoint.push(apply(Some(member.plan()), Some(replaced.plan()))?);
        let text = partial_sync(&saved(variant)?, &member.name().to_string());
        let started = Instant::now();
        output_of(&format!("iptables-{variant}-restore"), &["--noflush", "--counters", "-w"], &text)?;
        partial.push(started.elapsed());
        removed.push(apply(Some(replaced.plan()), None)?);
        added.push(apply(None, Some(member.plan()))?);
    }
    Ok(Timings { load, endpoint, added, removed, partial, text })
}

/// The step [`Step::IptablesRestore`].
pub(crate) fn restore(variant: &str, file: &Path) -> anyhow::Result<Duration> {
    own_lock();
    let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let started = Instant::now();
    output_of(&format!("iptables-{variant}-restore"), &["--noflush", "--counters", "-w"], &text)?;
    Ok(started.elapsed())
}

/// What was written, as one input.
fn saved(variant: &str) -> anyhow::Result<String> {
    let mut text = String::new();
    for table in ["filter", "nat"] {
        let saved = output_of(&format!("iptables-{variant}-save"), &["-t", table], "")?;
        let ours = |line: &&str| !line.starts_with('#') && (!line.starts_with(':') || line.contains(" - "));
        for line in saved.lines().filter(ours) {
            // Counters of nfacct belong to the namespace that they were created in.
            let counter = format!(" -m nfacct --nfacct-name  {DROPPED_INVALID}");
            writeln!(text, "{}", line.replace(&counter, ""))?;
        }
    }
    Ok(text)
}

/// Of `saved`, what kube-proxy writes when something of `service` changes: the shared chains, and
/// those of the Service.
fn partial_sync(saved: &str, service: &str) -> String {
    let mut own: Vec<&str> = Vec::new();
    for line in saved.lines().filter(|line| line.contains(&format!(" \"{service}:http"))) {
        let mut words = line.split(' ');
        let chain = words.nth(1).unwrap_or_default();
        let target = words.skip_while(|word| *word != "-j").nth(1).unwrap_or_default();
        own.extend(
            [chain, target].into_iter().filter(|chain| chain.starts_with("KUBE-S") && chain.len() > 20),
        );
    }
    let mut text = String::new();
    for line in saved.lines() {
        let chain = line.split(' ').nth(usize::from(line.starts_with("-A"))).unwrap_or_default();
        let chain = chain.trim_start_matches(':');
        let is_frame = line.starts_with('*') || line == "COMMIT";
        if is_frame || SHARED.contains(&chain) || own.contains(&chain) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// In namespaces of our own nobody else waits, and the lock of the machine may not be ours to take.
fn own_lock() {
    let lock = std::env::temp_dir().join(format!("portolan-bench-xtables-{}.lock", std::process::id()));
    // SAFETY: this process has one thread so far.
    unsafe { std::env::set_var("XTABLES_LOCKFILE", lock) };
}
