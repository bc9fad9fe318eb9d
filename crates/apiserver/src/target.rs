//! What a request is about, read from its path and query.

use crate::resource::Resource;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Version,
    Healthy,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/api/v1`, `/apis/<group>/v1`
    Resources(String),
    Collection {
        resource: Resource,
        namespace: Option<String>,
    },
    Object {
        resource: Resource,
        namespace: String,
        name: String,
    },
    Unknown,
}

impl Target {
    pub(crate) fn parse(path: &str) -> Self {
        let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, rest) = match steps[..] {
            ["version"] => return Self::Version,
            ["healthz" | "livez" | "readyz"] => return Self::Healthy,
            ["api"] => return Self::CoreVersions,
            ["apis"] => return Self::Groups,
            ["api", "v1", ..] => ("", &steps[2..]),
            ["apis", group, "v1", ..] => (group, &steps[3..]),
            _ => return Self::Unknown,
        };
        let (namespace, plural, name) = match *rest {
            [] if Resource::ALL.iter().any(|resource| resource.group() == group) => {
                return Self::Resources(group.to_owned());
            }
            [plural] => (None, plural, None),
            ["namespaces", name] => (None, "namespaces", Some(name)),
            [plural, name] => (None, plural, Some(name)),
            ["namespaces", namespace, plural] => (Some(namespace), plural, None),
            ["namespaces", namespace, plural, name] => (Some(namespace), plural, Some(name)),
            _ => return Self::Unknown,
        };
        let Some(resource) = Resource::from_path(group, plural) else { return Self::Unknown };
        match (namespace, name) {
            (Some(_), _) if !resource.namespaced() => Self::Unknown,
            (None, Some(_)) if resource.namespaced() => Self::Unknown,
            (namespace, None) => Self::Collection { resource, namespace: namespace.map(str::to_owned) },
            (namespace, Some(name)) => Self::Object {
                resource,
                namespace: namespace.unwrap_or_default().to_owned(),
                name: name.to_owned(),
            },
        }
    }

    pub(crate) fn resource(&self) -> Option<Resource> {
        match self {
            Self::Collection { resource, .. } | Self::Object { resource, .. } => Some(*resource),
            _ => None,
        }
    }
}

/// A query, decoded.
pub(crate) fn parse_query(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        })
        .collect()
}

/// Undoes percent encoding; what is not valid stays as it is.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = after;
        match (first, byte) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => out.push(b' '),
            (other, _) => out.push(*other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_paths() {
        let all = |resource| Target::Collection { resource, namespace: None };
        let one = |resource, namespace: &str, name: &str| Target::Object {
            resource,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        for (path, target) in [
            ("/version", Target::Version),
            ("/readyz", Target::Healthy),
            ("/api", Target::CoreVersions),
            ("/apis/", Target::Groups),
            ("/api/v1", Target::Resources(String::new())),
            ("/apis/discovery.k8s.io/v1", Target::Resources("discovery.k8s.io".to_owned())),
            ("/apis/apps/v1", Target::Unknown),
            ("/api/v1/services", all(Resource::Services)),
            ("/apis/discovery.k8s.io/v1/endpointslices", all(Resource::EndpointSlices)),
            ("/apis/networking.k8s.io/v1/servicecidrs", all(Resource::ServiceCidrs)),
            ("/api/v1/endpointslices", Target::Unknown),
            (
                "/api/v1/namespaces/shop/services",
                Target::Collection { resource: Resource::Services, namespace: Some("shop".to_owned()) },
            ),
            ("/api/v1/namespaces/shop/services/web", one(Resource::Services, "shop", "web")),
            ("/api/v1/services/web", Target::Unknown),
            ("/api/v1/nodes/n1", one(Resource::Nodes, "", "n1")),
            ("/api/v1/namespaces/shop", one(Resource::Namespaces, "", "shop")),
            ("/api/v1/namespaces/shop/nodes", Target::Unknown),
            ("/", Target::Unknown),
        ] {
            assert_eq!(Target::parse(path), target, "{path}");
        }
    }

    #[test]
    fn decodes_queries() {
        let pairs = parse_query("labelSelector=%21a%2Fb&fieldSelector=spec.clusterIP%21%3DNone&x=a+b%&watch");
        let expected = [
            ("labelSelector", "!a/b"),
            ("fieldSelector", "spec.clusterIP!=None"),
            ("x", "a b%"),
            ("watch", ""),
        ];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }
}
