//! Who has set which field: `metadata.managedFields`, and server-side apply by it.

mod fields;
mod merge;

use portolan_store::Failure;
use serde_json::{Value, json};

use crate::clock::{now, timestamp};
use crate::schema::Struct;
use fields::Fields;

/// Who writes, and through what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manager<'a> {
    pub(crate) name: &'a str,
    /// `apiVersion` of what is written.
    pub(crate) api_version: &'a str,
    /// Empty for the object itself.
    pub(crate) subresource: &'a str,
}

/// An entry of `managedFields`.
struct Entry {
    manager: String,
    operation: String,
    api_version: String,
    subresource: String,
    time: Value,
    fields: Fields,
}

impl Entry {
    fn read(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        Self {
            manager: text("manager"),
            operation: text("operation"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
            time: value["time"].clone(),
            fields: Fields::from_json(&value["fieldsV1"]),
        }
    }

    fn new(manager: Manager, operation: &str) -> Self {
        Self {
            manager: manager.name.to_owned(),
            operation: operation.to_owned(),
            api_version: manager.api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
            time: json!(timestamp(now())),
            fields: Fields::default(),
        }
    }

    fn is(&self, manager: Manager, operation: &str) -> bool {
        self.operation == operation
            && self.manager == manager.name
            && self.subresource == manager.subresource
            && (operation == "Apply" || self.api_version == manager.api_version)
    }

    fn to_json(&self) -> Value {
        let mut entry = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "time": self.time, "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_json(),
        });
        if !self.subresource.is_empty() {
            entry["subresource"] = json!(self.subresource);
        }
        entry
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    object["metadata"]["managedFields"].as_array().into_iter().flatten().map(Entry::read).collect()
}

fn store(object: &mut Value, mut entries: Vec<Entry>) {
    entries.retain(|entry| !entry.fields.is_empty());
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    if entries.is_empty() {
        metadata.remove("managedFields");
    } else {
        let entries = entries.iter().map(Entry::to_json).collect();
        metadata.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Notes what an update (or the creation, if there is no `old`) has changed as the manager's.
pub(crate) fn note_update(schema: &'static Struct, old: Option<&Value>, new: &mut Value, manager: Manager) {
    let nothing = json!({});
    let changed = Fields::changed(schema, old.unwrap_or(&nothing), new);
    let mut entries = entries(old.unwrap_or(new));
    for entry in &mut entries {
        entry.fields.subtract(&changed);
        entry.fields.keep_present(schema, new);
    }
    if !changed.is_empty() {
        if let Some(own) = entries.iter_mut().find(|entry| entry.is(manager, "Update")) {
            own.fields.add(&changed);
            own.time = json!(timestamp(now()));
        } else {
            entries.push(Entry { fields: changed, ..Entry::new(manager, "Update") });
        }
    }
    store(new, entries);
}

/// What server-side apply makes of an object: the fields that the manager wants are merged into
/// `live`, and those that it wanted before and nobody else has set are removed.
///
/// Fails with 409 if others have set a field to something else, unless `force` takes it over.
pub(crate) fn apply(
    schema: &'static Struct,
    live: Option<&Value>,
    wanted: &Value,
    manager: Manager,
    force: bool,
) -> Result<Value, Failure> {
    let nothing = json!({ "metadata": {} });
    let live = live.unwrap_or(&nothing);
    let set = Fields::of(schema, wanted);
    let changing = Fields::changed(schema, live, wanted);
    let mut entries = entries(live);
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.is(manager, "Apply")) {
        let conflict = entry.fields.intersection(&changing);
        if conflict.is_empty() {
            continue;
        }
        if force {
            entry.fields.subtract(&conflict);
        } else {
            conflicts.extend(conflict.paths().into_iter().map(|path| (who(entry), path)));
        }
    }
    if !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    let mut merged = live.clone();
    merge::merge(schema, &mut merged, wanted);
    let own = entries.iter().position(|entry| entry.is(manager, "Apply"));
    if let Some(own) = own {
        let mut gone = entries[own].fields.clone();
        gone.subtract(&set);
        let mut others = set.clone();
        for (position, entry) in entries.iter().enumerate() {
            if position != own {
                others.add(&entry.fields);
            }
        }
        merge::remove(schema, &mut merged, &gone, &others);
        let unchanged = entries[own].fields == set && entries[own].api_version == manager.api_version;
        let time = if unchanged { entries[own].time.clone() } else { json!(timestamp(now())) };
        entries[own] = Entry { fields: set, time, ..Entry::new(manager, "Apply") };
    } else {
        entries.insert(0, Entry { fields: set, ..Entry::new(manager, "Apply") });
    }
    for entry in &mut entries {
        entry.fields.keep_present(schema, &merged);
    }
    store(&mut merged, entries);
    Ok(merged)
}

fn who(entry: &Entry) -> String {
    let subresource = if entry.subresource.is_empty() {
        String::new()
    } else {
        format!(" with subresource {:?}", entry.subresource)
    };
    format!("{:?}{subresource} using {}", entry.manager, entry.api_version)
}

fn conflict(conflicts: &[(String, String)]) -> Failure {
    let causes: Vec<Value> = conflicts
        .iter()
        .map(|(who, path)| {
            json!({ "reason": "FieldManagerConflict", "message": format!("conflict with {who}"), "field": path })
        })
        .collect();
    let message = if let [(who, path)] = conflicts {
        format!("Apply failed with 1 conflict: conflict with {who}: {path}")
    } else {
        let mut lines = format!("Apply failed with {} conflicts:", conflicts.len());
        let mut last = "";
        for (who, path) in conflicts {
            if who != last {
                lines = format!("{lines} conflicts with {who}:");
                last = who;
            }
            lines = format!("{lines}\n- {path}");
        }
        lines
    };
    Failure { reason: "Conflict", ..Failure::new(409, message) }.about(json!({ "causes": causes }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Schema;

    const APPS: &str = "apps/v1";

    fn schema() -> &'static Struct {
        Schema::get().find("apps.v1.Deployment")
    }

    fn manager(name: &str) -> Manager<'_> {
        Manager { name, api_version: APPS, subresource: "" }
    }

    fn deployment(replicas: Option<i64>, containers: &Value) -> Value {
        let mut object = json!({ "apiVersion": APPS, "kind": "Deployment", "metadata": { "name": "web" },
            "spec": { "template": { "spec": { "containers": containers } } } });
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = json!(replicas);
        }
        object
    }

    #[test]
    fn removes_what_is_no_longer_wanted() {
        let first = deployment(
            Some(2),
            &json!([
                { "name": "a", "image": "i", "ports": [{ "containerPort": 80 }, { "containerPort": 81 }] },
                { "name": "b", "image": "i" },
            ]),
        );
        let mut live = apply(schema(), None, &first, manager("me"), false).expect("applied");
        assert_eq!(live["metadata"]["managedFields"][0]["operation"], "Apply");
        // Somebody else adds to what stays.
        let before = live.clone();
        live["spec"]["paused"] = json!(true);
        live["spec"]["template"]["spec"]["containers"][0]["tty"] = json!(true);
        note_update(schema(), Some(&before), &mut live, manager("other"));
        let second = deployment(
            None,
            &json!([
            { "name": "a", "image": "i", "ports": [{ "containerPort": 81 }] }]),
        );
        let merged = apply(schema(), Some(&live), &second, manager("me"), false).expect("applied");
        assert_eq!(
            merged["spec"],
            json!({ "paused": true, "template": { "spec": { "containers": [
                { "name": "a", "image": "i", "tty": true, "ports": [{ "containerPort": 81 }] }] } } })
        );
    }

    #[test]
    fn refuses_to_change_what_others_have_set() {
        let mut live = deployment(Some(2), &json!([]));
        note_update(schema(), None, &mut live, manager("kubectl-create"));
        let wanted = deployment(Some(3), &json!([]));
        let failure = apply(schema(), Some(&live), &wanted, manager("me"), false).expect_err("conflict");
        assert_eq!(
            (failure.code, failure.reason, &*failure.message),
            (
                409,
                "Conflict",
                "Apply failed with 1 conflict: conflict with \"kubectl-create\" using apps/v1: .spec.replicas"
            )
        );
        let same = deployment(Some(2), &json!([]));
        let shared = apply(schema(), Some(&live), &same, manager("me"), false).expect("the same");
        assert_eq!(shared["metadata"]["managedFields"].as_array().map(Vec::len), Some(2));
        let forced = apply(schema(), Some(&live), &wanted, manager("me"), true).expect("forced");
        assert_eq!(forced["spec"]["replicas"], 3);
        let fields = &forced["metadata"]["managedFields"];
        assert_eq!(fields[0]["fieldsV1"]["f:spec"]["f:replicas"], json!({}));
        assert_eq!(fields[1]["fieldsV1"]["f:spec"].get("f:replicas"), None);
    }

    #[test]
    fn an_update_takes_over_what_it_changes() {
        let mut live =
            apply(schema(), None, &deployment(Some(2), &json!([])), manager("me"), false).expect("new");
        let before = live.clone();
        live["spec"]["replicas"] = json!(5);
        note_update(schema(), Some(&before), &mut live, manager("scaler"));
        let entries = live["metadata"]["managedFields"].as_array().expect("entries");
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0]["fieldsV1"]["f:spec"].get("f:replicas"), None);
        assert_eq!(
            (&entries[1]["manager"], &entries[1]["fieldsV1"]),
            (&json!("scaler"), &json!({ "f:spec": { "f:replicas": {} } }))
        );
    }
}
