//! Endpoints objects, as the slices that a cluster mirrors them to.

use portolan_service::{Endpoint, EndpointSlice, Family, ObjectName, SlicePort};

use super::generated_name;

/// An Endpoints object: the endpoints of the Service of its name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Endpoints {
    /// The label `endpointslice.kubernetes.io/skip-mirror` is `true`: somebody else makes the
    /// slices.
    pub skip_mirror: bool,
    /// `subsets`
    pub subsets: Vec<Subset>,
}

/// Endpoints with the same ports.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Subset {
    /// `ports`
    pub ports: Vec<SlicePort>,
    /// `addresses` and `notReadyAddresses`, of both families.
    pub endpoints: Vec<Endpoint>,
}

impl Endpoints {
    /// One slice for each subset and family.
    pub(super) fn slices(&self, service: &ObjectName) -> Vec<EndpointSlice> {
        let mut slices = Vec::new();
        let mut counts = [0; 2];
        let subsets = if self.skip_mirror { &[][..] } else { &self.subsets };
        for Subset { ports, endpoints } in subsets {
            for (family, count) in Family::ALL.into_iter().zip(&mut counts) {
                let of_family = |endpoint: &&Endpoint| Family::of(endpoint.address) == family;
                let endpoints: Vec<Endpoint> = endpoints.iter().filter(of_family).cloned().collect();
                if endpoints.is_empty() {
                    continue;
                }
                *count += 1;
                slices.push(EndpointSlice {
                    name: generated_name(service, family, *count),
                    service: service.clone(),
                    family,
                    ports: ports.clone(),
                    endpoints,
                });
            }
        }
        slices
    }
}
