//! Which list of endpoints a frontend leads to.

use portolan_service::{List, PortPlan, Verdict};

/// The list that `verdict` forwards to, unless it is empty (which a plan never asks for).
pub(crate) fn forward_list(port: &PortPlan, verdict: Verdict) -> Option<List> {
    match verdict {
        Verdict::Forward(list) if !port.backends(list).is_empty() => Some(list),
        _ => None,
    }
}
