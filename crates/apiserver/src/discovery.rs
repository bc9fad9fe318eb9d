//! What is served, as documents: plain for every client, aggregated for those that ask for it.

use serde_json::{Value, json};

use crate::resource::Subresource;
use crate::target::{ACCESS_REVIEWS, AUTHORIZATION};
use crate::view::{View, group_version};

const VERBS: [&str; 8] = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

/// Groups other than the core group, with their version, in the order in which clients look for a
/// name that several have.
const GROUPS: [(&str, &str); 8] = [
    ("apps", "v1"),
    ("events.k8s.io", "v1"),
    (AUTHORIZATION, "v1"),
    ("batch", "v1"),
    ("networking.k8s.io", "v1"),
    ("coordination.k8s.io", "v1"),
    ("discovery.k8s.io", "v1"),
    ("extensions", "v1beta1"),
];

/// `Content-Type` of the aggregated documents.
pub(crate) const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Whether a client takes aggregated documents, by its `Accept`.
pub(crate) fn wants_aggregated(accept: &str) -> bool {
    accept.split(',').any(|media| {
        let has = |parameter: &str| media.split(';').any(|part| part.trim() == parameter);
        has("as=APIGroupDiscoveryList") && has("v=v2")
    })
}

/// `/version`.
pub(crate) fn version() -> Value {
    json!({ "major": "1", "minor": "36", "gitVersion": "v1.36.0",
        "gitCommit": "0000000000000000000000000000000000000000", "gitTreeState": "clean",
        "buildDate": "2026-04-22T00:00:00Z", "goVersion": "go1.26.2", "compiler": "gc",
        "platform": "linux/amd64" })
}

/// `/api`.
pub(crate) fn core_versions(address: &str) -> Value {
    json!({ "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{ "clientCIDR": "0.0.0.0/0", "serverAddress": address }] })
}

/// `/apis`.
pub(crate) fn groups() -> Value {
    let groups: Vec<Value> = GROUPS.iter().map(|(group, version)| group_document(group, version)).collect();
    json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups })
}

/// `/apis/<group>`.
pub(crate) fn group(name: &str) -> Option<Value> {
    let (group, version) = GROUPS.iter().find(|(group, _)| *group == name)?;
    let mut document = group_document(group, version);
    document["kind"] = json!("APIGroup");
    document["apiVersion"] = json!("v1");
    Some(document)
}

fn group_document(group: &str, version: &str) -> Value {
    let version = json!({ "groupVersion": group_version(group, version), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

fn views(group: &str, version: &str) -> Vec<View> {
    let mut views: Vec<View> =
        View::all().filter(|view| (view.group(), view.version()) == (group, version)).collect();
    views.sort_by_key(|view| view.plural());
    views
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub(crate) fn resources(group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    if (group, version) == (AUTHORIZATION, "v1") {
        resources.push(json!({ "name": ACCESS_REVIEWS, "singularName": "selfsubjectaccessreview",
            "namespaced": false, "kind": "SelfSubjectAccessReview", "verbs": ["create"] }));
    }
    for view in views(group, version) {
        let mut resource = json!({
            "name": view.plural(),
            "singularName": view.kind().to_lowercase(),
            "namespaced": view.resource.namespaced(),
            "kind": view.kind(),
            "verbs": VERBS,
        });
        if !view.short().is_empty() {
            resource["shortNames"] = json!(view.short());
        }
        if !view.categories().is_empty() {
            resource["categories"] = json!(view.categories());
        }
        resources.push(resource);
        resources.extend(view.entry().subresources.iter().map(|part| subresource(view, *part)));
    }
    if resources.is_empty() {
        return None;
    }
    Some(
        json!({ "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version),
        "resources": resources }),
    )
}

fn subresource(view: View, part: Subresource) -> Value {
    let mut document = json!({
        "name": format!("{}/{}", view.plural(), part.name()),
        "singularName": "",
        "namespaced": view.resource.namespaced(),
        "kind": part.kind().map_or(view.kind(), |(_, _, kind)| kind),
        "verbs": part.verbs(),
    });
    if let Some((group, version, _)) = part.kind().filter(|(group, _, _)| !group.is_empty()) {
        document["group"] = json!(group);
        document["version"] = json!(version);
    }
    document
}

/// `/api` or `/apis` with all resources.
pub(crate) fn aggregated(core: bool) -> Value {
    let groups: &[(&str, &str)] = if core { &[("", "v1")] } else { &GROUPS };
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, version)| {
            let mut resources: Vec<Value> =
                views(group, version).into_iter().map(aggregated_resource).collect();
            if *group == AUTHORIZATION {
                resources.push(json!({ "resource": ACCESS_REVIEWS, "scope": "Cluster",
                    "responseKind": { "group": "", "version": "", "kind": "SelfSubjectAccessReview" },
                    "singularResource": "selfsubjectaccessreview", "verbs": ["create"] }));
            }
            json!({ "metadata": { "name": group }, "versions": [
                { "version": version, "freshness": "Current", "resources": resources }] })
        })
        .collect();
    json!({ "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
        "items": items })
}

fn aggregated_resource(view: View) -> Value {
    let kind =
        |group: &str, version: &str, kind: &str| json!({ "group": group, "version": version, "kind": kind });
    let parts: Vec<Value> = view
        .entry()
        .subresources
        .iter()
        .map(|part| {
            let (group, version, name) = part.kind().unwrap_or((view.group(), view.version(), view.kind()));
            json!({ "subresource": part.name(), "responseKind": kind(group, version, name), "verbs": part.verbs() })
        })
        .collect();
    let mut resource = json!({
        "resource": view.plural(),
        "responseKind": kind(view.group(), view.version(), view.kind()),
        "scope": if view.resource.namespaced() { "Namespaced" } else { "Cluster" },
        "singularResource": view.kind().to_lowercase(),
        "verbs": VERBS,
    });
    if !view.short().is_empty() {
        resource["shortNames"] = json!(view.short());
    }
    if !view.categories().is_empty() {
        resource["categories"] = json!(view.categories());
    }
    if !parts.is_empty() {
        resource["subresources"] = json!(parts);
    }
    resource
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_everything_both_ways() {
        for view in View::all() {
            assert!(
                view.group().is_empty() || GROUPS.contains(&(view.group(), view.version())),
                "{} is in no group that is listed",
                view.api_version()
            );
            let plain = resources(view.group(), view.version()).expect("served");
            let names = plain["resources"].as_array().expect("a list").iter().map(|one| &one["name"]);
            assert_eq!(names.filter(|name| **name == view.plural()).count(), 1, "{}", view.plural());
        }
        for (group, version) in GROUPS {
            assert!(resources(group, version).is_some(), "{group}");
        }
        assert_eq!(resources("apps", "v2"), None);
        let pods = &aggregated(true)["items"][0]["versions"][0]["resources"];
        assert!(pods.as_array().is_some_and(|list| list.iter().any(|one| one["resource"] == "pods")));
    }

    #[test]
    fn knows_who_takes_aggregated_documents() {
        for (accept, wanted) in [
            ("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json", true),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json",
                false,
            ),
            ("application/json", false),
        ] {
            assert_eq!(wants_aggregated(accept), wanted, "{accept}");
        }
    }
}
