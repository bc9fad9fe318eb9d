//! Decodes the text of events and of a list's items.

use portolan_service::ObjectName;
use serde::Deserialize;

use crate::resource::Resource;
use crate::wire;

/// An object as it was sent.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
pub(crate) enum Object<'a> {
    Service(wire::Service<'a>),
    EndpointSlice(wire::EndpointSlice<'a>),
    Node(wire::Node<'a>),
    ServiceCidr(wire::ServiceCidr<'a>),
    Namespace(wire::Namespace<'a>),
    Pod(wire::Pod<'a>),
}

/// What of an object's metadata any object has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'o> {
    /// Empty where there are no namespaces.
    namespace: &'o str,
    name: &'o str,
    pub(crate) uid: &'o str,
    pub(crate) resource_version: &'o str,
    annotations: &'o wire::Annotations<'o>,
}

/// An event of a watch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WatchEvent<'a> {
    Added(Object<'a>),
    Modified(Object<'a>),
    Deleted(Object<'a>),
    /// Nothing has happened up to this version.
    Bookmark {
        resource_version: String,
        /// All that existed when the watch began has been sent.
        initial_end: bool,
    },
    /// The watch has failed; it ends.
    Error {
        code: i64,
        message: String,
    },
}

/// A text that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Undecodable {
    /// The object's name, if at least that could be read.
    pub(crate) name: Option<ObjectName>,
    /// The version it has, if that could be read.
    pub(crate) resource_version: Option<String>,
    /// The event says that it is gone.
    pub(crate) deleted: bool,
    pub(crate) message: String,
}

#[derive(Deserialize)]
struct Envelope<T> {
    #[serde(rename = "type")]
    kind: Kind,
    object: T,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
enum Kind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

impl Object<'_> {
    /// Which one it is, in which version.
    pub(crate) fn identity(&self) -> Identity<'_> {
        match self {
            Object::Service(service) => identity(&service.metadata),
            Object::EndpointSlice(slice) => identity(&slice.metadata),
            Object::Node(node) => identity(&node.metadata),
            Object::ServiceCidr(cidr) => identity(&cidr.metadata),
            Object::Namespace(wire::Namespace { metadata }) => Identity {
                namespace: "",
                name: &metadata.name,
                uid: &metadata.uid,
                resource_version: &metadata.resource_version,
                annotations: &metadata.annotations,
            },
            Object::Pod(wire::Pod { metadata, .. }) => Identity {
                namespace: &metadata.namespace,
                name: &metadata.name,
                uid: &metadata.uid,
                resource_version: &metadata.resource_version,
                annotations: &metadata.annotations,
            },
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> ObjectName {
        let identity = self.identity();
        ObjectName::new(identity.namespace, identity.name)
    }

    /// The fields that are read, as JSON: [`object`] reads it back.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let json = match self {
            Object::Service(service) => serde_json::to_vec(service),
            Object::EndpointSlice(slice) => serde_json::to_vec(slice),
            Object::Node(node) => serde_json::to_vec(node),
            Object::ServiceCidr(cidr) => serde_json::to_vec(cidr),
            Object::Namespace(namespace) => serde_json::to_vec(namespace),
            Object::Pod(pod) => serde_json::to_vec(pod),
        };
        // Strings, numbers and lists of them always have a form in JSON.
        json.unwrap_or_default()
    }
}

/// Decodes an object of `resource`.
pub(crate) fn object(resource: Resource, text: &[u8]) -> Result<Object<'_>, Undecodable> {
    let object = match resource {
        Resource::Services => serde_json::from_slice(text).map(Object::Service),
        Resource::EndpointSlices => serde_json::from_slice(text).map(Object::EndpointSlice),
        Resource::Nodes => serde_json::from_slice(text).map(Object::Node),
        Resource::ServiceCidrs => serde_json::from_slice(text).map(Object::ServiceCidr),
        Resource::Namespaces => serde_json::from_slice(text).map(Object::Namespace),
        Resource::Pods => serde_json::from_slice(text).map(Object::Pod),
    };
    let object = object.map_err(|error| undecodable(resource, text, &error.to_string()))?;
    check_name(resource, object.identity()).map_err(|message| undecodable(resource, text, &message))?;
    Ok(object)
}

/// Decodes an event of a watch of `resource`.
pub(crate) fn event(resource: Resource, text: &[u8]) -> Result<WatchEvent<'_>, Undecodable> {
    fn decoded<'a, T: Deserialize<'a>>(
        text: &'a [u8],
        object: fn(T) -> Object<'a>,
    ) -> serde_json::Result<(Kind, Object<'a>)> {
        let envelope: Envelope<T> = serde_json::from_slice(text)?;
        Ok((envelope.kind, object(envelope.object)))
    }

    // An error carries a Status, which has little in common with an object.
    if text.starts_with(br#"{"type":"ERROR""#)
        && let Some(error) = error(text)
    {
        return Ok(error);
    }
    let event = match resource {
        Resource::Services => decoded(text, Object::Service),
        Resource::EndpointSlices => decoded(text, Object::EndpointSlice),
        Resource::Nodes => decoded(text, Object::Node),
        Resource::ServiceCidrs => decoded(text, Object::ServiceCidr),
        Resource::Namespaces => decoded(text, Object::Namespace),
        Resource::Pods => decoded(text, Object::Pod),
    };
    let (kind, object) = match event {
        Ok((Kind::Error, _)) => {
            return error(text).ok_or_else(|| undecodable(resource, text, "an ERROR without a Status"));
        }
        Ok(event) => event,
        Err(failure) => {
            return error(text).ok_or_else(|| undecodable(resource, text, &failure.to_string()));
        }
    };
    if kind == Kind::Bookmark {
        let identity = object.identity();
        let resource_version = identity.resource_version.to_owned();
        let initial_end = identity.annotations.initial_events_end.as_deref() == Some("true");
        return Ok(WatchEvent::Bookmark { resource_version, initial_end });
    }
    check_name(resource, object.identity()).map_err(|message| undecodable(resource, text, &message))?;
    Ok(match kind {
        Kind::Added => WatchEvent::Added(object),
        Kind::Deleted => WatchEvent::Deleted(object),
        Kind::Modified | Kind::Bookmark | Kind::Error => WatchEvent::Modified(object),
    })
}

fn error(text: &[u8]) -> Option<WatchEvent<'static>> {
    let envelope: Envelope<wire::Status<'_>> = serde_json::from_slice(text).ok()?;
    let status = envelope.object;
    let gone = matches!(&*status.reason, "Expired" | "Gone");
    (envelope.kind == Kind::Error).then(|| WatchEvent::Error {
        code: if status.code == 0 && gone { 410 } else { status.code },
        message: status.message.to_string(),
    })
}

fn identity<'o>(metadata: &'o wire::Metadata<'_>) -> Identity<'o> {
    Identity {
        namespace: &metadata.namespace,
        name: &metadata.name,
        uid: &metadata.uid,
        resource_version: &metadata.resource_version,
        annotations: &metadata.annotations,
    }
}

/// Whether the name is one: neither missing nor with a slash in it.
fn check_name(resource: Resource, identity: Identity<'_>) -> Result<(), String> {
    let parts = [("name", identity.name, true), ("namespace", identity.namespace, resource.is_namespaced())];
    for (field, text, wanted) in parts {
        if text.is_empty() == wanted || text.contains('/') {
            return Err(format!("metadata.{field}: {text:?} is not a name"));
        }
    }
    Ok(())
}

/// What can be said of a text that cannot be decoded. The API server writes metadata before what
/// may be wrong, so that the name is found even if the text breaks off behind it.
fn undecodable(resource: Resource, text: &[u8], message: &str) -> Undecodable {
    const KEY: &[u8] = br#""metadata":"#;
    let metadata = text.windows(KEY.len()).position(|window| window == KEY).and_then(|at| {
        let mut rest = serde_json::Deserializer::from_slice(&text[at + KEY.len()..]);
        wire::Metadata::deserialize(&mut rest).ok()
    });
    let metadata = metadata.filter(|metadata| check_name(resource, identity(metadata)).is_ok());
    Undecodable {
        name: metadata.as_ref().map(|metadata| ObjectName::new(&metadata.namespace, &metadata.name)),
        resource_version: metadata
            .map(|metadata| metadata.resource_version.to_string())
            .filter(|version| !version.is_empty()),
        deleted: text.starts_with(br#"{"type":"DELETED""#),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(resource: Resource, text: &str) -> Result<WatchEvent<'_>, Undecodable> {
        event(resource, text.as_bytes())
    }

    #[test]
    fn events_are_told_apart() {
        let object = r#"{"metadata":{"namespace":"a","name":"b"}}"#;
        for (kind, expected) in [
            ("ADDED", WatchEvent::Added as fn(Object<'static>) -> WatchEvent<'static>),
            ("MODIFIED", WatchEvent::Modified),
            ("DELETED", WatchEvent::Deleted),
        ] {
            let text = format!(r#"{{"type":"{kind}","object":{object}}}"#);
            let service = super::object(Resource::Services, object.as_bytes()).unwrap();
            assert_eq!(of(Resource::Services, &text).unwrap(), expected(service), "{kind}");
        }
    }

    #[test]
    fn bookmarks_and_errors_are_read() {
        let bookmark = |version: &str, initial_end| WatchEvent::Bookmark {
            resource_version: version.to_owned(),
            initial_end,
        };
        let error = |code, message: &str| WatchEvent::Error { code, message: message.to_owned() };
        let table = [
            (
                "bookmark",
                r#"{"type":"BOOKMARK","object":{"kind":"Service","metadata":{"resourceVersion":"12","creationTimestamp":null},"spec":{},"status":{"loadBalancer":{}}}}"#,
                bookmark("12", false),
            ),
            (
                "end of the initial list",
                r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
                bookmark("9", true),
            ),
            (
                "expired",
                r#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"status":"Failure","message":"too old","reason":"Expired","code":410}}"#,
                error(410, "too old"),
            ),
            (
                "expired without a code",
                r#"{"type":"ERROR","object":{"status":"Failure","message":"x","reason":"Gone"}}"#,
                error(410, "x"),
            ),
            (
                "spaces and another order",
                r#"{ "object": {"status":"Failure","message":"x","code":500}, "type": "ERROR" }"#,
                error(500, "x"),
            ),
        ];
        for (name, text, expected) in table {
            for resource in Resource::ALL {
                assert_eq!(of(resource, text).as_ref(), Ok(&expected), "{name}, {resource}");
            }
        }
    }

    #[test]
    fn undecodable_objects_keep_their_name_if_it_can_be_read() {
        let named = Some(ObjectName::new("a", "b"));
        let table = [
            (
                "wrong type",
                r#"{"type":"ADDED","object":{"metadata":{"name":"b","namespace":"a"},"spec":7}}"#,
                &named,
            ),
            (
                "a port that is text",
                r#"{"type":"ADDED","object":{"metadata":{"name":"b","namespace":"a"},"spec":{"ports":[{"port":"x"}]}}}"#,
                &named,
            ),
            (
                "broken off",
                r#"{"type":"ADDED","object":{"metadata":{"name":"b","namespace":"a"},"spec":{"#,
                &named,
            ),
            ("rubbish", "\u{1}\u{2}", &None),
            ("nothing", "", &None),
            ("no name", r#"{"type":"ADDED","object":{"metadata":{"namespace":"a"}}}"#, &None),
            ("a slash", r#"{"type":"ADDED","object":{"metadata":{"namespace":"a","name":"b/c"}}}"#, &None),
            (
                "unknown type",
                r#"{"type":"MOVED","object":{"metadata":{"name":"b","namespace":"a"}}}"#,
                &named,
            ),
        ];
        for (name, text, expected) in table {
            let undecodable = of(Resource::Services, text).unwrap_err();
            assert_eq!(&undecodable.name, expected, "{name}");
            assert!(!undecodable.message.is_empty(), "{name}");
        }
    }
}
