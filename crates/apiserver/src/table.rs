//! Objects as rows of a table, with the columns of a real server: what kubectl prints.

mod age;
mod network;
mod nodes;
mod pods;
mod workloads;

use serde_json::{Map, Value, json};

use crate::resource::Resource;
use crate::value::{items, number, text};
use age::{age, since};

/// A column; its name and its priority: 0 is always printed, 1 with `-o wide`.
pub(crate) type Column = (&'static str, u8);

/// What is printed in a row.
pub(crate) struct Row {
    pub(crate) cells: Vec<Value>,
    /// Why a pod is not among those that run.
    pub(crate) conditions: Value,
}

/// How much of the objects goes with the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Include {
    None,
    Metadata,
    Object,
}

/// The columns of a resource.
pub(crate) fn columns(resource: Resource) -> &'static [Column] {
    match resource {
        Resource::Pods => pods::COLUMNS,
        Resource::Services => network::SERVICES,
        Resource::Endpoints => network::ENDPOINTS,
        Resource::EndpointSlices => network::SLICES,
        Resource::ServiceCidrs => &[("Name", 0), ("CIDRs", 0), ("Age", 0)],
        Resource::IpAddresses => &[("Name", 0), ("ParentRef", 0), ("Age", 0)],
        Resource::Nodes => nodes::COLUMNS,
        Resource::Namespaces => &[("Name", 0), ("Status", 0), ("Age", 0)],
        Resource::Events => &[
            ("Last Seen", 0),
            ("Type", 0),
            ("Reason", 0),
            ("Object", 0),
            ("Subobject", 1),
            ("Source", 1),
            ("Message", 0),
            ("First Seen", 1),
            ("Count", 1),
            ("Name", 1),
        ],
        Resource::ConfigMaps => &[("Name", 0), ("Data", 0), ("Age", 0)],
        Resource::Secrets => &[("Name", 0), ("Type", 0), ("Data", 0), ("Age", 0)],
        Resource::ServiceAccounts => &[("Name", 0), ("Secrets", 0), ("Age", 0)],
        Resource::Leases => &[("Name", 0), ("Holder", 0), ("Age", 0)],
        Resource::ControllerRevisions => &[("Name", 0), ("Controller", 0), ("Revision", 0), ("Age", 0)],
        Resource::Deployments => workloads::DEPLOYMENTS,
        Resource::ReplicaSets | Resource::ReplicationControllers => workloads::REPLICA_SETS,
        Resource::DaemonSets => workloads::DAEMON_SETS,
        Resource::StatefulSets => workloads::STATEFUL_SETS,
        Resource::Jobs => workloads::JOBS,
    }
}

/// The row of an object, as it is stored, at a time in seconds since 1970.
pub(crate) fn row(resource: Resource, object: &Value, now: i64) -> Row {
    let mut row = Row { cells: Vec::new(), conditions: Value::Null };
    if resource != Resource::Events {
        row.cells.push(object["metadata"]["name"].clone());
    }
    let created = || json!(age(text(object, "/metadata/creationTimestamp"), now));
    let count = |pointer: &str| object.pointer(pointer).and_then(Value::as_object).map_or(0, Map::len);
    let cells = match resource {
        Resource::Pods => {
            row.conditions = pods::conditions(object);
            pods::cells(object, now)
        }
        Resource::Services => network::service(object, now),
        Resource::Endpoints => network::endpoints(object, now),
        Resource::EndpointSlices => network::slice(object, now),
        Resource::ServiceCidrs => vec![json!(joined(items(object, "/spec/cidrs"))), created()],
        Resource::IpAddresses => {
            let parent = &object["spec"]["parentRef"];
            let name =
                ["resource", "namespace", "name"].map(|field| parent[field].as_str().unwrap_or_default());
            vec![json!(name.join("/")), created()]
        }
        Resource::Nodes => nodes::cells(object, now),
        Resource::Namespaces => vec![object["status"]["phase"].clone(), created()],
        Resource::Events => event(object, now),
        Resource::ConfigMaps => vec![json!(count("/data") + count("/binaryData")), created()],
        Resource::Secrets => vec![object["type"].clone(), json!(count("/data")), created()],
        Resource::ServiceAccounts => vec![json!(items(object, "/secrets").count()), created()],
        Resource::Leases => vec![json!(text(object, "/spec/holderIdentity")), created()],
        Resource::ControllerRevisions => {
            let owner = items(object, "/metadata/ownerReferences").find(|owner| owner["controller"] == true);
            let owner = owner.map_or_else(
                || "<none>".to_owned(),
                |owner| {
                    let group = text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
                    let dot = if group.is_empty() { "" } else { "." };
                    format!("{}{dot}{group}/{}", text(owner, "/kind").to_lowercase(), text(owner, "/name"))
                },
            );
            vec![json!(owner), json!(number(object, "/revision").unwrap_or(0)), created()]
        }
        Resource::Deployments => workloads::deployment(object, now),
        Resource::ReplicaSets | Resource::ReplicationControllers => workloads::replica_set(object, now),
        Resource::DaemonSets => workloads::daemon_set(object, now),
        Resource::StatefulSets => workloads::stateful_set(object, now),
        Resource::Jobs => workloads::job(object, now),
    };
    row.cells.extend(cells);
    row
}

fn event(object: &Value, now: i64) -> Vec<Value> {
    let regarding = &object["regarding"];
    let first_of = |pointers: &[&str]| {
        pointers
            .iter()
            .map(|pointer| text(object, pointer))
            .find(|time| !time.is_empty())
            .unwrap_or_default()
            .to_owned()
    };
    let first = first_of(&["/deprecatedFirstTimestamp", "/eventTime", "/metadata/creationTimestamp"]);
    let last = first_of(&["/series/lastObservedTime", "/deprecatedLastTimestamp"]);
    let last = if last.is_empty() { first.clone() } else { last };
    let count = number(object, "/series/count").or_else(|| number(object, "/deprecatedCount"));
    let mut source = text(object, "/deprecatedSource/component").to_owned();
    if source.is_empty() {
        text(object, "/reportingController").clone_into(&mut source);
    }
    let host = text(object, "/deprecatedSource/host");
    if !host.is_empty() {
        source = format!("{source}, {host}");
    }
    vec![
        json!(age(&last, now)),
        object["type"].clone(),
        object["reason"].clone(),
        json!(format!("{}/{}", text(regarding, "/kind").to_lowercase(), text(regarding, "/name"))),
        json!(text(regarding, "/fieldPath")),
        json!(source),
        json!(text(object, "/note").trim()),
        json!(age(&first, now)),
        json!(count.unwrap_or(1).max(1)),
        object["metadata"]["name"].clone(),
    ]
}

fn joined<'a>(values: impl Iterator<Item = &'a Value>) -> String {
    values.filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// Labels as `a=b,c=d`, or `<none>`.
fn labels(labels: &Value) -> String {
    let pairs = labels.as_object().into_iter().flatten();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    if pairs.is_empty() { "<none>".to_owned() } else { pairs.join(",") }
}

/// `columnDefinitions` of a table.
pub(crate) fn column_definitions(columns: &[Column]) -> Value {
    let definition = |(name, priority): &Column| {
        let format = if *name == "Name" { "name" } else { "" };
        let integers =
            ["Desired", "Current", "Data", "Secrets", "Revision", "Count", "Up-to-date", "Available"];
        let kind = if integers.contains(name) { "integer" } else { "string" };
        json!({ "name": name, "type": kind, "format": format, "description": "", "priority": priority })
    };
    Value::Array(columns.iter().map(definition).collect())
}

/// A row as it is sent; `shown` is the object as the client's version has it.
pub(crate) fn row_json(
    resource: Resource,
    object: &Value,
    shown: Value,
    include: Include,
    now: i64,
) -> Value {
    let Row { cells, conditions } = row(resource, object, now);
    let mut row = json!({ "cells": cells });
    if !conditions.is_null() {
        row["conditions"] = conditions;
    }
    match include {
        Include::None => {}
        Include::Metadata => {
            let mut shown = shown;
            row["object"] = json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
                "metadata": shown["metadata"].take() });
        }
        Include::Object => row["object"] = shown,
    }
    row
}

/// The row of a Scale.
pub(crate) fn scale_cells(scale: &Value, now: i64) -> (&'static [Column], Vec<Value>) {
    let cells = vec![
        scale["metadata"]["name"].clone(),
        scale["spec"]["replicas"].clone(),
        scale["status"]["replicas"].clone(),
        json!(age(text(scale, "/metadata/creationTimestamp"), now)),
    ];
    (&[("Name", 0), ("Desired", 0), ("Available", 0), ("Age", 0)], cells)
}

/// How long something took, or takes.
fn took(from: &str, to: &str, now: i64) -> String {
    if to.is_empty() {
        age(from, now)
    } else {
        crate::clock::seconds(to).map_or_else(String::new, |end| since(from, end))
    }
}
