//! Who drops forwarded packets on this host, and whether connections to Services pass all the same.

use std::collections::BTreeSet;
use std::thread;
use std::time::Instant;

use portolan_dataplane::forward_policy::{self, Dropper};
use portolan_dataplane::iptables::AcceptForwarded;
use portolan_service::Family;
use tracing::{debug, info, warn};

/// What `check` and the log say of this host: a line for each chain that drops what is forwarded.
/// `accepting`: `--accept-forwarded` is given.
///
/// Empty also if it cannot be found out, which needs root.
pub(crate) fn findings(accepting: bool) -> Vec<String> {
    let droppers = forward_policy::droppers(&Family::ALL).unwrap_or_else(|error| {
        debug!("{error}");
        Vec::new()
    });
    droppers
        .iter()
        .filter(|dropper| !(accepting && matches!(dropper, Dropper::Iptables { .. })))
        .map(|dropper| {
            format!(
                "{dropper} drops forwarded packets that none of its rules accepts, so connections to Services whose \
                 endpoints are not on the node itself may time out: {}",
                dropper.remedy()
            )
        })
        .collect()
}

/// Removes the rule of `--accept-forwarded`, which is not given. The programs of iptables need
/// privileges that a proxy without the flag gives up.
pub(crate) fn end() {
    match AcceptForwarded::new().remove() {
        Ok(0) => {}
        Ok(_) => info!("removed the rule of --accept-forwarded, which is not given any more"),
        Err(error) => warn!("{error}; the rule of --accept-forwarded stays"),
    }
}

/// Says once who drops what is forwarded, and keeps `--accept-forwarded` in force from now on if it
/// is given.
pub(crate) fn start(accepting: bool) {
    for finding in findings(accepting) {
        warn!("{finding}");
    }
    if !accepting {
        return;
    }
    // Beside everything else: iptables takes its time, and Services must not wait for it.
    if let Err(error) = thread::Builder::new().name("accept-forwarded".to_owned()).spawn(keep) {
        warn!("starting a thread for --accept-forwarded: {error}");
    }
}

fn keep() {
    let accept = AcceptForwarded::new();
    let mut complaints = BTreeSet::new();
    loop {
        let (done, look_again) = accept.ensure();
        match done {
            Ok(lines) => {
                complaints.clear();
                for line in &lines {
                    info!("{line}");
                }
            }
            // Once, however often it fails.
            Err(error) => {
                if complaints.insert(error.to_string()) {
                    warn!("--accept-forwarded: {error}");
                }
            }
        }
        // Others change their rules when they please; there is no event that iptables-legacy gives.
        thread::sleep(look_again.saturating_duration_since(Instant::now()));
    }
}
