//! Rules as nft writes them, roughly: to be read by people.

use std::fmt::Write;

use serde_json::Value;

use crate::printable::printable;

/// Of a set within a rule, so many elements are shown.
const SHOWN: usize = 8;

/// All of a rule.
pub(super) fn rule(statements: &[Value]) -> String {
    let each: Vec<String> = statements.iter().map(statement).collect();
    printable(&each.join(" ")).into_owned()
}

/// One statement.
pub(super) fn statement(statement: &Value) -> String {
    let mut text = String::new();
    write_statement(&mut text, statement);
    printable(&text).into_owned()
}

fn write_statement(text: &mut String, statement: &Value) {
    let Some((kind, body)) = statement.as_object().and_then(|object| object.iter().next()) else {
        return show(text, statement);
    };
    match kind.as_str() {
        "match" => {
            show(text, &body["left"]);
            // nft leaves "==" out, but not behind a calculation.
            let calculated = ["&", "|", "^"].iter().any(|operator| body["left"].get(operator).is_some());
            match body["op"].as_str() {
                Some("==") if calculated => push(text, "=="),
                Some("==" | "in") | None => {}
                Some(operator) => push(text, operator),
            }
            show(text, &body["right"]);
        }
        "jump" | "goto" => {
            push(text, kind);
            show(text, &body["target"]);
        }
        "vmap" => {
            show(text, &body["key"]);
            push(text, "vmap");
            show(text, &body["data"]);
        }
        "mangle" => {
            show(text, &body["key"]);
            push(text, "set");
            show(text, &body["value"]);
        }
        "dnat" | "snat" | "redirect" => {
            push(text, kind);
            if body.is_object() {
                push(text, "to");
                show(text, &body["addr"]);
                if !body["port"].is_null() {
                    push(text, ":");
                    show(text, &body["port"]);
                }
            }
        }
        "masquerade" => {
            push(text, kind);
            show(text, &body["flags"]);
        }
        "counter" | "reject" => push(text, kind),
        "set" | "map" => {
            show(text, &body["op"]);
            show(text, body.get("set").or(body.get("map")).unwrap_or(&Value::Null));
            push(text, "{");
            show(text, &body["elem"]);
            if !body["data"].is_null() {
                push(text, ":");
                show(text, &body["data"]);
            }
            push(text, "}");
        }
        _ => {
            push(text, kind);
            show(text, body);
        }
    }
}

fn push(text: &mut String, word: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(word);
}

/// An expression or a value.
fn show(text: &mut String, value: &Value) {
    match value {
        Value::Null => {}
        Value::String(word) => push(text, word),
        Value::Bool(_) | Value::Number(_) => push(text, &value.to_string()),
        Value::Array(values) => {
            let mut list = String::new();
            for value in values {
                if !list.is_empty() {
                    list.push(',');
                }
                let mut one = String::new();
                show(&mut one, value);
                list.push_str(&one);
            }
            push(text, &list);
        }
        Value::Object(object) => {
            if let Some((kind, body)) = object.iter().next() {
                write_expression(text, kind, body, value);
            }
        }
    }
}

fn write_expression(text: &mut String, kind: &str, body: &Value, whole: &Value) {
    match kind {
        "payload" => {
            show(text, &body["protocol"]);
            show(text, &body["field"]);
        }
        "meta" => {
            let key = body["key"].as_str().unwrap_or("");
            if !matches!(key, "iif" | "oif" | "iifname" | "oifname") {
                push(text, "meta");
            }
            push(text, key);
        }
        "ct" => {
            push(text, "ct");
            show(text, &body["dir"]);
            show(text, &body["key"]);
        }
        "fib" => {
            push(text, "fib");
            show(text, &body["flags"]);
            show(text, &body["result"]);
        }
        "numgen" => {
            push(text, "numgen");
            show(text, &body["mode"]);
            push(text, "mod");
            show(text, &body["mod"]);
        }
        "concat" => {
            for (number, part) in body.as_array().into_iter().flatten().enumerate() {
                if number > 0 {
                    push(text, ".");
                }
                show(text, part);
            }
        }
        "prefix" => {
            show(text, &body["addr"]);
            text.push('/');
            text.push_str(&body["len"].to_string());
        }
        "range" => {
            show(text, &body[0]);
            push(text, "-");
            show(text, &body[1]);
        }
        "&" | "|" | "^" => {
            show(text, &body[0]);
            push(text, kind);
            show(text, &body[1]);
        }
        "map" => {
            show(text, &body["key"]);
            push(text, "map");
            show(text, &body["data"]);
        }
        "elem" => show(text, &body["val"]),
        "set" => write_set(text, body),
        _ if matches!(kind, "accept" | "drop" | "jump" | "goto" | "return" | "continue") => {
            write_statement(text, whole);
        }
        _ => push(text, &whole.to_string()),
    }
}

fn write_set(text: &mut String, elements: &Value) {
    push(text, "{");
    let elements = elements.as_array().map_or(&[][..], Vec::as_slice);
    for (number, element) in elements.iter().take(SHOWN).enumerate() {
        if number > 0 {
            text.push(',');
        }
        match element.as_array().map(Vec::as_slice) {
            Some([key, data]) => {
                show(text, key);
                push(text, ":");
                show(text, data);
            }
            _ => show(text, element),
        }
    }
    if elements.len() > SHOWN {
        let _ = write!(text, ", ... {} more", elements.len() - SHOWN);
    }
    push(text, "}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn masked_fields_are_compared() {
        let mark = json!({"&": [{"meta": {"key": "mark"}}, 3]});
        for (left, op, expected) in [
            (&mark, "==", "meta mark & 3 == 0"),
            (&mark, "!=", "meta mark & 3 != 0"),
            (&json!({"meta": {"key": "mark"}}), "==", "meta mark 0"),
        ] {
            assert_eq!(statement(&json!({"match": {"op": op, "left": left, "right": 0}})), expected);
        }
    }
}
