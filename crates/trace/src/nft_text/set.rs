//! Sets and maps, and their elements.

use serde_json::{Value, json};

use super::expression;
use super::rule::verdict;
use super::tokens::{Cursor, Token};

/// A named set or map.
pub(super) fn object(kind: &str, family: &str, table: &str, name: &str, body: &[Token]) -> Value {
    let mut about = json!({"family": family, "table": table, "name": name});
    let mut cursor = Cursor::new(body);
    loop {
        cursor.skip_lines();
        if cursor.is_empty() {
            break;
        }
        let statement = cursor.statement();
        let mut words = Cursor::new(statement);
        let what = words.next().map_or("", |token| token.text.as_str());
        match what {
            "type" | "typeof" => {
                let colon = statement.iter().position(|token| token.is(":")).unwrap_or(statement.len());
                let key = statement.get(1..colon).unwrap_or(&[]);
                let data = statement.get(colon + 1..).unwrap_or(&[]);
                about["type"] = kinds(what, key);
                if !data.is_empty() {
                    about["map"] = if data[0].is("verdict") { "verdict".into() } else { kinds(what, data) };
                }
            }
            "flags" => {
                let flags: Vec<&str> = statement[1..]
                    .iter()
                    .map(|token| token.text.as_str())
                    .filter(|flag| *flag != ",")
                    .collect();
                about["flags"] = flags.into();
            }
            "timeout" => {
                if let Some(seconds) = statement.get(1).and_then(|token| seconds(&token.text)) {
                    about["timeout"] = seconds.into();
                }
            }
            "elements" => {
                words.skip("=");
                if let Some(inner) = words.braces() {
                    about["elem"] = elements(inner).into();
                }
            }
            _ => {}
        }
    }
    json!({kind: about})
}

/// The names of types, or the expressions whose types they are.
fn kinds(what: &str, tokens: &[Token]) -> Value {
    if what == "typeof" {
        let mut cursor = Cursor::new(tokens);
        return json!({"typeof": expression::concatenation(&mut cursor).unwrap_or(Value::Null)});
    }
    let names: Vec<&str> =
        tokens.iter().filter(|token| !token.is(".")).map(|token| token.text.as_str()).collect();
    names.into()
}

/// `1d2h3m4s` in seconds; what is shorter than a second is left out.
fn seconds(text: &str) -> Option<u64> {
    let mut all: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let each = match &rest[digits..unit_end] {
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            "ms" => 0,
            _ => return None,
        };
        all = all.checked_add(number.checked_mul(each)?)?;
        rest = &rest[unit_end..];
    }
    Some(all)
}

/// What lies between the braces of a set or a map, by commas.
pub(super) fn elements(tokens: &[Token]) -> Vec<Value> {
    let mut depth = 0_usize;
    let mut elements = Vec::new();
    let mut one: Vec<Token> = Vec::new();
    for token in tokens {
        if token.is("{") {
            depth += 1;
        } else if token.is("}") {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 && token.is(",") {
            elements.extend(element(&one));
            one.clear();
        } else if !token.is("\n") {
            one.push(token.clone());
        }
    }
    elements.extend(element(&one));
    elements
}

/// `KEY [timeout 5s] [expires 4s] [counter packets 0 bytes 0] [comment "..."] [: DATA]`
fn element(tokens: &[Token]) -> Option<Value> {
    let colon = tokens.iter().position(|token| token.is(":"));
    let (before, data) = match colon {
        Some(at) => (&tokens[..at], tokens.get(at + 1..)),
        None => (tokens, None),
    };
    let mut cursor = Cursor::new(before);
    let mut key = expression::value(&mut cursor)?;
    let mut about = json!({});
    while let Some(token) = cursor.next() {
        let next = cursor.peek().map(|token| token.text.as_str());
        match (token.text.as_str(), next) {
            ("comment", Some(comment)) => about["comment"] = comment.into(),
            ("timeout" | "expires", Some(time)) => about[token.text.as_str()] = seconds(time).into(),
            _ => {}
        }
    }
    if about.as_object().is_some_and(|about| !about.is_empty()) {
        about["val"] = key;
        key = json!({"elem": about});
    }
    let Some(data) = data else { return Some(key) };
    let mut cursor = Cursor::new(data);
    let data = verdict(&mut cursor).or_else(|| expression::value(&mut cursor))?;
    // What stands behind the verdict belongs to the element, too.
    Some(json!([key, data]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (text, expected) in
            [("3h", Some(10_800)), ("1d2h3m4s", Some(93_784)), ("500ms", Some(0)), ("x", None), ("5", None)]
        {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }
}
