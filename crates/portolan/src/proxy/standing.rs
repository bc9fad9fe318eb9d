//! How each family is served: in the log, for health, and for the schedule.

use portolan_dataplane::Standing;
use portolan_observe::Trouble;
use portolan_service::{Family, PerFamily};
use tracing::{error, info, warn};

use super::schedule::Lacking;

/// The families whose rules are not as planned.
pub(super) fn behind(standing: &PerFamily<Standing>) -> impl Iterator<Item = Family> {
    Family::ALL.into_iter().filter(|family| matches!(standing.get(*family), Standing::Behind(_)))
}

/// Logs what has changed.
pub(super) fn report(before: &PerFamily<Standing>, now: &PerFamily<Standing>) {
    for family in Family::ALL {
        let (before, now) = (before.get(family), now.get(family));
        match now {
            _ if before == now => {}
            Standing::Served => info!("{family} is served again"),
            Standing::Behind(reason) => {
                error!("{family}: {reason}; what was in force for it stays, the other family is served");
            }
            Standing::Absent(reason) => warn!("{family} is not served on this host: {reason}"),
        }
    }
}

/// What health says of each family.
pub(super) fn troubles(standing: &PerFamily<Standing>) -> PerFamily<Option<Trouble>> {
    let trouble = |family| match standing.get(family) {
        Standing::Served => None,
        Standing::Behind(reason) => Some(Trouble::Behind(reason.clone())),
        Standing::Absent(reason) => Some(Trouble::Absent(reason.clone())),
    };
    PerFamily { v4: trouble(Family::V4), v6: trouble(Family::V6) }
}

/// What is to be tried again.
pub(super) fn lacking(standing: &PerFamily<Standing>) -> Lacking {
    let absent = |family| matches!(standing.get(family), Standing::Absent(_));
    if behind(standing).next().is_some() {
        Lacking::Behind
    } else if Family::ALL.into_iter().any(absent) {
        Lacking::Absent
    } else {
        Lacking::Nothing
    }
}
