//! The resources that are followed, and where the API server has them.

use std::fmt;

/// A resource of the API that is listed and watched (spec §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resource {
    Services,
    EndpointSlices,
    Nodes,
    ServiceCidrs,
}

impl Resource {
    pub(crate) const ALL: [Resource; 4] =
        [Resource::Services, Resource::EndpointSlices, Resource::Nodes, Resource::ServiceCidrs];

    /// The resource whose objects are of `kind`.
    pub(crate) fn of_kind(kind: &str) -> Option<Resource> {
        Resource::ALL.into_iter().find(|resource| resource.kind() == kind)
    }

    pub(crate) fn plural(self) -> &'static str {
        match self {
            Resource::Services => "services",
            Resource::EndpointSlices => "endpointslices",
            Resource::Nodes => "nodes",
            Resource::ServiceCidrs => "servicecidrs",
        }
    }

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Resource::Services => "Service",
            Resource::EndpointSlices => "EndpointSlice",
            Resource::Nodes => "Node",
            Resource::ServiceCidrs => "ServiceCIDR",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Resource::Services => "/api/v1/services",
            Resource::EndpointSlices => "/apis/discovery.k8s.io/v1/endpointslices",
            Resource::Nodes => "/api/v1/nodes",
            Resource::ServiceCidrs => "/apis/networking.k8s.io/v1/servicecidrs",
        }
    }

    /// The selectors, as a query (spec §1.1).
    pub(crate) fn selectors(self, node_name: &str) -> String {
        match self {
            Resource::Services => {
                "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&fieldSelector=spec.clusterIP%21%3DNone"
                    .to_owned()
            }
            Resource::EndpointSlices => "labelSelector=%21service.kubernetes.io%2Fheadless".to_owned(),
            Resource::Nodes => format!("fieldSelector=metadata.name%3D{}", escaped(node_name)),
            Resource::ServiceCidrs => String::new(),
        }
    }

    /// Whether the proxy cannot begin without it (spec §9.6).
    pub(crate) fn required(self) -> bool {
        matches!(self, Resource::Services | Resource::EndpointSlices)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plural())
    }
}

/// `text` as it may stand in a query (RFC 3986 §2.3).
pub(crate) fn escaped(text: &str) -> String {
    use fmt::Write as _;
    let mut query = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => query.push(byte.into()),
            _ => write!(query, "%{byte:02X}").unwrap_or_default(),
        }
    }
    query
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_those_of_the_reference() {
        assert_eq!(
            Resource::Nodes.selectors("node-1.example"),
            "fieldSelector=metadata.name%3Dnode-1.example"
        );
        assert_eq!(Resource::Nodes.selectors("a&b"), "fieldSelector=metadata.name%3Da%26b");
        assert_eq!(Resource::of_kind("ServiceCIDR"), Some(Resource::ServiceCidrs));
        assert_eq!(Resource::of_kind("Pod"), None);
    }
}
