//! A folder of manifests as the source of objects.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use portolan_config::Config;
use portolan_observe::Telemetry;
use portolan_source::manifests::{Manifests, Options, Probing, Severity, Update};
use tracing::info;

use crate::batch::Batch;
use crate::cli::ProxyArgs;
use crate::describe::counted;
use crate::feed::Feed;
use crate::{probing, problems};

/// How often a source without anything new shows that it still works.
const GOES_ON: Duration = Duration::from_secs(10);

/// The manifest source's options for these flags and this configuration.
pub(crate) fn options(args: &ProxyArgs, config: &Config, read_only: bool) -> Options {
    let state = |name| (!args.state_dir.as_os_str().is_empty()).then(|| args.state_dir.join(name));
    Options {
        service_ranges: args.service_cluster_ip_range.clone(),
        node_port_range: args.service_node_port_range.clone(),
        pools: config.load_balancer.pools.clone(),
        balances_by_default: config.load_balancer.default,
        ledger: state("allocations.json"),
        last_good: state("last-good"),
        read_only,
        probing: match (args.probe_pods, read_only) {
            (false, _) => Probing::Off,
            (true, true) => Probing::Assumed,
            (true, false) => Probing::On,
        },
    }
}

/// A folder that is followed, and who probes its Pods, if somebody does.
pub(crate) struct Folder {
    manifests: Manifests,
    probing: Option<probing::Probing>,
}

/// Reads the folder, and hands all that is in it to `feed`. Returns it, to be followed.
pub(crate) fn read(
    folder: &Path,
    options: Options,
    mut probing: Option<probing::Probing>,
    feed: &Feed,
    telemetry: &Telemetry,
) -> anyhow::Result<Folder> {
    let started = Instant::now();
    let mut manifests = Manifests::open(folder, options)?;
    let update = manifests.load();
    report_problems(&manifests, &update, telemetry);
    let objects = counted(update.changes.len(), "object");
    info!("{}: {objects} read in {:.1?}", folder.display(), started.elapsed());
    let found = probing.as_mut().map(|probing| probing.begin(&mut manifests, &update)).transpose()?.flatten();
    feed.publish(&batch(update, started));
    if let Some(found) = found {
        report_problems(&manifests, &found, telemetry);
        feed.publish(&batch(found, started));
    }
    Ok(Folder { manifests, probing })
}

impl Folder {
    /// Hands what changes to `feed`, for as long as somebody `wants` it.
    pub(crate) fn follow(
        &mut self,
        feed: &Feed,
        telemetry: &Telemetry,
        wants: impl Fn() -> bool,
    ) -> anyhow::Result<()> {
        while wants() {
            telemetry.health.source_goes_on();
            let Folder { manifests, probing } = self;
            let said = probing.as_mut().and_then(|probing| probing.news(manifests));
            // What probes say wakes up who waits, and keeps no file from being read.
            let patience = if said.is_some() { Duration::ZERO } else { GOES_ON };
            if let Some(update) = said {
                self.publish(update, feed, telemetry)?;
            }
            let read = self.manifests.wait(Some(patience)).context("following the manifests")?;
            if let Some(update) = read {
                self.publish(update, feed, telemetry)?;
            }
        }
        Ok(())
    }

    fn publish(&mut self, update: Update, feed: &Feed, telemetry: &Telemetry) -> anyhow::Result<()> {
        report_problems(&self.manifests, &update, telemetry);
        if let Some(probing) = &mut self.probing {
            probing.update(&self.manifests, &update)?;
        }
        let received = update.received;
        feed.publish(&batch(update, received));
        Ok(())
    }
}

fn batch(update: Update, received: Instant) -> Batch {
    let mut batch = Batch::of_changes(update.changes, received);
    batch.names = update.names;
    batch.names_complete = true;
    batch
}

/// Logs what is wrong now and was not before, and counts all that is wrong.
fn report_problems(manifests: &Manifests, update: &Update, telemetry: &Telemetry) {
    let problems = manifests.problems();
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    telemetry.health.set_manifest_problems(errors);
    for kind in &update.undecodable {
        telemetry.metrics.undecodable(kind);
    }
    problems::report(&update.new_problems, &update.solved, "; portolan check lists them");
}
