//! Why a name is absent: endpoints that are not ready.

use portolan_service::{Endpoint, ObjectName};

use crate::services::Entry;
use crate::state::Names;
use crate::wire::Name;

/// The endpoints that a name would have if they were ready (spec §2, §8).
#[derive(Debug)]
pub struct Unready<'s> {
    /// Their Service.
    pub service: &'s ObjectName,
    /// The endpoints; none if there are none at all.
    pub endpoints: Vec<&'s Endpoint>,
}

impl Names {
    /// What `name`, in lower case, waits for: the endpoints of a headless Service of which none is
    /// ready, or those that are called so and are not. `None` if readiness is not the reason.
    ///
    /// It is for logs and explanations, and costs as much as the Service has endpoints.
    pub fn unready(&self, name: &Name) -> Option<Unready<'_>> {
        let zone = self.options.zone_of(name).filter(|zone| !zone.reverse)?;
        let left = (name.labels() - zone.name.labels()).checked_sub(3)?;
        if name.label(left + 2) != b"svc" || !self.options.settings.endpoints {
            return None;
        }
        let entry = self.in_shown_namespace(name.between(left, left + 2), name.label(left + 1))?;
        let headless = entry.service()?.headless;
        if headless && entry.ready() == 0 && entry.targets().is_empty() {
            return Some(Unready { service: entry.name(), endpoints: self.not_ready(entry, None) });
        }
        let mut named = 0;
        self.services.named(entry, name.label(0), |_| named += 1);
        if left != 1 || named > 0 {
            return None;
        }
        let endpoints = self.not_ready(entry, Some(name.label(0)));
        (!endpoints.is_empty()).then_some(Unready { service: entry.name(), endpoints })
    }

    fn not_ready<'s>(&'s self, entry: &'s Entry, label: Option<&[u8]>) -> Vec<&'s Endpoint> {
        let all = self.services.slices(entry).flat_map(|(_, slice)| &slice.endpoints);
        let waiting = all.filter(|endpoint| !endpoint.ready);
        let called = |endpoint: &Endpoint| {
            let name = self.services.name_of(endpoint);
            label.is_none_or(|label| name.as_str().as_bytes().eq_ignore_ascii_case(label))
        };
        waiting.filter(|endpoint| called(endpoint)).collect()
    }
}
