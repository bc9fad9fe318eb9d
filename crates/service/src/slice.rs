//! EndpointSlices, reduced to the fields that a service proxy (spec §1.20-1.27) and names for
//! Services need.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use crate::{Family, ObjectName, Protocol};

/// When something happened to the endpoints of a Service in one family, by the cluster's clock
/// (annotation `endpoints.kubernetes.io/last-change-trigger-time`, spec §9.15).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointsTrigger {
    /// The Service.
    pub service: ObjectName,
    /// The family of its endpoints.
    pub family: Family,
    /// When it happened.
    pub at: SystemTime,
}

/// One entry of `ports` of an EndpointSlice. Entries without name are not represented (spec
/// §1.22).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlicePort {
    /// The name it shares with a Service port; may be empty.
    pub name: Arc<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port on the endpoints, 1-65535. `None`: all ports, which only names have a use for: no
    /// Service port can stand for them (spec §1.22).
    pub port: Option<u16>,
}

/// One endpoint of an EndpointSlice: its first address (spec §1.23), with conditions after
/// defaulting (§1.24). There are hundreds of thousands, so that what is mostly absent must take
/// little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `addresses[0]`
    pub address: IpAddr,
    /// `conditions.ready`; nil is true.
    pub ready: bool,
    /// `conditions.serving`; nil is true.
    pub serving: bool,
    /// `conditions.terminating`; nil is false.
    pub terminating: bool,
    /// `nodeName`
    pub node: Option<Arc<str>>,
    /// `zone`
    pub zone: Option<Arc<str>>,
    /// `hostname` and `targetRef`
    pub names: EndpointNames,
    /// `hints`
    pub hints: Hints,
}

impl Endpoint {
    /// An endpoint that is ready and of which nothing else is known.
    pub fn new(address: IpAddr) -> Endpoint {
        Endpoint {
            address,
            ready: true,
            serving: true,
            terminating: false,
            node: None,
            zone: None,
            names: EndpointNames::default(),
            hints: Hints::default(),
        }
    }
}

/// What one endpoint can be called within its Service. A proxy has no use for it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EndpointNames(Option<Box<str>>);

impl EndpointNames {
    /// The names of an endpoint with this `hostname`, which is this `pod`. What is empty, or has a
    /// slash (as no name in Kubernetes has), is not there.
    pub fn new(hostname: Option<&str>, pod: Option<&str>) -> EndpointNames {
        let usable = |name: Option<&str>| -> String {
            name.filter(|name| !name.contains('/')).unwrap_or_default().to_owned()
        };
        let (hostname, pod) = (usable(hostname), usable(pod));
        let any = !hostname.is_empty() || !pod.is_empty();
        EndpointNames(any.then(|| format!("{hostname}/{pod}").into()))
    }

    /// `hostname`: the name of this endpoint below its Service's.
    pub fn hostname(&self) -> Option<&str> {
        self.both().map(|(hostname, _)| hostname).filter(|hostname| !hostname.is_empty())
    }

    /// `targetRef.name`, if the endpoint is a Pod.
    pub fn pod(&self) -> Option<&str> {
        self.both().map(|(_, pod)| pod).filter(|pod| !pod.is_empty())
    }

    fn both(&self) -> Option<(&str, &str)> {
        self.0.as_ref()?.split_once('/')
    }
}

impl fmt::Debug for EndpointNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndpointNames").field("hostname", &self.hostname()).field("pod", &self.pod()).finish()
    }
}

/// Who should use an endpoint (`hints`, spec §2.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints(Option<Box<HintLists>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct HintLists {
    zones: Box<[Arc<str>]>,
    nodes: Box<[Arc<str>]>,
}

impl Hints {
    /// Hints for these zones and nodes.
    pub fn new(
        zones: impl IntoIterator<Item = Arc<str>>,
        nodes: impl IntoIterator<Item = Arc<str>>,
    ) -> Hints {
        let lists = HintLists { zones: zones.into_iter().collect(), nodes: nodes.into_iter().collect() };
        let any = !lists.zones.is_empty() || !lists.nodes.is_empty();
        Hints(any.then(|| Box::new(lists)))
    }

    /// `hints.forZones[].name`
    pub fn zones(&self) -> &[Arc<str>] {
        self.0.as_ref().map_or(&[], |lists| &lists.zones)
    }

    /// `hints.forNodes[].name`
    pub fn nodes(&self) -> &[Arc<str>] {
        self.0.as_ref().map_or(&[], |lists| &lists.nodes)
    }
}

/// An EndpointSlice of address type IPv4 or IPv6 that names its Service (spec §1.20, §1.21).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name of the slice.
    pub name: ObjectName,
    /// The Service it belongs to (label `kubernetes.io/service-name`).
    pub service: ObjectName,
    /// `addressType`
    pub family: Family,
    /// `ports`
    pub ports: Vec<SlicePort>,
    /// `endpoints` that have an address.
    pub endpoints: Vec<Endpoint>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_names_and_hints_take_little() {
        // 260,000 endpoints: 8 bytes more each are 2 MB.
        assert_eq!(size_of::<Endpoint>(), 80);
        assert_eq!(size_of::<EndpointNames>(), 16);
        assert_eq!(size_of::<Hints>(), 8);
        assert_eq!(Hints::new([], []), Hints::default());
        assert_eq!(EndpointNames::new(Some(""), None), EndpointNames::default());
    }

    #[test]
    fn an_endpoint_has_a_hostname_or_is_a_pod_or_both() {
        for (hostname, pod) in [(None, None), (Some("a"), None), (None, Some("b")), (Some("a"), Some("b"))] {
            let names = EndpointNames::new(hostname, pod);
            assert_eq!((names.hostname(), names.pod()), (hostname, pod));
        }
        assert_eq!(EndpointNames::new(Some("a/b"), Some("c")).hostname(), None);
    }
}
