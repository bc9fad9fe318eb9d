//! What a request is about, read from its path and query.

use crate::resource::{Resource, Subresource};
use crate::view::View;

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Version,
    Healthy,
    /// `/api`
    CoreVersions,
    /// `/apis`
    Groups,
    /// `/apis/<group>`
    Group(String),
    /// `/api/v1`, `/apis/<group>/<version>`
    Resources {
        group: String,
        version: String,
    },
    /// `/openapi/v2`
    OpenApi2,
    /// `/openapi/v3`, and what follows.
    OpenApi3(String),
    Collection {
        view: View,
        namespace: Option<String>,
    },
    Object {
        view: View,
        namespace: String,
        name: String,
        part: Option<Subresource>,
    },
    /// Whether the client may do something.
    AccessReview,
    Unknown,
}

/// A group that has nothing but questions about access.
pub(crate) const AUTHORIZATION: &str = "authorization.k8s.io";

/// Those questions.
pub(crate) const ACCESS_REVIEWS: &str = "selfsubjectaccessreviews";

impl Target {
    pub(crate) fn parse(path: &str) -> Self {
        let steps: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (group, version, rest) = match steps[..] {
            ["version"] => return Self::Version,
            ["healthz" | "livez" | "readyz", ..] => return Self::Healthy,
            ["api"] => return Self::CoreVersions,
            ["apis"] => return Self::Groups,
            ["openapi", "v2"] => return Self::OpenApi2,
            ["openapi", "v3", ..] => return Self::OpenApi3(steps[2..].join("/")),
            ["apis", AUTHORIZATION, "v1", ACCESS_REVIEWS] => return Self::AccessReview,
            ["apis", group] => return Self::Group(group.to_owned()),
            ["api", version, ..] => ("", version, &steps[2..]),
            ["apis", group, version, ..] => (group, version, &steps[3..]),
            _ => return Self::Unknown,
        };
        let find = |plural: &str| View::find(group, version, plural);
        let (namespace, plural, name, part) = match *rest {
            [] => return Self::Resources { group: group.to_owned(), version: version.to_owned() },
            [plural] => (None, plural, None, None),
            ["namespaces", name] => (None, "namespaces", Some(name), None),
            ["namespaces", name, part @ ("status" | "finalize")] => {
                (None, "namespaces", Some(name), Some(part))
            }
            ["namespaces", namespace, plural] => (Some(namespace), plural, None, None),
            ["namespaces", namespace, plural, name] => (Some(namespace), plural, Some(name), None),
            ["namespaces", namespace, plural, name, part] => {
                (Some(namespace), plural, Some(name), Some(part))
            }
            [plural, name] => (None, plural, Some(name), None),
            [plural, name, part] => (None, plural, Some(name), Some(part)),
            _ => return Self::Unknown,
        };
        let Some(view) = find(plural) else { return Self::Unknown };
        let part = match part {
            Some(part) => match view.entry().subresources.iter().find(|known| known.name() == part) {
                Some(part) => Some(*part),
                None => return Self::Unknown,
            },
            None => None,
        };
        match (namespace, name) {
            (Some(_), _) if !view.resource.namespaced() => Self::Unknown,
            (None, Some(_)) if view.resource.namespaced() => Self::Unknown,
            (namespace, None) => Self::Collection { view, namespace: namespace.map(decode) },
            (namespace, Some(name)) => Self::Object {
                view,
                namespace: namespace.map(decode).unwrap_or_default(),
                name: decode(name),
                part,
            },
        }
    }

    pub(crate) fn resource(&self) -> Option<Resource> {
        match self {
            Self::Collection { view, .. } | Self::Object { view, .. } => Some(view.resource),
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
            (decode(&key.replace('+', " ")), decode(&value.replace('+', " ")))
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
        let all = |resource| Target::Collection { view: View::stored(resource), namespace: None };
        let one = |resource, namespace: &str, name: &str, part| Target::Object {
            view: View::stored(resource),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            part,
        };
        let resources = |group: &str, version: &str| Target::Resources {
            group: group.to_owned(),
            version: version.to_owned(),
        };
        for (path, target) in [
            ("/version", Target::Version),
            ("/readyz", Target::Healthy),
            ("/livez/ping", Target::Healthy),
            ("/api", Target::CoreVersions),
            ("/apis/", Target::Groups),
            ("/apis/apps", Target::Group("apps".to_owned())),
            ("/api/v1", resources("", "v1")),
            ("/apis/discovery.k8s.io/v1", resources("discovery.k8s.io", "v1")),
            ("/openapi/v3/apis/apps/v1", Target::OpenApi3("apis/apps/v1".to_owned())),
            ("/api/v1/services", all(Resource::Services)),
            ("/apis/discovery.k8s.io/v1/endpointslices", all(Resource::EndpointSlices)),
            ("/apis/networking.k8s.io/v1/servicecidrs", all(Resource::ServiceCidrs)),
            ("/api/v1/endpointslices", Target::Unknown),
            ("/apis/apps/v2/deployments", Target::Unknown),
            (
                "/api/v1/namespaces/shop/services",
                Target::Collection {
                    view: View::stored(Resource::Services),
                    namespace: Some("shop".to_owned()),
                },
            ),
            ("/api/v1/namespaces/shop/services/web", one(Resource::Services, "shop", "web", None)),
            (
                "/api/v1/namespaces/shop/pods/we%62/log",
                one(Resource::Pods, "shop", "web", Some(Subresource::Log)),
            ),
            ("/api/v1/namespaces/shop/pods/web/scale", Target::Unknown),
            ("/api/v1/services/web", Target::Unknown),
            ("/api/v1/nodes/n1", one(Resource::Nodes, "", "n1", None)),
            ("/api/v1/nodes/n1/status", one(Resource::Nodes, "", "n1", Some(Subresource::Status))),
            ("/api/v1/namespaces/shop", one(Resource::Namespaces, "", "shop", None)),
            (
                "/api/v1/namespaces/shop/finalize",
                one(Resource::Namespaces, "", "shop", Some(Subresource::Finalize)),
            ),
            ("/api/v1/namespaces/shop/nodes", Target::Unknown),
            ("/", Target::Unknown),
            ("/a/b/c/d/e/f/g/h", Target::Unknown),
        ] {
            assert_eq!(Target::parse(path), target, "{path}");
        }
        assert_eq!(Target::parse("/api/v1/events").resource(), Some(Resource::Events));
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
