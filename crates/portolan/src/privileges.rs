//! Gives up what a service proxy has no use for.

use std::collections::HashSet;

use caps::{CapSet, Capability};
use tracing::debug;

/// Writing rules and connection tracking; health-check ports below 1024; reading manifests that others own, and
/// asking whether somebody has them open for writing.
const NEEDED: [Capability; 4] = [
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_LEASE,
];

/// Keeps only the capabilities that `run` needs, of those that the process has, in this thread and those it
/// starts later. What cannot be given up is logged: running with more than needed is no reason not to run.
pub(crate) fn drop_unneeded() {
    let needed: HashSet<Capability> = NEEDED.into_iter().collect();
    // The bounding set first: changing it needs a capability that goes next.
    if let Ok(bounding) = caps::read(None, CapSet::Bounding) {
        for capability in bounding.difference(&needed) {
            if let Err(error) = caps::drop(None, CapSet::Bounding, *capability) {
                debug!("capability {capability} stays in the bounding set: {error}");
            }
        }
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        let dropped = caps::read(None, set)
            .and_then(|held| caps::set(None, set, &held.intersection(&needed).copied().collect()));
        if let Err(error) = dropped {
            debug!("capabilities stay in the {set:?} set: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_but_the_needed_is_left() {
        // Capabilities belong to a thread: the other tests keep theirs.
        std::thread::spawn(|| {
            let before = caps::read(None, CapSet::Permitted).unwrap();
            drop_unneeded();
            let expected: HashSet<Capability> =
                before.into_iter().filter(|capability| NEEDED.contains(capability)).collect();
            for set in [CapSet::Permitted, CapSet::Effective] {
                assert_eq!(caps::read(None, set).unwrap(), expected, "{set:?}");
            }
        })
        .join()
        .unwrap();
    }
}
