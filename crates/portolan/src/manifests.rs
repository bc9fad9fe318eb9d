//! A folder of manifests as the source of objects.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use portolan_observe::Health;
use portolan_source::manifests::{Manifests, Options, Update};
use tracing::info;

use crate::batch::Batch;
use crate::cli::ProxyArgs;
use crate::describe::counted;
use crate::feed::Feed;
use crate::problems;

/// How often a source without anything new shows that it still works.
const GOES_ON: Duration = Duration::from_secs(10);

/// The manifest source's options for these flags.
pub(crate) fn options(args: &ProxyArgs, read_only: bool) -> Options {
    Options {
        service_ranges: args.service_cluster_ip_range.clone(),
        node_port_range: args.service_node_port_range.clone(),
        ledger: (!args.state_dir.as_os_str().is_empty()).then(|| args.state_dir.join("allocations.json")),
        read_only,
    }
}

/// Reads the folder. Returns it, to be followed, and all that is in it.
pub(crate) fn read(folder: &Path, options: Options) -> anyhow::Result<(Manifests, Batch)> {
    let started = Instant::now();
    let mut manifests = Manifests::open(folder, options)?;
    let update = manifests.load();
    report_problems(&update);
    let objects = counted(update.changes.len(), "object");
    info!("{}: {objects} read in {:.1?}", folder.display(), started.elapsed());
    Ok((manifests, Batch::of_changes(update.changes, started)))
}

/// Hands what changes to `feed`.
pub(crate) fn follow(manifests: &mut Manifests, feed: &Feed, health: &Health) -> anyhow::Result<()> {
    loop {
        health.source_goes_on();
        if let Some(update) = manifests.wait(Some(GOES_ON)).context("following the manifests")? {
            report_problems(&update);
            feed.publish(&Batch::of_changes(update.changes, update.received));
        }
    }
}

fn report_problems(update: &Update) {
    problems::report(&update.new_problems, &update.solved, "; portolan check lists them");
}
