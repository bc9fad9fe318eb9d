//! The resources that are followed, and where the API server has them.

use std::fmt;

use crate::Followed;

/// A resource of the API that is listed and watched (spec §1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Resource {
    Services,
    EndpointSlices,
    Nodes,
    ServiceCidrs,
    Namespaces,
    Pods,
}

impl Resource {
    pub(crate) const ALL: [Resource; 6] = [
        Resource::Services,
        Resource::EndpointSlices,
        Resource::Nodes,
        Resource::ServiceCidrs,
        Resource::Namespaces,
        Resource::Pods,
    ];

    /// Whether its objects are asked for.
    pub(crate) fn is_followed(self, followed: Followed) -> bool {
        match self {
            Resource::Services | Resource::EndpointSlices | Resource::ServiceCidrs => true,
            Resource::Nodes => followed.node,
            Resource::Namespaces => followed.names,
            Resource::Pods => followed.pods,
        }
    }

    /// Whether its objects live in namespaces.
    pub(crate) fn is_namespaced(self) -> bool {
        matches!(self, Resource::Services | Resource::EndpointSlices | Resource::Pods)
    }

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
            Resource::Namespaces => "namespaces",
            Resource::Pods => "pods",
        }
    }

    pub(crate) fn kind(self) -> &'static str {
        match self {
            Resource::Services => "Service",
            Resource::EndpointSlices => "EndpointSlice",
            Resource::Nodes => "Node",
            Resource::ServiceCidrs => "ServiceCIDR",
            Resource::Namespaces => "Namespace",
            Resource::Pods => "Pod",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Resource::Services => "/api/v1/services",
            Resource::EndpointSlices => "/apis/discovery.k8s.io/v1/endpointslices",
            Resource::Nodes => "/api/v1/nodes",
            Resource::ServiceCidrs => "/apis/networking.k8s.io/v1/servicecidrs",
            Resource::Namespaces => "/api/v1/namespaces",
            Resource::Pods => "/api/v1/pods",
        }
    }

    /// The selectors, as a query (spec §1.1). Names come from Services and slices that a proxy has
    /// no use for, too.
    pub(crate) fn selectors(self, node_name: &str, followed: Followed) -> String {
        match self {
            Resource::Services if !followed.names => {
                "labelSelector=%21service.kubernetes.io%2Fservice-proxy-name&fieldSelector=spec.clusterIP%21%3DNone"
                    .to_owned()
            }
            Resource::EndpointSlices if !followed.names => {
                "labelSelector=%21service.kubernetes.io%2Fheadless".to_owned()
            }
            Resource::Nodes => format!("fieldSelector=metadata.name%3D{}", escaped(node_name)),
            // Those that have ended have no names.
            Resource::Pods => "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed".to_owned(),
            Resource::Services | Resource::EndpointSlices | Resource::ServiceCidrs | Resource::Namespaces => {
                String::new()
            }
        }
    }

    /// Whether the proxy cannot begin without it (spec §9.6).
    pub(crate) fn required(self) -> bool {
        matches!(self, Resource::Services | Resource::EndpointSlices)
    }

    /// Whether names are there or not by its objects.
    pub(crate) fn has_names(self) -> bool {
        self.required() || matches!(self, Resource::Namespaces | Resource::Pods)
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
        let selectors = |resource: Resource, node| resource.selectors(node, Followed::default());
        assert_eq!(
            selectors(Resource::Nodes, "node-1.example"),
            "fieldSelector=metadata.name%3Dnode-1.example"
        );
        assert_eq!(selectors(Resource::Nodes, "a&b"), "fieldSelector=metadata.name%3Da%26b");
        assert_eq!(
            selectors(Resource::EndpointSlices, ""),
            "labelSelector=%21service.kubernetes.io%2Fheadless"
        );
        let names = Followed { names: true, ..Followed::default() };
        assert_eq!(Resource::EndpointSlices.selectors("", names), "");
        assert_eq!(Resource::of_kind("ServiceCIDR"), Some(Resource::ServiceCidrs));
        assert_eq!(Resource::of_kind("Secret"), None);
    }
}
