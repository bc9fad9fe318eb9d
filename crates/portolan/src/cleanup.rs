//! Removing rules: our own, and those that kube-proxy left.

use std::thread;
use std::time::Instant;

use anyhow::anyhow;
use portolan_dataplane::{Settings, kube_proxy};
use tracing::{info, warn};

use crate::run::{self, AVAILABLE};

/// Removes our rules, of all modes.
pub(crate) fn own() -> anyhow::Result<()> {
    for mode in AVAILABLE {
        run::make_dataplane(*mode)(Settings::default())?.cleanup()?;
    }
    Ok(())
}

/// Removes what kube-proxy left, of all modes. `say` takes a line for each part, for people.
pub(crate) fn kube_proxy(say: impl Fn(&str)) -> anyhow::Result<()> {
    let removed = kube_proxy::remove().map_err(|error| anyhow!("{error}"))?;
    if removed.is_empty() {
        say("nothing of kube-proxy's is left");
    }
    for line in removed.lines() {
        say(&line);
    }
    Ok(())
}

/// Removes what kube-proxy left while ours are in force, in a thread of its own: tens of thousands of rules take their
/// time, and changes must not wait for that.
pub(crate) fn take_over() {
    let start = thread::Builder::new().name("take-over".to_owned()).spawn(|| {
        let started = Instant::now();
        match kube_proxy::find() {
            Ok(leftovers) if leftovers.is_empty() => return,
            Ok(leftovers) => info!("taking over from kube-proxy, which left: {leftovers}"),
            Err(error) => warn!("{error}"),
        }
        match kube_proxy(|line| info!("removed what kube-proxy left: {line}")) {
            Ok(()) => info!("kube-proxy's rules are gone after {:.1?}; ours serve", started.elapsed()),
            Err(error) => {
                warn!("{error}; ours serve beside the rest: `portolan cleanup --kube-proxy` tries again");
            }
        }
    });
    if let Err(error) = start {
        warn!("starting a thread to remove what kube-proxy left: {error}");
    }
}
