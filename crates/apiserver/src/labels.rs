//! Label selectors as text.

use serde_json::Value;

use crate::value::{items, text};

/// A selector of an object, be it labels alone or with expressions, as a list takes it.
pub(crate) fn selector_text(selector: &Value) -> String {
    let structured = ["matchLabels", "matchExpressions"].iter().any(|field| selector.get(*field).is_some());
    let labels = if structured { &selector["matchLabels"] } else { selector };
    let equal = labels.as_object().into_iter().flatten();
    let equal = equal.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let expressions = items(selector, "/matchExpressions").map(|expression| {
        let key = text(expression, "/key");
        let values: Vec<&str> = items(expression, "/values").filter_map(Value::as_str).collect();
        let values = values.join(",");
        match text(expression, "/operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        }
    });
    equal.chain(expressions).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn writes_selectors() {
        for (selector, expected) in [
            (json!({ "app": "web", "tier": "a" }), "app=web,tier=a"),
            (json!({ "matchLabels": { "app": "web" } }), "app=web"),
            (
                json!({ "matchLabels": { "app": "web" }, "matchExpressions": [
                    { "key": "a", "operator": "In", "values": ["x", "y"] },
                    { "key": "b", "operator": "DoesNotExist" }, { "key": "c", "operator": "Exists" }] }),
                "app=web,a in (x,y),!b,c",
            ),
            (Value::Null, ""),
        ] {
            assert_eq!(selector_text(&selector), expected);
        }
    }
}
